"""Stacks in which a place, or all, is lost for long, or of which a date shows a corner: what intervals hold, and where.

    python tests/bench/bench_lost_places.py outages [--cubes crops,eddies] [--seeds 0,1,2]
    python tests/bench/bench_lost_places.py blackouts [--cubes crops,eddies] [--seeds 0,1,2]
    python tests/bench/bench_lost_places.py corners [--seeds 0,1,2,5,6]

Made-up stacks, and with GEODIFF_DATA set those of the validation part for the first two. Without the network. By the
date's place in the outage, or the distance to what is known: the share of the truth in value +- 1.645 standard errors,
the least of all cases, and the RMSE over linear interpolation in time. Prints figures, asserts none.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import bench_plain_stacks
import bench_time
import numpy as np
import stacks
import time_peers
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage import data

from geodiff.estimate import estimate
from geodiff.fillers.calibration import Z90
from geodiff.fitting import fit_cube
from geodiff.lattice import Window
from geodiff.scan import scan_cube

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = Iterator[tuple[str, float, float]]

SIDE, MOST_DATES = 128, 40
CUBES = "crops,eddies,hourly,rain,light,change"
CORNERS = {
    "40 x 45": (slice(40), slice(45)),
    "60 x 70": (slice(60), slice(70)),
    "90 x 100": (slice(90), slice(100)),
    "120 x 140": (slice(120), slice(140)),
    "70 x 70 in the middle": (slice(115, 185), slice(145, 215)),
}
DISTANCES = (0, 4, 16, 64, 1000)


def filled(seen: Numbers, days: Numbers, dates: list[int]) -> tuple[Numbers, Numbers]:
    """(date, row, column) values and standard errors of those dates."""
    stack = stacks.Stack("made up", np.ones_like(seen), days)
    cube = bench_time._cube(stack, seen)
    scan, gaps = scan_cube(cube, np.zeros((len(seen), 1, *cube.shape), np.uint16), np.zeros(cube.shape, bool), 0)
    filler = bench_time._filler(False, 0)
    fit = fit_cube(cube, scan, gaps, filler)
    recipe, values, errors = fit.normalisations[0], [], []
    for date in dates:
        blended, _ = estimate(cube, gaps, fit, filler, date, Window(0, 0, *cube.shape), 0)
        values.append(recipe.inverse(blended.value[0, 0]))
        errors.append(recipe.error(values[-1], blended.standard_error[0, 0]))
    return np.stack(values), np.stack(errors)


def judged(value: Numbers, error: Numbers, truth: Numbers, linear: Numbers, where: Mask) -> tuple[float, float]:
    """The share held, and the RMSE over that of linear interpolation in time."""
    where = where & np.isfinite(truth)
    miss = (value - truth)[where]
    held = float((np.abs(miss) <= Z90 * error[where]).mean())
    return held, float(np.sqrt((miss**2).mean() / np.nanmean((linear - truth)[where] ** 2)))


def _stacks(cubes: list[str], seed: int) -> Iterator[tuple[str, Numbers, Numbers]]:
    """(date, row, column) values and days, of stacks with nine dates and more that show something."""
    for name in cubes:
        cube = bench_plain_stacks.CUBES[name](np.random.default_rng([seed, 3]), SIDE)
        yield name, cube.values[:, 0], cube.days
    root = os.environ.get("GEODIFF_DATA")
    for name, load in stacks.PARTS["validation"].items() if root else ():
        held = load(Path(str(root)))
        values = held.values[:, :SIDE, :SIDE].astype(np.float64)
        shown = np.isfinite(values).mean(axis=(1, 2)) > 0.3 * np.isfinite(values).any(axis=0).mean()
        if shown.sum() >= 9:
            yield name, values[shown][:MOST_DATES], held.days[shown][:MOST_DATES]


def outages(cubes: list[str], seed: int) -> Rows:
    """A place lost for a quarter to a half of the dates, clouds of a tenth on all: by where a date lies in it."""
    for name, truth, days in _stacks(cubes, seed):
        rng, (dates, height, width) = np.random.default_rng([seed, *name.encode()]), truth.shape
        rough = [gaussian_filter(rng.standard_normal((height, width)), 5) for _ in range(dates)]
        lost = np.stack([field > np.quantile(field, 0.9) for field in rough])
        lasting = int(rng.integers(max(4, dates // 4), max(5, dates // 2)))
        first = int(rng.integers(2, dates - lasting - 1)) if dates - lasting > 3 else 1
        rows, columns = int(height * rng.uniform(0.3, 0.6)), int(width * rng.uniform(0.3, 0.6))
        row, column = int(rng.integers(height - rows)), int(rng.integers(width - columns))
        place = np.zeros((height, width), bool)
        place[row : row + rows, column : column + columns] = True
        yield from _in_a_row(truth, days, lost, list(range(first, first + lasting)), place)


def _in_a_row(truth: Numbers, days: Numbers, lost: Mask, gone: list[int], place: Mask) -> Rows:
    """A place is lost on these dates, beside what is lost on all: by where a date lies among them."""
    lost[gone] |= place
    seen = np.where(lost, np.nan, truth)
    value, error = filled(seen, days, gone)
    linear = time_peers.linear(seen, days, gone, np.ones(place.shape, bool), {})
    for at, date in enumerate(gone):
        if np.isfinite(truth[date][place]).sum() >= 100:
            inside = min(at, len(gone) - 1 - at)
            kind = ("the first and the last", "next to these", "farther inside")[min(inside, 2)]
            yield kind, *judged(value[at], error[at], truth[date], linear[at], place)


def blackouts(cubes: list[str], seed: int) -> Rows:
    """Up to a quarter of the dates show nothing, one after the other, the others all."""
    for name, truth, days in _stacks(cubes, seed):
        rng, dates = np.random.default_rng([seed, *name.encode()]), len(truth)
        lasting = int(rng.integers(2, max(3, dates // 4) + 1))
        first, nothing = int(rng.integers(0, dates - lasting + 1)), np.zeros(truth.shape, bool)
        yield from _in_a_row(truth, days, nothing, list(range(first, first + lasting)), np.ones(truth.shape[1:], bool))


def corners(cubes: list[str], seed: int) -> Rows:
    """Five dates of one image that drifts, whatever the cubes: one is lost, of another a corner known; by distance."""
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(512 - 300)), int(rng.integers(512 - 360))) if seed else (0, 0)
    image = data.immunohistochemistry()[top : top + 300, left : left + 360, 1].astype("f4")
    drift = gaussian_filter(rng.normal(size=(5, 300, 360)), (0, 30, 30))
    truth = np.stack([image + 10 * k + 6 * field for k, field in enumerate(drift / drift.std())]).astype("f4")
    days = np.array([0.0, 10, 20, 30, 45]) + 19_875
    linear = truth[2] + (truth[4] - truth[2]) * 10 / 25
    for shape, place in CORNERS.items():
        seen = truth.copy()
        seen[[1, 3]] = np.nan
        seen[3][place] = truth[3][place]
        value, error = filled(seen, days, [3])
        away = distance_transform_edt(np.isnan(seen[3]))
        for low, high in pairwise(DISTANCES):
            where = (away > low) & (away <= high)
            yield f"{shape}, from {low} pixels on", *judged(value[0], error[0], truth[3], linear, where)


def main() -> None:
    """Print one row a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("outages", "blackouts", "corners"))
    parser.add_argument("--cubes", default=CUBES)
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    what = {"outages": outages, "blackouts": blackouts, "corners": corners}[args.what]
    for seed in map(int, args.seeds.split(",")):
        for kind, *figures in what(args.cubes.split(","), seed):
            found[kind].append((figures[0], figures[1]))
    print("| | cases | held | least | RMSE / linear in time |\n|---|---|---|---|---|")
    for kind, rows in found.items():
        held, ratio = np.array(rows).T
        print(f"| {kind} | {len(rows)} | {held.mean():.3f} | {held.min():.2f} | {np.exp(np.log(ratio).mean()):.3f} |")


if __name__ == "__main__":
    main()
