"""The thumbnail of `geodiff info`: one date and band in a few hundred characters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.lattice import Window
from geodiff.scan import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geodiff.scan import GapReader
    from geodiff.scene import Cube

__all__ = [
    "GAP", "LEFT_OUT", "Picture", "as_picture", "cell_sums", "day", "first_band", "picture_of", "picture_shape",
    "shown", "thumbnail",
]  # fmt: skip

_WIDTH, _HEIGHT = 64, 28
"""Characters of the thumbnail at most; one is about twice as high as wide."""
_SHADES = " ░▒▓█"
GAP, LEFT_OUT = "×", "·"
_MARKED = 1 / 3
"""Share of a character's pixels from which it is marked as gap."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One date and band at a few characters' resolution; arrays (row, column)."""

    mean: NDArray[np.float64]
    """Mean of the known pixels, NaN where none is."""
    gaps: NDArray[np.float64]
    """Share of pixels to fill."""
    left_out: NDArray[np.float64]
    """Share of missing pixels that are left as they are."""


def picture_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Characters (rows, columns) for a raster of that shape."""
    rows, columns = shape
    width = max(1, min(_WIDTH, columns, round(2 * _HEIGHT * columns / rows)))
    return max(1, min(_HEIGHT, rows, round(width * rows / columns / 2))), width


def picture_of(cube: Cube, gaps: GapReader, date: int) -> Picture:
    """One date of the first band to fill, tile by tile, (row, column) of the thumbnail."""
    height, width = picture_shape(cube.shape)
    rows, columns = cube.shape
    sums = np.zeros((4, height * width))
    for tile in _tiles(cube.shape):
        found = gaps.read(date, tile)
        row = np.arange(tile.row, tile.stop[0]) * height // rows
        column = np.arange(tile.column, tile.stop[1]) * width // columns
        cell = (row[:, None] * width + column[None, :]).ravel()
        planes = _planes(first_band(cube, date, tile), found.reason, found.fillable)
        sums += [np.bincount(cell, weights=plane.ravel(), minlength=height * width) for plane in planes]
    return as_picture(sums.reshape(4, height, width))


def _tiles(shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(0, shape[0], 2 * CHUNK):
        for column in range(0, shape[1], 8 * CHUNK):
            yield Window(row, column, min(2 * CHUNK, shape[0] - row), min(8 * CHUNK, shape[1] - column))


def first_band(cube: Cube, date: int, window: Window) -> NDArray[np.float64]:
    """Stored numbers (row, column) of the first band to fill; numbers grow with what they stand for."""
    stored = cube.read(date, window)[0].astype(np.float64)
    rising: NDArray[np.float64] = np.nan_to_num(stored, posinf=0.0, neginf=0.0) * math.copysign(1.0, _scale(cube))
    return rising


def _scale(cube: Cube) -> float:
    return cube.variable.bands[cube.bands[0]].encoding.scale


def _planes(
    stored: NDArray[np.float64], reason: NDArray[np.uint16], fillable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """Planes (row, column) to be summed: known values, known, to fill in any band, missing and left out."""
    known, missing = reason[0] == 0, reason != 0
    return (
        np.where(known, stored, 0.0),
        known.astype(float),
        (missing & fillable).any(axis=0).astype(float),
        (missing & ~fillable).all(axis=0).astype(float),
    )


def cell_sums(
    stored: NDArray[np.float64], reason: NDArray[np.uint16], fillable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Sums of the first two planes of a small window, and means of the others: all that one character needs."""
    planes = _planes(stored, reason, fillable)
    return np.array([plane.sum() for plane in planes[:2]] + [plane.mean() for plane in planes[2:]]) + 0.0


def as_picture(sums: NDArray[np.float64]) -> Picture:
    """Sums (value, known, to fill, left out) over each cell to the mean and shares of the cell's pixels."""
    total, known, gaps, left_out = sums
    mean = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    pixels = np.maximum(known + gaps + left_out, 1)
    return Picture(mean, gaps / pixels, left_out / pixels)


def shown(cube: Cube, date: int, picture: Picture) -> dict[str, Any]:
    """The thumbnail's band, date and lines, north above."""
    lines = thumbnail(picture.mean, picture.gaps, picture.left_out)
    when = cube.variable.dates[date]
    return {
        "band": cube.variable.bands[cube.bands[0]].name,
        "date": None if when is None else day(when),
        "lines": lines[::-1] if cube.variable.south_up else lines,
    }


def thumbnail(mean: NDArray[np.float64], gaps: NDArray[np.float64], left_out: NDArray[np.float64]) -> list[str]:
    """A picture in characters: darker to brighter, `×` where a third or more is to be filled, `·` where it is left out.

    Parameters
    ----------
    mean, gaps, left_out : (row, column); the mean is NaN where nothing is known, the others are shares.
    """
    finite = mean[np.isfinite(mean)]
    low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
    level = np.clip((np.nan_to_num(mean) - low) / max(high - low, 1e-300), 0, 1)
    index = np.minimum((level * len(_SHADES)).astype(int), len(_SHADES) - 1)
    picture = np.array(list(_SHADES))[index]
    picture[(left_out >= 0.5) | ~np.isfinite(mean)] = LEFT_OUT
    picture[gaps >= _MARKED] = GAP
    return ["".join(row) for row in picture]


def day(date: np.datetime64) -> str:
    """`2024-06-01`, with the clock where it is not midnight."""
    return str(date.astype("datetime64[s]")).removesuffix("T00:00:00")
