"""The edges: what a source offers, what a product holds, and the two doors `open_raster` and `write_product`.

A source, whatever its format, becomes a `Raster` of `Variable`s that are read window by window in their stored dtype.
A product is a set of arrays in the working store; each format module writes it next to the target under a temporary
name and renames it into place, the target itself last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geodiff.encoding import Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.io.earlier import Earlier
    from geodiff.lattice import Window

__all__ = [
    "Band",
    "Kind",
    "OpenOptions",
    "Product",
    "ProductVariable",
    "QualityBand",
    "Raster",
    "Reader",
    "Variable",
    "check_target",
    "open_raster",
    "read_fingerprint",
    "write_product",
]


class Kind(StrEnum):
    """What a band's numbers mean; only continuous bands are ever estimated."""

    CONTINUOUS = "continuous"
    PALETTE = "palette"
    FLAGS = "flags"
    BOOLEAN = "boolean"
    COMPLEX = "complex"
    ALPHA = "alpha"


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a variable."""

    name: str
    encoding: Encoding
    kind: Kind = Kind.CONTINUOUS
    units: str = ""


KIND = "geodiff_kind"
"""Attribute or tag by which a product remembers that a copied band holds flags."""


_SEA = re.compile(r"sea_surface|sea_water|sea[_-]ice|(^|_)ocean_")


class Reader(Protocol):
    """Reads stored numbers of one variable by window; opened lazily, safe to build again in another process."""

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype; the window lies inside the raster."""
        ...

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column) from a dataset mask or alpha band, True where the source says valid; None without one."""
        ...


@dataclass(frozen=True, slots=True)
class Variable:
    """One quantity on one grid, (date, band, row, column), read lazily in its stored dtype."""

    name: str
    bands: tuple[Band, ...]
    geobox: GeoBox
    """Shape, affine and CRS (None for camera frames and swaths); odc-geo's."""
    reader: Reader
    dates: tuple[np.datetime64 | None, ...] = (None,)
    """One entry a date, ascending as found; (None,) where the source has no time."""
    chunk: tuple[int, int] = (256, 256)
    """Rows and columns that are cheap to read together."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """CF or tag attributes of the variable (standard_name, units, ...)."""
    levels: bool = False
    """Whether its bands are depths, heights or pressures, each with a ground of its own that it ends at."""
    around: bool = False
    """Whether the last column is next to the first though no affine says so: rays of a radar, globes of uneven rows."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Dates, bands, rows, columns."""
        return len(self.dates), len(self.bands), int(self.geobox.shape[0]), int(self.geobox.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The one stored dtype of all bands."""
        return self.bands[0].encoding.dtype

    @property
    def of_the_sea(self) -> bool:
        """Whether its standard or long name says that it exists at sea only."""
        told = (str(self.attributes.get(key, "")) for key in ("standard_name", "long_name"))
        return any(_SEA.search(text.lower().replace(" ", "_")) for text in told)

    @property
    def south_up(self) -> bool:
        """Whether the first row of a map is the southernmost."""
        grid = self.geobox.affine
        return self.geobox.crs is not None and grid.e > 0 and grid.b == grid.d == 0

    @property
    def georeferenced(self) -> bool:
        """False for camera frames and swaths, which have no collar."""
        return self.geobox.crs is not None or not self.geobox.affine.is_identity


@dataclass(frozen=True, slots=True)
class QualityBand:
    """A quality band that belongs to the source; it explains gaps and is copied, never estimated."""

    variable: Variable
    preset: str
    """Name of a table in `geodiff.flags`."""
    applies_to: tuple[str, ...] = ()
    """Names of the variables it explains; empty means every one on the same ground."""
    layer: str | None = None
    """Which quality band of the preset; None is its first."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """For `pds` and `cf-codes`: the label's keywords and numbers."""
    only: int = 0xFFFF
    """The reasons it may give, bits of `geodiff.gaps.Reason`."""
    of_gaps: bool = False
    """Whether it says nothing of known values, only why others are missing."""


@dataclass(frozen=True, slots=True)
class Raster:
    """An opened source."""

    path: str
    driver: str
    """GDAL's short driver name, or `Zarr`, `netCDF`, `HDF5`, `scene folder`, `stack`, `STAC`."""
    variables: tuple[Variable, ...]
    """Everything that can be shown; `fill` takes the continuous ones that have gaps."""
    quality: tuple[QualityBand, ...] = ()
    """Quality bands found by name or metadata, for `--qa auto`."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the whole dataset."""
    files: tuple[str, ...] = ()
    """Every file the source consists of, for its identity."""
    origins: tuple[str, ...] = ()
    """What it was made of, where its path leads to several Items."""
    names: tuple[str, ...] = ()
    """What the scene of each date is called, where dates are scenes of several files."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to open a source; the part of a job that the edges need."""

    nodata: float | None = None
    """An added nodata value (`--nodata`)."""
    valid_range: tuple[float, float] | None = None
    """Physical bounds (`--valid-range`)."""
    resolution: float | None = None
    """Ground resolution for scene folders with bands on several grids; None keeps each band's own."""


@dataclass(frozen=True, slots=True)
class ProductVariable:
    """The layers of one filled variable: Zarr arrays (or anything sliced like them) of the working store."""

    variable: Variable
    value: Any
    """(date, band, row, column) in the stored dtype."""
    source: Any
    """uint8, same shape."""
    reason: Any
    """uint16, same shape."""
    standard_error: Any
    """float32, same shape, physical units."""
    members: Any | None = None
    """(member, date, band, row, column) in the stored dtype."""
    quantiles: Any | None = None
    """(quantile, date, band, row, column) float32, physical units."""


@dataclass(frozen=True, slots=True)
class Product:
    """All there is to write."""

    raster: Raster
    """The source, for its grid, tags and everything that is copied."""
    variables: tuple[ProductVariable, ...]
    attributes: Mapping[str, str]
    """`history`, `geodiff_*` facts; no clock times, so equal jobs give equal bytes."""
    source_codes: Mapping[str, int]
    """Names and codes of the source layer (CF flag_values and flag_meanings)."""
    reason_masks: Mapping[str, int]
    """Names and bits of the reason layer (CF flag_masks and flag_meanings)."""
    quantiles: tuple[float, ...] = ()
    zarr_format: int = 3
    earlier: Earlier | None = None
    """The product at the target, when it is extended by dates."""

    def said_over(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """A source's attributes with the product's on top, and the source's own history below the product's."""
        own, history = dict(self.attributes), str(before.get("history") or "")
        if "history" in own and history not in own["history"]:
            own["history"] = f"{own['history']}\n{history}"
        return {**before, **own}


def open_raster(source: str, options: OpenOptions | None = None) -> Raster:
    """Open any source the contract names; raises SourceError with the cure for what cannot be read."""
    from geodiff.io.opening import open_source
    from geodiff.io.places import expanded

    return open_source(expanded(source), options or OpenOptions())


def write_product(product: Product, target: str) -> Sequence[str]:
    """Write the product at `target` (.tif, .zarr, .nc, .png, .xml, a folder ending in /): target last.

    Returns the paths written. Every file appears by rename, complete or not at all.
    """
    from geodiff.io.writing import write

    return write(product, target)


def check_target(raster: Raster, target: str, filled: Sequence[Variable] = (), layers: Sequence[str] = ()) -> None:
    """Raise TargetError, before any work, where `target` is no kind of product or could not hold this source's.

    SourceError where the source has arrays of its own that are called as the `layers` of the variables `filled`.
    """
    from geodiff.io.writing import check_target as check

    check(raster, target, filled, layers)


def read_fingerprint(target: str) -> str | None:
    """The job fingerprint a target carries (`geodiff_fingerprint`), '' for a foreign one, None for nothing there."""
    from geodiff.io.writing import fingerprint

    return fingerprint(target)
