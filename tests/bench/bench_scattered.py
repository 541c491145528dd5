"""Pixels lost here and there, in stripes, lines and spots of photographs: geodiff beside what people use for them.

    python tests/bench/bench_scattered.py [--side 224] [--filler auto]

Seven images that scikit-image brings, so it needs no data of its own; then four in colour, of which the green band
alone is lost and linear regression on the others is a peer as well. RMSE over that of the best peer of each image and
pattern, chosen with hindsight, and the share of the truth in value +- 1.645 standard errors; geometric mean and mean,
with 95 % bootstrap intervals over images. Prints figures and asserts none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.fill import fillnodata
from skimage import data
from skimage.restoration import inpaint_biharmonic

import geodiff

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

PEERS: dict[str, Callable[[Image, Mask], Image]] = {
    "GDAL": lambda seen, lost: fillnodata(seen.astype("f4"), mask=(~lost).astype("u1"), max_search_distance=100),
    "Telea": lambda seen, lost: cv2.inpaint(seen.astype("u1"), lost.astype("u1"), 3, cv2.INPAINT_TELEA),
    "Navier-Stokes": lambda seen, lost: cv2.inpaint(seen.astype("u1"), lost.astype("u1"), 3, cv2.INPAINT_NS),
    "biharmonic": inpaint_biharmonic,
}


def images(side: int) -> Iterator[tuple[str, Image]]:
    """Name and pixels (row, column), 0 to 255."""
    corners = {"camera": (100, 150), "coins": (0, 0), "moon": (100, 100), "brick": (0, 0), "grass": (0, 0)}
    for name, (row, column) in {**corners, "gravel": (0, 0)}.items():
        yield name, getattr(data, name)()[row : row + side, column : column + side].astype(float)
    yield "retina", data.retina()[500 : 500 + side, 500 : 500 + side, 1].astype(float)


def patterns(side: int) -> Iterator[tuple[str, Mask]]:
    """Name and what is lost."""
    rng, (y, x) = np.random.default_rng(5), np.mgrid[:side, :side]
    yield "3 of 10 pixels", rng.random((side, side)) < 0.3
    yield "8 of 10 pixels", rng.random((side, side)) < 0.8
    yield "2 of 8 lines", y % 8 < 2
    lines = np.zeros((side, side), bool)
    lines[rng.choice(side, side // 10, replace=False)] = True
    yield "1 of 10 lines", lines
    yield "scan line corrector off", (x + 0.3 * y) % 14 < 4
    spots = np.zeros((side, side), bool)
    for row, column in rng.integers(10, side - 10, (25, 2)):
        spots |= (y - row) ** 2 + (x - column) ** 2 < rng.integers(3, 9) ** 2
    yield "25 spots", spots
    yield "one square", (abs(y - side // 2) < 25) & (abs(x - side // 2) < 25)
    yield "49 of 50 pixels", rng.random((side, side)) < 0.98


def judged(image: Image, lost: Mask, filler: str) -> tuple[str, float, float]:
    """The best peer, ln RMSE over its, and the share of the truth in the intervals."""
    value, error = geodiff.fill_array(np.where(lost, np.nan, image), ~lost, filler=filler)
    apart = {name: np.asarray(fill(np.where(lost, 0.0, image), lost)) - image for name, fill in PEERS.items()}
    rmse = {name: float(np.sqrt(np.mean(miss[lost] ** 2))) for name, miss in apart.items()}
    best = min(rmse, key=rmse.__getitem__)
    own = float(np.sqrt(np.mean((value - image)[lost] ** 2)))
    return best, float(np.log(own / rmse[best])), float(np.mean(np.abs(value - image)[lost] <= 1.645 * error[lost]))


def colour_images(side: int) -> Iterator[Image]:
    """(band, row, column), 0 to 255."""
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        yield np.moveaxis(getattr(data, name)()[40 : 40 + side, 100 : 100 + side], -1, 0).astype(float)


def judged_green(image: Image, lost: Mask, filler: str) -> tuple[str, float, float]:
    """As `judged`, where only the second of three bands is lost."""
    seen = image.copy()
    seen[1][lost] = np.nan
    value, error = geodiff.fill_array(seen, filler=filler)
    columns = np.stack([np.ones(lost.shape), image[0], image[2]], axis=-1)
    told = columns @ np.linalg.lstsq(columns[~lost], image[1][~lost], rcond=None)[0]
    alone = {name: np.asarray(fill(np.where(lost, 0.0, image[1]), lost)) for name, fill in PEERS.items()}
    rmse = {n: float(np.sqrt(np.mean((f - image[1])[lost] ** 2))) for n, f in {**alone, "regression": told}.items()}
    best, miss = min(rmse, key=rmse.__getitem__), np.abs(value[1] - image[1])[lost]
    held = float(np.mean(miss <= 1.645 * error[1][lost]))
    return best, float(np.log(np.sqrt(np.mean(miss**2)) / rmse[best])), held


def _interval(numbers: NDArray[np.float64]) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(numbers, len(numbers)).mean() for _ in range(1000)]
    return float(numbers.mean()), *(float(q) for q in np.quantile(drawn, (0.025, 0.975)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=224, help="pixels a side of an image")
    parser.add_argument("--filler", default="auto")
    asked = parser.parse_args()
    for name, lost in patterns(asked.side):
        _show(name, lost, [judged(image, lost, asked.filler) for _, image in images(asked.side)])
    print("the green band alone is lost")
    for name, lost in patterns(asked.side):
        _show(name, lost, [judged_green(image, lost, asked.filler) for image in colour_images(asked.side)])


def _show(name: str, lost: Mask, found: list[tuple[str, float, float]]) -> None:
    ratio = np.exp(_interval(np.array([one[1] for one in found])))
    held = _interval(np.array([one[2] for one in found]))
    peers = ", ".join(sorted({one[0] for one in found}))
    print(
        f"{name:24s} {100 * lost.mean():3.0f} % lost   RMSE / best peer {ratio[0]:.3f} ({ratio[1]:.3f} to "
        f"{ratio[2]:.3f})   90 % intervals hold {held[0]:.3f} ({held[1]:.3f} to {held[2]:.3f})   best: {peers}",
        flush=True,
    )


if __name__ == "__main__":
    main()
