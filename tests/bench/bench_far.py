"""Single rasters with gaps that reach much farther than trials can: what intervals hold, by distance to data.

    python tests/bench/bench_far.py [--fields walk,smooth] [--gaps right,clouds] [--seeds 0,1] [--side 192] [--network]

Made-up fields. With and without the standard errors of `geodiff.beyond`, from one fit: the share of the truth in
value +- 1.645 standard errors, the ratio of the interval scores (Gneiting & Raftery 2007), with 95 % bootstrap
intervals over cases, and the RMSE in deviations of the field, which is the same. Prints figures, asserts none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import bench_time
import numpy as np
import stacks
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from geodiff.estimate import estimate
from geodiff.fillers.calibration import Z90
from geodiff.fitting import fit_cube
from geodiff.scan import scan_cube

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

DISTANCES = (0, 4, 16, 32, 64, 10_000)


def _coloured(rng: np.random.Generator, side: int, slope: float, length: float = 1e9, stretch: float = 1.0) -> Numbers:
    """Gaussian noise whose power falls with that power of the wave number, flat beyond a length in pixels."""
    down, across = np.meshgrid(np.fft.fftfreq(2 * side), np.fft.fftfreq(2 * side), indexing="ij")
    wave = np.hypot(1 / (2 * np.pi * length), np.hypot(down, across * stretch))
    white = np.fft.fft2(rng.standard_normal(wave.shape))
    white[0, 0] = 0
    field = np.fft.ifft2(white * wave ** (-slope / 2)).real[:side, :side]
    return np.asarray((field - field.mean()) / field.std())


def _trend(rng: np.random.Generator, side: int) -> Numbers:
    row, column = np.mgrid[:side, :side] / side
    turn = rng.uniform(0, np.pi)
    along = np.cos(turn) * column + np.sin(turn) * row
    return np.asarray(4 * (along - rng.uniform(-0.3, 0.3)) ** 2 + 0.3 * _coloured(rng, side, 4, 5))


def _waves(rng: np.random.Generator, side: int) -> Numbers:
    row, column = np.mgrid[:side, :side] / side
    turn = rng.uniform(0, np.pi)
    along = np.cos(turn) * column + np.sin(turn) * row
    return np.asarray(np.sin(2 * np.pi * rng.uniform(3, 8) * along) + 0.3 * _coloured(rng, side, 4, 10))


FIELDS: dict[str, Callable[[np.random.Generator, int], Numbers]] = {
    "walk": lambda rng, side: _coloured(rng, side, 3),
    "smooth walk": lambda rng, side: _coloured(rng, side, 4),
    "short": lambda rng, side: _coloured(rng, side, 4, 6),
    "long": lambda rng, side: _coloured(rng, side, 4, 40),
    "rough": lambda rng, side: _coloured(rng, side, 3, 30),
    "stretched": lambda rng, side: _coloured(rng, side, 5, 40, float(rng.choice([0.1, 10]))),
    "lognormal": lambda rng, side: np.exp(_coloured(rng, side, 4, 12)),
    "trend": _trend,
    "waves": _waves,
}


def lost(kind: str, rng: np.random.Generator, side: int) -> Mask:
    """What is missing, True there."""
    row, column = np.mgrid[:side, :side]
    if kind == "square":
        return (abs(row - side // 2) < 0.28 * side) & (abs(column - side // 2) < 0.28 * side)
    if kind in {"clouds", "specks"}:
        field = gaussian_filter(rng.standard_normal((side, side)), side / 16 if kind == "clouds" else 3)
        return np.asarray(field > np.quantile(field, 0.75 if kind == "clouds" else 0.88))
    halves = {
        "left": column < side // 2,
        "right": column >= side // 2,
        "top": row < side // 2,
        "bottom": row >= side // 2,
        "corner": (row < 0.7 * side) & (column < 0.7 * side),
        "band": abs(column - side // 2) < side // 4,
    }
    return np.asarray(halves[kind])


def judged(truth: Numbers, missing: Mask, *, network: bool) -> Numbers:
    """(distance, 5) the share held without and with, the interval scores, and the RMSE; NaN where nothing is so far."""
    seen = np.where(missing, np.nan, truth)[None]
    cube = bench_time._cube(stacks.Stack("made up", np.ones_like(seen), np.array([19_000.0])), seen)
    scan, gaps = scan_cube(cube, np.zeros((1, 1, *cube.shape), np.uint16), np.zeros(cube.shape, bool), 0)
    filler = bench_time._filler(network, 0)
    fit = fit_cube(cube, scan, gaps, filler)
    away, found = distance_transform_edt(missing), np.full((len(DISTANCES), 5), np.nan)
    recipe = fit.normalisations[0]
    for place, used in enumerate((replace(fit, far=None), fit)):
        blended, _ = estimate(cube, gaps, used, filler, 0, cube.lattice.extent, 0)
        value = recipe.inverse(blended.value[0, 0])
        width = Z90 * recipe.error(value, blended.standard_error[0, 0])
        miss = np.abs(value - truth)
        for row, (low, high) in enumerate([*pairwise(DISTANCES), (0, DISTANCES[-1])]):
            where = (away > low) & (away <= high)
            if where.sum() >= 50:
                over = np.maximum(miss - width, 0)[where]
                found[row, place] = (over == 0).mean()
                found[row, 2 + place] = (2 * width[where] + 20 * over).mean() / truth.std()
                found[row, 4] = np.sqrt((miss[where] ** 2).mean()) / truth.std()
    return found


def _interval(values: Numbers, of: Callable[[Numbers], float], rng: np.random.Generator) -> str:
    """A figure of cases, with what draws of them give."""
    drawn = [of(values[rng.integers(0, len(values), len(values))]) for _ in range(2000)]
    return f"{of(values):.3f} ({np.quantile(drawn, 0.025):.3f} to {np.quantile(drawn, 0.975):.3f})"


def _shown(name: str, cases: Numbers) -> None:
    """One line a distance; `cases` is (case, distance, 5)."""
    rng = np.random.default_rng(0)
    names = [f"{low} to {high} pixels" for low, high in pairwise(DISTANCES)]
    for place, far in enumerate([*names[:-1], f"beyond {DISTANCES[-2]}", "all"]):
        own = cases[np.isfinite(cases[:, place, 0]), place]
        if len(own):
            without, held = (_interval(own, lambda a, i=i: float(a[:, i].mean()), rng) for i in (0, 1))
            score = _interval(own, lambda a: float(a[:, 3].mean() / a[:, 2].mean()), rng)
            print(f"{name}, {far}, {len(own)} cases: hold {held}, without {without}, least {own[:, 1].min():.2f}, "
                  f"without {own[:, 0].min():.2f}; score {score}; RMSE {own[:, 4].mean():.3f}")  # fmt: skip


def main() -> None:
    """Print one line a gap and distance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", default=",".join(FIELDS))
    parser.add_argument("--gaps", default="right,bottom,corner,square,band,clouds,specks")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--network", action="store_true")
    given = parser.parse_args()
    every: list[Numbers] = []
    for gap in given.gaps.split(","):
        cases = []
        for field in given.fields.split(","):
            for seed in map(int, given.seeds.split(",")):
                truth = FIELDS[field](np.random.default_rng([seed, *field.encode()]), given.side)
                missing = lost(gap, np.random.default_rng([seed, *gap.encode()]), given.side)
                cases.append(judged(truth, missing, network=given.network))
        _shown(gap, np.stack(cases))
        every += cases
    _shown("all", np.stack(every))


if __name__ == "__main__":
    main()
