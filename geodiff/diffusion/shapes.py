"""Shapes of gaps for training and scoring: transplanted real masks, and faults drawn from how sensors fail.

Cloud and shadow shapes come from the training folder (ukis-csmask, Sentinel-2 scene classes, CBERS CMASK, Landsat
QA_PIXEL); wedges of Landsat 7 without scan-line corrector, swath edges, dead lines, blocks and specks from geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.sources import Source, load, raster

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Gap = NDArray[np.bool_]
    Draw = Callable[[tuple[int, int], np.random.Generator], Gap]

__all__ = ["SHAPES", "draw_gap", "own_masks", "real_masks"]


@lru_cache(maxsize=1)
def real_masks(root: Path) -> tuple[Gap, ...]:
    """Cloud and shadow masks (row, column) of the training part, each with 2 to 98 % missing."""
    found = [*_labels(root), *_scene_classes(root), *_cbers(root), *_qa_pixel(root)]
    return tuple(m for m in found if 0.02 < m.mean() < 0.98)


def own_masks(root: Path, sources: Sequence[Source]) -> tuple[Gap, ...]:
    """What is missing in a user's own rasters, (row, column), each with 2 to 98 % missing; at most 200."""
    found: list[Gap] = []
    for source in sources:
        known = load(root, source).known[:, 0]
        found.extend(~k for k in known if 0.02 < 1 - k.mean() < 0.98)
        if len(found) >= 200:
            break
    return tuple(found[:200])


def _labels(root: Path) -> list[Gap]:
    path = root / "ukis-csmask/tests/testfiles/sentinel2.npz"
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as z:
        label = z["msk"][..., 0]
    return [label == 4, label == 0, np.isin(label, (0, 4))] * 4  # large, with sharp edges: worth more than its share


def _scene_classes(root: Path) -> list[Gap]:
    masks: list[Gap] = []
    for name in ("s2-minicubes/JAS2021_minicube_0_29SND_39.29_-8.56.npz", "s2-l2a-12band/site1.npz"):
        if (root / name).exists():
            with np.load(root / name, allow_pickle=False) as z:
                masks.extend(np.isin(z["scl"], (3, 8, 9, 10)))
    return masks


def _cbers(root: Path) -> list[Gap]:
    paths = sorted((root / "sits-history/raster/clouds").glob("*CMASK*.tif"))
    return [raster(p)[0][0] == 4 for p in paths]


def _qa_pixel(root: Path) -> list[Gap]:
    masks = []
    for path in sorted((root / "stactools-landsat").rglob("*_QA_PIXEL.TIF")):
        flags = raster(path)[0][0].astype(np.int64)
        cloudy = (flags & 0b11010) > 0
        masks.append(cloudy[100:420, 100:420])
    return masks


def _transplanted(masks: Sequence[Gap]) -> Draw:
    def draw(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
        mask = masks[int(rng.integers(len(masks)))]
        zoom = float(np.exp(rng.uniform(np.log(0.4), np.log(3.0))))
        need = [min(max(8, round(n / zoom)), m) for n, m in zip(shape, mask.shape, strict=True)]
        row, column = (int(rng.integers(m - n + 1)) for n, m in zip(need, mask.shape, strict=True))
        part = mask[row : row + need[0], column : column + need[1]]
        rows = np.arange(shape[0]) * need[0] // shape[0]
        columns = np.arange(shape[1]) * need[1] // shape[1]
        resampled: Gap = part[rows[:, None], columns]
        return resampled

    return draw


def _smooth_noise(shape: tuple[int, int], rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    from scipy import ndimage

    field: NDArray[np.float64] = ndimage.gaussian_filter(rng.standard_normal(shape), scale, mode="wrap")
    scaled: NDArray[np.float64] = field / field.std()
    return scaled


def blobs(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """A thresholded random field of two scales; any share."""
    scale = float(np.exp(rng.uniform(np.log(2), np.log(16))))
    field = _smooth_noise(shape, rng, scale) + 0.3 * _smooth_noise(shape, rng, scale / 3)
    share = float(rng.choice([rng.uniform(0.01, 0.1), rng.uniform(0.1, 0.8)]))
    gap: Gap = field > np.quantile(field, 1 - share)
    return gap


def wedges(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """Scan-line-corrector-off stripes: a period of about 33 lines, width from 0 at nadir to 14 at the scan's edge."""
    rows, columns = np.indices(shape)
    tilt, place = rng.uniform(-0.2, 0.2), rng.uniform(0, 1)
    width = 1 + 13 * np.clip(np.abs(place - rng.uniform(0, 1) * columns / shape[1]), 0.02, 1)
    period = 33 * rng.uniform(0.6, 1.2)
    return (rows + tilt * columns + rng.uniform(0, period)) % period < width


def swath(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """Everything beyond a slanting, slightly ragged line."""
    rows, columns = np.indices(shape)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * (rows / shape[0] - 0.5) + np.sin(angle) * (columns / shape[1] - 0.5)
    gap: Gap = along + 0.01 * rng.standard_normal((shape[0], 1)) > rng.uniform(-0.1, 0.5)
    return gap


def lines(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """Dead lines of 1 to 4 pixels, single or regular; rows or columns."""
    dead = np.zeros(max(shape), bool)
    if rng.random() < 0.5:
        dead[int(rng.integers(16)) :: int(rng.integers(6, 24))] = True
    else:
        dead[rng.integers(0, len(dead), int(rng.integers(2, 14)))] = True
    dead = np.convolve(dead, np.ones(int(rng.integers(1, 5))), "same") > 0
    return np.broadcast_to(dead[: shape[0], None] if rng.random() < 0.7 else dead[None, : shape[1]], shape).copy()


def blocks(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """Lost rectangles, as of compressed frames, of 8 to 64 pixels a side."""
    gap = np.zeros(shape, bool)
    for _ in range(int(rng.integers(1, 6))):
        height, width = (int(np.exp(rng.uniform(np.log(8), np.log(64)))) for _ in "hw")
        row, column = int(rng.integers(-height // 2, shape[0])), int(rng.integers(-width // 2, shape[1]))
        gap[max(row, 0) : row + height, max(column, 0) : column + width] = True
    return gap


def specks(shape: tuple[int, int], rng: np.random.Generator) -> Gap:
    """Lone pixels and 3 x 3 dots, up to half of all."""
    from scipy import ndimage

    gap: Gap = rng.random(shape) < rng.choice([0.01, 0.05, 0.2, 0.5])
    if rng.random() < 0.4 and gap.mean() < 0.1:
        gap = ndimage.binary_dilation(gap, np.ones((3, 3)))
    return gap


def whole(shape: tuple[int, int], rng: np.random.Generator) -> Gap:  # noqa: ARG001
    """A frame of which nothing is known."""
    return np.ones(shape, bool)


SHAPES: dict[str, tuple[float, Draw | None]] = {
    "transplanted": (0.44, None),
    "blobs": (0.16, blobs),
    "wedges": (0.09, wedges),
    "swath": (0.07, swath),
    "lines": (0.08, lines),
    "blocks": (0.10, blocks),
    "specks": (0.04, specks),
    "whole": (0.02, whole),
}
"""Shares of the shapes; `whole` is drawn only where other dates are at hand."""

_STRATA = ((0.01, 0.10), (0.10, 0.40), (0.40, 0.85))


def draw_gap(
    shape: tuple[int, int], rng: np.random.Generator, masks: Sequence[Gap], *, dates: bool = False
) -> tuple[str, Gap]:
    """A gap (row, column) and the name of its shape; the missing share is drawn evenly from three strata."""
    names = [n for n in SHAPES if (dates or n != "whole") and (masks or n != "transplanted")]
    weights = np.array([SHAPES[n][0] for n in names])
    name = str(rng.choice(names, p=weights / weights.sum()))
    draw = SHAPES[name][1] or _transplanted(masks)
    low, high = _STRATA[int(rng.integers(len(_STRATA)))]
    gap = draw(shape, rng)
    for _ in range(12):
        if name == "whole" or low <= gap.mean() <= high:
            break
        gap = draw(shape, rng)
    return name, _turned(gap, rng)


def _turned(gap: Gap, rng: np.random.Generator) -> Gap:
    """A random flip (masks of stripes keep their direction)."""
    gap = gap[::-1] if rng.random() < 0.5 else gap
    return np.ascontiguousarray(gap[:, ::-1] if rng.random() < 0.5 else gap)
