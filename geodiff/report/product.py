"""A finished product, opened for the page: its filled variables with their layers, whatever the format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.beside import record_of
from geodiff.codes import CODES, OBSERVED, OUTSIDE, UNFILLED
from geodiff.encoding import unpack
from geodiff.errors import TargetError
from geodiff.gaps import Reason
from geodiff.identity import target_stem
from geodiff.io import Kind, Raster, Variable, open_raster
from geodiff.io.places import exists, local_path, read
from geodiff.io.writing import RECORD
from geodiff.report.markup import spelt_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = ["FilledProduct", "Layers", "Picture", "open_product"]

_LAYERS = ("source", "reason", "standard_error")
_RUN = "geodiff_fingerprint"
"""The attribute by which parts of one product know each other."""


@dataclass(frozen=True, slots=True)
class Layers:
    """One window of one date, (band, row, column)."""

    value: NDArray[np.float32]
    """Physical units; NaN where there is none."""
    source: NDArray[np.uint8]
    reason: NDArray[np.uint16]
    error: NDArray[np.float32]
    """Standard error; 0 where observed, NaN where there is no value."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One filled variable of a product, read by window."""

    name: str
    value: Variable
    bands: tuple[int, ...]
    """Bands of the value that are shown: the continuous ones."""
    layers: Mapping[str, tuple[Variable, tuple[int, ...]]]
    """Source, reason and standard error, each with its bands in the order of `bands`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.value.shape[2:]

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(self.value.bands[band].name for band in self.bands)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the bands; '' where there are none, or the numbers have no dimension ("1")."""
        common = str(self.value.attributes.get("units", ""))
        found = (self.value.bands[band].units or common for band in self.bands)
        return tuple("" if units == "1" else spelt_units(units) for units in found)

    @property
    def dates(self) -> tuple[str, ...]:
        """One name a date; '' where the product has none."""
        return tuple("" if date is None else _date(date) for date in self.value.dates)

    @property
    def south_up(self) -> bool:
        """Whether the raster's first row is its southernmost; it is shown with north above all the same."""
        return self.value.south_up

    def read(self, date: int, window: Window) -> Layers:
        """All layers of a window, north above; (band, row, column). Rows are counted from the north."""
        if not self.south_up:
            return self._read(date, window)
        turned = self._read(date, replace(window, row=self.shape[0] - window.row - window.height))
        up = (slice(None), slice(None, None, -1))
        return Layers(turned.value[up], turned.source[up], turned.reason[up], turned.error[up])

    def _read(self, date: int, window: Window) -> Layers:
        stored = self.value.reader.read(date, window)
        source = self._layer("source", date, window).astype(np.uint8)
        reason = self._layer("reason", date, window).astype(np.uint16)
        source[(reason == 0) & (source < OUTSIDE)] = OBSERVED  # what a restoration changed was no gap
        value = np.empty((len(self.bands), *window.shape), np.float32)
        for place, band in enumerate(self.bands):
            physical, valid = unpack(stored[band], self.value.bands[band].encoding)
            value[place] = np.where(valid & (source[place] < OUTSIDE), physical, np.nan)
        return Layers(value, source, reason, self._layer("standard_error", date, window).astype(np.float32))

    def _layer(self, name: str, date: int, window: Window) -> NDArray[Any]:
        variable, bands = self.layers[name]
        return variable.reader.read(date, window)[list(bands)]


@dataclass(frozen=True, slots=True)
class FilledProduct:
    """What the page is made from."""

    target: str
    pictures: tuple[Picture, ...]
    record: Mapping[str, Any]
    """What the run said of itself (`<stem>.geodiff.json`); empty where that file is gone."""
    attributes: Mapping[str, Any]
    """What the product says of itself."""
    sources: Mapping[int, str]
    """Codes of the source layer and what they stand for."""
    reasons: Mapping[int, str]
    """Bits of the reason layer and what they stand for."""

    @property
    def restored(self) -> bool:
        """Whether `geodiff restore` made it, which changes known pixels too."""
        told = self.record.get("command") or self.attributes.get("geodiff_command") or ""
        return str(told).split()[:2] == ["geodiff", "restore"]


def open_product(target: str) -> FilledProduct:
    """Open a product of `geodiff fill` for looking at.

    Raises
    ------
    TargetError
        Where nothing is there, no source layer says what was filled, or the layers are of several runs.
    """
    if not exists(target):
        raise TargetError(f"{target} does not exist; give the TARGET of a finished `geodiff fill`")
    pieces = [piece for path in _files(target) for piece in _pictures(path, single=path == target)]
    if not pieces:
        raise TargetError(
            f"{target} has no layers that say what was filled (a _source layer inside or beside it), so there is "
            "nothing to report; give the TARGET of `geodiff fill`, with the files it wrote beside it"
        )
    attributes = pieces[0][1].attributes
    reasons = {int(reason): reason.meaning for reason in Reason}
    pictures = tuple(picture for picture, _ in pieces)
    return FilledProduct(target, pictures, record_of(target), attributes, _sources(pieces[0]), reasons)


def _files(target: str) -> list[str]:
    """The files that hold values: the target, or those of a folder without their sidecars."""
    local = local_path(target)
    is_folder = target.endswith("/") if local is None else local.is_dir()
    if not is_folder or target.rstrip("/").endswith(".zarr"):
        return [target]
    folder = target.rstrip("/") if local is None else str(local)
    try:
        names = json.loads(read(f"{folder}/{RECORD}") or b"{}")["files"]
    except (ValueError, KeyError):
        raise TargetError(
            f"{target} holds no whole product of geodiff: {RECORD} in it lists no files, as a run leaves it that is "
            "stopped while it writes; give its fill again"
        ) from None
    return [place for name in names if exists(_sidecar(place := f"{folder}/{name}", "source"))]


def _sidecar(path: str, layer: str) -> str:
    folder, stem = target_stem(path)
    return f"{folder}/{stem}_{layer}.tif"


def _pictures(path: str, *, single: bool) -> list[tuple[Picture, Raster]]:
    raster = open_raster(path)
    inside = _inside(raster)
    layers = inside or _beside(path, raster)
    found = []
    for variable in raster.variables:
        own = {layer: _of_variable(variable, layer, layers, inside=bool(inside)) for layer in _LAYERS}
        bands = tuple(i for i, band in enumerate(variable.bands) if band.kind is Kind.CONTINUOUS)
        if bands and all(own.values()):
            name = variable.name if single else Path(path).stem
            chosen = {layer: (places[0], tuple(places[1][b] for b in bands)) for layer, places in own.items() if places}
            found.append((Picture(name, variable, bands, chosen), raster))
    return found


def _inside(raster: Raster) -> dict[str, tuple[Variable, ...]]:
    """Layers in the same dataset, as Zarr and NetCDF have them."""
    by_name = {variable.name: variable for variable in raster.variables}
    return {
        layer: tuple(v for name, v in by_name.items() if name.endswith(f"_{layer}") and _base(name, layer) in by_name)
        for layer in _LAYERS
        if any(_base(name, layer) in by_name for name in by_name if name.endswith(f"_{layer}"))
    }


def _base(name: str, layer: str) -> str:
    return name.removesuffix(f"_{layer}")


def _beside(path: str, value: Raster) -> dict[str, tuple[Variable, ...]]:
    """Layers in files beside a GeoTIFF or PNG, here or on an object store.

    Raises TargetError where they are of several runs, as one leaves them that is stopped while it replaces another's.
    """
    files = {layer: _sidecar(path, layer) for layer in _LAYERS}
    rasters = {layer: open_raster(file) for layer, file in files.items() if exists(file)}
    runs = {str(raster.attributes.get(_RUN, "")) for raster in (value, *rasters.values())}
    if len(runs - {""}) > 1:
        raise TargetError(
            f"{path} and the layers beside it are of several runs: one was stopped while it wrote them; give its fill "
            "again, with --overwrite"
        )
    return {layer: raster.variables for layer, raster in rasters.items()}


def _of_variable(
    variable: Variable, layer: str, layers: Mapping[str, tuple[Variable, ...]], *, inside: bool
) -> tuple[Variable, tuple[int, ...]] | None:
    """The layer of a variable and, for each of the variable's bands, its place in it; None where there is none.

    One beside the values may go by another name, where a STAC Item named them; one `inside` their dataset may not, or
    the standard errors would be taken for values themselves.
    """
    for candidate in layers.get(layer, ()):
        named = candidate.name == f"{variable.name}_{layer}"
        alone = len(layers[layer]) == len(candidate.bands) == 1 and not inside
        fits = len(candidate.bands) == len(variable.bands) and candidate.shape[2:] == variable.shape[2:]
        if fits and (named or alone):
            return candidate, tuple(range(len(variable.bands)))
        names = [band.name for band in candidate.bands]
        wanted = [f"{band.name} {layer.replace('_', ' ')}" for band in variable.bands]
        shown = [name for name in wanted if name in names]
        if shown and candidate.shape[2:] == variable.shape[2:]:
            return candidate, tuple(names.index(name) if name in names else 0 for name in wanted)
    return None


def _date(date: np.datetime64) -> str:
    text = str(date.astype("datetime64[s]"))
    return text.removesuffix("T00:00:00")


def _sources(piece: tuple[Picture, Raster]) -> dict[int, str]:
    """Meaning of the source codes; the layer's own words, which know registered fillers too, where it has them."""
    known = {OBSERVED: "observed", OUTSIDE: "outside", UNFILLED: "unfilled", **{c: n for n, c in CODES.items()}}
    about = piece[0].layers["source"][0].attributes
    values, words = about.get("flag_values", ()), str(about.get("flag_meanings", "")).split()
    if isinstance(values, str):
        values = values.split(",")
    return known | {int(value): word for value, word in zip(values, words, strict=False)}
