"""What is kept of an answer: sums by stratum, from which every figure and its bootstrap follow.

One case is one block of the bootstrap, so its pixels are added up and forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.metrics import crps_ensemble_field, crps_gaussian_field, octave_power
from geodiff.seams import steps_by_line, window_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = [
    "DAYS",
    "FIELDS",
    "LEVELS",
    "STRATA",
    "Answer",
    "Outcome",
    "Summed",
    "distance_class",
    "octaves",
    "seam_sums",
    "squares",
    "summed",
]

LEVELS: Mapping[str, float] = {
    "50": 0.6744897501960817,
    "80": 1.2815515655446004,
    "90": 1.6448536269514722,
    "95": 1.959963984540054,
}
"""Half-widths of central Gaussian intervals, in standard errors."""
FIELDS = (
    "count", "error", "absolute", "square", "gaussian", "ensemble", "inside50", "inside80", "inside90", "inside95",
    "variance", "spread", "mean_square", "truth", "truth_square", "member_square",
)  # fmt: skip
"""Sums over pixels; those that an answer cannot give are NaN."""

DISTANCES = ("<=4 px", "4-16 px", "16-64 px", ">64 px")
SHARES = ("0-10 % missing", "10-40 % missing", "40-80 % missing", "80-100 % missing")
DAYS = ("<=5 d", "5-15 d", ">15 d")
STRATA = ("all", *DISTANCES, *SHARES, *DAYS)
_DISTANCE_EDGES, _SHARE_EDGES, _DAY_EDGES = (4.0, 16.0, 64.0), (0.1, 0.4, 0.8), (5.0, 15.0)
_BINS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What one method says of one case; arrays (band, row, column), in the units of the league."""

    value: NDArray[np.float32]
    standard_error: NDArray[np.float32] | None = None
    draws: NDArray[np.float32] | None = None
    """(draw, band, row, column), independent of each other."""
    seconds: float = 0.0
    """For the value alone."""
    calls: int = 0
    """Network calls for one draw."""


@dataclass(frozen=True)
class Summed:
    """One method on one case."""

    sums: Numbers
    """(stratum, field)."""
    value_power: Numbers
    """(octave,) of the value in squares that are wholly hidden, the finest octave first."""
    member_power: Numbers | None
    seconds: float
    calls: int
    draws: int
    ranks: Numbers
    """(20,) histogram of where truths fall in the Gaussian interval; zeros without a standard error."""
    by_distance: Numbers
    """(2, bin): sum of squares and count by log2 of the distance to data, half octaves."""
    seam: Numbers
    """(4,): sum and count of |difference| of hidden neighbours across the edges of lattice windows, and elsewhere."""


@dataclass(frozen=True)
class Outcome:
    """One case, whoever answered."""

    place: str
    kind: str
    shape: str
    pixels: int
    truth_power: Numbers
    methods: Mapping[str, Summed] = field(default_factory=dict)
    truth_seam: Numbers = field(default_factory=lambda: np.zeros(4))
    """`Summed.seam` of the truth: compression's blocks end on multiples of 8, as windows do."""


@dataclass(frozen=True)
class Ground:
    """What a case is judged by; arrays (band, row, column)."""

    truth: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    distance: NDArray[np.float32]
    """Pixels to the nearest known one of the same plane."""
    days: NDArray[np.float64]
    """Days to the nearest other date on which the pixel is known; infinite without."""
    share: float
    """Missing share of the place."""
    corners: list[tuple[int, int, int]]
    """Band, row and column of squares that are wholly hidden."""
    side: int
    origin: tuple[int, int] = (0, 0)
    """Absolute row and column of the first pixel, from which the lattice's lines follow."""

    @property
    def strata(self) -> NDArray[np.bool_]:
        """(stratum, pixel) over the hidden pixels."""
        near = distance_class(self.distance[self.hidden])
        share = int(np.searchsorted(_SHARE_EDGES, self.share))
        days = self.days[self.hidden]
        member = np.zeros((len(STRATA), near.size), bool)
        member[0] = True
        for index in range(len(DISTANCES)):
            member[1 + index] = near == index
        member[1 + len(DISTANCES) + share] = True
        since = np.searchsorted(_DAY_EDGES, days)
        for index in range(len(DAYS)):
            member[1 + len(DISTANCES) + len(SHARES) + index] = (since == index) & np.isfinite(days)
        return member


def distance_class(distance: NDArray[Any]) -> NDArray[np.intp]:
    """0 to 3: at most 4, 16, 64 pixels, more."""
    return np.searchsorted(_DISTANCE_EDGES, distance)


def squares(hidden: NDArray[np.bool_], side: int) -> list[tuple[int, int, int]]:
    """Band, row and column of squares of that side that are wholly hidden and do not overlap."""
    found: list[tuple[int, int, int]] = []
    for band, plane in enumerate(hidden):
        free = plane.copy()
        for row in range(0, plane.shape[0] - side + 1, max(1, side // 4)):
            for column in range(0, plane.shape[1] - side + 1, max(1, side // 4)):
                square = (slice(row, row + side), slice(column, column + side))
                if free[square].all():
                    free[square] = False
                    found.append((band, row, column))
    return found


def octaves(field: NDArray[Any], corners: Sequence[tuple[int, int, int]], side: int) -> Numbers:
    """Radial power by octave, (3,), pooled over the squares; all 0 without any."""
    power = np.zeros(3)
    for band, row, column in corners:
        found = octave_power(field[band, row : row + side, column : column + side].astype(np.float64))
        power[: len(found)] += found[:3]
    return power


def summed(answer: Answer, ground: Ground) -> Summed:
    """Add an answer up over the strata of its case."""
    fields, hidden = _fields(answer, ground), ground.hidden
    sums = np.stack([np.array([column[member].sum() for column in fields]) for member in ground.strata])
    value, draws = np.where(hidden, answer.value, ground.truth), answer.draws
    member = None if draws is None else np.where(hidden, draws[0], ground.truth)
    return Summed(
        sums,
        octaves(value, ground.corners, ground.side),
        None if member is None else octaves(member, ground.corners, ground.side),
        answer.seconds,
        answer.calls,
        0 if draws is None else len(draws),
        _ranks(answer, ground),
        _by_distance(answer, ground),
        seam_sums(value, ground),
    )


def _fields(answer: Answer, ground: Ground) -> list[Numbers]:
    """(pixel,) of each of `FIELDS`."""
    hidden = ground.hidden
    truth, value = ground.truth[hidden].astype(np.float64), answer.value[hidden].astype(np.float64)
    error, absent = value - truth, np.full(truth.shape, np.nan)
    width = None if answer.standard_error is None else answer.standard_error[hidden].astype(np.float64)
    draws = None if answer.draws is None else answer.draws[:, hidden].astype(np.float64)
    several = draws is not None and len(draws) > 1
    return [
        np.ones_like(error), error, np.abs(error), error**2,
        absent if width is None else crps_gaussian_field(value, width, truth),
        absent if draws is None or not several else crps_ensemble_field(draws, truth),
        *(absent if width is None else (np.abs(error) <= z * width).astype(np.float64) for z in LEVELS.values()),
        absent if width is None else width**2,
        absent if draws is None or not several else draws.var(axis=0, ddof=1),
        absent if draws is None or not several else (draws.mean(axis=0) - truth) ** 2,
        truth, truth**2,
        absent if draws is None else (draws[0] - truth) ** 2,
    ]  # fmt: skip


def _ranks(answer: Answer, ground: Ground) -> Numbers:
    from scipy.special import ndtr

    if answer.standard_error is None:
        return np.zeros(_BINS)
    hidden = ground.hidden
    width = np.maximum(answer.standard_error[hidden].astype(np.float64), 1e-12)
    transform = ndtr((ground.truth[hidden] - answer.value[hidden]) / width)
    return np.histogram(transform, _BINS, (0, 1))[0].astype(np.float64)


def _by_distance(answer: Answer, ground: Ground) -> Numbers:
    hidden = ground.hidden
    bins = np.clip(np.floor(2 * np.log2(np.maximum(ground.distance[hidden], 1))), 0, 15).astype(np.intp)
    square = (answer.value[hidden].astype(np.float64) - ground.truth[hidden]) ** 2
    return np.stack([np.bincount(bins, square, 16), np.bincount(bins, minlength=16)]).astype(np.float64)


def seam_sums(field: NDArray[Any], ground: Ground) -> Numbers:
    """`Summed.seam` of a field (band, row, column)."""
    sums, counts = steps_by_line(field, ground.hidden, ground.origin)
    on = window_lines()
    return np.array([sums[on].sum(), counts[on].sum(), sums[~on].sum(), counts[~on].sum()])
