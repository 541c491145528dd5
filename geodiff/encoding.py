"""How a band's numbers are stored, and the two directions between stored numbers and physical values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import EncodingError, GridError, InputError, NothingKnownError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LOGARITHMS",
    "Encoding",
    "Normalisation",
    "as_float64",
    "can_hold",
    "pack",
    "piles_up",
    "unpack",
    "where_known",
]


_NINETY = 1.645
"""Standard deviations to each side that hold 90 % of a Gaussian."""
_SHORT = 2e-6
"""How far from the end of a floating dtype a marker may be spelt: -3.40282e38 stands for -3.4028235e38."""
LOGARITHMS = {"log10": 1e-4, "log10 of g": 1e-7, "log10 of kg": 1e-10}
"""Where each logarithm begins: below what any sensor can tell from zero, for chlorophyll in mg, g or kg m-3."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The stored form of one band; decided once when a source is opened."""

    dtype: np.dtype[Any]
    """The stored dtype."""
    nodata: float | int | None = None
    """The stored value that means missing; NaN is missing in any floating dtype, whatever this says."""
    scale: float = 1.0
    """physical = stored * scale + offset"""
    offset: float = 0.0
    valid_range: tuple[float, float] | None = None
    """Physical bounds: known values outside are missing, filled values are clipped to them."""
    extra_nodata: tuple[float, ...] = ()
    """More stored values that mean missing (`missing_value` beside `_FillValue`, `--nodata`)."""
    undefined: tuple[float, ...] = ()
    """Stored values beyond the valid range that say that there is no such quantity there: land among sea ice."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.nodata is not None and not can_hold(self.dtype, self.nodata):
            raise EncodingError(
                f"nodata {self.nodata} cannot be stored as {self.dtype}, so no pixel could ever carry it; "
                "give a value the dtype can hold with --nodata, or repair the source's nodata tag"
            )
        if self.scale == 0 or not np.isfinite([self.scale, self.offset]).all():
            raise EncodingError(f"scale {self.scale} and offset {self.offset} give no physical values; repair the tags")
        if self.valid_range is not None and not self.valid_range[0] <= self.valid_range[1]:
            raise EncodingError(f"valid range {self.valid_range} is empty; give the lower bound first")

    @property
    def rounding(self) -> float:
        """Standard error that storage alone brings, a uniform error over one step; 0 for floating dtypes."""
        return self.step / math.sqrt(12.0)

    @property
    def step(self) -> float:
        """The smallest physical difference that survives storage; 0 for floating dtypes."""
        return abs(self.scale) if np.issubdtype(self.dtype, np.integer) else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest physical value that can be stored: the integer dtype's, within the valid range."""
        ends = (-math.inf, math.inf)
        if np.issubdtype(self.dtype, np.integer):
            limits = np.iinfo(self.dtype)
            low, high = sorted(end * self.scale + self.offset for end in (float(limits.min), float(limits.max)))
            ends = (low, high)
        low, high = self.valid_range or ends
        return max(low, ends[0]), min(high, ends[1])


def piles_up(values: NDArray[np.floating], end: float, least: float) -> bool:
    """Whether values (pixel,) pile up at the least or greatest they may have, as at no rain, black and saturation.

    At least so many stand there, and twice those at the number next to it: towards an end that is none values thin out,
    those of whole numbers too. All of them may, and where there are two numbers alone both are ends.
    """
    there = values == end
    pile = np.count_nonzero(there)
    if pile < least:
        return False
    beside = np.abs(values[~there] - end)
    next_to = beside.min(initial=np.inf)
    return bool(pile >= 2 * np.count_nonzero(beside == next_to) or beside.max() == next_to)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Physical values to what fillers see: z = (transform(x) - centre) / scale, per band, one for the whole scene."""

    centre: float
    scale: float
    transform: str = "linear"
    """`linear`; one of `LOGARITHMS` for quantities that span decades (chlorophyll), which needs x > 0; `cbrt`, the cube
    root, for rain, whose zeros are values (Stidd 1953)."""
    lowest: float | None = None
    """Least value there can be, transformed, where known ones pile up at it: no rain, no ice, calm. What fillers say
    beyond is moved to it; None where nothing says so."""
    highest: float | None = None
    """The same of the greatest: all cloud, all of it saturated."""
    least_seen: float | None = None
    """What is less, transformed, is no measurement, for it lies too far from all others: it stays as it is, and fillers
    do not see it, because one such number spoils every fit. None where there is none."""
    most_seen: float | None = None
    """The same of what is more."""
    trace: float | None = None
    """Least amount above nothing that is known, in physical units: of rain, less than half of it is none, as it would
    be in whole numbers. None where nothing says so."""

    def forward(self, physical: NDArray[np.float64]) -> NDArray[np.float32]:
        """Physical values, any shape, to normalised float32; the subtraction is in float64."""
        return ((self.transformed(physical) - self.centre) / self.scale).astype(np.float32)

    def measured(self, transformed: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Where transformed values are no farther from the others than measurements may be."""
        low = -np.inf if self.least_seen is None else self.least_seen
        high = np.inf if self.most_seen is None else self.most_seen
        return np.asarray(np.isfinite(transformed) & (transformed >= low) & (transformed <= high))

    def transformed(self, physical: NDArray[np.float64]) -> NDArray[np.float64]:
        """The transform alone, in float64."""
        if self.transform == "linear":
            return physical
        if self.transform in LOGARITHMS:
            return np.log10(np.maximum(physical, LOGARITHMS[self.transform]))
        if self.transform == "cbrt":
            return np.cbrt(physical)
        known = ", ".join(("linear", *LOGARITHMS, "cbrt"))
        raise EncodingError(f"no transform is called {self.transform!r}; choose one of {known}")

    def inverse(self, normalised: NDArray[np.float32]) -> NDArray[np.float64]:
        """Normalised values back to physical float64."""
        transformed = normalised.astype(np.float64) * self.scale + self.centre
        if self.lowest is not None:
            transformed = np.maximum(transformed, self.lowest)
        if self.highest is not None:
            transformed = np.minimum(transformed, self.highest)
        return self._physical(transformed)

    def _physical(self, transformed: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.transform == "cbrt":
            rain = np.maximum(transformed, 0.0) ** 3  # less than no rain is none
            return rain if self.trace is None else np.where(rain < self.trace / 2, 0.0, rain)
        return 10.0**transformed if self.transform in LOGARITHMS else transformed

    def error(self, physical: NDArray[np.float64], standard_error: NDArray[np.float32]) -> NDArray[np.float32]:
        """A normalised standard error in physical units, at `physical`: half the 90 % interval's length over 1.645.

        The delta method is its limit for small errors, and is too small for large ones: it knows neither how far a
        lognormal reaches nor, where the derivative of a cube root's inverse is 0, that rain may fall where none is
        expected.
        """
        spread = standard_error.astype(np.float64) * self.scale
        if self.transform != "linear":
            middle = self.transformed(np.maximum(physical, 0.0))
            exact = replace(self, trace=None)
            with np.errstate(over="ignore"):
                most, least = (exact._physical(middle + sign * _NINETY * spread) for sign in (1, -1))
            spread = (most - least) / (2 * _NINETY)
        return spread.astype(np.float32)


def as_float64(array: ArrayLike) -> NDArray[np.float64]:
    """The numbers of an array, NaN where a masked one hides them; raises InputError where they are complex."""
    if np.iscomplexobj(array):
        raise InputError("complex values have no one fill; give their real and imaginary part, or their amplitude")
    numbers = np.array(array, np.float64)  # of a masked array too, which keeps what it hides
    if isinstance(array, np.ma.MaskedArray):
        numbers[np.ma.getmaskarray(array)] = np.nan
    return numbers


def where_known(values: NDArray[np.float64], known: ArrayLike | None) -> NDArray[np.bool_]:
    """Where an image (row, column) or (band, row, column) is known: where it is finite and `known` says so.

    `known` may have the shape of one band; NaN, or what a masked array hides, is no yes in it. Raises GridError for
    shapes that do not fit, and NothingKnownError where `known` leaves none of the finite numbers.
    """
    if values.ndim not in (2, 3) or not values.size:
        raise GridError(f"values have shape {values.shape}; give (row, column) or (band, row, column)")
    finite = np.isfinite(values)
    if known is None:
        return finite
    said = np.nan_to_num(as_float64(known)).astype(bool)
    if said.shape not in (values.shape, values.shape[-2:]):
        raise GridError(f"known has shape {said.shape}, values {values.shape}; they must cover the same pixels")
    trusted = np.asarray(finite & np.broadcast_to(said, values.shape))
    if finite.any() and not trusted.any():
        raise NothingKnownError(
            f"`known` is true at none of the {finite.sum():,} pixels that have a number; it is True where observed, so "
            "give ~known if it says what is missing"
        )
    return trusted


def unpack(stored: NDArray[Any], encoding: Encoding) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Stored numbers to physical values and where they are valid.

    Parameters
    ----------
    stored : array of any shape in `encoding.dtype`.

    Returns
    -------
    physical : float64, same shape; 0 where not valid, so that nothing downstream meets a NaN.
    valid : bool, same shape; False at nodata, NaN, infinities and values outside the valid range.
    """
    valid = ~is_nodata(stored, encoding)
    physical = stored.astype(np.float64)
    np.multiply(physical, encoding.scale, out=physical, where=valid)
    np.add(physical, encoding.offset, out=physical, where=valid)
    if encoding.valid_range is not None:
        low, high = encoding.valid_range
        low, high = low - _slack(low, encoding), high + _slack(high, encoding)
        with np.errstate(invalid="ignore"):
            valid &= (physical >= low) & (physical <= high)
    physical[~valid] = 0.0
    return physical, valid


def _slack(bound: float, encoding: Encoding) -> float:
    """What storage alone may add to a value that stands at a bound: 3 x 0.1 is more than 0.3, and so is 0.3 as float32.

    A millionth of a step for whole numbers, a few units in the last place for others.
    """
    if not math.isfinite(bound):
        return 0.0
    if np.issubdtype(encoding.dtype, np.floating):
        return 4 * float(np.finfo(encoding.dtype).eps) * max(abs(bound), abs(bound - encoding.offset))
    return 1e-6 * abs(encoding.scale)


def is_nodata(stored: NDArray[Any], encoding: Encoding) -> NDArray[np.bool_]:
    """True where the stored number itself says missing (nodata, its aliases, NaN, infinities)."""
    floating = np.issubdtype(encoding.dtype, np.floating)
    absent = ~np.isfinite(stored) if floating else np.zeros(stored.shape, bool)
    for value in (encoding.nodata, *encoding.extra_nodata):
        if value is None or _is_nan(value) or not can_hold(encoding.dtype, value):
            continue
        if floating and abs(value) >= (end := (1 - _SHORT) * float(np.finfo(encoding.dtype).max)):
            absent |= stored <= -end if value < 0 else stored >= end
        else:
            absent |= stored == encoding.dtype.type(value)
    return absent


def pack(physical: NDArray[np.floating[Any]], encoding: Encoding) -> NDArray[Any]:
    """Physical values to stored numbers: subtract, divide, round, clip; a result is never read as missing.

    A value that would land on nodata or another marker, or that rounding would take out of the valid range, is moved to
    the nearest number that does neither, so that a filled pixel is never taken for a hole.
    """
    wanted: NDArray[np.float64] = np.asarray(physical, np.float64)
    if encoding.valid_range is not None:
        wanted = np.clip(wanted, *encoding.valid_range)
    scaled = (wanted - encoding.offset) / encoding.scale
    if np.issubdtype(encoding.dtype, np.integer):
        limits = np.iinfo(encoding.dtype)
        stored = _round_into(scaled, limits.min, limits.max, encoding.dtype)
    else:
        limit = float(np.finfo(encoding.dtype).max)
        stored = np.clip(scaled, -limit, limit).astype(encoding.dtype)
    return _away_from_missing(stored, scaled, encoding)


def _round_into(scaled: NDArray[np.float64], low: int, high: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round half to even and clip; the bounds are compared as integers because 2^63 is not exact in float64."""
    rounded = np.rint(scaled)
    inside = np.clip(rounded, float(low), np.nextafter(float(high), 0.0) if high > 2**53 else float(high))
    stored = inside.astype(dtype)
    stored[rounded >= float(high)] = high
    return stored


def _away_from_missing(stored: NDArray[Any], scaled: NDArray[np.float64], encoding: Encoding) -> NDArray[Any]:
    """Move stored numbers that would be read as missing to the nearest number that would not.

    They stand on a marker, or rounding took them out of the valid range. Where no number of the dtype lies in that
    range, it is the markers alone that are avoided.
    """
    clash = _says_missing(stored, encoding)
    if not clash.any():
        return stored
    moved, hit = _nearest_free(stored[clash], scaled[clash], encoding, _says_missing)
    if hit.any():
        moved[hit] = _nearest_free(stored[clash][hit], scaled[clash][hit], encoding, is_nodata)[0]
    stored[clash] = moved
    return stored


def _says_missing(stored: NDArray[Any], encoding: Encoding) -> NDArray[np.bool_]:
    """True where `unpack` would call a stored number missing."""
    return is_nodata(stored, encoding) if encoding.valid_range is None else ~unpack(stored, encoding)[1]


def _nearest_free(
    stored: NDArray[Any],
    wanted: NDArray[np.float64],
    encoding: Encoding,
    taken: Callable[[NDArray[Any], Encoding], NDArray[np.bool_]],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """For each number the free one nearest to the value it stands for, and True where none was found near it."""
    above, below = (_free(stored, encoding, taken, upwards=upwards) for upwards in (True, False))
    far = [np.abs(number.astype(np.float64) - wanted) for number in (above, below)]
    up = np.where(far[0] == far[1], wanted >= stored.astype(np.float64), far[0] < far[1])
    taken_above, taken_below = taken(above, encoding), taken(below, encoding)
    return np.where((up & ~taken_above) | taken_below, above, below), taken_above & taken_below


def _free(
    stored: NDArray[Any],
    encoding: Encoding,
    taken: Callable[[NDArray[Any], Encoding], NDArray[np.bool_]],
    *,
    upwards: bool,
) -> NDArray[Any]:
    """The next free number in one direction; one that is taken where there is none within a few steps."""
    number = stored
    for _ in range(2 + len(encoding.extra_nodata)):  # one out of the range by rounding, and over every marker
        number = np.where(taken(number, encoding), _next(number, encoding.dtype, upwards=upwards), number)
    return number


def _next(stored: NDArray[Any], dtype: np.dtype[Any], *, upwards: bool) -> NDArray[Any]:
    """The next number the dtype can hold; at its end the same one."""
    if not np.issubdtype(dtype, np.integer):
        return np.asarray(np.nextafter(stored, dtype.type(np.inf if upwards else -np.inf)))
    limits = np.iinfo(dtype)
    last = stored == (limits.max if upwards else limits.min)
    step = np.where(last, 0, 1).astype(dtype)
    return np.asarray(stored + step if upwards else stored - step, dtype)


def _is_nan(value: float) -> bool:
    return bool(np.isnan(value))


def can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether the dtype can hold the value; float nodata tags written in decimal count when they round to it."""
    if np.issubdtype(dtype, np.complexfloating):
        return True
    if np.issubdtype(dtype, np.floating):
        return _is_nan(value) or abs(value) <= float(np.finfo(dtype).max) * (1 + 1e-6) or np.isinf(value)
    if dtype == np.bool_:
        return value in (0, 1)
    if _is_nan(value) or np.isinf(value) or int(value) != value:
        return False
    limits = np.iinfo(dtype)
    return bool(limits.min <= int(value) <= limits.max)
