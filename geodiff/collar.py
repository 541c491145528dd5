"""The collar of a raster far larger than memory: what lies outside the scene, found strip by strip.

The collar is what survives an opening by 33 x 33 pixels (squares that lie wholly inside the raster) and then joins
the raster's edge (8-neighbour). The opening needs 32 rows of margin; joining is a union-find over the borders of the
strips. Nothing of the size of the raster is ever held: strips are read and labelled again when they are asked for.

A raster is cut to what it shows, so where a turned scene or the ground of a flight touches the raster's edge the collar
narrows to nothing. Along the edge, from where the collar ends there by and by, the squares may therefore hang over it;
where it ends at once, in what is half as wide or less, lost lines begin, which are filled.
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
    narrow: _Frame | None = None
    """What squares cover that hang over the raster's edge, beside the collar; None where there is no such place."""

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Collar:
        """No collar, as a frame without georeferencing has."""
        return cls(shape, max(shape[0], 1), (np.zeros(1, bool),))

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
        if self.narrow is not None:
            self.narrow.draw(result, start, self.shape[0])
        return result

    def _rows(self, index: int) -> tuple[int, int]:
        return index * self.strip, min((index + 1) * self.strip, self.shape[0])


@dataclass(frozen=True, slots=True)
class _Frame:
    """The 32 pixels along each side of a raster, bool: what a square can cover that hangs over that side."""

    top: NDArray[np.bool_]
    """(32, column); in a raster that has fewer rows, all of them."""
    bottom: NDArray[np.bool_]
    left: NDArray[np.bool_]
    """(row, 32); in a raster that has fewer columns, all of them."""
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, strips: list[_Frame]) -> _Frame:
        """That of a raster, from those of its strips from top to bottom."""
        parts = zip(*((s.top, s.bottom, s.left, s.right) for s in strips), strict=True)
        return cls(*(np.concatenate(part) for part in parts))

    @classmethod
    def of_strip(cls, rows: NDArray[np.bool_], first: int, height: int, depth: int = HALO) -> _Frame:
        """What rows from `first` on of a raster `height` high have of it; `depth` pixels along each side."""
        top, bottom = rows[: max(depth - first, 0)], rows[max(height - depth - first, 0) :]
        return cls(*(part.copy() for part in (top, bottom, rows[:, :depth], rows[:, -depth:])))

    @property
    def ring(self) -> NDArray[np.bool_]:
        """The pixels on the edge itself, once around: top to the right, down, bottom to the left, up."""
        return np.concatenate([self.top[0], self.right[:, -1], self.bottom[-1, ::-1], self.left[::-1, 0]])

    @property
    def depths(self) -> NDArray[np.int64]:
        """How many pixels in a row from the edge inwards are True, (pixel,) as `ring`; 32 at most.

        A corner, which the ring holds twice, has the deeper of its two.
        """
        sides = (self.top, self.right[:, ::-1].T, self.bottom[::-1, ::-1], self.left[::-1].T)
        depths = [np.logical_and.accumulate(side).sum(axis=0) for side in sides]
        for before, after in zip(depths, depths[1:] + depths[:1], strict=True):
            before[-1] = after[0] = max(before[-1], after[0])
        return np.concatenate(depths)

    def hanging(self, over: NDArray[np.bool_]) -> _Frame:
        """Of these candidates, what squares cover that hang over the edge where `over`, as `ring`, is True."""
        rows, columns = self.left.shape[0], self.top.shape[1]
        top, right, bottom, left = np.split(over, np.cumsum([columns, rows, columns]))
        bottom, left = bottom[::-1], left[::-1]
        return _Frame(
            _hanging(self.top, top, left, right),
            _hanging(self.bottom[::-1], bottom, left[::-1], right[::-1])[::-1],
            _hanging(self.left.T, left, top, bottom).T,
            _hanging(self.right[:, ::-1].T, right, top[::-1], bottom[::-1]).T[:, ::-1],
        )

    def draw(self, result: NDArray[np.bool_], start: int, height: int) -> None:
        """Set what is True here in rows of a raster `height` high, from row `start` on."""
        stop = start + len(result)
        result[:, : self.left.shape[1]] |= self.left[start:stop]
        result[:, result.shape[1] - self.right.shape[1] :] |= self.right[start:stop]
        for part, first in ((self.top, 0), (self.bottom, height - len(self.bottom))):
            low, high = max(first, start), min(first + len(part), stop)
            if low < high:
                result[low - start : high - start] |= part[low - first : high - first]


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
    Collar; memory is that of one strip, plus a byte a region and strip and 32 a pixel of its edge.
    """
    if strip < 1:
        raise GridError(f"strips of {strip} rows hold nothing; give at least 1")
    regions = _Regions()
    counts: list[int] = []
    frames: list[_Frame] = []
    reached: list[_Frame] = []
    above: NDArray[np.int64] | None = None
    for first in range(0, shape[0], strip):
        last = min(first + strip, shape[0])
        labels, count, rows = _labels(read, first, last, shape)
        base = regions.add(count)
        counts.append(count)
        frames.append(_Frame.of_strip(rows, first, shape[0]))
        reached.append(_Frame.of_strip(labels > 0, first, shape[0], depth=1))
        for edge in _edges(labels, first == 0, last == shape[0], sides=not around):
            regions.join_edge(base + _present(edge))
        top = np.where(labels[0] > 0, labels[0].astype(np.int64) + base, 0)
        if above is not None:
            regions.join(*_touching(above, top))
        above = np.where(labels[-1] > 0, labels[-1].astype(np.int64) + base, 0)
    frame = _Frame.of(frames)
    over = _along_the_edge(frame, _Frame.of(reached).ring, shape, around=around)
    return Collar(shape, strip, regions.joins(counts), frame.hanging(over) if over.any() else None)


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


def _along_the_edge(
    frame: _Frame, reached: NDArray[np.bool_], shape: tuple[int, int], *, around: bool
) -> NDArray[np.bool_]:
    """What is missing along the edge, (pixel,) as `_Frame.ring`: what the opening left, and where it ends by and by."""
    if not reached.any():
        return reached
    line = frame.ring
    if around:
        rows, columns = shape
        line[columns : columns + rows] = line[2 * columns + rows :] = False
    left = reached & line
    beside = np.roll(left, 1) | np.roll(left, -1)
    begins = beside & (frame.depths > OPENING // 2)
    labels = _ring_labels(line & ~left)
    return left | np.isin(labels, labels[begins & (labels > 0)])


def _ring_labels(line: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Labels of the runs of True around a ring (pixel,); 0 elsewhere."""
    from scipy import ndimage  # as in `_labels`

    labels, _ = ndimage.label(line)
    if line[0] and line[-1]:
        labels[labels == labels[-1]] = labels[0]
    return np.asarray(labels)


def _hanging(
    frame: NDArray[np.bool_], over: NDArray[np.bool_], left: NDArray[np.bool_], right: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """What of a frame (depth, pixel) squares cover that hang over its first line where `over` (pixel,) is True.

    left and right : the same of the sides next to it, from this one on.
    """
    depth, length = frame.shape
    wide = np.zeros((HALO + depth, HALO + length + HALO), bool)
    wide[HALO:, HALO:-HALO] = frame
    wide[:HALO] = np.pad(over, HALO, mode="edge")
    wide[HALO:, :HALO], wide[HALO:, -HALO:] = left[:depth, None], right[:depth, None]
    return opened(wide)[HALO:, HALO:-HALO]


def _labels(
    read: Read, first: int, last: int, shape: tuple[int, int]
) -> tuple[NDArray[np.int32], int, NDArray[np.bool_]]:
    """Labels (rows, columns) of the opened regions within rows first..last-1, how many, and the candidates there.

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
    return labels, count, candidates[first - low : last - low]


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
