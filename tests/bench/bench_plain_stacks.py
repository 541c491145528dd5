"""Stacks of dates with plain gaps: geodiff beside the plain things people do with them.

    python tests/bench/bench_plain_stacks.py [--side 96] [--cubes crops,eddies] [--patterns clouds] [--seed 0]

Cubes that are made up after what agencies deliver, so it needs no data of its own. RMSE over that of the best peer of
each cube and pattern, chosen with hindsight, and the share of the truth in value +- 1.645 standard errors. Peers that
are no dependency (`pip install pydineof lightgbm`) take part where they are installed. Prints figures, asserts none.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import time_peers
import xarray as xr
from numpy.typing import NDArray
from rasterio.fill import fillnodata
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import diags, eye, kron
from scipy.sparse.linalg import cg, spsolve
from skimage import data

import geodiff  # noqa: F401 (registers the accessor)

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCORED = 6
"""Dates that are filled and judged."""
MOST_BANDS = 2
"""Bands that are judged; most peers see one at a time."""
FIRST_DAY = 18_262.0
"""1 January 2020."""


@dataclass(frozen=True)
class Cube:
    """A stack without gaps."""

    name: str
    values: Numbers
    """(date, band, row, column)."""
    days: Numbers
    """(date,) days since 1970."""
    period: float = 365.25
    """Days after which it repeats, more or less."""


# -- cubes


def _texture(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Numbers:
    """Gaussian field of unit variance."""
    field = gaussian_filter(rng.standard_normal(shape), scale if len(shape) == 2 else (0, scale, scale), mode="wrap")
    return np.asarray(field / field.std())


def _fields(rng: np.random.Generator, side: int, count: int) -> NDArray[np.intp]:
    """(row, column) number of the field each pixel lies in."""
    y, x = np.mgrid[:side, :side]
    centres = rng.uniform(0, side, (count, 2))
    apart = np.abs(y[None] - centres[:, 0, None, None]) + np.abs(x[None] - centres[:, 1, None, None])
    return np.asarray(apart.argmin(axis=0))


def _growth(days: Numbers, up: Numbers, down: Numbers) -> Numbers:
    """(date, ...) of a double logistic season."""
    t = (days % 365.25)[:, None]
    return 1 / (1 + np.exp(-(t - up) / 12)) - 1 / (1 + np.exp(-(t - down) / 14))


def crops(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + np.cumsum(rng.choice([5, 10, 15, 20], 26)).astype(float)
    of = _fields(rng, side, 40)
    kind = rng.integers(0, 3, 40)
    up = np.array([95.0, 150.0, 120.0])[kind] + rng.normal(0, 6, 40)
    down = np.array([190.0, 280.0, 300.0])[kind] + rng.normal(0, 8, 40)
    curve = _growth(days, up, down) * rng.uniform(0.4, 0.65, 40)
    within = 1 + 0.1 * _texture(rng, (side, side), 4)
    values = 0.18 + 0.03 * _texture(rng, (side, side), 2) + curve[:, of] * within
    haze = rng.normal(0, 0.012, len(days))[:, None, None]
    return Cube("crops", (values + haze + rng.normal(0, 0.012, values.shape))[:, None], days)


def eddies(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + 120 + np.arange(24.0)
    y, x = np.mgrid[:side, :side] / side
    planes = []
    start, speed = rng.uniform(0, 1, (9, 2)), rng.normal(0, 0.006, (9, 2)) - [0, 0.004]
    size, depth = rng.uniform(0.06, 0.16, 9), rng.normal(0, 1.2, 9)
    front = _texture(rng, (side, side), side / 6)
    weather = gaussian_filter(rng.standard_normal((24, side, side)), (2, side / 8, side / 8))
    for t in range(24):
        at = start + speed * t
        rings = sum(
            d * np.exp(-((y - a[0]) ** 2 + (x - a[1]) ** 2) / (2 * s**2))
            for a, s, d in zip(at, size, depth, strict=True)
        )
        planes.append(16 - 5 * y + 0.05 * t + 0.8 * front + rings)
    values = np.stack(planes) + 0.4 * weather / weather.std() + rng.normal(0, 0.05, (24, side, side))
    return Cube("eddies", values[:, None], days)


def hourly(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + 180 + np.arange(40.0) / 24
    height = 400 * (_texture(rng, (side, side), 6) + 2)
    sun = np.sin(2 * np.pi * (days % 1 - 0.375))[:, None, None]
    land = 1 / (1 + np.exp(-8 * _texture(rng, (side, side), 9)))
    weather = gaussian_filter(rng.standard_normal((40, side, side)), (6, 14, 14), mode="wrap")
    values = 22 - 0.0065 * height + (1.5 + 5 * land) * sun + 1.2 * weather / weather.std()
    return Cube("hourly", (values + rng.normal(0, 0.15, values.shape))[:, None], days, period=1.0)


def rain(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + 150 + np.arange(18.0) / 144
    large = gaussian_filter(rng.standard_normal((4 * side, 4 * side)), 6)
    large = large / large.std() + 0.5 * _texture(rng, large.shape, 2)
    y, x = np.mgrid[:side, :side].astype(float)
    change = gaussian_filter(rng.standard_normal((18, side, side)), (5, 5, 5))
    field = np.stack([map_coordinates(large, [y + side + 0.6 * t, x + side + 1.7 * t], order=1) for t in range(18)])
    field += 0.4 * change / change.std()
    return Cube("rain", np.where(field > 0.4, np.round(3 * np.maximum(field - 0.4, 0) ** 1.6, 1), 0.0)[:, None], days)


def light(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + np.sort(rng.choice(np.arange(0, 60), 16, replace=False)).astype(float)
    scene = data.brick()[100 : 100 + side, 100 : 100 + side].astype(float)
    gain, offset = rng.uniform(0.6, 1.2, 16), rng.normal(0, 12, 16)
    values = gain[:, None, None] * scene + offset[:, None, None] + rng.normal(0, 2, (16, side, side))
    return Cube("light", values[:, None], days)


def change(rng: np.random.Generator, side: int) -> Cube:
    days = FIRST_DAY + 16.0 * np.arange(26)
    of = _fields(rng, side, 60)
    scene = data.gravel()[: side * 2 : 2, : side * 2 : 2].astype(float) / 255
    season = 0.08 * np.cos(2 * np.pi * (days - 200) / 365.25)[:, None, None] * (0.3 + scene)
    trend = rng.normal(0, 0.02, 60)[of] * ((days - days[0]) / 365.25)[:, None, None]
    when, how = np.where(rng.random(60) < 0.4, rng.integers(5, 21, 60), 99), rng.normal(0, 0.25, 60)
    step = (np.arange(26)[:, None, None] >= when[of]) * how[of]
    values = 0.3 + 0.3 * scene + season + trend + step + rng.normal(0, 0.012, (26, side, side))
    return Cube("change", (values + rng.normal(0, 0.01, 26)[:, None, None])[:, None], days)


def bands(rng: np.random.Generator, side: int) -> Cube:
    """Four bands of a scene in colour; the fourth is like vegetation."""
    days = FIRST_DAY + 16.0 * np.arange(10)
    scene = np.moveaxis(data.coffee()[40 : 40 + side, 100 : 100 + side].astype(float), -1, 0)
    planes = np.concatenate([scene, [0.6 * scene[1] - 0.3 * scene[0] + 60 + 12 * _texture(rng, (side, side), 3)]])
    of, season = _fields(rng, side, 30), np.cos(2 * np.pi * (days - 190) / 365.25)
    green = season[:, None] * rng.normal(0.5, 0.4, 30)
    effect = np.array([-14.0, -4.0, -10.0, 30.0])
    values = planes[None] + effect[:, None, None] * green[:, None, of]
    haze = rng.normal(0, 6, len(days))[:, None, None, None] * np.array([0.6, 0.8, 1.2, 0.3])[:, None, None]
    shadow = gaussian_filter(rng.standard_normal((10, side, side)), (0, 3, 3))
    shadow = 8 * (shadow / shadow.std())[:, None] * np.array([1.0, 1.0, 0.9, 1.1])[:, None, None]
    return Cube("bands", values + haze + shadow + rng.normal(0, 1.5, values.shape), days)


def few(rng: np.random.Generator, side: int) -> Cube:
    """Four dates of a scene, months apart."""
    days = FIRST_DAY + np.array([20.0, 110.0, 200.0, 290.0])
    scene = data.grass()[: side * 2 : 2, : side * 2 : 2].astype(float)
    of = _fields(rng, side, 30)
    green = np.cos(2 * np.pi * (days - 190) / 365.25)[:, None] * rng.normal(18, 14, 30)
    drift = 8 * _texture(rng, (4, side, side), 5)
    return Cube("few", (scene + green[:, of] + drift + rng.normal(0, 3, (4, side, side)))[:, None], days)


CUBES: Mapping[str, Callable[[np.random.Generator, int], Cube]] = {
    made.__name__: made for made in (crops, eddies, hourly, rain, light, change, bands, few)
}


# -- gaps


def _share(field: Numbers, share: float) -> Mask:
    return np.asarray(field > np.quantile(field, 1 - share))


def _clouds(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    rough = [gaussian_filter(rng.standard_normal(shape[1:]), 7) + 0 for _ in range(shape[0])]
    return np.stack([_share(f / f.std(), rng.uniform(0.3, 0.6)) for f in rough])


def _swaths(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    y, x = np.mgrid[: shape[1], : shape[2]]
    return np.stack([(x + 0.35 * y + rng.uniform(0, 70)) % 70 < 28 for _ in range(shape[0])])


def _outage(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    """A third of the dates, one region; clouds of a tenth elsewhere."""
    lost = np.stack([_share(gaussian_filter(rng.standard_normal(shape[1:]), 5), 0.1) for _ in range(shape[0])])
    dates, side = shape[0], shape[1]
    part = slice(dates // 3, max(dates // 3 + 1, 2 * dates // 3))
    lost[part, side // 4 : 3 * side // 4, side // 3 : side - side // 6] = True
    return lost


def _whole(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    lost = _clouds(rng, shape) & (np.arange(shape[0]) % 2 == 0)[:, None, None]
    lost[rng.permutation(np.arange(1, shape[0] - 1))[: max(1, shape[0] // 6)]] = True
    return lost


def _stripes(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    """The same lines on every date but for a few early ones, else nobody ever saw them."""
    lost = np.zeros(shape, bool)
    lost[:, rng.permutation(shape[1])[: shape[1] // 8]] = True
    lost[: max(1, shape[0] // 12)] = False
    return lost


PATTERNS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Mask]] = {
    "clouds": _clouds,
    "3 of 10 pixels": lambda rng, shape: rng.random(shape) < 0.3,
    "8 of 10 pixels": lambda rng, shape: rng.random(shape) < 0.8,
    "whole dates": _whole,
    "swaths": _swaths,
    "outage": _outage,
    "stripes": _stripes,
}
"""(date, row, column) of all bands together."""


def lost_band(rng: np.random.Generator, shape: tuple[int, ...], *, clouds: bool) -> Mask:
    """(date, band, row, column): the second band on every third date, and a stripe of it on all."""
    lost = np.zeros(shape, bool)
    if clouds:
        lost |= (_clouds(rng, (shape[0], *shape[2:])) & _clouds(rng, (shape[0], *shape[2:])))[:, None]
    lost[::3, 1, shape[2] // 5 : 4 * shape[2] // 5] = True
    lost[:, 1, :: shape[2] // 12] = True
    return lost


# -- peers


def _harmonic(seen: Numbers, days: Numbers, targets: NDArray[np.intp], period: float, order: int) -> Numbers:
    """Each pixel's regression on a line and waves of a period."""
    t = (days - days.mean()) / max(float(np.ptp(days)), 1e-9)
    waves = [f(2 * np.pi * (n + 1) * days / period) for n in range(order) for f in (np.cos, np.sin)]
    design = np.stack([np.ones_like(t), t, *waves], axis=1)
    flat = seen.reshape(len(days), -1)
    known = np.isfinite(flat).astype(float)
    value = np.nan_to_num(flat)
    normal = np.einsum("dp,di,dj->pij", known, design, design) + 1e-4 * np.eye(design.shape[1])
    slopes = np.linalg.solve(normal, np.einsum("dp,di->pi", value, design)[..., None])[..., 0]
    return (slopes @ design[targets].T).T.reshape(-1, *seen.shape[1:])


def _whittaker(seen: Numbers, days: Numbers, targets: NDArray[np.intp], strength: float) -> Numbers:
    steps = np.diff(days) / np.median(np.diff(days))
    count = len(days)
    rows = np.zeros((count - 2, count))
    for i in range(count - 2):
        left, right = max(steps[i], 0.1), max(steps[i + 1], 0.1)
        rows[i, i : i + 3] = np.array([1 / left, -1 / left - 1 / right, 1 / right]) * 2 / (left + right)
    known = np.isfinite(seen).reshape(count, -1).astype(float)
    value = np.nan_to_num(seen).reshape(count, -1)
    penalty = strength * rows.T @ rows + 1e-6 * np.eye(count)
    systems = known.T[:, :, None] * np.eye(count) + penalty
    smooth = np.linalg.solve(systems, value.T[..., None])[..., 0].T
    return smooth[targets].reshape(-1, *seen.shape[1:])


def _by_date(fill: Callable[[Numbers, Mask], Numbers]) -> Callable[..., Numbers]:
    def planes(seen: Numbers, days: Numbers, targets: NDArray[np.intp], period: float) -> Numbers:
        made = []
        for date in targets:
            lost = ~np.isfinite(seen[date])
            level = float(np.nanmean(seen))
            made.append(np.full(lost.shape, level) if lost.all() else fill(np.nan_to_num(seen[date]), lost))
        return np.stack(made)

    return planes


def _laplacian(side: int) -> object:
    ones = np.ones(side)
    line = diags([ones[1:], -2 * ones, ones[1:]], [-1, 0, 1]).tolil()
    line[0, 0] = line[-1, -1] = -1
    return line.tocsr()


def _biharmonic(plane: Numbers, lost: Mask) -> Numbers:
    rows, columns = plane.shape
    laplace = (kron(_laplacian(rows), eye(columns)) + kron(eye(rows), _laplacian(columns))).tocsr()
    system, gone = (laplace @ laplace).tocsr(), lost.ravel()
    filled = plane.ravel().copy()
    right = -(system[gone][:, ~gone] @ filled[~gone])
    filled[gone] = spsolve(system[gone][:, gone].tocsc(), right)
    return filled.reshape(plane.shape)


def _spacetime(seen: Numbers, days: Numbers, targets: NDArray[np.intp], coupling: float, twice: bool) -> Numbers:
    """Harmonic, or biharmonic, surface through space and time, after the mean of each pixel is gone."""
    dates, rows, columns = seen.shape
    mean = np.nanmean(seen, axis=0) if np.isfinite(seen).any(axis=0).all() else np.nanmean(seen)
    mean = np.where(np.isfinite(mean), mean, np.nanmean(seen))
    flat = np.ones(dates), np.ones(rows), np.ones(columns)
    lines = [_laplacian(len(f)) for f in flat]
    operator = (
        coupling * kron(lines[0], eye(rows * columns))
        + kron(eye(dates), kron(lines[1], eye(columns)))
        + kron(eye(dates * rows), lines[2])
    ).tocsr()
    operator = operator @ operator if twice else -operator
    lost = ~np.isfinite(seen).ravel()
    left = np.nan_to_num(seen - mean).ravel()
    right = -(operator[lost][:, ~lost] @ left[~lost])
    inner = operator[lost][:, lost]
    left[lost] = cg(inner, right, rtol=1e-4, maxiter=600, M=diags(1 / inner.diagonal()))[0]
    return (left.reshape(seen.shape) + mean)[targets]


def _everywhere(seen: Numbers) -> Mask:
    return np.ones(seen.shape[1:], bool)


def _linear_offset(seen: Numbers, days: Numbers, targets: NDArray[np.intp], period: float) -> Numbers:
    """Linear in time of each pixel's other dates, moved by the mean departure of what the date shows."""
    made = []
    for date in targets:
        others = seen.copy()
        others[date] = np.nan
        line = time_peers.linear(others, days, [date], _everywhere(seen), {})[0]
        known = np.isfinite(seen[date])
        made.append(line + (np.mean((seen[date] - line)[known]) if known.any() else 0.0))
    return np.stack(made)


def peers(cube: Cube) -> Iterator[tuple[str, Callable[[Numbers, Numbers, NDArray[np.intp], float], Numbers]]]:
    """Name and fill of one band: (date, row, column) with gaps to (target, row, column)."""
    yield "linear", lambda s, d, t, p: time_peers.linear(s, d, list(t), _everywhere(s), {})
    yield "linear and offset", _linear_offset
    if len(cube.days) > 6:
        for order in (1, 3):
            yield f"harmonic {order}", lambda s, d, t, p, o=order: _harmonic(s, d, t, p, o)
        for strength in (0.1, 3.0, 100.0):
            yield f"Whittaker {strength:g}", lambda s, d, t, p, w=strength: _whittaker(s, d, t, w)
    yield "GDAL", _by_date(lambda p, g: fillnodata(p.astype("f4"), mask=(~g).astype("u1"), max_search_distance=100))
    yield "biharmonic", _by_date(_biharmonic)
    for coupling in (0.1, 1.0, 10.0):
        yield f"space-time {coupling:g}", lambda s, d, t, p, c=coupling: _spacetime(s, d, t, c, False)
    yield "space-time biharmonic", lambda s, d, t, p: _spacetime(s, d, t, 1.0, True)
    for peer in time_peers.PEERS:
        if peer.name in ("pydineof", "lightgbm") and importlib.util.find_spec(peer.module):
            for setting in peer.settings[-1:]:
                yield (
                    f"{peer.name}",
                    lambda s, d, t, p, f=peer.fill, o=setting: f(s, d, list(t), _everywhere(s), o),
                )


def across(seen: Numbers, targets: NDArray[np.intp], band: int, days: Numbers) -> Numbers:
    """A band of each target by regression on the others of its date, learnt there or on all dates; else linear."""
    made = []
    for date in targets:
        shown = np.delete(seen[date], band, axis=0)
        known = np.isfinite(seen[date, band]) & np.isfinite(shown).all(axis=0)
        use = [date] if known.sum() > 300 else range(len(seen))
        columns = np.concatenate([np.delete(seen[d], band, axis=0).reshape(len(shown), -1) for d in use], axis=1)
        answer = np.concatenate([seen[d, band].ravel() for d in use])
        good = np.isfinite(columns).all(axis=0) & np.isfinite(answer)
        design = np.vstack([np.ones(good.sum()), columns[:, good]])
        slopes = np.linalg.lstsq(design.T, answer[good], rcond=None)[0]
        told = slopes[0] + np.tensordot(slopes[1:], shown, axes=1)
        line = time_peers.linear(seen[:, band], days, [date], _everywhere(seen[:, band]), {})[0]
        made.append(np.where(np.isfinite(told), told, line))
    return np.stack(made)


# -- figures


def targets_of(lost: Mask, rng: np.random.Generator) -> NDArray[np.intp]:
    """A few dates, from all kinds of them."""
    share = lost.reshape(len(lost), -1).mean(axis=1)
    able = np.flatnonzero(share > 0)
    order = able[np.argsort(share[able], kind="stable")]
    picked = order[np.unique(np.linspace(0, len(order) - 1, SCORED).astype(int))]
    return np.sort(picked)


def dataset(cube: Cube, seen: Numbers) -> xr.DataArray:
    stamps = (cube.days * 86400).astype("M8[s]").astype("M8[ns]")
    axes = {
        "time": stamps,
        "band": [f"b{i + 1}" for i in range(seen.shape[1])],
        "y": 5e6 - 10.0 * np.arange(seen.shape[2]),
        "x": 5e5 + 10.0 * np.arange(seen.shape[3]),
    }
    array = xr.DataArray(seen.astype(np.float32), axes, ("time", "band", "y", "x"), name="v")
    return array.isel(band=0, drop=True) if seen.shape[1] == 1 else array


def judged(
    cube: Cube, lost: Mask, rng: np.random.Generator, filler: str = "auto"
) -> tuple[float, float, NDArray[np.intp], Mask]:
    """RMSE of geodiff at the lost pixels of a few dates, share of them in its intervals, and what was judged.

    Returns
    -------
    rmse, held
    targets : (target,) dates that were judged.
    asked : (target, band, row, column) pixels that were.
    """
    targets = targets_of(lost, rng)
    seen = dataset(cube, np.where(lost, np.nan, cube.values))
    dates = ",".join(str(d)[:19] for d in seen["time"].values[targets])
    filled = seen.geodiff.fill(filler=filler, members=0, fillable="all", dates=dates)
    shape = (len(cube.days), *cube.values.shape[1:])
    value = filled["v"].values.reshape(shape)[targets].astype(float)
    error = filled["v_standard_error"].values.reshape(shape)[targets].astype(float)
    asked = lost[targets]
    some = np.flatnonzero(asked.any(axis=(0, 2, 3)))[:MOST_BANDS]
    asked[:, np.setdiff1d(np.arange(shape[1]), some)] = False
    miss = (value - cube.values[targets])[asked]
    held = float(np.mean(np.abs(miss) <= 1.645 * error[asked]))
    return float(np.sqrt(np.mean(miss**2))), held, targets, asked


def peers_say(cube: Cube, lost: Mask, targets: NDArray[np.intp], asked: Mask) -> dict[str, float]:
    """RMSE of each peer on the same pixels."""
    seen, truth = np.where(lost, np.nan, cube.values), cube.values[targets]
    some = np.flatnonzero(asked.any(axis=(0, 2, 3)))
    rmse: dict[str, float] = {}

    def score(name: str, fill: Callable[[int], Numbers]) -> None:
        planes = np.stack([fill(band) for band in some], axis=1)
        found = float(np.sqrt(np.mean((planes - truth[:, some])[asked[:, some]] ** 2)))
        rmse[name] = min(found, rmse.get(name, np.inf))

    for name, fill in peers(cube):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, np.linalg.LinAlgError):
            warnings.simplefilter("ignore")
            score(name, lambda band, f=fill: f(seen[:, band], cube.days, targets, cube.period))
    if (lost.any(axis=1) != lost.all(axis=1)).any():
        score("other bands", lambda band: across(seen, targets, band, cube.days))
    return rmse


def scenarios(cube: Cube, seed: int, only: list[str] | None = None) -> Iterator[tuple[str, Mask]]:
    """Pattern and what is lost (date, band, row, column)."""
    dates, count, rows, columns = cube.values.shape
    for name, draw in PATTERNS.items():
        if only is None or name in only:
            lost = draw(np.random.default_rng([seed, 7]), (dates, rows, columns))
            yield name, np.repeat(lost[:, None], count, axis=1)
    if count > 1:
        for name, clouds in (("one band", False), ("one band, clouds", True)):
            if only is None or name in only:
                yield name, lost_band(np.random.default_rng([seed, 7]), cube.values.shape, clouds=clouds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=96, help="pixels a side")
    parser.add_argument("--cubes", default=",".join(CUBES))
    parser.add_argument("--patterns", help="names, with commas; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--filler", default="auto")
    parser.add_argument("--all-peers", action="store_true", help="print what every peer makes of it")
    parser.add_argument("--keep", type=Path, help="JSON file for what the peers said, which is slow and stays the same")
    asked = parser.parse_args()
    only = asked.patterns.split(",") if asked.patterns else None
    kept = json.loads(asked.keep.read_text()) if asked.keep and asked.keep.exists() else {}
    ratios: list[float] = []
    for name in asked.cubes.split(","):
        cube = CUBES[name](np.random.default_rng([asked.seed, 3]), asked.side)
        for pattern, lost in scenarios(cube, asked.seed, only):
            own, held, targets, where = judged(cube, lost, np.random.default_rng(1), asked.filler)
            key = f"{name} {pattern} {asked.side} {asked.seed}"
            rmse = kept[key] = kept.get(key) or peers_say(cube, lost, targets, where)
            best = min(rmse, key=rmse.__getitem__)
            ratios.append(own / rmse[best])
            print(
                f"{name:8s} {pattern:18s} RMSE / best peer {ratios[-1]:.3f}   90 % intervals hold {held:.3f}   "
                f"{own:.4g}, best: {best}",
                flush=True,
            )
            if asked.all_peers:
                print("    ", ", ".join(f"{n} {r:.4g}" for n, r in rmse.items()))
            if asked.keep:
                asked.keep.write_text(json.dumps(kept, indent=1))
    mean = float(np.exp(np.mean(np.log(ratios))))
    print(f"geometric mean of RMSE / best peer {mean:.3f}, worst {max(ratios):.3f}")


if __name__ == "__main__":
    main()
