"""Smooth fields (pressure, heights, sea temperature): geodiff beside seven ways to interpolate, by what is lost.

    python tests/bench/bench_smooth.py FILE:VARIABLE[:INDEX,..] | FILE[:BAND] ... [--side 148] [--filler auto]

The middle of each field, at most `--side` pixels a side. What is hidden is known. RMSE over that of the best peer of
each gap, chosen with hindsight, and over that of each peer; and the share of the truth in value +- 1.645 standard
errors. Geometric means and means, with 95 % bootstrap intervals over fields. Prints figures and asserts none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from bench_rasters import interval, pixels
from bench_scattered import PEERS, Image, Mask
from scipy.interpolate import RBFInterpolator, griddata
from scipy.ndimage import gaussian_filter

import geodiff

SPLINES = 40
"""Known pixels that a thin-plate spline is laid through, the nearest ones."""


def field(place: str, side: int) -> Image:
    """The middle of a field (row, column), NaN where nothing is known."""
    path, _, rest = place.partition(":")
    if path.endswith((".nc", ".nc4")):
        variable, _, index = rest.partition(":")
        with xr.open_dataset(path, decode_times=False) as source:
            whole = np.asarray(source[variable].values[tuple(int(n) for n in index.split(",") if n)], float)
    else:
        whole = pixels(place, 10**6)
    middle = tuple(slice(max(n - side, 0) // 2, max(n - side, 0) // 2 + side) for n in whole.shape)
    return np.asarray(whole[middle])


def patterns(shape: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
    """Name and what is lost."""
    rng, (y, x) = np.random.default_rng(11), np.mgrid[: shape[0], : shape[1]]
    broad = gaussian_filter(rng.standard_normal(shape), min(shape) / 16)
    yield "clouds over a fifth", broad > np.quantile(broad, 0.8)
    yield "specks, a tenth", rng.random(shape) < 0.1
    yield "one line in eight", y % 8 == 3
    yield "7 of 10 pixels", rng.random(shape) < 0.7
    middle, third = (shape[0] // 2, shape[1] // 2), min(shape) // 6
    yield "a square, a third of a side", (abs(y - middle[0]) < third) & (abs(x - middle[1]) < third)


def interpolated(method: str) -> Callable[[Image, Mask], Image]:
    """Piecewise linear or cubic over a triangulation; the nearest known pixel outside of it."""

    def fill(seen: Image, gone: Mask) -> Image:
        known, asked = np.argwhere(~gone), np.argwhere(gone)
        found = griddata(known, seen[~gone], asked, method)
        nearest = griddata(known, seen[~gone], asked, "nearest")
        filled = seen.copy()
        filled[gone] = np.where(np.isfinite(found), found, nearest)
        return filled

    return fill


def splines(seen: Image, gone: Mask) -> Image:
    """Thin-plate splines through the nearest known pixels."""
    filled = seen.copy()
    fit = RBFInterpolator(np.argwhere(~gone), seen[~gone], neighbors=SPLINES, kernel="thin_plate_spline")
    filled[gone] = fit(np.argwhere(gone))
    return filled


ALL = {**PEERS, "linear": interpolated("linear"), "cubic": interpolated("cubic"), "splines": splines}


def judged(values: Image, lost: Mask, filler: str) -> tuple[dict[str, float], float]:
    """ln RMSE over each peer's and over the best one's, and the share of the truth in the intervals."""
    known = np.isfinite(values)
    low, high = np.nanmin(values[~lost & known]), np.nanmax(values[~lost & known])
    scaled = np.where(known, (values - low) / (high - low) * 255, 0.0)  # what OpenCV's are made for
    seen, gone, asked = np.where(lost, 0.0, scaled), lost | ~known, lost & known
    value, error = geodiff.fill_array(np.where(gone, np.nan, scaled), filler=filler)
    miss = np.abs(value - scaled)[asked]
    ratios = {}
    for name, fill in ALL.items():
        apart = (np.asarray(fill(seen, gone)) - scaled)[asked]
        ratios[name] = float(0.5 * np.log(np.mean(miss**2) / np.mean(apart**2)))
    return {"the best of them": max(ratios.values()), **ratios}, float(np.mean(miss <= 1.645 * error[asked]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fields", nargs="+")
    parser.add_argument("--side", type=int, default=148)
    parser.add_argument("--filler", default="auto")
    given = parser.parse_args()
    found: dict[str, list[tuple[dict[str, float], float]]] = {}
    for place in given.fields:
        values = field(place, given.side)
        for name, lost in patterns(values.shape):
            found.setdefault(name, []).append(judged(values, lost, given.filler))
            ratio, held = np.exp(found[name][-1][0]["the best of them"]), found[name][-1][1]
            print(f"{place.rpartition('/')[2]} {name}: {ratio:.3f} / {held:.3f}", flush=True)
    rng = np.random.default_rng(0)
    for name, rows in found.items():
        print(f"{name}: intervals hold {interval(np.array([held for _, held in rows]), rng)}, {len(rows)} fields")
        for peer in rows[0][0]:
            logs = np.array([ratios[peer] for ratios, _ in rows])
            drawn = [np.exp(rng.choice(logs, len(logs)).mean()) for _ in range(2000)]
            low, high = np.quantile(drawn, (0.025, 0.975))
            print(f"  RMSE over that of {peer}: {np.exp(logs.mean()):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
