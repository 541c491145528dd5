"""A small picture of a finished fill, before and after, for tables and messages that cannot show the page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from geodiff.codes import OBSERVED, OUTSIDE
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.report.product import Layers, Picture

__all__ = ["preview"]

_MOST = 4096
"""Pixels each way that are read; of a larger picture the middle."""
_STRIP = 256
_GAP = (214, 39, 131)
"""Colour of what was missing: no ground looks like it."""
_NOTHING = (238, 238, 238)
_BETWEEN = 4
"""White columns between the two pictures."""


def preview(target: str, width: int = 320) -> bytes:
    """A PNG of the first filled variable's newest date: before with its gaps in colour, and after.

    Parameters
    ----------
    target : what `geodiff fill` wrote.
    width : pixels of each of the two pictures at most.

    Raises
    ------
    TargetError : where there is no product, or nothing says what was filled in it.
    """
    from matplotlib.image import imsave

    from geodiff.report.product import open_product

    value, source = _reduced(open_product(target).pictures[0], width)
    colours = _stretched(value, source)
    missing = (source != OBSERVED) & (source < OUTSIDE)
    before, after = colours.copy(), colours
    before[missing.any(axis=0)] = _GAP
    for side in (before, after):
        side[(source >= OUTSIDE).all(axis=0)] = _NOTHING
    between = np.full((before.shape[0], _BETWEEN, 3), 255, np.uint8)
    file = io.BytesIO()
    imsave(file, np.concatenate([before, between, after], axis=1), format="png", metadata={"Software": "geodiff"})
    return file.getvalue()


def _reduced(picture: Picture, width: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Every nth pixel of the middle, (band, row, column); the bands that make a colour, or the first."""
    rows, columns = picture.shape
    height, across = min(rows, _MOST), min(columns, _MOST)
    top, left = (rows - height) // 2, (columns - across) // 2
    step = max(1, -(-max(height, across) // width))
    date = len(picture.dates) - 1
    strips = [
        _strip(picture.read(date, Window(row, left, min(_STRIP, top + height - row), across)), (top - row) % step, step)
        for row in range(top, top + height, _STRIP)
    ]
    bands = _colour_bands(picture)
    value, source = (np.concatenate(parts, axis=1)[bands] for parts in zip(*strips, strict=True))
    return value, source


def _strip(layers: Layers, first: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    return layers.value[:, first::step, ::step], layers.source[:, first::step, ::step]


def _colour_bands(picture: Picture) -> list[int]:
    """Red, green and blue by their names; three bands as they are; else the first one thrice."""
    names = [name.lower() for name in picture.band_names]
    for wanted in (("red", "green", "blue"), ("b04", "b03", "b02"), ("sr_b4", "sr_b3", "sr_b2"), ("b4", "b3", "b2")):
        if all(name in names for name in wanted):
            return [names.index(name) for name in wanted]
    return [0, 1, 2] if len(names) == 3 else [0, 0, 0]


def _stretched(value: NDArray[np.float32], source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(row, column, 3): the 2nd to 98th percentile of the observed values, or of all where nothing else is there."""
    shades = np.zeros((*value.shape[1:], 3), np.uint8)
    for place, (band, codes) in enumerate(zip(value, source, strict=True)):
        finite = np.isfinite(band)
        known = band[finite & (codes == OBSERVED)]
        known = known if known.size else band[finite]
        if known.size:
            low, high = np.percentile(known, (2, 98))
            shade = np.clip((band - low) / max(high - low, 1e-12), 0, 1) * 255
            shades[..., place] = np.where(finite, shade, 0).astype(np.uint8)
    return shades
