"""What others do with a stack of dates: interpolation in time, Whittaker smoothers, boosted trees, pydineof.

None of them is a dependency; `pip install pydineof whittaker-eilers vam.whittaker lightgbm` puts them beside geodiff
(pydineof is GPL: for benchmarks only; vam.whittaker's wheel wants an old C library, `--no-binary vam.whittaker` builds
it). Each takes the stack with gaps and gives its target dates, (target, row, column); settings are chosen by
cross-validation inside the stack.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cube = NDArray[np.float64]
"""(date, row, column), NaN where not known."""


@dataclass(frozen=True)
class Peer:
    """A method with the settings it may choose from."""

    name: str
    module: str
    fill: Callable[[Cube, NDArray[np.float64], Sequence[int], NDArray[np.bool_], Mapping[str, Any]], Cube]
    """(seen, days, targets, wanted (row, column), setting) to (target, row, column); only wanted pixels count."""
    settings: tuple[Mapping[str, Any], ...] = ({},)


def completed(estimate: Cube, seen: Cube, targets: Sequence[int]) -> Cube:
    """Where a method says nothing: the mean of the date, or of everything."""
    level = float(np.nanmean(seen))
    for plane, target in zip(estimate, targets, strict=True):
        own = seen[target]
        plane[~np.isfinite(plane)] = own[np.isfinite(own)].mean() if np.isfinite(own).any() else level
    return estimate


def linear(seen: Cube, days: NDArray[np.float64], targets: Sequence[int], wanted: Any, setting: Any) -> Cube:
    """Linear in time between the nearest known dates, the nearest one at the ends."""
    estimate = np.full((len(targets), *seen.shape[1:]), np.nan)
    for row, column in np.argwhere(wanted):
        series = seen[:, row, column]
        known = np.isfinite(series)
        if known.any():
            estimate[:, row, column] = np.interp(days[list(targets)], days[known], series[known])
    return completed(estimate, seen, targets)


def _whittaker(seen: Cube, days: NDArray[np.float64], targets: Sequence[int], wanted: Any, setting: Any) -> Cube:
    from whittaker_eilers import WhittakerSmoother

    steps = np.maximum(np.diff(days), 1e-2)
    x = np.concatenate([[0.0], np.cumsum(steps / max(float(np.median(steps)), 1e-2))])
    estimate = np.full((len(targets), *seen.shape[1:]), np.nan)
    smoother = WhittakerSmoother(lmbda=setting["lmbda"], order=2, data_length=len(x), x_input=x.tolist())
    for row, column in np.argwhere(wanted):
        series = seen[:, row, column]
        known = np.isfinite(series)
        if known.sum() < 3:
            continue
        smoother.update_weights(known.astype(float).tolist())
        smooth = smoother.smooth(np.where(known, series, 0.0).tolist())
        estimate[:, row, column] = np.asarray(smooth)[list(targets)]
    return completed(estimate, seen, targets)


def _vam(seen: Cube, days: NDArray[np.float64], targets: Sequence[int], wanted: Any, setting: Any) -> Cube:
    from vam.whittaker import ws2d

    step = max(float(np.median(np.diff(days))), 1.0)
    slots = np.rint((days - days[0]) / step).astype(int)
    estimate = np.full((len(targets), *seen.shape[1:]), np.nan)
    for row, column in np.argwhere(wanted):
        series = seen[:, row, column]
        known = np.isfinite(series)
        if known.sum() < 3:
            continue
        weight = np.bincount(slots[known], minlength=slots[-1] + 1).astype(np.float64)
        total = np.bincount(slots[known], series[known], minlength=slots[-1] + 1)
        smooth = np.asarray(
            ws2d(np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), setting["lmbda"], weight)
        )
        estimate[:, row, column] = smooth[slots[list(targets)]]
    return completed(estimate, seen, targets)


def _dineof(seen: Cube, days: NDArray[np.float64], targets: Sequence[int], wanted: Any, setting: Any) -> Cube:
    import xarray as xr
    from pydineof import run_2D

    modes = min(setting["modes"], len(days) - 7)
    if modes < 1:
        raise ValueError(f"pydineof needs 8 dates, and here are {len(days)}")
    level, scale = float(np.nanmean(seen)), float(np.nanstd(seen))
    stamps = (days * 86400).astype("M8[s]").astype("M8[ns]")
    coordinates = {"time": stamps, "y": np.arange(seen.shape[1]), "x": np.arange(seen.shape[2])}
    positive = xr.DataArray(np.exp((seen - level) / scale), coordinates, ("time", "y", "x"))  # it takes logarithms
    ever = xr.DataArray(np.isfinite(seen).any(axis=0), {k: coordinates[k] for k in ("y", "x")}, ("y", "x"))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filled = run_2D(positive, ever, nev=modes, ncv=min(modes + 6, len(days) - 1), alpha=setting["alpha"], seed=0)
    estimate = np.log(filled.transpose("time", "y", "x").values.astype(np.float64)) * scale + level
    return completed(estimate[list(targets)], seen, targets)


_NEAR = 3


def _features(seen: Cube, days: NDArray[np.float64], target: int, rows: Any, columns: Any, own: float) -> Any:
    """Nearest known values before and after with their distance in days, place, season, and the date's own level."""
    series = seen[:, rows, columns]
    made = []
    for order in (range(target - 1, -1, -1), range(target + 1, len(days))):
        values, apart = (np.full((_NEAR, len(rows)), np.nan) for _ in range(2))
        count = np.zeros(len(rows), int)
        for date in order:
            use = np.isfinite(series[date]) & (count < _NEAR)
            values[count[use], np.flatnonzero(use)] = series[date][use]
            apart[count[use], np.flatnonzero(use)] = days[date] - days[target]
            count += use
            if (count >= _NEAR).all():
                break
        made += [values, apart]
    season = np.array([np.cos(2 * np.pi * days[target] / 365.25), np.sin(2 * np.pi * days[target] / 365.25), own])
    return np.concatenate([*made, rows[None], columns[None], np.repeat(season[:, None], len(rows), 1)]).T


def _boosted(seen: Cube, days: NDArray[np.float64], targets: Sequence[int], wanted: Any, setting: Any) -> Cube:
    import lightgbm

    rng = np.random.default_rng(0)
    known = np.isfinite(seen)
    level = [float(seen[d][known[d]].mean()) if known[d].any() else np.nan for d in range(len(days))]
    inputs, answers = [], []
    for date in np.flatnonzero(known.any(axis=(1, 2))):
        rows, columns = np.nonzero(known[date])
        some = rng.permutation(len(rows))[: max(1, 24_000 // len(days))]
        inputs.append(_features(seen, days, int(date), rows[some], columns[some], level[date]))
        answers.append(seen[date, rows[some], columns[some]])
    model = lightgbm.LGBMRegressor(
        n_estimators=200, learning_rate=0.06, n_jobs=1, verbose=-1, random_state=0, **setting
    )
    model.fit(np.concatenate(inputs), np.concatenate(answers))
    estimate = np.full((len(targets), *seen.shape[1:]), np.nan)
    rows, columns = np.nonzero(wanted)
    for plane, date in zip(estimate, targets, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plane[rows, columns] = model.predict(_features(seen, days, date, rows, columns, level[date]))
    return completed(estimate, seen, targets)


_SMOOTH = tuple({"lmbda": value} for value in (0.01, 0.1, 1.0, 10.0, 100.0))
PEERS = (
    Peer("linear-in-time", "numpy", linear),
    Peer("whittaker-eilers", "whittaker_eilers", _whittaker, _SMOOTH),
    Peer("vam-whittaker", "vam.whittaker", _vam, _SMOOTH),
    Peer("pydineof", "pydineof", _dineof, tuple({"modes": m, "alpha": a} for m in (3, 6) for a in (0.0, 0.01))),
    Peer(
        "lightgbm",
        "lightgbm",
        _boosted,
        tuple({"num_leaves": n, "min_child_samples": m} for n in (15, 63) for m in (20, 100)),
    ),
)
