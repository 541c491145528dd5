"""Filling a NumPy array in memory: the same line without files, for one image at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import first_channels
from geodiff.encoding import Encoding, as_float64, where_known
from geodiff.estimate import estimate
from geodiff.fillers import FillerSettings, load_filler
from geodiff.fitting import fit_cube
from geodiff.io import Band, Variable
from geodiff.lattice import Window
from geodiff.scan import scan_cube
from geodiff.scene import Cube, Rules
from geodiff.threads import side_by_side

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fill_array"]


@dataclass(frozen=True, slots=True)
class _ArrayReader:
    """(date, band, row, column) in memory, read as a source is."""

    values: NDArray[Any]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        part: NDArray[Any] = self.values[(date, slice(None), *window.slices)]
        return part

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:  # noqa: ARG002 - as the Protocol has it
        return None


def fill_array(
    values: ArrayLike, known: ArrayLike | None = None, *, filler: str = "auto", seed: int = 0, model: str = "default"
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Fill the unknown pixels of an image.

    Parameters
    ----------
    values : (row, column) or (band, row, column) numbers; what is not finite, or masked in a masked array, is unknown
        whatever `known` says. Those of a band that fill a turn exactly (0 to 360, -180 to 180, as much in radians)
        are taken for directions, whose least and greatest are neighbours.
    known : bool, same shape or (row, column); True where observed. Default: where `values` is finite.
    filler : `auto`, `diffusion`, or a classical one; see `geodiff.fillers`.
    seed : key of the ground noise; the value does not depend on it.
    model : model folder, or the name of a shipped one.

    Returns
    -------
    value : shape of `values`; known pixels as they were given: float32 where that holds all numbers of the type of
        `values`, else float64.
    standard_error : same type, shape and units; 0 where known. value +- 1.645 of it should hold 90 % of the truth.
        Both are NaN in a band of which nothing is known.

    Raises
    ------
    GridError : shapes do not fit.
    NothingKnownError : no pixel is known.
    """
    given = as_float64(values)
    trusted = where_known(given, known)
    planes, seen = (a if a.ndim == 3 else a[None] for a in (given, trusted))
    unit = _unit(planes[seen])
    cube = _cube(np.where(seen, planes, np.nan) / unit)
    reason, outside = np.zeros((1, *planes.shape), np.uint16), np.zeros(planes.shape[1:], bool)
    scan, gaps = scan_cube(cube, reason, outside, buffer=0)
    chosen = load_filler(filler, FillerSettings(model=model))
    with side_by_side():
        fit = fit_cube(cube, scan, gaps, chosen)
        blended, _ = estimate(cube, gaps, fit, chosen, 0, cube.lattice.extent, seed)
    exact = np.can_cast(np.asanyarray(values).dtype, np.float32)
    value: NDArray[np.floating[Any]] = planes.astype(np.float32 if exact else np.float64)
    error = np.zeros_like(value)
    if blended is not None:
        estimated, spread = fit.bands(blended.value[0], blended.standard_error[0], np.logical_not(seen))
        for band, first in enumerate(first_channels(fit.turns, len(planes))):
            if not fit.estimable[first]:
                value[band] = error[band] = np.nan
                continue
            value[band] = np.where(seen[band], value[band], estimated[band] * unit)
            error[band] = np.where(seen[band], 0.0, spread[band].astype(np.float64) * unit)
    return value.reshape(given.shape), error.reshape(given.shape)


def _unit(known: NDArray[Any]) -> float:
    """1, or the power of two to count in where most numbers are too large or too small for sums of float32 squares."""
    middle = float(np.median(np.abs(known))) if known.size else 0.0
    return 1.0 if middle == 0 or 1e-15 < middle < 1e15 else 2.0 ** math.frexp(middle)[1]


def _cube(planes: NDArray[np.float64]) -> Cube:
    """One undated image without georeferencing; everything unknown in it may be filled."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    encoding = Encoding(np.dtype(np.float64))
    bands: Sequence[Band] = [Band(str(i + 1), encoding) for i in range(len(planes))]
    geobox = GeoBox(planes.shape[1:], Affine.identity(), None)
    variable = Variable("values", tuple(bands), geobox, _ArrayReader(planes[None]))
    return Cube(variable, tuple(range(len(planes))), (0,), Rules())
