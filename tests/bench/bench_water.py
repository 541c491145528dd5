"""What a fill is worth to a vision tool: `GEODIFF_DATA=... python tests/bench/bench_water.py [--gaps 6] [--date 0]`.

The task is water on NAIP aerial images (4 bands). A pixel-wise logistic regression on the bands and NDWI learns the
rule "NDWI > 0.1" from the western three quarters and is then fixed; it is scored on the eastern quarter. The reference
is what the same classifier says of the whole image, so the figure is the damage that gaps do to a fixed tool, not its
accuracy against a map. Gaps are drawn cloud shapes. On the gappy scene, missing pixels count as no water.

Printed per method: mean IoU, and the share of the IoU lost to the gap that is won back; then geodiff minus the best
classical fill with its 95 % bootstrap interval over gaps. With `--context`, geodiff also sees the other dates.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
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
            filled = next(
                p for p in sorted(Path(name, "filled").glob(f"*20{10 + date}*.tif")) if "_s" not in p.stem[5:]
            )
            with rasterio.open(filled) as file:
                return file.read()

    return fill


def _write(path: Path, image: Array) -> None:
    transform = rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=image.shape[1], width=image.shape[2], count=len(image), dtype="float32",
        nodata=np.nan, crs="EPSG:32614", transform=transform,
    ) as file:  # fmt: skip
        file.write(image)


def _scenes(root: Path) -> list[Array]:
    """NAIP images of one place by date, on the pixels they share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = []
        for path in sorted((root / "train/opengeos-data/naip").glob("*.tif")):
            with rasterio.open(path) as file:
                images.append(file.read().astype(float))
    rows, columns = (min(i.shape[axis] for i in images) for axis in (1, 2))
    return [image[:, :rows, :columns] for image in images]


def _won_back(scores: Array, gappy: Array) -> Array:
    """Share of the lost IoU that is won back over all gaps; scores and gappy (gap,)."""
    return np.asarray((scores - gappy).sum(axis=-1) / (1 - gappy).sum(axis=-1))


def main() -> None:
    """Print the table and the difference."""
    options = argparse.ArgumentParser()
    options.add_argument("--gaps", type=int, default=6)
    options.add_argument("--date", type=int, default=0)
    options.add_argument("--side", type=int, default=192)
    options.add_argument("--context", action="store_true")
    given = options.parse_args()
    images = _scenes(Path(os.environ["GEODIFF_DATA"]))
    weights = _learn(images[given.date][:, :, :EAST])
    methods = {"fillnodata": _fillnodata, "laplace": _array("laplace"), "biharmonic": _biharmonic,
               "geodiff": _array("auto")}  # fmt: skip
    classical = ("fillnodata", "laplace", "biharmonic")
    scores: dict[str, list[float]] = {"gappy": [], **{m: [] for m in methods}}
    if given.context:
        scores["geodiff, dates"] = []
    for number in range(given.gaps):
        rng = np.random.default_rng(number)
        part = _wet_part(images[given.date], weights, given.side, rng)
        shown = [image[(slice(None), *part)] for image in images]
        truth = _water(shown[given.date], weights)
        missing = draw_clouds(truth.shape, rng, share=0.3, scale=48)
        scores["gappy"].append(_iou(_water(shown[given.date], weights) & ~missing, truth))
        every = {**methods, **({"geodiff, dates": _with_dates(shown, given.date)} if given.context else {})}
        for method, fill in every.items():
            scores[method].append(_iou(_water(np.where(missing, fill(shown[given.date], missing), shown[given.date]), weights), truth))  # noqa: E501 # fmt: skip
        print(number, {name: round(values[-1], 3) for name, values in scores.items()}, flush=True)
    _print(scores, classical)


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


def _print(scores: dict[str, list[float]], classical: tuple[str, ...]) -> None:
    table = {name: np.array(values) for name, values in scores.items()}
    gappy = table["gappy"]
    for name, values in table.items():
        print(f"{name:16s} IoU {values.mean():.3f}  won back {_won_back(values, gappy):+.3f}")
    best = max(classical, key=lambda name: float(_won_back(table[name], gappy)))
    drawn = np.random.default_rng(0).integers(0, len(gappy), (2000, len(gappy)))
    for name in (n for n in table if n.startswith("geodiff")):
        gain = _won_back(table[name][drawn], gappy[drawn]) - _won_back(table[best][drawn], gappy[drawn])
        low, high = np.percentile(gain, [2.5, 97.5])
        at = _won_back(table[name], gappy) - _won_back(table[best], gappy)
        print(f"{name} - {best}: {at:+.3f} [{low:+.3f}, {high:+.3f}] over {len(gappy)} gaps")


if __name__ == "__main__":
    main()
