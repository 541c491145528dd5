"""Which dates of a stack a filler looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import Scan
    from geodiff.scene import Cube

__all__ = ["context", "nearest_dates", "seen_dates", "time_line"]


def seen_dates(scan: Scan) -> tuple[bool, ...]:
    """Whether a date shows anything at all."""
    return tuple(bool(n) for n in scan.cells.count.sum(axis=(1, 2, 3)))


def context(cube: Cube, filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """Indices of the dates a filler looks at for one target date, ascending: the nearest in time, the target included.

    A filler says with `context_dates` how many neighbours it wants: 0 (the default) none, -1 every date. Dates that
    show nothing at all are none of them.
    """
    return nearest_dates(cube.seconds, filler, target, seen)


def nearest_dates(seconds: NDArray[np.int64], filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """`context` for dates in seconds since 1970; without dates the nearest are those beside it in the stack."""
    wanted = int(getattr(filler, "context_dates", 0))
    line = time_line(seconds)
    apart = np.abs(line - line[target])
    others = [int(i) for i in np.argsort(apart, kind="stable") if i != target and seen[i]]
    return sorted([target, *(others if wanted < 0 else others[:wanted])])


def time_line(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where dates in seconds since 1970 lie in time; those of no date as they follow each other in the stack."""
    return seconds if np.ptp(seconds) else np.arange(len(seconds))
