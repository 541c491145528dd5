"""From the scene to patches and back: cut lattice windows with their margin, and blend their fills over a block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import Normalisation, unpack
from geodiff.fillers import Filled, Patch
from geodiff.lattice import WINDOW, Lattice, Window, overlap_shrinkage, weights
from geodiff.pyramid import sample_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band

__all__ = [
    "EDGE_MEMORY",
    "Blended",
    "Cells",
    "EdgeAnswers",
    "Ground",
    "blend",
    "cut_patch",
    "gap_windows",
    "patch_bytes",
    "read_ground",
]

_LARGEST = 1e15
"""In normalised units; larger numbers are not measurements, and their squares may overflow."""
EDGE_MEMORY = 32 << 20
"""Most bytes of `EdgeAnswers`: a row of 80 windows with four members."""
OVERLAP_CORRELATION = 0.97
"""Correlation of the residuals that two overlapping windows draw for one pixel.

They share the noise, which is fixed to the ground, and most of their context. Measured on validation scenes.
"""


@dataclass(frozen=True, slots=True)
class Cells:
    """The normalised low-resolution fill of the scene, (date, band, cell row, cell column)."""

    values: NDArray[np.float64]
    cell: int


@dataclass(frozen=True, slots=True)
class Ground:
    """A part of the scene read into memory once, from which overlapping patches are cut."""

    covers: Window
    values: NDArray[np.float32]
    """(date, band, row, column), normalised, 0 where not known."""
    known: NDArray[np.bool_]
    fillable: NDArray[np.bool_]
    dates: NDArray[np.int64]
    """Seconds since 1970 of the dates read."""
    indices: tuple[int, ...]
    """Their indices among the source's dates."""


def patch_bytes(dates: int, bands: int, halo: int) -> int:
    """Bytes of one patch: values and low-resolution fill in float32, known and fillable as bytes."""
    side = WINDOW + 2 * halo
    return dates * bands * side * side * 10


class EdgeAnswers:
    """The latest fills of windows that extend beyond their block, as the neighbouring block needs them too.

    Threads may share it.
    """

    def __init__(self, memory: int = EDGE_MEMORY) -> None:
        self._left, self._lock = memory, Lock()
        self._kept: OrderedDict[tuple[str, int, Window], Filled] = OrderedDict()

    def find(self, variable: str, date: int, windows: Sequence[Window]) -> dict[Window, Filled]:
        """The kept fills among some windows of a date."""
        with self._lock:
            keys = ((variable, date, window) for window in windows)
            return {key[-1]: self._kept[key] for key in keys if key in self._kept}

    def keep(self, variable: str, date: int, core: Window, answers: Mapping[Window, Filled]) -> None:
        """Keep fills that the blocks beside `core` may need, dropping the oldest if memory is short."""
        with self._lock:
            for window, filled in answers.items():
                key = variable, date, window
                if window.intersect(core) != window and key not in self._kept:
                    self._kept[key] = filled
                    self._left -= _size(filled)
            while self._left < 0 and self._kept:
                self._left += _size(self._kept.popitem(last=False)[1])


def _size(filled: Filled) -> int:
    arrays = filled.value, filled.standard_error, filled.source, filled.members
    return sum(array.nbytes for array in arrays if array is not None)


def gap_windows(lattice: Lattice, core: Window, gaps: NDArray[np.bool_]) -> list[Window]:
    """Lattice windows that touch a gap pixel of a block's core; `gaps` (row, column) covers the core."""
    touched = []
    for window in lattice.windows(core):
        common = window.intersect(core)
        if common is not None and gaps[common.within(core)].any():
            touched.append(window)
    return touched


def read_ground(
    windows: Sequence[Window],
    halo: int,
    lattice: Lattice,
    dates: Sequence[tuple[int, int]],
    bands: Sequence[Band],
    normalisations: Sequence[Normalisation],
    read_stored: Callable[[int, Window], NDArray[Any]],
    read_gaps: Callable[[int, Window], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> Ground:
    """Read and normalise what all `windows` with their halo need.

    Parameters
    ----------
    dates : (index along the source's dates, seconds since 1970) of each date to read.
    read_stored : (date, window) to stored numbers (band, row, column) of the bands to fill.
    read_gaps : (date, window) to `missing` and `fillable`, both (band, row, column).
    """
    covers = lattice.cover([window.expand(halo) for window in windows])
    pieces, columns = lattice.pieces(covers)
    size = (len(dates), len(bands), *covers.shape)
    values, known, fillable = np.zeros(size, np.float32), np.zeros(size, bool), np.zeros(size, bool)
    for place, (date, _) in enumerate(dates):
        gaps = [read_gaps(date, piece) for piece in pieces]
        known[place] = ~_abreast([missing for missing, _ in gaps])[..., columns]
        fillable[place] = _abreast([allowed for _, allowed in gaps])[..., columns]
        stored = _abreast([read_stored(date, piece) for piece in pieces])[..., columns]
        for band, (numbers, recipe) in enumerate(zip(stored, normalisations, strict=True)):
            physical, valid = unpack(numbers, bands[band].encoding)
            with np.errstate(over="ignore", invalid="ignore"):
                normalised = recipe.forward(physical)
                known[place, band] &= valid & recipe.measured(recipe.transformed(physical))
                known[place, band] &= np.abs(normalised) < _LARGEST
            values[place, band] = np.where(known[place, band], normalised, np.float32(0))
    seconds = np.array([second for _, second in dates], np.int64)
    return Ground(covers, values, known, fillable, seconds, tuple(index for index, _ in dates))


def _abreast(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Parts (..., row, column) concatenated along columns."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def cut_patch(
    ground: Ground, window: Window, halo: int, lattice: Lattice, cells: Cells, targets: tuple[int, ...]
) -> Patch:
    """Cut one patch from ground that was read, with the low-resolution fill sampled on it.

    Beyond the raster it is mirrored, or continued around the globe. Values are copied to contiguous planes, which are
    faster to use and keep the order in which NumPy sums them.
    """
    outer = window.expand(halo)
    rows, columns = lattice.places(outer, ground.covers)
    place: tuple[Any, ...] = (..., rows[:, None], columns[None, :])
    if outer.intersect(ground.covers) == outer:  # nothing to mirror: slices cost a fraction of indices
        place = (..., *outer.within(ground.covers))
    coarse = np.zeros((*ground.values.shape[:2], *outer.shape), np.float32)
    asked = [ground.indices[target] for target in targets]
    folded, (down, across) = lattice.folded(outer), _in_raster(outer, lattice)
    coarse[list(targets)] = sample_cells(cells.values, cells.cell, *folded, asked, around=lattice.periodic)
    return Patch(
        values=np.ascontiguousarray(ground.values[place]),
        known=np.ascontiguousarray(ground.known[place]),
        fillable=ground.fillable[place],
        coarse=coarse,
        window=window,
        halo=halo,
        absolute=lattice.absolute(window),
        dates=ground.dates,
        targets=targets,
        inside=_in_raster(window, lattice),
        real=(down, slice(None) if lattice.periodic else across),
    )


def _in_raster(window: Window, lattice: Lattice) -> tuple[slice, slice]:
    """Rows and columns of a window that lie in the raster."""
    common = window.intersect(lattice.extent)
    return (slice(0), slice(0)) if common is None else common.within(window)


@dataclass(frozen=True, slots=True)
class Blended:
    """Normalised estimates over a block's core, (target, band, row, column), without NaN; 0 where no window reaches."""

    value: NDArray[np.float32]
    standard_error: NDArray[np.float32]
    source: NDArray[np.uint8]
    members: NDArray[np.float32] | None
    """(member, target, band, row, column)"""


def blend(core: Window, windows: Sequence[Window], filled: Sequence[Filled]) -> Blended:
    """Feathered mean of overlapping windows over a block's core.

    The weights form a partition of unity, and windows come in lattice order, so that every block that covers a pixel
    adds the same numbers in the same order. Members are blended as residuals from the value; their spread, which
    averaging reduces, is restored with the measured correlation of overlapping windows. Standard errors are averaged,
    as if the errors of overlapping windows were fully correlated.
    """
    first = filled[0]
    plane = (*first.value.shape[:2], *core.shape)
    value, error = np.zeros(plane, np.float32), np.zeros(plane, np.float32)
    source, heaviest = np.zeros(plane, np.uint8), np.zeros(core.shape, np.float32)
    total, squares = np.zeros(core.shape, np.float32), np.zeros(core.shape, np.float32)
    residual = None if first.members is None else np.zeros((first.members.shape[0], *plane), np.float32)
    for window, answer in zip(windows, filled, strict=True):
        common = window.intersect(core)
        if common is None:
            continue
        here, there = common.within(core), common.within(window)
        weight = weights()[there]
        value[..., *here] += weight * answer.value[..., *there]
        error[..., *here] += weight * answer.standard_error[..., *there]
        total[here] += weight
        squares[here] += weight * weight
        if residual is not None and answer.members is not None:
            residual[..., *here] += weight * (answer.members - answer.value)[..., *there]
        wins = weight > heaviest[here]
        source[..., *here] = np.where(wins, answer.source[..., *there], source[..., *here])
        heaviest[here] = np.maximum(heaviest[here], weight)
    # The weights sum to 1 except at the raster's rim, where only one window may remain; division by 1 changes no bit.
    total[total == 0] = 1
    value /= total
    error /= total
    if residual is None:
        return Blended(value, error, source, None)
    shares = squares / (total * total)
    spread = total * overlap_shrinkage(np.where(shares > 0, shares, np.float32(1)), OVERLAP_CORRELATION)
    return Blended(value, error, source, np.asarray(value + residual / spread, np.float32))
