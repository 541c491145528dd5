"""What a fill is worth to a vision tool: `GEODIFF_DATA=... python tests/bench/bench_water.py [--gaps 30] [--context]`.

The task is water on NAIP aerial images (4 bands, 10 dates of one place). For each date a pixel-wise logistic regression
on the bands and NDWI learns the rule "NDWI > 0.1" from the western three quarters and is then fixed; it is scored on
the eastern quarter. The reference is what the same classifier says of the whole image, so the figure is the damage that
gaps do to a fixed tool, not its accuracy against a map. Gaps are drawn cloud shapes, and go through the dates in turn.
On the gappy scene, missing pixels count as no water. Images lie on the grid of the first date: their own differ by up
to 3 m of pixels of 5 m, so corners do not match.

Printed per method: mean IoU, and the share of the IoU lost to the gap that is won back; then geodiff minus the best
classical fill with its 95 % bootstrap interval, over gaps, and over dates with all their gaps (gaps of one date share
its ground and light, so that is the one to believe). With `--context`, geodiff also sees the other dates, and linear
interpolation between dates is a classical fill too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

import geodiff
from geodiff.gapshapes import draw_clouds

EAST = 700
"""First column of the eastern quarter, set aside from training (geodiff/diffusion/splits.toml)."""
Array = np.ndarray[Any, Any]


def _features(image: Array) -> Array:
    """(pixel, feature): bands over 255, NDWI, and 1."""
    bands = image.reshape(len(image), -1) / 255.0
    ndwi = (bands[1] - bands[3]) / np.maximum(bands[1] + bands[3], 1e-6)
    return np.stack([*bands, ndwi, np.ones(bands.shape[1])], axis=1)


def _learn(image: Array) -> Array:
    """Weights of a logistic regression by Newton's method, with a small ridge; every 7th pixel."""
    features = _features(image)[::7]
    water = features[:, 4] > 0.1
    weights = np.zeros(features.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (chance - water) + 1e-2 * weights
        bend = (features * (chance * (1 - chance))[:, None]).T @ features + 1e-2 * np.eye(len(weights))
        weights -= np.linalg.solve(bend, slope)
    return weights


def _water(image: Array, weights: Array) -> Array:
    return (_features(image) @ weights > 0).reshape(image.shape[1:])


def _iou(found: Array, truth: Array) -> float:
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def _fillnodata(image: Array, missing: Array) -> Array:
    from rasterio.fill import fillnodata

    return np.stack([fillnodata(b.astype("f4"), mask=~missing, max_search_distance=200) for b in image])


def _biharmonic(image: Array, missing: Array) -> Array:
    from skimage.restoration import inpaint_biharmonic

    return np.stack([inpaint_biharmonic(band.astype(float), missing) for band in image])


def _array(filler: str) -> Any:
    return lambda image, missing: geodiff.fill_array(image, ~missing, filler=filler)[0]


def _with_dates(images: list[Array], date: int) -> Any:
    """Geodiff with the other dates as context."""

    def fill(_: Array, missing: Array) -> Array:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "dates"
            folder.mkdir()
            for number, image in enumerate(images):
                shown = np.where(missing, np.nan, image) if number == date else image
                _write(folder / f"scene_20{10 + number}0601.tif", shown.astype("f4"))
            day = f"20{10 + date}-06-01"
            geodiff.fill(str(folder), f"{name}/filled/", members=0, dates=day)
            with rasterio.open(f"{name}/filled/scene_{day.replace('-', '')}.tif") as file:
                return file.read()

    return fill


def _linear_in_time(images: list[Array], date: int) -> Any:
    """The dates before and after, or the nearest one at an end: scenes are taken for equally far apart."""
    beside = [images[n] for n in (date - 1, date + 1) if 0 <= n < len(images)]
    return lambda _, __: np.mean(beside, axis=0)


def _write(path: Path, image: Array) -> None:
    transform = rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=image.shape[1], width=image.shape[2], count=len(image), dtype="float32",
        nodata=np.nan, crs="EPSG:32614", transform=transform,
    ) as file:  # fmt: skip
        file.write(image)


def _scenes(root: Path) -> list[Array]:
    """NAIP images of one place by date, (4, row, column), on the first date's grid, where every date has pixels."""
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    paths = sorted((root / "train/opengeos-data/naip").glob("*.tif"))
    with rasterio.open(paths[0]) as first:
        grid = {"crs": first.crs, "transform": first.transform, "width": first.width, "height": first.height}
    images, seen = [], []
    for path in paths:
        with rasterio.open(path) as file, WarpedVRT(file, resampling=Resampling.cubic, add_alpha=True, **grid) as moved:
            images.append(moved.read([1, 2, 3, 4]).astype(float))
            seen.append(moved.read(5) > 0)
    everywhere = np.logical_and.reduce(seen)
    rows, columns = (np.flatnonzero(2 * everywhere.sum(axis=1 - axis) > everywhere.shape[1 - axis]) for axis in (0, 1))
    inside = slice(rows[0], rows[-1] + 1), slice(0, columns[-1] + 1)  # columns count from the first one: see EAST
    return [image[(slice(None), *inside)] for image in images]


def _won_back(scores: Array, gappy: Array) -> Array:
    """Share of the lost IoU that is won back over all gaps; scores and gappy (gap,)."""
    return np.asarray((scores - gappy).sum(axis=-1) / (1 - gappy).sum(axis=-1))


def main() -> None:
    """Print the table and the difference."""
    options = argparse.ArgumentParser()
    options.add_argument("--gaps", type=int, default=30)
    options.add_argument("--side", type=int, default=192)
    options.add_argument("--context", action="store_true")
    given = options.parse_args()
    images = _scenes(Path(os.environ["GEODIFF_DATA"]))
    weights = [_learn(image[:, :, :EAST]) for image in images]
    methods = {"fillnodata": _fillnodata, "laplace": _array("laplace"), "biharmonic": _biharmonic,
               "geodiff": _array("auto")}  # fmt: skip
    scores: dict[str, list[float]] = {"gappy": [], **{m: [] for m in methods}}
    if given.context:
        scores |= {"linear in time": [], "geodiff, dates": []}
    for number in range(given.gaps):
        rng, date = np.random.default_rng(number), number % len(images)
        part = _wet_part(images[date], weights[date], given.side, rng)
        shown = [image[(slice(None), *part)] for image in images]
        whole = shown[date]
        truth = _water(whole, weights[date])
        missing = draw_clouds(truth.shape, rng, share=0.3, scale=48)
        scores["gappy"].append(_iou(truth & ~missing, truth))
        every = dict(methods)
        if given.context:
            every |= {"linear in time": _linear_in_time(shown, date), "geodiff, dates": _with_dates(shown, date)}
        for method, fill in every.items():
            filled = np.where(missing, fill(whole, missing), whole)
            scores[method].append(_iou(_water(filled, weights[date]), truth))
        print(number, {name: round(values[-1], 3) for name, values in scores.items()}, flush=True)
    classical = [name for name in scores if name != "gappy" and not name.startswith("geodiff")]
    _print(scores, tuple(classical), len(images))


def _wet_part(image: Array, weights: Array, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A square of the eastern quarter that holds 10 to 90 % of water; the wettest of the draws where none does."""
    draws = []
    for _ in range(60):
        row, column = int(rng.integers(image.shape[1] - side)), int(rng.integers(EAST, image.shape[2] - side + 1))
        part = slice(row, row + side), slice(column, column + side)
        wet = float(_water(image[(slice(None), *part)], weights).mean())
        if 0.1 <= wet <= 0.9:
            return part
        draws.append((wet, part))
    return max(draws, key=lambda draw: draw[0])[1]


def _print(scores: dict[str, list[float]], classical: tuple[str, ...], dates: int) -> None:
    table = {name: np.array(values) for name, values in scores.items()}
    gappy = table["gappy"]
    for name, values in table.items():
        print(f"{name:16s} IoU {values.mean():.3f}  won back {_won_back(values, gappy):+.3f}")
    best = max(classical, key=lambda name: float(_won_back(table[name], gappy)))
    own = np.arange(len(gappy))
    units = {"gaps": own[:, None]}
    if len(own) % dates == 0:
        units["dates"] = own.reshape(-1, dates).T
    for name in (n for n in table if n.startswith("geodiff")):
        at = _won_back(table[name], gappy) - _won_back(table[best], gappy)
        print(f"{name} - {best}: {at:+.3f}", end="")
        for unit, members in units.items():
            drawn = members[np.random.default_rng(0).integers(0, len(members), (2000, len(members)))].reshape(2000, -1)
            gain = _won_back(table[name][drawn], gappy[drawn]) - _won_back(table[best][drawn], gappy[drawn])
            low, high = np.percentile(gain, [2.5, 97.5])
            print(f" [{low:+.3f}, {high:+.3f}] over {len(members)} {unit}", end="")
        print()


if __name__ == "__main__":
    main()
