"""What a raster file says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.errors import SourceError
from geodiff.io.addresses import is_remote
from geodiff.io.categories import bands_of_classes
from geodiff.io.directory import GDAL_NODATA, text_of

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

__all__ = ["Header", "header_of"]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself, complete enough to write the same file again with other numbers."""

    path: str
    driver: str
    shape: tuple[int, int]
    """Rows and columns."""
    affine: Affine
    crs: CRS | None
    """As GDAL reads it; never replaced by a code or another datum."""
    dtypes: tuple[str, ...]
    """GDAL's names, `complex_int16` among them."""
    nodata: tuple[float | int | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str, ...]
    descriptions: tuple[str | None, ...]
    colours: tuple[str, ...]
    """Colour interpretation of each band by name."""
    colourmaps: Mapping[int, Mapping[int, tuple[int, int, int, int]]]
    """Colour table by band number, counted from 1."""
    tags: Mapping[str, Mapping[str, str]]
    """Tags by namespace; '' is the default one. `xml:` and `json:` namespaces hold one text under their own name."""
    band_tags: tuple[Mapping[str, Mapping[str, str]], ...]
    bits: tuple[int | None, ...]
    """Bits a pixel where the file stores fewer than its dtype has."""
    gcps: tuple[Any, ...]
    gcp_crs: CRS | None
    rpcs: Any | None
    masks: tuple[frozenset[str], ...]
    """Flags of each band's mask: `per_dataset`, `alpha`, `nodata`, `all_valid`; empty for a mask of the band's own."""
    blocks: tuple[tuple[int, int], ...]
    files: tuple[str, ...]
    images: tuple[str, ...] = ()
    """Names of all images, where the file holds several; the first is the one that is open."""
    classes: frozenset[int] = frozenset()
    """Numbers of the bands, counted from 1, whose numbers have names."""
    lossy: bool = False
    """Whether it was compressed so that its numbers are about right only, as JPEG does."""

    @property
    def count(self) -> int:
        return len(self.dtypes)

    @property
    def alpha(self) -> int | None:
        """Number of the alpha band, counted from 1."""
        return self.colours.index("alpha") + 1 if "alpha" in self.colours else None

    @property
    def dataset_mask(self) -> bool:
        """Whether the file has a mask beside its bands (internal, `.msk`), neither alpha nor nodata.

        A file tagged NODATA_VALUES has a mask that GDAL makes of the numbers of all bands.
        """
        beside = any("per_dataset" in flags and "alpha" not in flags for flags in self.masks)
        return beside and "NODATA_VALUES" not in self.tags.get("", {})


def header_of(path: str, dataset: Any) -> Header:
    """Everything that an open dataset of rasterio's says of itself, without reading a pixel.

    Raises SourceError for a grid that has no rows of one length, as GRIB's thinned ones.
    """
    if min(dataset.shape) < 1:
        raise SourceError(
            f"{path} is {dataset.height} x {dataset.width} pixels to GDAL: its rows have different lengths, as in "
            "thinned (reduced) grids of GRIB; bring it on a regular grid first (cdo setgridtype,regular)"
        )
    numbers = range(1, dataset.count + 1)
    points, points_crs = dataset.gcps
    return Header(
        path=path,
        driver=dataset.driver,
        shape=(dataset.height, dataset.width),
        affine=dataset.transform,
        crs=dataset.crs or None,
        dtypes=tuple(dataset.dtypes),
        nodata=_nodata(path, dataset),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        units=tuple(unit or "" for unit in dataset.units),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        colourmaps={number: table for number in numbers if (table := _colourmap(dataset, number))},
        tags=_tags(dataset, None),
        band_tags=tuple(_tags(dataset, number) for number in numbers),
        bits=tuple(_bits(dataset, number) for number in numbers),
        gcps=tuple(points),
        gcp_crs=points_crs or None,
        rpcs=dataset.rpcs,
        masks=tuple(frozenset(flag.name for flag in flags) for flags in dataset.mask_flag_enums),
        blocks=tuple(dataset.block_shapes),
        files=tuple(dataset.files) or (path,),
        images=tuple(dataset.subdatasets),
        classes=frozenset() if is_remote(path) else bands_of_classes(dataset.files),
        lossy=_lossy(dataset),
    )


def _lossy(dataset: Any) -> bool:
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    told = str(structure.get("COMPRESSION_REVERSIBILITY", "")).startswith("LOSSY")
    return told or structure.get("COMPRESSION", "") in ("JPEG", "YCbCr JPEG") or dataset.driver == "JPEG"


def _nodata(path: str, dataset: Any) -> tuple[float | int | None, ...]:
    """As rasterio says, but for integers of a GeoTIFF: it rounds wide ones and is silent on those that do not fit."""
    found = tuple(_whole(v, name) for v, name in zip(dataset.nodatavals, dataset.dtypes, strict=True))
    integer = all(name.startswith(("int", "uint")) for name in dataset.dtypes)
    if dataset.driver != "GTiff" or not integer or is_remote(path):
        return found
    text = text_of(Path(path), GDAL_NODATA)
    try:
        number = None if text is None else float(text)
    except ValueError:
        return found
    if number is None or (number in found and abs(number) <= 2**53):
        return found
    digits = text is not None and text.strip().lstrip("-").isdigit()
    exact = int(text) if text is not None and digits else int(number) if number.is_integer() else number
    return (exact,) * len(found)


def _whole(nodata: float | None, dtype: str) -> float | int | None:
    """Nodata of integers as an integer; rasterio takes every one for a float."""
    integral = nodata is not None and dtype.startswith(("int", "uint")) and float(nodata).is_integer()
    return int(nodata) if integral and nodata is not None else nodata


def _colourmap(dataset: Any, number: int) -> dict[int, tuple[int, int, int, int]]:
    try:
        return dict(dataset.colormap(number))
    except ValueError:  # "NULL color table": it has none
        return {}


def _bits(dataset: Any, number: int) -> int | None:
    text = dataset.tags(number, ns="IMAGE_STRUCTURE").get("NBITS", "")
    return int(text) if text.isdigit() else None


_STRUCTURE = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "GEOLOCATION", "COLOR_PROFILE", "xml:VRT")
"""Namespaces that describe the file and not its content, or that GDAL writes from other members of the header."""


def _tags(dataset: Any, number: int | None) -> dict[str, dict[str, str]]:
    arguments = () if number is None else (number,)
    found = {"": dict(dataset.tags(*arguments))}
    for name in dataset.tag_namespaces(*arguments):
        if name not in _STRUCTURE:
            found[name] = _whole_text(name, dict(dataset.tags(*arguments, ns=name)))
    return {name: tags for name, tags in found.items() if tags}


def _whole_text(name: str, tags: dict[str, str]) -> dict[str, str]:
    """One text under the namespace's own name where GDAL keeps one; rasterio cuts JSON at its first colon."""
    if not name.startswith("json:") or name in tags:
        return tags
    return {name: ":".join(next(iter(tags.items()), ("", "")))}
