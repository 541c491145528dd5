"""The league: every figure of every method by stratum, with paired-bootstrap intervals of ratios to the best peer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.metrics import Interval, bootstrap_interval, log_spectral_distance
from geodiff.peers import PEERS
from geodiff.peers.null import NAME as NULL
from geodiff.score.moments import DAYS, FIELDS, LEVELS, STRATA, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["LEAST_CASES", "LEAST_PIXELS", "Row", "external", "league", "ratio", "remarks"]

LEAST_CASES, LEAST_PIXELS = 8, 2000
"""Below these a league says that it is too small to conclude from."""
_AT = {name: place for place, name in enumerate(FIELDS)}
_DAYS = [STRATA.index(name) for name in DAYS]
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one stratum; NaN where a method cannot give a figure."""

    method: str
    stratum: str
    cases: int
    pixels: int
    rmse: float
    mae: float
    bias: float
    r2: float
    crps: float
    crps_from: str
    """`draws (N)`: fair, of independent draws; `gaussian`: of value and standard error; `point`: the MAE."""
    coverage: Mapping[str, float]
    """Share of truths in the central intervals of 50, 80, 90 and 95 %."""
    spread_skill: float
    member_value: float
    """RMSE of one draw over RMSE of the value."""
    texture_value: float
    """Decibels by which the value's worst octave departs from the truth's; all strata together."""
    texture_member: float
    seconds_per_megapixel: float
    """Of the value, per million hidden pixels, without the fit."""
    calls: int
    rmse_ratio: Interval | None
    """Over the best peer of the stratum; None where there is none, or it is exact."""
    rmse_peer: str
    crps_ratio: Interval | None
    """Over the best probabilistic peer of the stratum."""
    crps_peer: str

    def facts(self) -> dict[str, Any]:
        """For JSON: rounded, NaN as None."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return [_plain(x) for x in (value.estimate, value.low, value.high)]
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def external(method: str) -> bool:
    """Whether a method is a peer and not geodiff's own."""
    return method in PEERS or method == NULL


def league(outcomes: Sequence[Outcome], *, seed: int = 0) -> list[Row]:
    """Every method in every stratum that holds pixels, the best RMSE of a stratum first.

    Those whose answers are no numbers come after the others, and last those that answered only some of its gaps: their
    errors are of other pixels.
    """
    rows: list[Row] = []
    for index, stratum in enumerate(STRATA):
        seen = [o for o in outcomes if _counts(o)[index] > 0]
        rows += sorted(_stratum(seen, stratum, index, seed), key=lambda row: (-row.cases, _worst_last(row.rmse)))
    return rows


def _worst_last(error: float) -> float:
    return error if math.isfinite(error) else math.inf


def _counts(outcome: Outcome) -> Numbers:
    """(stratum,) pixels."""
    any_method = next(iter(outcome.methods.values()))
    return np.asarray(any_method.sums[:, _AT["count"]])


def _stratum(outcomes: Sequence[Outcome], stratum: str, index: int, seed: int) -> list[Row]:
    names = list(dict.fromkeys(name for o in outcomes for name in o.methods))
    whole = [name for name in names if all(name in o.methods for o in outcomes)]
    totals = {name: _sums(outcomes, name, index).sum(axis=0) for name in whole}
    peers = [name for name in whole if external(name)]
    told = [p for p in peers if p != NULL and np.isfinite(totals[p][_AT["square"]])]
    by_value = min(told, key=lambda p: totals[p][_AT["square"]], default="")
    by_crps = min((p for p in peers if _crps_field(totals[p])), key=lambda p: _crps(totals[p]), default="")
    return [_row(outcomes, name, stratum, index, by_value, by_crps, seed) for name in names]


def _sums(outcomes: Sequence[Outcome], name: str, index: int) -> Numbers:
    """(case, field) of the cases that the method answered."""
    return np.array([o.methods[name].sums[index] for o in outcomes if name in o.methods])


def _crps_field(total: Numbers) -> str:
    """The better measured of the two that there are: draws, else the Gaussian, else none."""
    return next((f for f in ("ensemble", "gaussian") if np.isfinite(total[_AT[f]])), "")


def _crps(total: Numbers) -> float:
    return float(total[_AT[_crps_field(total) or "absolute"]] / total[_AT["count"]])


def _row(
    outcomes: Sequence[Outcome], name: str, stratum: str, index: int, by_value: str, by_crps: str, seed: int
) -> Row:
    own = [o for o in outcomes if name in o.methods]
    total = _sums(own, name, index).sum(axis=0)
    mean = dict(zip(FIELDS, total / total[_AT["count"]], strict=True))
    draws = max(o.methods[name].draws for o in own)
    origin = {"ensemble": f"draws ({draws})", "gaussian": "gaussian"}.get(_crps_field(total), "point")
    rmse, pixels = math.sqrt(mean["square"]), sum(o.pixels for o in own)
    value_texture, member_texture = _texture(own, name)
    return Row(
        method=name,
        stratum=stratum,
        cases=len(own),
        pixels=int(total[_AT["count"]]),
        rmse=rmse,
        mae=mean["absolute"],
        bias=mean["error"],
        r2=_r2(mean),
        crps=_crps(total),
        crps_from=origin,
        coverage={level: mean[f"inside{level}"] for level in LEVELS},
        spread_skill=_spread_skill(mean, draws),
        member_value=math.sqrt(mean["member_square"]) / rmse if rmse > 0 else math.nan,
        texture_value=value_texture,
        texture_member=member_texture,
        seconds_per_megapixel=1e6 * sum(o.methods[name].seconds for o in own) / max(pixels, 1),
        calls=max(o.methods[name].calls for o in own),
        rmse_ratio=ratio(outcomes, name, by_value, index, "rmse", seed) if by_value else None,
        rmse_peer=by_value,
        crps_ratio=ratio(outcomes, name, by_crps, index, "crps", seed) if by_crps else None,
        crps_peer=by_crps,
    )


def _r2(mean: Mapping[str, float]) -> float:
    variance = mean["truth_square"] - mean["truth"] ** 2
    return 1 - mean["square"] / variance if variance > 0 else math.nan


def _spread_skill(mean: Mapping[str, float], draws: int) -> float:
    """Of the draws, for an ensemble of their number (Fortin et al. 2014); else of the standard error."""
    if math.isfinite(mean["spread"]) and mean["mean_square"] > 0:
        return math.sqrt((draws + 1) / draws * mean["spread"] / mean["mean_square"])
    if math.isfinite(mean["variance"]) and mean["square"] > 0:
        return math.sqrt(mean["variance"] / mean["square"])
    return math.nan


def _texture(outcomes: Sequence[Outcome], name: str) -> tuple[float, float]:
    """Worst octave in dB of the value and of one draw, power pooled over all cases."""
    truth = np.sum([o.truth_power for o in outcomes], axis=0)
    value = np.sum([o.methods[name].value_power for o in outcomes], axis=0)
    members = [o.methods[name].member_power for o in outcomes]
    drawn = [m for m in members if m is not None]
    member = log_spectral_distance(np.sum(drawn, axis=0), truth) if len(drawn) == len(members) else math.nan
    return log_spectral_distance(value, truth), member


def ratio(
    outcomes: Sequence[Outcome], name: str, other: str, index: int, figure: str, seed: int, field: str = ""
) -> Interval | None:
    """One method's figure over another's on the cases both answered, with a 95 % interval over cases.

    None where there is none: of what is exact, as nearest neighbours are in flat fields, and of what is no number.

    Parameters
    ----------
    figure : `rmse`, or `crps` (of what each gives: draws, Gaussian, or the absolute error of a point).
    field : for `crps`, the field of `FIELDS` to take of the other instead, such as `absolute`.
    """
    both = [o for o in outcomes if name in o.methods and other in o.methods and _counts(o)[index] > 0]
    if not both:
        return None
    sums = [_sums(both, which, index) for which in (name, other)]
    picked = []
    for table, wanted in zip(sums, ("", field), strict=True):
        total = table.sum(axis=0)
        column = "square" if figure == "rmse" else wanted or _crps_field(total) or "absolute"
        picked.append(table[:, _AT[column]])
    power = 0.5 if figure == "rmse" else 1.0
    found = _bootstrapped(picked[0], picked[1], power, seed)
    return found if math.isfinite(found.estimate) else None


def _bootstrapped(first: Numbers, second: Numbers, power: float, seed: int) -> Interval:
    """(sum of first / sum of second)^power, cases drawn with replacement."""
    picks = np.random.default_rng(seed).integers(0, len(first), (_DRAWS, len(first)))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (first[picks].sum(axis=1) / second[picks].sum(axis=1)) ** power
        estimate = (first.sum() / second.sum()) ** power
    return bootstrap_interval(float(estimate), drawn, len(first))


def remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know before concluding."""
    said = []
    pixels = sum(o.pixels for o in outcomes)
    if len(outcomes) < LEAST_CASES or pixels < LEAST_PIXELS:
        said.append(
            f"the sample is too small to conclude from: {len(outcomes)} gaps with {pixels:,} hidden pixels "
            f"(at least {LEAST_CASES} and {LEAST_PIXELS:,}); the intervals hold less than they claim. "
            "Raise --trials, or score a larger raster"
        )
    few = [n for n in _names(outcomes) if sum(n in o.methods for o in outcomes) < len(outcomes)]
    if few:
        said.append(
            f"{', '.join(few)}: hundreds of network calls a draw, so they answered only "
            f"{max(sum(n in o.methods for o in outcomes) for n in few)} of {len(outcomes)} gaps, in a short version; "
            "their rows are of those gaps alone, only the ratios compare"
        )
    if any(map(external, _names(outcomes))) and any(_counts(o)[_DAYS].any() for o in outcomes):
        said.append(
            "peers see one date at a time: where other dates show what was hidden, ratios to the best peer say what "
            "those dates are worth, more than which method is better"
        )
    if not sum(float(o.truth_power.sum()) for o in outcomes):
        said.append("no hidden area holds a square of 16 pixels, so texture was not measured")
    return said


def _names(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for o in outcomes for name in o.methods))
