"""What detectors measure a frame by: how much neighbours differ, where a run begins and ends, what lies beyond it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frame = NDArray[np.float64]
    Plane = NDArray[np.bool_]

__all__ = ["LINE", "Runs", "best_interval", "depth", "grain", "roughness", "runs_of", "share"]

LINE = 24
"""Shortest lost stretch of a line, in pixels."""


def roughness(frame: Frame, known: Plane) -> float:
    """Typical difference between neighbours in a row; at least their grain."""
    both = known[:, 1:] & known[:, :-1]
    steps = np.abs(np.diff(frame, axis=1))[both]
    if steps.size == 0:
        return np.inf
    return max(1.4826 * float(np.median(steps)), grain(frame, known))


def grain(frame: Frame, known: Plane) -> float:
    """The step that the numbers take: 1 for whole ones, a millionth of the range for finer ones."""
    seen = frame[known]
    whole = bool((seen[:4096] == np.rint(seen[:4096])).all())
    return 1.0 if whole or not seen.size else 1e-6 * float(np.ptp(seen))


def depth(frame: Frame, known: Plane) -> float:
    """The range that the scene uses, from its 1st to its 99th percentile."""
    if not known.any():
        return 0.0
    low, high = np.percentile(frame[known], [1, 99])
    return float(high - low)


class Runs(NamedTuple):
    """Stretches of rows; `stop` is one beyond the last column."""

    row: NDArray[np.intp]
    start: NDArray[np.intp]
    stop: NDArray[np.intp]

    @property
    def length(self) -> NDArray[np.intp]:
        """Pixels of each."""
        return self.stop - self.start

    def where(self, chosen: Plane) -> Runs:
        """Those that are chosen, (run,) bool."""
        return Runs(self.row[chosen], self.start[chosen], self.stop[chosen])

    def painted(self, shape: tuple[int, int]) -> Plane:
        """(row, column) bool, True in the runs."""
        edges = np.zeros((shape[0], shape[1] + 1), np.int32)
        np.add.at(edges, (self.row, self.start), 1)
        np.add.at(edges, (self.row, self.stop), -1)
        return np.asarray(np.cumsum(edges, axis=1)[:, :-1] > 0)


def runs_of(alike: Plane, shortest: int) -> Runs:
    """Longest stretches of True in each row, of at least `shortest` pixels."""
    steps = np.diff(np.pad(alike.astype(np.int8), [(0, 0), (1, 1)]), axis=1)
    row, start = np.nonzero(steps == 1)
    stop = np.nonzero(steps == -1)[1]
    runs = Runs(row, start, stop)
    return runs.where(runs.length >= shortest)


def share(plane: NDArray[Any], runs: Runs) -> NDArray[np.float64]:
    """Mean of a plane over each run."""
    total = np.cumsum(np.pad(plane.astype(np.float64), [(0, 0), (1, 0)]), axis=1)
    return np.asarray((total[runs.row, runs.stop] - total[runs.row, runs.start]) / np.maximum(runs.length, 1))


def best_interval(score: Frame) -> tuple[Frame, NDArray[np.intp], NDArray[np.intp]]:
    """Highest sum over consecutive columns of each row, and where that stretch starts and stops (Bentley 1984)."""
    rows = score.shape[0]
    best, running = np.zeros(rows), np.zeros(rows)
    start, stop, since = (np.zeros(rows, np.intp) for _ in range(3))
    for column in range(score.shape[1]):
        running += score[:, column]
        fresh = running <= 0
        running[fresh], since[fresh] = 0.0, column + 1
        better = running > best
        best[better], start[better], stop[better] = running[better], since[better], column + 1
    return best, start, stop
