"""Spread of members: on trials, as far from the value as the truth is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.calibration import STRATA, hidden_pixels, lost_planes, patch_factors, strata
from geodiff.fillers.lost import lost_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Fitted, Patch, Trial

__all__ = ["member_widths", "width_field"]

_MEAN_ERROR = 0.78
"""Mean absolute error over the standard deviation of the network's departures on 96 validation patches (0.8 for a
Gaussian), so that members of single images keep the spread that the network gives them."""
_WORTH = 250.0
"""Number of hidden pixels as which the network's own spread counts."""
_LOST_WORTH = 1.0
"""Number of lost dates as which the spread over all trials counts."""
_WIDEST = 3.0
"""Bound on the factor by which members are widened or narrowed."""


def member_widths(
    trials: Sequence[Trial],
    errors: Sequence[NDArray[np.float32]],
    standard_errors: Sequence[NDArray[np.float32]],
    drawn: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Factors on the members' departures that make them as large as the errors of the value.

    Mean absolute errors are compared, not 90 % intervals, which are wide where errors have heavy tails.

    Parameters
    ----------
    errors, standard_errors : value less truth, and the standard error that scales members, over each trial's window.
    drawn : (20 or 30,) standard deviation of the network's departures, in its standard errors.

    Returns
    -------
    dict
        `widths` (20 or 30,) by stratum and, where trials hid whole dates, `lost_width` for dates without data.
    """
    stratum = [strata(trial.patch, table=drawn).astype(np.intp) for trial in trials]
    claims = [_MEAN_ERROR * error * drawn[s] for error, s in zip(standard_errors, stratum, strict=True)]
    own = np.abs(hidden_pixels(trials, errors)).astype(np.float64)
    claimed, classes = hidden_pixels(trials, claims).astype(np.float64), hidden_pixels(trials, stratum)
    common = _shrunk(own, claimed, 0.0)
    ratios = [_shrunk(own[classes == s], claimed[classes == s], common) for s in range(len(drawn))]
    found = {"widths": _bounded(ratios)}
    lost = [i for i, trial in enumerate(trials) if lost_planes(trial.patch).all()]
    if lost:
        each = [_ratio(np.abs(errors[i][trials[i].hidden]), claims[i][trials[i].hidden]) for i in lost]
        found["lost_width"] = _bounded((np.sum(each) + _LOST_WORTH * common) / (len(each) + _LOST_WORTH))
    return found


def width_field(patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
    """Factors of `member_widths` over the window, 1 where a fit has none: (target, band, row, column)."""
    field = patch_factors(patch, fitted.arrays.get("widths", np.ones(STRATA, np.float32)))
    if "lost_width" in fitted.arrays and (share := lost_share(patch)).any():
        field = field ** (1 - share) * np.float32(fitted.arrays["lost_width"]) ** share
    return field


def _shrunk(own: NDArray[np.float64], claimed: NDArray[np.float64], towards: float) -> float:
    """Log ratio of the means, shrunk to `towards` where pixels are few."""
    if not own.size:
        return towards
    return (own.size * _ratio(own, claimed) + _WORTH * towards) / (own.size + _WORTH)


def _ratio(own: NDArray[np.floating], claimed: NDArray[np.floating]) -> float:
    """Log ratio of the means."""
    return float(np.log(max(float(own.mean()), 1e-9) / max(float(claimed.mean()), 1e-9)))


def _bounded(logarithm: Any) -> NDArray[np.float32]:
    return np.asarray(np.clip(np.exp(logarithm), 1.0 / _WIDEST, _WIDEST), np.float32)
