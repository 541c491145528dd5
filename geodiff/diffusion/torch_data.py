"""Filled products for training: patches with their trust, as a torch Dataset.

A filled pixel is an estimate, and its standard error says how good a one. A loss that is multiplied by `weight` learns
from every pixel as far as it can be trusted. Indices are numbers, windows or bounds, so samplers that draw bounding
boxes or slices of coordinates, as torchgeo's do, work too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from geodiff.errors import SourceError
from geodiff.io import Kind, open_raster
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
    members: Variable | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.value.shape[2], self.value.shape[3]


def _paths(products: str | Path | Sequence[str | Path]) -> Iterator[Path]:
    """One path or many, each a product or a folder of them."""
    for path in map(Path, [products] if isinstance(products, str | Path) else products):
        if not path.is_dir():
            yield path
            continue
        found = [p for p in sorted(path.iterdir()) if p.suffix in (".tif", ".png") and _layer(p, "source").exists()]
        if not found:
            raise SourceError(f"{path} holds no product: no raster with its _source.tif beside it")
        yield from found


def _layer(path: Path, layer: str) -> Path:
    return path.with_name(f"{path.stem}_{layer}.tif")


def _open(path: Path, members: bool) -> _Opened:
    beside = [_layer(path, layer) for layer in ("source", "standard_error", *(["members"] if members else []))]
    absent = [str(p) for p in beside if not p.exists()]
    if absent:
        raise SourceError(f"{path} has no {' and '.join(absent)} beside it; give the target of a fill (.tif or .png)")
    value, source, error, *drawn = (open_raster(str(p)).variables[0] for p in (path, *beside))
    return _Opened(path, value, source, error, drawn[0] if drawn else None)


class FilledDataset(Dataset[dict[str, Any]]):
    """Patches of filled products.

    Parameters
    ----------
    products : targets of fills, .tif or .png, with their `_source.tif` and `_standard_error.tif` beside them, or
        folders of such; one or many.
    size : rows and columns of a patch; of a product that has fewer, all of them.
    stride : rows and columns from one patch to the next; `size` when None. The last patch of a row or column is moved
        back inside, so that every pixel is in one.
    scale : standard error at which a pixel weighs a half; when None, for each product and band a tenth of the standard
        standard deviation of its values (at some 256 x 256 pixels of it).
    smallest_share : leave out patches where less than this share of the pixels holds a value.
    members : give the realisations too, from the `_members.tif` beside each product.

    Samples hold `image` (band, row, column) float32 in physical units, 0 where no value is; `weight`, same shape,
    `weight_of` the standard error; `source`, same shape, uint8 codes of the source layer; `bounds`, `crs` (WKT or "")
    and `path`; with `members`, `members` (member, band, row, column), each of which is an `image`. Alpha bands are
    none of the bands. The same index gives the same sample, whatever the worker.
    """

    def __init__(
        self,
        products: str | Path | Sequence[str | Path],
        size: int = 128,
        stride: int | None = None,
        *,
        scale: float | None = None,
        smallest_share: float = 0.0,
        members: bool = False,
    ) -> None:
        paths = list(_paths(products))
        if not paths or size < 1 or (stride is not None and stride < 1):
            raise SourceError(f"{len(paths)} products, size {size}, stride {stride}: all must be at least 1")
        self._products = [_open(path, members) for path in paths]
        self._size, self._scale = size, scale
        self._scales = [np.full(p.source.shape[1], scale) if scale else _scales(p) for p in self._products]
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
        """The sample of a number, of (product number, window), or of bounds.

        Bounds are those of the first product that holds their middle, in its CRS; give a number or a window where
        several lie over one place, as dates do. The sample has as many pixels as the bounds span (on a turned grid,
        whose patches are no boxes of the map: `size`), so labels cut by the same bounds are in step with it. What
        hangs over the product is 0 of weight 0 and source 254.
        """
        try:
            return self._sample(*self.windows[operator.index(index)])  # type: ignore[arg-type]
        except TypeError:
            pass
        if isinstance(index, tuple) and len(index) == 2 and isinstance(index[1], Window):
            return self._sample(*index)
        return self._sample(*self._at(_bounds(index)))

    def bounds(self, index: int) -> Bounds:
        """Left, bottom, right and top of a patch."""
        number, window = self.windows[index]
        return _bounds_of(self._products[number].value, window)

    def _at(self, bounds: Bounds) -> tuple[int, Window]:
        """The product that holds the middle of the bounds, and the window that they span there."""
        left, bottom, right, top = bounds
        for number, product in enumerate(self._products):
            places = ((left, bottom), ((left + right) / 2, (bottom + top) / 2), (right, top))
            corners = [_place(product.value, x, y) for x, y in places]
            if all(0 <= place < length for place, length in zip(corners.pop(1), product.shape, strict=True)):
                affine = product.value.geobox.affine
                if affine.b or affine.d:
                    sizes = [min(self._size, length) for length in product.shape]
                    first = [(a + b) / 2 - size / 2 for a, b, size in zip(*corners, sizes, strict=True)]
                    first = [min(max(f, 0), n - s) for f, n, s in zip(first, product.shape, sizes, strict=True)]
                else:
                    sizes = [max(1, round(abs(b - a))) for a, b in zip(*corners, strict=True)]
                    first = [min(a, b) for a, b in zip(*corners, strict=True)]
                return number, Window(*(round(f) for f in first), *sizes)
        raise IndexError(f"no product holds the middle of {bounds}; give bounds in the CRS of the products")

    def _share(self, number: int, window: Window) -> float:
        return float((self._products[number].source.reader.read(0, window) < OUTSIDE).mean())

    def _sample(self, number: int, window: Window) -> dict[str, Any]:
        product = self._products[number]
        inside = window.intersect(Window(0, 0, *product.shape))
        if inside is None:
            raise IndexError(f"{window} lies beyond {product.path}, which has {product.shape} rows and columns")
        source = product.source.reader.read(0, inside)
        error = product.error.reader.read(0, inside)
        image = _values(product.value, inside, source)
        weight = np.stack([weight_of(e, s) for e, s in zip(error, self._scales[number], strict=True)])
        crs = product.value.geobox.crs
        sample = {
            "image": _padded(np.nan_to_num(image), window, inside),
            "weight": _padded(np.where(np.isfinite(image), weight, 0), window, inside),
            "source": _padded(source, window, inside, OUTSIDE),
            "bounds": _bounds_of(product.value, window),
            "crs": "" if crs is None else str(crs.to_wkt()),
            "path": str(product.path),
        }
        if product.members is not None:
            drawn = _values(product.members, inside, np.tile(source, (product.members.shape[1] // len(source), 1, 1)))
            sample["members"] = _padded(np.nan_to_num(drawn).reshape(-1, *source.shape), window, inside)
        return sample


def _padded(values: NDArray[Any], window: Window, inside: Window, empty: int = 0) -> torch.Tensor:
    """(..., row, column) of the window, from what lies inside the product; float64 becomes float32."""
    dtype = np.float32 if values.dtype.kind == "f" else values.dtype
    found = np.full((*values.shape[:-2], *window.shape), empty, dtype)
    found[(..., *inside.within(window))] = values
    return torch.from_numpy(found)


def _windows(shape: tuple[int, int], size: int, stride: int) -> Iterator[Window]:
    rows, columns = (_firsts(n, min(size, n), stride) for n in shape)
    for row in rows:
        for column in columns:
            yield Window(row, column, min(size, shape[0]), min(size, shape[1]))


def _firsts(length: int, size: int, stride: int) -> list[int]:
    firsts = list(range(0, length - size + 1, stride))
    return firsts if firsts[-1] + size == length else [*firsts, length - size]


def _values(variable: Variable, window: Window, source: NDArray[Any]) -> NDArray[np.float64]:
    """(band, row, column) in physical units without alpha, NaN where the source layer, same shape, says nothing is."""
    from geodiff.encoding import unpack

    stored = variable.reader.read(0, window)
    bands = [b for b, band in enumerate(variable.bands) if band.kind is not Kind.ALPHA]
    planes = [unpack(stored[b], variable.bands[b].encoding) for b in bands]
    values = np.stack([np.where(known, values, np.nan) for values, known in planes])
    return np.where((source < OUTSIDE) & np.isfinite(values), values, np.nan)


def _scales(product: _Opened) -> NDArray[np.float64]:
    """A tenth of each band's standard deviation, all over the product; 1 where it does not vary."""
    rows, columns = (_spread(length) for length in product.shape)
    found = []
    for row, height in rows:
        for column, width in columns:
            window = Window(row, column, height, width)
            values = _values(product.value, window, product.source.reader.read(0, window))
            found.append(values.reshape(len(values), -1))
    values = np.concatenate(found, axis=1)
    spread = np.array([plane[np.isfinite(plane)].std() if np.isfinite(plane).any() else 0.0 for plane in values])
    return np.where(spread > 0, spread / 10, 1.0)


def _spread(length: int) -> list[tuple[int, int]]:
    """First pixels and lengths of eight pieces of 32, from end to end; the whole of what is no longer."""
    return [(0, length)] if length <= 256 else [((length - 32) * i // 7, 32) for i in range(8)]


def _place(variable: Variable, x: float, y: float) -> tuple[float, float]:
    """Row and column of a place of the map, or of columns and rows counted upwards."""
    column, row = ~variable.geobox.affine @ (x, y)
    return (row if variable.georeferenced else -row), column


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
        raise IndexError(f"{index!r} is not a patch; give a number, (product, Window) or (left, bottom, right, top)")
    return found[0], found[1], found[2], found[3]
