"""Find what the sensor, the link or the file broke: lost lines and blocks, stripes, reseau marks, hot pixels.

Detection looks at whole frames, band by band, and prefers to miss a fault to calling a sound pixel one: what it flags
is thrown away. A detector knows nothing of the scene, so each asks for a shape that nature does not make: exact
rectangles of one value, offsets that hold over a whole line, a grid of marks, single pixels that stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError, JobError
from geodiff.faults.dropouts import find_dropouts
from geodiff.faults.flat import cut_short
from geodiff.faults.hits import find_hits
from geodiff.faults.reseau import find_marks
from geodiff.faults.stripes import find_stripes
from geodiff.gaps import Reason, because
from geodiff.lattice import Window, blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DETECTORS", "check_names", "detect", "detect_window"]

TILE = 1024
"""Frames up to this side are judged whole; larger ones in tiles of it, which lie where the frame puts them."""
MARGIN = 64
"""Pixels around a tile that are looked at with it."""

ReadKnown = Callable[[Window], "tuple[NDArray[Any], NDArray[np.bool_]]"]
"""Gives the values of a window inside the frame, and where they are known, both (band, row, column)."""

_CLOUDS = (
    "--detect clouds needs a named detector, trained for the sensor (such as s2cloudless with its 10 bands), "
    "and none is installed; give the product's own quality band with --qa, or a cloud mask with --mask"
)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, once each, in the order of detection; raises JobError for one that cannot be served."""
    wanted = set(names)
    if "clouds" in wanted:
        raise JobError(_CLOUDS)
    strange = sorted(wanted - set(DETECTORS))
    if strange:
        raise JobError(f"--detect knows no {', '.join(strange)}; choose from {', '.join(DETECTORS)}")
    return tuple(name for name in DETECTORS if name in wanted)


def detect(
    values: NDArray[Any],
    names: Iterable[str] = ("dropouts",),
    known: NDArray[np.bool_] | None = None,
    *,
    ends: bool = True,
) -> NDArray[np.uint16]:
    """Reason bits of the faults in whole frames.

    Parameters
    ----------
    values : (band, row, column), whole frames, stored or physical; stored integers show lost lines best.
    names : detectors of `DETECTORS`.
    known : same shape; pixels that are already missing are neither judged nor compared with. None: all known.
    ends : whether first and last lines are a camera's, so that empty ones there never came (`dropouts`). A map has a
        collar there, and a tile its neighbours.

    Returns
    -------
    uint16, same shape: DROPOUT, STRIPE, RESEAU, HOT_PIXEL; 0 at sound pixels. What an earlier detector found is
    missing for the later ones.

    Raises
    ------
    JobError
        For unknown names, and for `clouds`.
    """
    chosen = check_names(names)
    if values.ndim != 3 or (known is not None and known.shape != values.shape):
        raise GridError(f"faults are sought in (band, row, column), got {values.shape}; give whole frames")
    finite = np.isfinite(values)
    known = finite if known is None else known & finite
    reason = np.zeros(values.shape, np.uint16)
    for band in range(values.shape[0]):
        frame = np.where(known[band], values[band], 0).astype(np.float64)
        if ends and "dropouts" in chosen:
            reason[band] |= because(cut_short(frame, known[band]), Reason.DROPOUT)
        for name in chosen:
            find, bit = DETECTORS[name]
            reason[band] |= because(find(frame, known[band] & (reason[band] == 0)), bit)
    return reason


def detect_window(
    read: ReadKnown,
    shape: tuple[int, int],
    window: Window,
    names: Iterable[str] = ("dropouts",),
    *,
    ends: bool = True,
) -> NDArray[np.uint16]:
    """Reason bits of the faults in one window of a frame of any size; the same whatever the window.

    What is judged are the frame's own tiles, with their margin, never the window: a line that is dead in one window
    is dead in the next.

    Parameters
    ----------
    read : gives (values, known) of a window, each (band, row, column).
    shape : rows and columns of the frame.
    window : the part that is asked for, inside the frame.
    names : detectors of `DETECTORS`.
    ends : as for `detect`; frames of more than one tile are not judged so.

    Returns
    -------
    uint16 (band, row, column) of the window.
    """
    extent = Window(0, 0, *shape)
    parts: list[tuple[Window, NDArray[np.uint16]]] = []
    for tile in blocks(shape, TILE):
        common = tile.intersect(window)
        outer = tile.expand(MARGIN).intersect(extent)
        if common is not None and outer is not None:
            values, known = read(outer)
            found = detect(values, names, known, ends=ends and outer == extent)
            parts.append((common, found[(slice(None), *common.within(outer))]))
    reason = np.zeros((parts[0][1].shape[0], *window.shape), np.uint16)
    for common, found in parts:
        reason[(slice(None), *common.within(window))] = found
    return reason


DETECTORS: Mapping[str, tuple[Callable[..., NDArray[np.bool_]], Reason]] = {
    "dropouts": (find_dropouts, Reason.DROPOUT),
    "stripes": (find_stripes, Reason.STRIPE),
    "reseau": (find_marks, Reason.RESEAU),
    "hotpixels": (find_hits, Reason.HOT_PIXEL),
}
"""What `--detect` finds, in the order of detection; a detector takes frame and known (row, column), gives faults."""
