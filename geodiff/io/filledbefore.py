"""What an earlier fill said of the values of a source that is its product: they are known here, but nobody saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.io import Reader, Variable
from geodiff.io.ancillary import is_layer
from geodiff.io.cube import CubeReader
from geodiff.io.gdal import GdalReader, read_header
from geodiff.io.geotiff import band_names
from geodiff.io.placed import PlacedReader
from geodiff.io.places import local_path
from geodiff.io.stack import DateReader, StackReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = ["FilledBefore", "filled_before"]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "source": np.dtype("u1"), "reason": np.dtype("u2"), "standard_error": np.dtype("f4"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FilledBefore:
    """Layers of the fill that a variable is the product of."""

    source: Reader
    reason: Reader
    standard_error: Reader
    files: tuple[str, ...]
    """Where they lie, if not in the source itself."""


def filled_before(variable: Variable) -> FilledBefore | None:
    """The layers beside a variable, or in its dataset; None where they are not all there, or none says it is theirs."""
    files: dict[str, None] = {}
    found = {layer: _layer(variable.reader, layer, len(variable.bands), files) for layer in _DTYPES}
    layers = {layer: reader for layer, reader in found.items() if reader is not None}
    return FilledBefore(**layers, files=tuple(files)) if len(layers) == len(_DTYPES) else None


@dataclass(frozen=True, slots=True)
class _Spread:
    """A reader of some of a variable's bands as one of all; 0 in the others, and everywhere without it."""

    reader: Reader | None
    places: tuple[int, ...]
    bands: int
    dtype: np.dtype[Any]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        whole = np.zeros((self.bands, *window.shape), self.dtype)
        if self.reader is not None:
            whole[list(self.places)] = self.reader.read(date, window)
        return whole

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:  # noqa: ARG002 - as the Protocol has it
        return None


def _layer(reader: Any, layer: str, bands: int, files: dict[str, None]) -> Reader | None:
    """The reader of a layer that lies as what `reader` reads; its files, if it has its own, are added to `files`."""
    if isinstance(reader, CubeReader):
        return _in_dataset(reader, layer)
    if isinstance(reader, GdalReader):
        return _beside(reader, layer, files)
    if isinstance(reader, StackReader):
        found = [_layer(each, layer, bands, files) for each in reader.readers]
        blank = _Spread(None, (), bands, _DTYPES[layer])  # of a date that no fill made all was observed
        return StackReader(tuple(each or blank for each in found)) if any(found) else None
    inner = _layer(reader.reader, layer, bands, files) if isinstance(reader, DateReader | PlacedReader) else None
    if inner is None:
        return None
    if isinstance(reader, PlacedReader):
        return replace(reader, reader=inner, blank=(0,) * bands, dtype=_DTYPES[layer])
    return DateReader(inner, reader.date)


def _in_dataset(reader: CubeReader, layer: str) -> Reader | None:
    held, name = reader.source.dataset().variables, f"{reader.name}_{layer}"
    alike = name in held and held[name].dims == held[reader.name].dims and held[name].dtype == _DTYPES[layer]
    return replace(reader, name=name, dtype=_DTYPES[layer]) if alike and is_layer(name, held[name].attrs) else None


def _beside(reader: GdalReader, layer: str, files: dict[str, None]) -> Reader | None:
    """Of a sidecar on the same grid, made by the very job that made the file."""
    value = local_path(reader.path)
    beside = None if value is None else value.with_name(f"{value.stem}_{layer}.tif")
    if beside is None or not beside.exists():
        return None
    header, own = read_header(str(beside)), read_header(reader.path)
    made = [h.tags.get("", {}).get("geodiff_fingerprint") for h in (header, own)]
    all_bands = band_names(own)
    names = [f"{all_bands[number - 1]} {layer.replace('_', ' ')}" for number in reader.indexes]
    places = tuple(place for place, name in enumerate(names) if name in header.descriptions)
    if None in made or made[0] != made[1] or header.shape != own.shape or not places:
        return None
    files[str(beside)] = None
    numbers = tuple(header.descriptions.index(names[place]) + 1 for place in places)
    return _Spread(GdalReader(header.path, numbers), places, len(names), _DTYPES[layer])
