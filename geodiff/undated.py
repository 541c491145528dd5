"""Dates of a stack whose source has none: one a day, in its order, so long ago that no sensor saw them.

So they are apart for whatever asks how far, and tell nothing of a season.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UNDATED", "has_season", "ordinals"]

_DAY = 86_400
UNDATED = -_DAY * 10**9
"""Seconds since 1970 of the first of them: 2.7 million years ago, exact in float64."""


def ordinals(count: int) -> NDArray[np.int64]:
    """(date,) seconds since 1970 for dates that are not known; a single one is 0, and is no stack."""
    return UNDATED + _DAY * np.arange(count, dtype=np.int64) if count > 1 else np.zeros(count, np.int64)


def has_season(seconds: int) -> bool:
    """Whether seconds since 1970 are a date: neither one of `ordinals` nor the 0 of a date that is not known."""
    return bool(seconds) and seconds > UNDATED // 2
