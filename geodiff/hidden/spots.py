"""Hidden pixels and where to put them: windows in an order fixed by their place on the ground, gap shapes turned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.lattice import Window
from geodiff.scan import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = [
    "LEAST_LEFT",
    "MOST_TRIALS",
    "Hidden",
    "gap_shape",
    "hidden_already",
    "in_order",
    "known_in",
    "laid",
    "thinned",
    "turned",
    "with_gaps",
]

MOST_TRIALS = 40
LEAST_LEFT = 50
"""Known pixels that a trial with a large gap leaves: a date with so many shows the scale of its errors."""
_MOST_WINDOWS, _MOST_PAIRS = 20_000, 1_000_000
"""Most windows, and most windows times dates, that are considered for hiding pixels; a pair takes about 150 bytes."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Pixels hidden in one window on one date, in all bands together, as most gaps are."""

    date: int
    window: Window
    where: NDArray[np.bool_]
    """(band, row, column) of the window."""
    whole: bool = False
    """The whole date is hidden, in the window and around it, and `where` holds the pixels to judge."""
    gone: frozenset[int] = frozenset()
    """Other dates that are hidden along with a whole one."""
    deep: bool = False
    """A large gap, of which only one pixel in 3 x 3 is judged."""
    ever: bool = False
    """Hidden on all other dates too, like a place that no date shows."""
    worth: int = 1
    """Pixels of a contiguous gap that carry as much information as one of these: above 1 for scattered pixels."""
    lasting: NDArray[np.bool_] | None = None
    """(context date, row, column) of the window: pixels hidden on other dates too; those are judged that are then far
    from known dates. The low-resolution fill of these dates stays as it is: fillers use that of the target alone."""

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(band, row, column) of the window."""
        return thinned(self.where) if self.deep else self.where


def thinned(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel in 3 x 3, as neighbours carry the same information."""
    left = np.zeros_like(where)
    left[:, 1::3, 1::3] = where[:, 1::3, 1::3]
    return left


def in_order(cube: Cube, dates: Iterable[int] | None = None) -> Iterator[tuple[int, Window]]:
    """Every (date, lattice window) of all or some dates, in a random order fixed by the place on the ground."""
    lattice = cube.lattice
    windows = list(lattice.windows())
    most = min(_MOST_WINDOWS, max(1, _MOST_PAIRS // len(cube.variable.dates)))
    if len(windows) > most:
        windows = windows[:: len(windows) // most + 1]
    some = range(len(cube.variable.dates)) if dates is None else dates
    pairs = [(date, window) for date in some for window in windows]
    keys = [hashlib.blake2b(f"{d},{lattice.absolute(w)}".encode(), digest_size=8).digest() for d, w in pairs]
    for index in sorted(range(len(pairs)), key=keys.__getitem__):
        yield pairs[index]


def with_gaps(cube: Cube, scan: Scan) -> Iterator[tuple[int, Window]]:
    """The pairs of `in_order` whose chunks contain gaps."""
    for date, window in in_order(cube):
        common = window.intersect(cube.lattice.extent)
        if common is not None and _chunks_with_gaps(scan.gap_counts[date], common):
            yield date, window


def _chunks_with_gaps(counts: NDArray[np.int64], window: Window) -> bool:
    rows = slice(window.row // CHUNK, (window.stop[0] - 1) // CHUNK + 1)
    columns = slice(window.column // CHUNK, (window.stop[1] - 1) // CHUNK + 1)
    return bool(counts[rows, columns].any())


def known_in(cube: Cube, gaps: GapReader, date: int, window: Window) -> NDArray[np.bool_]:
    """Known pixels (band, row, column) of the window; False beyond the raster."""
    known = np.zeros((len(cube.bands), *window.shape), bool)
    common = window.intersect(cube.lattice.extent)
    if common is not None:
        known[(slice(None), *common.within(window))] = ~gaps.read(date, common).missing
    return known


def gap_shape(cube: Cube, gaps: GapReader, date: int, window: Window) -> NDArray[np.bool_]:
    """Pixels to fill in any band (row, column) of a window that touches the raster."""
    common = window.intersect(cube.lattice.extent)
    assert common is not None
    shape = np.zeros(window.shape, bool)
    shape[common.within(window)] = gaps.read(date, common).wanted.any(axis=0)
    return shape


def turned(shape: NDArray[np.bool_], turn: int) -> NDArray[np.bool_]:
    """The gap shape in one of its eight orientations."""
    return np.rot90(shape if turn % 8 < 4 else shape[:, ::-1], turn % 4)


def laid(cube: Cube, window: Window, shape: NDArray[np.bool_], turn: int, tried: int) -> NDArray[np.bool_]:
    """The gap shape turned; in a window that extends beyond the raster, mirrored and shifted within the part inside."""
    common = window.intersect(cube.lattice.extent)
    if common is None or common == window:
        return turned(shape, turn)
    inside, moved = common.within(window), np.zeros_like(shape)
    flips = slice(None, None, -1 if tried % 2 else 1), slice(None, None, -1 if tried % 4 > 1 else 1)
    shift = tried // 4 * np.array([7919, 104729])
    moved[inside] = np.roll(shape[inside][flips], shift, axis=(0, 1))
    return moved


def hidden_already(found: list[Hidden], date: int, window: Window) -> NDArray[np.bool_]:
    """Pixels (row, column) that earlier trials hide; none may be subtracted from the cell sums twice."""
    taken = np.zeros(window.shape, bool)
    for spot in found:
        common = spot.window.intersect(window) if spot.date == date else None
        if common is not None:
            where = spot.where[(slice(None), *common.within(spot.window))]
            taken[common.within(window)] |= where.any(axis=0)
    return taken
