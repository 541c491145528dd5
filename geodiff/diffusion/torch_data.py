"""Filled products for training: patches with their trust, as a torch Dataset.

A filled pixel is an estimate, and its standard error says how good a one. A loss that is multiplied by `weight` learns
from every pixel as far as it can be trusted. Indices are numbers, windows or bounds, so samplers that draw bounding
boxes or slices of coordinates, as torchgeo's do, work too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from geodiff.errors import SourceError
from geodiff.io import open_raster
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Variable

__all__ = ["Bounds", "FilledDataset", "weight_of"]

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in the product's CRS; in columns and rows, counted upwards from -rows, without one."""

OUTSIDE = 254
"""From this code of the source layer on, a pixel holds no estimate."""


def weight_of(standard_error: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Weights 1 / (1 + (standard error / scale)^2): 1 where observed, a half where the error equals `scale`.

    With observations of error variance scale^2, this is the inverse-variance weight of an estimate beside theirs.
    NaN (no estimate) weighs nothing.
    """
    error = np.asarray(standard_error, np.float64)
    return np.where(np.isfinite(error), 1.0 / (1.0 + (error / scale) ** 2), 0.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One product: its value and the layers beside it."""

    path: Path
    value: Variable
    source: Variable
    error: Variable

    @property
    def shape(self) -> tuple[int, int]:
        return self.value.shape[2], self.value.shape[3]


def _open(path: Path) -> _Opened:
    beside = [path.with_name(f"{path.stem}_{layer}.tif") for layer in ("source", "standard_error")]
    absent = [str(p) for p in beside if not p.exists()]
    if absent:
        raise SourceError(f"{path} has no {' and '.join(absent)} beside it; give the target of a fill (.tif or .png)")
    return _Opened(path, *(open_raster(str(p)).variables[0] for p in (path, *beside)))


class FilledDataset(Dataset[dict[str, Any]]):
    """Patches of filled products.

    Parameters
    ----------
    products : targets of fills, .tif or .png, with their `_source.tif` and `_standard_error.tif` beside them.
    size : rows and columns of a patch; of a product that has fewer, all of them.
    stride : rows and columns from one patch to the next; `size` when None. The last patch of a row or column is moved
        back inside, so that every pixel is in one.
    scale : standard error at which a pixel weighs a half; when None, for each product and band a tenth of the standard
        deviation of its values (over at most 256 x 256 of them).
    smallest_share : leave out patches where less than this share of the pixels holds a value.

    Samples hold `image` (band, row, column) float32 in physical units, 0 where no value is; `weight`, same shape,
    `weight_of` the standard error; `source`, same shape, uint8 codes of the source layer; `bounds`, `crs` (WKT or "")
    and `path`. The same index gives the same sample, whatever the worker.
    """

    def __init__(
        self,
        products: Sequence[str | Path],
        size: int = 128,
        stride: int | None = None,
        *,
        scale: float | None = None,
        smallest_share: float = 0.0,
    ) -> None:
        if not products or size < 1 or (stride is not None and stride < 1):
            raise SourceError(f"{len(products)} products, size {size}, stride {stride}: all must be at least 1")
        self._products = [_open(Path(path)) for path in products]
        self._size, self._scale = size, scale
        self._scales = [np.full(p.value.shape[1], scale) if scale else _scales(p.value) for p in self._products]
        every = [(i, w) for i, p in enumerate(self._products) for w in _windows(p.shape, size, stride or size)]
        self.windows: tuple[tuple[int, Window], ...] = tuple(
            (i, w) for i, w in every if smallest_share <= 0 or self._share(i, w) >= smallest_share
        )
        """Product number and window of each patch, in order."""

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(
        self, index: int | tuple[int, Window] | Bounds | tuple[slice, ...] | Mapping[str, float]
    ) -> dict[str, Any]:
        """The sample of a number, of (product number, window), or of bounds in the CRS of the first product there."""
        if isinstance(index, (int, np.integer)):
            return self._sample(*self.windows[int(index)])
        if isinstance(index, tuple) and len(index) == 2 and isinstance(index[1], Window):
            return self._sample(*index)
        return self._sample(*self._at(_bounds(index)))

    def bounds(self, index: int) -> Bounds:
        """Left, bottom, right and top of a patch."""
        number, window = self.windows[index]
        return _bounds_of(self._products[number].value, window)

    def _at(self, bounds: Bounds) -> tuple[int, Window]:
        """The product that holds the middle of the bounds, and the window of `size` there, moved inside."""
        left, bottom, right, top = bounds
        for number, product in enumerate(self._products):
            column, row = ~product.value.geobox.affine @ ((left + right) / 2, (bottom + top) / 2)
            if not product.value.georeferenced:
                row = -row
            if 0 <= row < product.shape[0] and 0 <= column < product.shape[1]:
                sizes = [min(self._size, length) for length in product.shape]
                first = [round(c - size / 2) for c, size in zip((row, column), sizes, strict=True)]
                inside = [min(max(f, 0), n - s) for f, n, s in zip(first, product.shape, sizes, strict=True)]
                return number, Window(*inside, *sizes)
        raise IndexError(f"no product holds the middle of {bounds}; give bounds in the CRS of the products")

    def _share(self, number: int, window: Window) -> float:
        return float((self._products[number].source.reader.read(0, window) < OUTSIDE).mean())

    def _sample(self, number: int, window: Window) -> dict[str, Any]:
        product = self._products[number]
        source = product.source.reader.read(0, window)
        error = product.error.reader.read(0, window)
        image = _physical(product.value, window)[: len(source)]
        there = (source < OUTSIDE) & np.isfinite(image)
        weight = np.stack([weight_of(e, s) for e, s in zip(error, self._scales[number], strict=False)])
        crs = product.value.geobox.crs
        return {
            "image": torch.from_numpy(np.where(there, image, 0).astype(np.float32)),
            "weight": torch.from_numpy(np.where(there, weight, 0).astype(np.float32)),
            "source": torch.from_numpy(np.ascontiguousarray(source)),
            "bounds": _bounds_of(product.value, window),
            "crs": "" if crs is None else str(crs.to_wkt()),
            "path": str(product.path),
        }


def _windows(shape: tuple[int, int], size: int, stride: int) -> Iterator[Window]:
    rows, columns = (_firsts(n, min(size, n), stride) for n in shape)
    for row in rows:
        for column in columns:
            yield Window(row, column, min(size, shape[0]), min(size, shape[1]))


def _firsts(length: int, size: int, stride: int) -> list[int]:
    firsts = list(range(0, length - size + 1, stride))
    return firsts if firsts[-1] + size == length else [*firsts, length - size]


def _physical(variable: Variable, window: Window) -> NDArray[np.float64]:
    """(band, row, column), NaN where nothing is known."""
    from geodiff.encoding import unpack

    stored = variable.reader.read(0, window)
    planes = []
    for plane, band in zip(stored, variable.bands, strict=True):
        values, known = unpack(plane, band.encoding)
        planes.append(np.where(known, values, np.nan))
    return np.stack(planes)


def _scales(variable: Variable) -> NDArray[np.float64]:
    """A tenth of each band's standard deviation in the middle of the product; 1 where it does not vary."""
    rows, columns = variable.shape[2:]
    height, width = min(rows, 256), min(columns, 256)
    values = _physical(variable, Window((rows - height) // 2, (columns - width) // 2, height, width))
    spread = np.array([plane[np.isfinite(plane)].std() if np.isfinite(plane).any() else 0.0 for plane in values])
    return np.where(spread > 0, spread / 10, 1.0)


def _bounds_of(variable: Variable, window: Window) -> Bounds:
    affine = variable.geobox.affine
    sign = 1.0 if variable.georeferenced else -1.0
    corners = [affine @ (c, r) for r in (window.row, window.stop[0]) for c in (window.column, window.stop[1])]
    x, y = [c[0] for c in corners], [sign * c[1] for c in corners]
    return float(min(x)), float(min(y)), float(max(x)), float(max(y))


def _bounds(index: Any) -> Bounds:
    """Four numbers, or torchgeo's: boxes with minx, miny, maxx and maxy, and tuples of slices of x, y and time."""
    names = ("minx", "miny", "maxx", "maxy")
    if isinstance(index, tuple) and len(index) in (2, 3) and all(isinstance(part, slice) for part in index):
        x, y = index[:2]
        found = [float(edge) for edge in (x.start, y.start, x.stop, y.stop) if edge is not None]
    elif all(hasattr(index, name) for name in names):
        found = [float(getattr(index, name)) for name in names]
    elif isinstance(index, Mapping):
        found = [float(index[name]) for name in names]
    else:
        found = [float(number) for number in index]
    if len(found) != 4:
        raise IndexError(f"{index!r} is no patch; give a number, (product, Window) or (left, bottom, right, top)")
    return found[0], found[1], found[2], found[3]
