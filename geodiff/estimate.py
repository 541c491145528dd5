"""The heart of a block: find its windows, cut their patches, ask the filler, blend the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geodiff.beyond import no_less
from geodiff.context import context
from geodiff.fitting import CubeFit
from geodiff.patches import Blended, EdgeAnswers, blend, cut_patch, gap_windows, patch_bytes, read_ground
from geodiff.progress import within
from geodiff.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filled, Filler
    from geodiff.lattice import Window
    from geodiff.scan import GapReader
    from geodiff.scene import Cube

__all__ = ["estimate"]

_BATCH, _BATCH_MEMORY = 8, 200 << 20
"""Windows handed to a filler at once, where it asks for no more, and bytes they may take; neither changes a pixel."""


@one_thread()
def estimate(
    cube: Cube,
    gaps: GapReader,
    fit: CubeFit,
    filler: Filler,
    date: int,
    core: Window,
    seed: int,
    edges: EdgeAnswers | None = None,
) -> tuple[Blended | None, int]:
    """Estimates over a part of one date, and how many windows they took.

    Parameters
    ----------
    edges : where the parts beside it left answers, and this one leaves its own.

    Returns
    -------
    blended : normalised layers (1, band, row, column) over `core`; None where it holds no gap to fill.
    windows : how many lattice windows they come from.
    """
    wanted = np.asarray(gaps.read(date, core).wanted.any(axis=0))
    windows = gap_windows(cube.lattice, core, wanted)
    if not windows:
        return None, 0
    answers = edges.find(cube.name, date, windows) if edges else {}
    asked = [window for window in windows if window not in answers]
    answers.update(zip(asked, _answers(cube, gaps, fit, filler, date, asked, seed), strict=True))
    if edges:
        edges.keep(cube.name, date, core, answers)
    return blend(core, windows, [answers[window] for window in windows]), len(windows)


def _answers(
    cube: Cube, gaps: GapReader, fit: CubeFit, filler: Filler, date: int, windows: Sequence[Window], seed: int
) -> Iterator[Filled]:
    """The filler's answer for each window, in order, some windows at a time."""

    def read_gaps(when: int, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        found = gaps.read(when, window)
        return found.missing, found.fillable

    if not windows:
        return
    dates = context(cube, filler, date, fit.seen)
    ground = read_ground(
        windows,
        filler.halo,
        cube.lattice,
        [(d, int(cube.seconds[d])) for d in dates],
        [cube.variable.bands[band] for band in cube.bands],
        fit.normalisations,
        cube.read,
        read_gaps,
    )
    target = (dates.index(date),)
    wanted = -(-int(getattr(filler, "planes_at_once", 0)) // len(cube.bands))  # what fills the batches of a GPU
    batch = min(max(_BATCH, wanted), max(1, _BATCH_MEMORY // patch_bytes(len(dates), len(cube.bands), filler.halo)))
    for first in range(0, len(windows), batch):
        some = windows[first : first + batch]
        patches = [cut_patch(ground, window, filler.halo, cube.lattice, fit.cells, target) for window in some]
        filled = filler.fill(patches, fit.fitted, seed=seed)
        if fit.far is not None:
            filled = [no_less(f, p, fit.far, cube.lattice) for f, p in zip(filled, patches, strict=True)]
        yield from filled
        within((first + len(some)) / len(windows))
