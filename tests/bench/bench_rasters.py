"""Any rasters of yours: geodiff beside what people use, under clouds, small blobs, scan gaps and one square.

    python tests/bench/bench_rasters.py FILE[:BAND] ... [--side 300] [--filler auto]

What is hidden is known, so nothing has to be set aside. RMSE over that of each peer and of the best of them, chosen
for each gap with hindsight, and the share of the truth in value +- 1.645 standard errors; geometric mean and mean,
with 95 % bootstrap intervals over rasters. Prints figures and asserts none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import rasterio
from bench_scattered import PEERS, Image, Mask
from scipy.ndimage import gaussian_filter

import geodiff

CHOSEN = ("GDAL", "Navier-Stokes", "biharmonic")


def pixels(place: str, side: int) -> Image:
    """The first rows and columns of a band, NaN where nothing is known."""
    path, _, band = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (place, "", "1")
    with rasterio.open(path) as source:
        values = source.read(int(band), masked=True).astype(float).filled(np.nan)
    return np.asarray(values[:side, :side])


def patterns(shape: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
    """Name and what is lost."""
    rng, (height, width) = np.random.default_rng(7), shape
    y, x = np.mgrid[:height, :width]
    broad = gaussian_filter(rng.standard_normal(shape), min(shape) / 16)
    yield "clouds", broad > np.quantile(broad, 0.75)
    small = gaussian_filter(rng.standard_normal(shape), 2)
    yield "small blobs", small > np.quantile(small, 0.9)
    yield "scan gaps", (y + 0.3 * x) % 14 < 4
    yield "one square", (abs(y - height // 2) < height // 6) & (abs(x - width // 2) < width // 6)


def judged(values: Image, lost: Mask, filler: str) -> tuple[dict[str, float], float]:
    """ln RMSE over each peer's and over the best one's, and the share of the truth in the intervals."""
    known = np.isfinite(values)
    low, high = np.nanmin(values[~lost & known]), np.nanmax(values[~lost & known])
    scaled = np.where(known, (values - low) / (high - low) * 255, 0.0)  # what OpenCV's are made for
    seen, gone, asked = np.where(lost, 0.0, scaled), lost | ~known, lost & known
    value, error = geodiff.fill_array(np.where(gone, np.nan, scaled), filler=filler)
    own = float(np.sqrt(np.mean((value - scaled)[asked] ** 2)))
    ratios = {}
    for name in CHOSEN:
        apart = (np.asarray(PEERS[name](seen, gone)) - scaled)[asked]
        ratios[name] = float(np.log(own / np.sqrt(np.mean(apart**2))))
    ratios["the best of them"] = max(ratios.values())
    return ratios, float(np.mean(np.abs(value - scaled)[asked] <= 1.645 * error[asked]))


def interval(values: np.ndarray, rng: np.random.Generator) -> str:
    """Mean and 95 % bootstrap interval over rows, which are rasters."""
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--side", type=int, default=300)
    parser.add_argument("--filler", default="auto")
    given = parser.parse_args()
    ratios: dict[str, list[list[float]]] = {}
    shares: list[list[float]] = []
    for place in given.files:
        values = pixels(place, given.side)
        if not np.nanmax(values) > np.nanmin(values):
            print(f"{place}: one number everywhere, left out", flush=True)
            continue
        found = [(name, *judged(values, lost, given.filler)) for name, lost in patterns(values.shape)]
        for peer in found[0][1]:
            ratios.setdefault(peer, []).append([ratio[peer] for _, ratio, _ in found])
        shares.append([share for *_, share in found])
        told = [f"{name} {np.exp(ratio['the best of them']):.3f} / {share:.3f}" for name, ratio, share in found]
        print(f"{place}: {', '.join(told)}", flush=True)
    rng = np.random.default_rng(0)
    for peer, rows in ratios.items():
        text = interval(np.exp(np.mean(rows, axis=1)), rng)
        print(f"RMSE over that of {peer}: {text}, {len(rows)} rasters")
    print(f"intervals hold {interval(np.mean(shares, axis=1), rng)}, at least {np.min(shares):.3f}")


if __name__ == "__main__":
    main()
