"""EASE-Grid 2.0 of SMAP's daily grids, which lie where their indices say: latitudes lack wherever nothing was seen.

Brodzik et al. (2012), EASE-Grid 2.0; Level 3 product specifications of SMAP: the global cylindrical grids, EPSG:6933.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

from geodiff.io.cube import pick
from geodiff.io.inherited import gridded, rebuilt

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

__all__ = ["on_ease"]

_INDICES = tuple(re.compile(rf"ease_{axis}_index(_[ap]m)?", re.IGNORECASE) for axis in ("row", "column"))
_HALF_WIDTH = 17_367_530.445
"""Metres from the middle of the global grids to their left edge."""
_CELLS = {(406, 964): 36_032.220840584, (1624, 3856): 9_008.055210146, (4872, 11568): 3_002.6850700487}
"""Metres a cell by rows and columns, of 36, 9 and 3 km."""


def on_ease(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset of a group with axes and a grid, where it covers the globe and its indices count rows and columns.

    Any other comes back as it is.
    """
    row, column = (_index(dataset, name) for name in _INDICES)
    if row is None or column is None or row.dims != column.dims or row.shape not in _CELLS:
        return dataset
    rows, columns = (np.arange(n) for n in row.shape)
    if not (_counts(row, rows[:, None]) and _counts(column, columns[None, :])):
        return dataset
    names = dict(zip(row.dims, ("y", "x"), strict=True))
    named = {str(name): v.copy(deep=False) for name, v in dataset.variables.items()}
    for variable in named.values():
        variable.dims = tuple(names.get(dim, dim) for dim in variable.dims)
    return gridded(rebuilt(dataset, named), "y", "x", _geobox(row.shape))


def _index(dataset: xr.Dataset, pattern: re.Pattern[str]) -> xr.Variable | None:
    held = (v for name, v in dataset.variables.items() if pattern.fullmatch(str(name)))
    return next((v for v in held if v.ndim == 2 and v.dtype.kind in "iu"), None)


def _counts(index: xr.Variable, place: NDArray[np.intp]) -> bool:
    """Whether an index is its pixel's own row, or column, wherever it is known."""
    numbers, missing = np.asarray(index.values), pick(index, "_FillValue")
    unknown = np.zeros(numbers.shape, bool) if missing is None else numbers == np.ravel(missing)[0]
    return bool((unknown | (numbers == place)).all() and not unknown.all())


def _geobox(shape: tuple[int, ...]) -> GeoBox:
    from odc.geo.geobox import GeoBox

    cell = _CELLS[(shape[0], shape[1])]
    return GeoBox((shape[0], shape[1]), Affine(cell, 0, -_HALF_WIDTH, 0, -cell, cell * shape[0] / 2), "EPSG:6933")
