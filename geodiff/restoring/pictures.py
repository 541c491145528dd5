"""Before and after as one picture: what came down with its damage in colour, what was made of it, how sure it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import unpack
from geodiff.io import open_raster
from geodiff.lattice import Window
from geodiff.scene import open_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Variable
    from geodiff.restoring.job import RestoreJob
    from geodiff.scene import Cube

    Image = NDArray[np.uint8]

__all__ = ["before_and_after"]

_DAMAGE = (214, 39, 131)
_BETWEEN = 6
"""White columns between two pictures."""


def before_and_after(job: RestoreJob, width: int = 800) -> bytes:
    """A PNG of the first variable: as it came with its damage in pink, as it was restored, and its standard error.

    Parameters
    ----------
    job : a restoration that is done; its target is a `.tif` or a `.png`.
    width : pixels of each of the three pictures at most.

    Raises
    ------
    SourceError : where source or target are not there.
    """
    from matplotlib.image import imsave

    cube = open_scene(job.scene).cubes[0]
    seen, damage = _as_it_came(cube)
    value = _physical(open_raster(job.target).variables[0], cube.bands)
    error = _physical(open_raster(_beside(job.target, "standard_error")).variables[0], (0,))[:1]
    low, high = np.nanpercentile(np.where(damage, np.nan, seen), (0.5, 99.5)) if not damage.all() else (0.0, 1.0)
    before = _shaded(seen, float(low), float(high))
    before[damage.any(axis=0)] = _DAMAGE
    top = float(np.nanpercentile(error, 99)) if np.isfinite(error).any() else 1.0
    pictures = [before, _shaded(value, float(low), float(high)), _shaded(error, 0.0, top)]
    file = io.BytesIO()
    imsave(file, _side_by_side([_thinned(p, width) for p in pictures]), format="png", metadata={"Software": "geodiff"})
    return file.getvalue()


def _beside(target: str, layer: str) -> str:
    path = Path(target)
    return str(path.with_name(f"{path.stem}_{layer}.tif"))


def _as_it_came(cube: Cube) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Physical values (band, row, column), and what of them is missing for whatever reason."""
    whole = Window(0, 0, *cube.shape)
    stored = cube.read(0, whole)
    planes = [unpack(n, cube.variable.bands[b].encoding)[0] for n, b in zip(stored, cube.bands, strict=True)]
    return np.stack(planes), cube.reason(0, whole) != 0


def _physical(variable: Variable, bands: tuple[int, ...]) -> NDArray[np.float64]:
    """(band, row, column); NaN where there is no value."""
    stored: NDArray[Any] = variable.reader.read(0, Window(0, 0, *variable.shape[2:]))
    planes = [unpack(stored[band], variable.bands[band].encoding) for band in bands]
    return np.stack([np.where(valid, value, np.nan) for value, valid in planes])


def _shaded(planes: NDArray[np.float64], low: float, high: float) -> Image:
    """(row, column, 3): three bands in colour, the first one in grey otherwise."""
    chosen = planes[:3] if len(planes) == 3 else np.repeat(planes[:1], 3, axis=0)
    shade = np.clip((chosen - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.ascontiguousarray(np.moveaxis(np.nan_to_num(shade), 0, -1).astype(np.uint8))


def _thinned(picture: Image, width: int) -> Image:
    step = max(1, -(-max(picture.shape[:2]) // width))
    return picture[::step, ::step]


def _side_by_side(pictures: list[Image]) -> Image:
    """In one row, lower ones with white below."""
    height = max(len(p) for p in pictures)
    parts: list[Image] = []
    for picture in pictures:
        parts += [np.pad(picture, [(0, height - len(picture)), (0, _BETWEEN), (0, 0)], constant_values=255)]
    return np.concatenate(parts, axis=1)[:, :-_BETWEEN]
