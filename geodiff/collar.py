"""The collar of a raster far larger than memory: what lies outside the scene, found strip by strip.

The collar is what survives an opening by 33 x 33 pixels (squares that lie wholly inside the raster) and then joins
the raster's edge (8-neighbour). The opening needs 32 rows of margin; joining is a union-find over the borders of the
strips. Nothing of the size of the raster is ever held: strips are read and labelled again when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.errors import GridError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HALO", "OPENING", "Collar", "Read", "find_collar", "in_long_runs", "opened"]

OPENING = 33
"""Side in pixels of the square of the opening: wider than any scan gap of Landsat 7 (14 lines) or lost packet."""
HALO = OPENING - 1
"""Rows above and below a strip that its opening depends on."""
STRIP = 256

Read = Callable[[slice], "NDArray[np.bool_]"]
"""Gives the candidates (rows, columns) of a slice of rows inside the raster, `geodiff.gaps.collar_candidates`."""


@dataclass(frozen=True, slots=True)
class Collar:
    """Which labels of which strip belong to the collar; small, and with the candidates enough to draw it again."""

    shape: tuple[int, int]
    """Rows and columns of the raster."""
    strip: int
    """Height of the strips that were labelled."""
    joins: tuple[NDArray[np.bool_], ...]
    """Per strip, by label (0 is not a region): True where the region joins the raster's edge."""
    pixels: int
    """How many pixels are outside."""

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Collar:
        """No collar, as a frame without georeferencing has."""
        return cls(shape, max(shape[0], 1), (np.zeros(1, bool),), 0)

    def outside(self, rows: slice, read: Read) -> NDArray[np.bool_]:
        """The collar in a slice of rows, (rows, columns) bool, for any slice; `read` as in `find_collar`."""
        start, stop, _ = rows.indices(self.shape[0])
        result = np.zeros((max(stop - start, 0), self.shape[1]), bool)
        for index in range(start // self.strip, -(-stop // self.strip)):
            if not self.joins[index].any():
                continue
            first, last = self._rows(index)
            part = self.joins[index][_labels(read, first, last, self.shape)[0]]
            low, high = max(first, start), min(last, stop)
            result[low - start : high - start] = part[low - first : high - first]
        return result

    def _rows(self, index: int) -> tuple[int, int]:
        return index * self.strip, min((index + 1) * self.strip, self.shape[0])


def find_collar(read: Read, shape: tuple[int, int], strip: int = STRIP, *, around: bool = False) -> Collar:
    """Find the collar in one pass over the raster; the answer does not depend on the strips' height.

    Parameters
    ----------
    read : gives the candidates (rows, columns) bool for a slice of rows; called with up to `strip + 64` rows.
    shape : rows and columns of the raster.
    strip : rows to label at a time.
    around : whether the raster goes once around the globe, so that left and right are no edges of it.

    Returns
    -------
    Collar; memory is that of one strip, plus a byte a region and strip.
    """
    if strip < 1:
        raise GridError(f"strips of {strip} rows hold nothing; give at least 1")
    regions = _Regions()
    sizes: list[NDArray[np.int64]] = []
    above: NDArray[np.int64] | None = None
    for first in range(0, shape[0], strip):
        last = min(first + strip, shape[0])
        labels, count = _labels(read, first, last, shape)
        base = regions.add(count)
        sizes.append(np.bincount(labels[labels > 0], minlength=count + 1).astype(np.int64))
        for edge in _edges(labels, first == 0, last == shape[0], sides=not around):
            regions.join_edge(base + _present(edge))
        top = np.where(labels[0] > 0, labels[0].astype(np.int64) + base, 0)
        if above is not None:
            regions.join(*_touching(above, top))
        above = np.where(labels[-1] > 0, labels[-1].astype(np.int64) + base, 0)
    joins = regions.joins([len(size) - 1 for size in sizes])
    pixels = sum(int(size[where].sum()) for size, where in zip(sizes, joins, strict=True))
    return Collar(shape, strip, joins, pixels)


def opened(candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Opening (rows, columns) by a square of 33 x 33 that lies wholly inside the array."""
    if min(candidates.shape) < OPENING:
        return np.zeros(candidates.shape, bool)
    corners = _all_of_run(_all_of_run(candidates, 0), 1)
    grown = np.zeros(candidates.shape, bool)
    grown[: corners.shape[0], : corners.shape[1]] = corners
    return _any_of_run(_any_of_run(grown, 0), 1)


def in_long_runs(line: NDArray[np.bool_], some: NDArray[np.bool_]) -> int:
    """How many of `some` pixels of a line (pixel,) lie in runs of True as long as the opening's square at least."""
    return sum(int(np.count_nonzero(some[run])) for run in _runs(line))


def _all_of_run(where: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """True where a run of 33 True begins; the axis is 32 shorter. By doubling: 2, 4, 8, 16, 32, 33."""
    line, done = where, 1
    while done < OPENING:
        step = min(done, OPENING - done)
        line = _cut(line, axis, 0, -step) & _cut(line, axis, step, None)
        done += step
    return line


def _any_of_run(corners: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """The 33 pixels from each True one on along an axis."""
    line, done = corners.copy(), 1
    while done < OPENING:
        step = min(done, OPENING - done)
        shifted = _cut(line, axis, 0, -step).copy()
        _cut(line, axis, step, None)[...] |= shifted
        done += step
    return line


def _cut(array: NDArray[np.bool_], axis: int, start: int, stop: int | None) -> NDArray[np.bool_]:
    return array[start:stop] if axis == 0 else array[:, start:stop]


def _labels(read: Read, first: int, last: int, shape: tuple[int, int]) -> tuple[NDArray[np.int32], int]:
    """Labels (rows, columns) of the opened regions within rows first..last-1, and how many there are.

    Only columns that hold some are looked at: a scene with a few large gaps has few.
    """
    low, high = max(first - HALO, 0), min(last + HALO, shape[0])
    candidates = np.asarray(read(slice(low, high)), bool)
    if candidates.shape != (high - low, shape[1]):
        raise GridError(
            f"rows {low}:{high} of the candidates came as {candidates.shape}, expected {(high - low, shape[1])}; "
            "read whole rows of the raster"
        )
    left = np.zeros((last - first, shape[1]), bool)
    for columns in _runs(np.asarray(candidates.any(axis=0))):  # no square reaches over a column without candidates
        left[:, columns] = opened(candidates[:, columns])[first - low : last - low]
    labels, count = np.zeros(left.shape, np.int32), 0
    for columns in _runs(np.asarray(left.any(axis=0))):  # every opened region is as wide as the square
        from scipy import ndimage  # not worth half a second where no collar is in question

        part, found = ndimage.label(left[:, columns], np.ones((3, 3), bool))
        labels[:, columns] = np.where(part > 0, part + count, 0)
        count += int(found)
    return labels, count


def _runs(line: NDArray[np.bool_]) -> Iterator[slice]:
    """Runs of True that an opening can survive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if stop - start >= OPENING:
            yield slice(start, stop)


def _edges(labels: NDArray[np.int32], top: bool, bottom: bool, *, sides: bool) -> Iterator[NDArray[np.int32]]:
    """The pixels of a strip that lie on the raster's border."""
    if sides:
        yield labels[:, 0]
        yield labels[:, -1]
    if top:
        yield labels[0]
    if bottom:
        yield labels[-1]


def _present(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    found = np.unique(labels).astype(np.int64)
    return found[found > 0]


def _touching(above: NDArray[np.int64], below: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of regions that are 8-neighbours across the border of two strips, each once."""
    pairs = [
        np.stack([above, below]),
        np.stack([above[1:], below[:-1]]),
        np.stack([above[:-1], below[1:]]),
    ]
    both = np.concatenate(pairs, axis=1)
    both = np.unique(both[:, (both > 0).all(axis=0)], axis=1)
    return both[0], both[1]


class _Regions:
    """Union-find over the regions of all strips; region 0 stands for the raster's edge."""

    def __init__(self) -> None:
        self._parent: list[int] = [0]

    def add(self, count: int) -> int:
        """Room for `count` more; their numbers are base + 1 .. base + count."""
        base = len(self._parent) - 1
        self._parent.extend(range(base + 1, base + count + 1))
        return base

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            self._parent[high] = low

    def join_edge(self, regions: NDArray[np.int64]) -> None:
        self.join(np.zeros_like(regions), regions)

    def joins(self, counts: list[int]) -> tuple[NDArray[np.bool_], ...]:
        """Per strip, by label: True where the region's root stands for the edge."""
        roots = np.array([self._root(i) for i in range(len(self._parent))]) == 0
        parts = np.split(roots[1:], np.cumsum(counts)[:-1])
        return tuple(np.concatenate([[False], part]) for part in parts)

    def _root(self, region: int) -> int:
        while self._parent[region] != region:
            self._parent[region] = self._parent[self._parent[region]]
            region = self._parent[region]
        return region
