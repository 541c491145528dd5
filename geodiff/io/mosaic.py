"""Whether a frame of one band is a colour mosaic that no label names: what its pixels say by their 2 x 2 phases.

Behind a Bayer filter (US patent 3,971,065) every second row and column shows red or blue, the others green. So a level
swings from pixel to pixel, in the same sense all over the frame: R + B - 2 G along the diagonals and R - B along rows
and columns, these two alike. Detectors that read odd and even columns through amplifiers of their own swing along one
axis only, and scenes swing nowhere in the same sense for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError
from geodiff.io.gdal import GdalReader
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io.header import Header

__all__ = ["SAMPLE", "mosaic_swing", "refuse_mosaic"]

SAMPLE = 512
"""Side of the part of a frame that is looked at, in pixels."""
TILE = 16
"""Side of the tiles that must agree."""
SWING = 0.02
"""Least typical swing, as a share of the level."""
AGREE = 0.85
"""Share of the tiles that swing in the same sense."""
CLEAR = 2.0
"""Standard errors by which a tile's swing is told from chance."""
FEWEST = 24
"""Tiles that must be there to tell: 96 x 64 pixels."""


def refuse_mosaic(header: Header) -> None:
    """Raise SourceError for a camera's frame of one band of whole numbers whose middle is a mosaic of colours.

    What lies on a map was resampled, and is none.
    """
    dtype = header.dtypes[0]
    if header.count != 1 or dtype not in ("uint8", "uint16", "int16") or header.colourmaps:
        return
    if header.crs is not None or header.gcps or not header.affine.is_identity:
        return
    sides = [min(n, SAMPLE) for n in header.shape]
    if header.driver == "VRT" or (sides[0] // TILE) * (sides[1] // TILE) < FEWEST:
        return
    row, column = ((n - side) // 2 for n, side in zip(header.shape, sides, strict=True))
    # A damaged block is told here and now: a read that failed once may come out of GDAL's cache as zeros.
    swing = mosaic_swing(GdalReader(header.path, (1,), "", None).read(0, Window(row, column, *sides))[0])
    if swing:
        raise SourceError(
            f"{header.path} looks like a colour mosaic: in its middle, levels swing by {100 * swing:.0f} % from pixel "
            "to pixel in one sense, as red, green and blue beside each other do, so neighbours show different colours; "
            "write each of its four colour planes (every second row and column) to a file of its own and fill those, "
            "or take the product after demosaicking"
        )


def mosaic_swing(frame: NDArray[Any]) -> float:
    """How far levels swing by colour, as a share of the level; 0 for what is no mosaic.

    They swing along the diagonals, or along rows and columns alike.

    Parameters
    ----------
    frame : (row, column) stored numbers of one band. Tiles that are dark or clipped through and through tell nothing.
    """
    rows, columns = (n // TILE * TILE for n in frame.shape)
    level = frame[:rows, :columns].astype(np.float64)
    if not np.isfinite(level).all() or rows * columns < FEWEST * TILE**2:
        return 0.0
    along_row, along_column = _swing(_smooth(level, 0), 1), _swing(_smooth(level, 1), 0)
    both = _swing(_swing(level, 0), 1)
    signs = [(-1.0) ** np.arange(n) for n in (rows, columns)]
    across = _told(along_row * signs[1][None], level), _told(along_column * signs[0][:, None], level)
    diagonal = _told(both * np.outer(*signs), level)
    alike = min(across) if min(across) >= max(SWING, 0.5 * max(across)) else 0.0
    return max(diagonal if diagonal >= SWING else 0.0, alike)


def _swing(level: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """How far each pixel is from the mean of its two neighbours, halved: of a line that alternates, the amplitude."""
    return (2 * level - np.roll(level, 1, axis) - np.roll(level, -1, axis)) / 4


def _smooth(level: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Without what alternates along an axis."""
    return (2 * level + np.roll(level, 1, axis) + np.roll(level, -1, axis)) / 4


def _told(swing: NDArray[np.float64], level: NDArray[np.float64]) -> float:
    """Typical swing of the tiles over their level, 0 where tiles do not agree on its sense."""
    tiles, levels = _tiles(swing), _tiles(level)
    live = (levels.std(axis=1) > 0) & (levels.mean(axis=1) > 0)
    if live.sum() < FEWEST:
        return 0.0
    tiles, levels = tiles[live], levels[live]
    middle = tiles.mean(axis=1)
    error = tiles.std(axis=1) / TILE
    sense = np.sign(np.median(middle))
    agree = float((sense * middle >= CLEAR * error).mean())
    return float(np.median(sense * middle / levels.mean(axis=1))) if agree >= AGREE else 0.0


def _tiles(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """(tile, pixel)."""
    rows, columns = (n // TILE for n in plane.shape)
    cut = plane.reshape(rows, TILE, columns, TILE).transpose(0, 2, 1, 3)
    return cut.reshape(rows * columns, TILE**2)
