"""Why a pixel is missing, and where an estimate is allowed: arithmetic on the arrays of one window.

A pixel is missing when at least one reason bit is set; nothing is missing without a reason. Arrays are
(band, row, column); where the missing pixels come from (files, vectors, quality bands) is known elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import is_nodata, unpack
from geodiff.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geodiff.encoding import Encoding

__all__ = [
    "NAMED",
    "OUTSIDE",
    "Gaps",
    "Reason",
    "auto_fillable",
    "because",
    "below_ground",
    "collar_candidates",
    "dilate",
    "never_seen",
    "outside_counts",
    "percent",
    "shares",
    "stored_reason",
    "tally",
]


class Reason(IntFlag):
    """Why a pixel is missing; the bits of the product's reason layer (uint16), which never change meaning."""

    KNOWN = 0
    """Observed and trusted."""
    NODATA = 1 << 0
    """The stored number says so (nodata, its aliases, NaN), or alpha or the dataset's own mask does."""
    INVALID = 1 << 1
    """A number outside the valid range."""
    CLOUD = 1 << 2
    SHADOW = 1 << 3
    """Shadow of a cloud."""
    CIRRUS = 1 << 4
    """Thin, high cloud."""
    SNOW = 1 << 5
    """Snow or ice, only where the preset says that the variable cannot be measured over it."""
    SATURATED = 1 << 6
    """Brighter or darker than the instrument or the encoding can tell."""
    QUALITY = 1 << 7
    """The producer distrusts the value for another cause."""
    DROPOUT = 1 << 8
    """Lines or blocks that were lost between the sensor and the file."""
    STRIPE = 1 << 9
    """A line or column with an offset of its own."""
    RESEAU = 1 << 10
    """A mark etched on the camera's faceplate."""
    HOT_PIXEL = 1 << 11
    """A single detector element or cosmic-ray hit."""
    USER_MASK = 1 << 12
    """Inside a raster or vector that was given with `--mask`."""
    QA_FILL = 1 << 13
    """The quality band's own fill: never observed (outside the swath or the scene)."""
    BUFFER = 1 << 14
    """Beside a gap: grown by `--buffer`, or called adjacent by the quality band."""
    UNDEFINED = 1 << 15
    """There is no such variable here: the product says so (sea temperature on land), or the map shows space."""

    @property
    def meaning(self) -> str:
        """Name of the bit as `flag_meanings` spells it."""
        return str(self.name).lower()


OUTSIDE = Reason.QA_FILL | Reason.UNDEFINED
"""Reasons under which `--fillable auto` never fills."""

NAMED = ~(Reason.NODATA | Reason.INVALID) & Reason(0xFFFF)
"""Reasons that some mask, quality flag or detection gave; what bears one is a gap and no collar."""

_BITS: tuple[Reason, ...] = tuple(Reason)


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is missing in one window, why, and where an estimate is allowed."""

    missing: NDArray[np.bool_]
    """(band, row, column): True where no observation is trusted."""
    fillable: NDArray[np.bool_]
    """Same shape: True where an estimate would be allowed; says nothing about whether one is needed."""
    reason: NDArray[np.uint16]
    """Same shape: bits of `Reason`; 0 exactly where not missing."""

    def __post_init__(self) -> None:
        if not self.missing.shape == self.fillable.shape == self.reason.shape:
            raise GridError(
                f"missing {self.missing.shape}, fillable {self.fillable.shape} and reason {self.reason.shape} "
                "do not cover the same pixels; cut them from the same window"
            )
        if self.reason.dtype != np.uint16 or not np.array_equal(self.missing, self.reason != 0):
            raise GridError("a pixel is missing without a reason, or bears one and is not missing; use Gaps.of(reason)")

    @classmethod
    def of(cls, reason: NDArray[np.uint16], fillable: NDArray[np.bool_] | None = None) -> Gaps:
        """Gaps from the reason bits alone; every pixel is fillable unless `fillable` (broadcast) says less."""
        allowed = np.ones(reason.shape, bool) if fillable is None else np.broadcast_to(fillable, reason.shape)
        return cls(reason != 0, allowed, reason)

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """Where an estimate is to be made: missing and fillable."""
        return self.missing & self.fillable

    def dilate(self, pixels: int) -> Gaps:
        """Grow the gaps to be filled by a disc of that radius, into known and fillable pixels only.

        What is outside is not grown: the pixels along a collar or a coast are as good as others. The grown pixels
        bear `Reason.BUFFER`. A window needs `pixels` of margin for its own pixels to come out as in the whole.
        """
        grown = dilate(self.wanted, pixels) & ~self.missing & self.fillable
        return Gaps.of(self.reason | because(grown, Reason.BUFFER), self.fillable)


def stored_reason(
    stored: NDArray[Any], encodings: Sequence[Encoding], valid: NDArray[np.bool_] | None
) -> NDArray[np.uint16]:
    """Why stored numbers (band, row, column) are missing by themselves: nodata, values out of range, the file's mask.

    `valid` (row, column) is the dataset's mask or alpha band, None where it has none.
    """
    reason = np.zeros(stored.shape, np.uint16)
    for place, (encoding, numbers) in enumerate(zip(encodings, stored, strict=True)):
        absent = is_nodata(numbers, encoding)
        reason[place][absent] = Reason.NODATA
        if encoding.valid_range is not None:
            reason[place][~unpack(numbers, encoding)[1] & ~absent] = Reason.INVALID
        if encoding.undefined:
            reason[place] |= because(np.isin(numbers, encoding.undefined), Reason.UNDEFINED)
    if valid is not None:
        reason[:, ~valid] |= np.uint16(Reason.NODATA)
    return reason


def because(where: NDArray[np.bool_], reason: Reason) -> NDArray[np.uint16]:
    """Reason bits, same shape: `reason` where True, 0 elsewhere."""
    return where.astype(np.uint16) * np.uint16(reason)


def dilate(where: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels no further than `radius` (Euclidean, pixel centres) from a True one in the last two axes; same shape."""
    if radius < 0:
        raise GridError(f"a buffer of {radius} pixels would shrink the gaps; give 0 or more")
    grown = where.copy()
    for step in range(min(radius, where.shape[-2] - 1) + 1):
        spread = _spread(where, int((radius**2 - step**2) ** 0.5), axis=-1)
        grown[..., step:, :] |= spread[..., : where.shape[-2] - step, :]
        grown[..., : where.shape[-2] - step, :] |= spread[..., step:, :]
    return grown


def _spread(where: NDArray[np.bool_], reach: int, axis: int) -> NDArray[np.bool_]:
    """True within `reach` pixels of a True one along one axis; by doubling, so that cost grows with log(reach)."""
    line = np.moveaxis(where, axis, -1)
    both = line.copy()
    for source in (line, line[..., ::-1]):
        run = source.copy()
        done = 0
        while done < min(reach, line.shape[-1] - 1):
            step = min(done + 1, reach - done)
            run[..., step:] |= run[..., :-step].copy()
            done += step
        both |= run if source is line else run[..., ::-1]
    return np.moveaxis(both, -1, axis)


def tally(reason: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many pixels bear each bit, (16,), lowest bit first; tallies of strips add up."""
    present = np.bitwise_or.reduce(reason, axis=None)
    bits = np.uint16(1) << np.arange(16, dtype=np.uint16)
    return np.array([np.count_nonzero(reason & bit) if present & bit else 0 for bit in bits], np.int64)


def shares(counts: NDArray[np.int64], pixels: int) -> dict[str, float]:
    """A tally as shares of `pixels`, by the reasons' meanings; only those that occur."""
    return {bit.meaning: int(n) / pixels for bit, n in zip(_BITS, counts, strict=True) if n}


def percent(share: float, small: float = 0.1) -> str:
    """A share as people read it: 0 % and 100 % only where it is none and all, two digits where it is `small`."""
    percents = 100 * share
    if share < small:
        return f"{percents:.2g} %"
    if not 0.99 < share < 1:
        return f"{percents:.1f} %"
    rest = f"{100 - percents:.2g}"  # as precise as the share that it leaves
    return "> 99.99 %" if "e" in rest else f"{100 - float(rest):.{len(rest.partition('.')[2])}f} %"


# --fillable auto: arithmetic of one window; geodiff/collar.py finds the collar of a whole raster.


def collar_candidates(reason: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels that may belong to the collar: nodata in every band, and named by no mask, quality flag or detection.

    Parameters
    ----------
    reason : (..., row, column); every leading axis (band, date) must agree.

    Returns
    -------
    (row, column) bool; over the dates of a stack, AND them.
    """
    unnamed = ((reason & np.uint16(Reason.NODATA)) != 0) & ((reason & np.uint16(NAMED)) == 0)
    return np.asarray(unnamed.all(axis=tuple(range(reason.ndim - 2))))


def never_seen(missing: NDArray[np.bool_], by_level: bool = False) -> NDArray[np.bool_]:
    """Pixels (row, column) that are missing in every date and band of `missing` (date, band, row, column).

    Of levels each by itself, (band, row, column): what is water at the surface may be rock far below.
    """
    return np.asarray(missing.all(axis=0 if by_level else (0, 1)))


def auto_fillable(
    reason: NDArray[np.uint16],
    collar: NDArray[np.bool_] | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """What `--fillable auto` allows: not the quality band's fill, the undefined, the collar, the never seen.

    Parameters
    ----------
    reason : (band, row, column).
    collar : (row, column), from `geodiff.collar.Collar.outside`; None where there is none.
    unseen : (row, column), or (band, row, column) of levels, from `never_seen`; None for a single date.

    Returns
    -------
    (band, row, column) bool.
    """
    allowed: NDArray[np.bool_] = (reason & np.uint16(OUTSIDE)) == 0
    for outside in (collar, unseen):
        if outside is not None:
            allowed &= ~outside
    return allowed


def below_ground(outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of levels (band, row, column), what is outside where another level is not."""
    return outside & ~outside.all(axis=0)


def outside_counts(
    reason: NDArray[np.uint16],
    collar: NDArray[np.bool_] | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> dict[str, int]:
    """How many missing (band, row, column) pixels `auto` leaves out, by the first cause that holds; counts add up.

    What no date saw may be (band, row, column) too, of levels: where some were seen, the others are below the ground.
    """
    left, bits = reason != 0, {"qa_fill": Reason.QA_FILL, "undefined": Reason.UNDEFINED}
    present = int(np.bitwise_or.reduce(reason, axis=None))
    causes = {cause: (reason & np.uint16(bit)) != 0 for cause, bit in bits.items() if present & bit}
    below = below_ground(unseen) if unseen is not None and unseen.ndim == 3 else None
    kinds = {"collar": collar, "below_ground": below, "never_seen": unseen}
    causes |= {cause: where for cause, where in kinds.items() if where is not None}
    counts = dict.fromkeys((*bits, "collar", *(["below_ground"] if below is not None else []), "never_seen"), 0)
    for cause, where in causes.items():
        if where.any():
            counts[cause] = int(np.count_nonzero(left & where))
            left &= ~where
    return counts
