"""The product as GeoTIFFs: what the target and each sidecar hold.

The target has the bands of the source file in the source's order; sidecars have those that were filled or could have
been. Alpha bands and dataset masks are made here: valid exactly where every continuous band is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import OBSERVED, OUTSIDE, UNFILLED
from geodiff.encoding import unpack
from geodiff.errors import TargetError
from geodiff.io import KIND, Band, Kind, Product, ProductVariable, Raster, Variable
from geodiff.io.cog import Content, write_cog
from geodiff.io.gdal import GdalReader, read_header
from geodiff.io.geotiff import control_points
from geodiff.io.header import Header
from geodiff.io.places import arriving
from geodiff.lattice import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io.places import Arrivals
    from geodiff.lattice import Window

__all__ = [
    "Slice",
    "one_file",
    "reader_at",
    "sidecars",
    "slice_of",
    "value_content",
    "write_geotiff",
    "write_layers",
    "write_slice",
]


@dataclass(frozen=True, slots=True)
class Part:
    """One variable of a file: as it was opened, and as it was filled if it was."""

    variable: Variable
    filled: ProductVariable | None
    indexes: tuple[int, ...]
    """Places of its bands in the file, counted from 0."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What goes into one GeoTIFF: some variables on one grid, of one dtype, at one date."""

    parts: tuple[Part, ...]
    date: int
    header: Header | None
    """The source file's own header where the slice is one whole file of GDAL's."""
    product: Product

    @property
    def first(self) -> Variable:
        return self.parts[0].variable

    @property
    def filled(self) -> tuple[ProductVariable, ...]:
        return tuple(part.filled for part in self.parts if part.filled is not None)

    @property
    def bands(self) -> tuple[Band, ...]:
        """In the order of the file."""
        pairs = [pair for part in self.parts for pair in zip(part.indexes, part.variable.bands, strict=True)]
        return tuple(band for _, band in sorted(pairs, key=lambda pair: pair[0]))

    @property
    def place(self) -> Header | None:
        """A file of the same grid, whose CRS and tags need not be spelt anew."""
        reader = reader_at(self.first, self.date)
        reader = getattr(reader, "parts", (reader,))[0]
        return self.header or (read_header(reader.path) if isinstance(reader, GdalReader) else None)


def write_geotiff(product: Product, target: Path) -> list[str]:
    """Write the whole product as one COG and its sidecars; raises TargetError for what one file cannot hold."""
    with arriving() as arrivals:
        return write_slice(slice_of(product, one_file(product.raster, target), 0, target), target, arrivals)


def one_file(raster: Raster, target: Path) -> tuple[Variable, ...]:
    """What goes into one GeoTIFF: everything, but for flags that lie in files of their own beside the bands.

    Raises TargetError where it does not go into one.
    """
    variables = raster.variables
    dates = max(len(variable.dates) for variable in variables)
    if dates > 1:
        raise TargetError(
            f"{target} is one GeoTIFF and the product has {dates} dates; "
            "give a folder (ending in /) for one COG a date, or a .zarr or .nc target"
        )
    if len({getattr(reader_at(variable, 0), "path", variable.name) for variable in variables}) > 1:
        continuous = [v for v in variables if any(band.kind is Kind.CONTINUOUS for band in v.bands)]
        variables = tuple(continuous) or variables
    _refuse_mixed(variables, target)
    return variables


def write_slice(piece: Slice, target: Path, arrivals: Arrivals) -> list[str]:
    """Write the sidecars first, the target itself last, so that a target that is there is whole."""
    written = write_layers(piece, target, arrivals)
    write_cog(value_content(piece), target, arrivals)
    return [*written, str(target)]


def write_layers(piece: Slice, target: Path, arrivals: Arrivals) -> list[str]:
    """Write the sidecars alone; returns their paths."""
    written = []
    for suffix, content in sidecars(piece):
        beside = target.with_name(f"{target.stem}_{suffix}.tif")
        write_cog(content, beside, arrivals)
        written.append(str(beside))
    return written


def slice_of(product: Product, variables: Sequence[Variable], date: int, target: Path) -> Slice:
    """Some variables at one date as one file; raises TargetError where they do not go together."""
    _refuse_mixed(variables, target)
    filled = {done.variable.name: done for done in product.variables}
    header = _shared_header(variables, date)
    parts, start = [], 0
    for variable in variables:
        count = len(variable.bands)
        own = tuple(n - 1 for n in reader_at(variable, date).indexes) if header is not None else ()
        parts.append(Part(variable, filled.get(variable.name), own or tuple(range(start, start + count))))
        start += count
    return Slice(tuple(parts), date, header, product)


def reader_at(variable: Variable, date: int) -> Any:
    """The reader of one date's file, for stacks of files."""
    readers = getattr(variable.reader, "readers", None)
    return readers[date] if readers is not None else variable.reader


def _shared_header(variables: Sequence[Variable], date: int) -> Header | None:
    """The one file that all bands come from, if there is one and they are all of it."""
    readers = [reader_at(variable, date) for variable in variables]
    if not all(isinstance(reader, GdalReader) for reader in readers) or len({reader.path for reader in readers}) != 1:
        return None
    header = read_header(readers[0].path)
    return header if sum(len(reader.indexes) for reader in readers) == header.count else None


def _refuse_mixed(variables: Sequence[Variable], target: Path) -> None:
    grids = {(tuple(v.geobox.shape), tuple(v.geobox.affine), str(v.geobox.crs)) for v in variables}
    dtypes = sorted({str(variable.dtype) for variable in variables})
    nodata = {str(b.encoding.nodata) for v in variables for b in v.bands if b.kind not in (Kind.ALPHA, Kind.COMPLEX)}
    several = {
        "grids": grids,
        f"dtypes ({', '.join(dtypes)})": dtypes,
        f"nodata values ({', '.join(sorted(nodata))})": nodata,
    }
    for what, found in several.items():
        if len(found) > 1:
            names = ", ".join(variable.name for variable in variables)
            raise TargetError(
                f"{target} is one GeoTIFF and {names} have several {what}; "
                "give a folder (ending in /), a .zarr or a .nc target"
            )


# The target


def value_content(piece: Slice) -> Content:
    """The filled numbers with everything the source said of itself."""
    bands, header = piece.bands, piece.header
    opaque = cache(lambda index: _opaque(piece, index))
    return Content(
        shape=(len(bands), *piece.first.shape[2:]),
        dtype=header.dtypes[0] if header else str(piece.first.dtype),
        read=lambda window: _value(piece, window, opaque),
        valid=_mask(piece),
        nodata=_nodata(piece),
        resampling="average" if all(band.kind in (Kind.CONTINUOUS, Kind.ALPHA) for band in bands) else "nearest",
        descriptions=header.descriptions if header else tuple(band.name for band in bands),
        units=header.units if header else tuple(band.units for band in bands),
        scales=header.scales if header else tuple(band.encoding.scale for band in bands),
        offsets=header.offsets if header else tuple(band.encoding.offset for band in bands),
        colours=_colours(piece),
        colourmaps=header.colourmaps if header and header.count == 1 and bands[0].kind is Kind.PALETTE else {},
        bits=1 if header and set(header.bits) == {1} else None,
        tags=_tags(piece),
        band_tags=_band_tags(piece),
        **_ground(piece),
    )


def _band_tags(piece: Slice) -> tuple[Mapping[str, Mapping[str, str]], ...]:
    """The source's tags by band and domain, and where nothing in them says so, that a band holds flags."""
    found = piece.header.band_tags if piece.header else tuple({} for _ in piece.bands)
    if len(found) != len(piece.bands) or all(band.kind is not Kind.FLAGS for band in piece.bands):
        return found
    return tuple(
        {**tags, "": {KIND: str(Kind.FLAGS), **tags.get("", {})}} if band.kind is Kind.FLAGS else tags
        for tags, band in zip(found, piece.bands, strict=True)
    )


def _nodata(piece: Slice) -> float | int | None:
    usable = [band for band in piece.bands if band.kind not in (Kind.ALPHA, Kind.COMPLEX)]
    return next((band.encoding.nodata for band in usable if band.encoding.nodata is not None), None)


def _colours(piece: Slice) -> tuple[str, ...]:
    """Colour interpretation where the source has one to keep, on a finer grid too; else GDAL's own default."""
    header, repeated = piece.header, getattr(reader_at(piece.first, piece.date), "reader", None)
    if header is None and isinstance(repeated, GdalReader) and len(repeated.indexes) == len(piece.bands):
        header = read_header(repeated.path)
    if header is None or len(header.colours) != len(piece.bands):
        return ()
    if set(header.colours) <= {"undefined", "gray"} or header.colours[0] == "palette":
        return ()
    return header.colours


def _ground(piece: Slice) -> dict[str, Any]:
    """Where the pixels lie: the affine, the CRS as the source spells it, GCPs and RPCs."""
    geobox, header = piece.first.geobox, piece.place
    if header is not None and tuple(geobox.shape) == header.shape and geobox.affine == header.affine:
        return {name: getattr(header, name) for name in ("affine", "crs", "gcps", "gcp_crs", "rpcs")}
    if geobox.crs is None and geobox.affine.is_identity:
        return {"affine": geobox.affine, "crs": None, **control_points(piece.product.raster.attributes)}
    from rasterio.crs import CRS

    return {"affine": geobox.affine, "crs": None if geobox.crs is None else CRS.from_wkt(geobox.crs.to_wkt())}


def _tags(piece: Slice) -> dict[str, dict[str, str]]:
    """The source's tags, and on top of them what geodiff says of the product."""
    header = piece.header
    if header is not None:
        tags = {namespace: dict(values) for namespace, values in header.tags.items()}
    else:
        said = piece.product.raster.attributes.items()
        attributes = {key: str(value) for key, value in said if not key.startswith(("gcps", "RPC:"))}
        tags = {"": {**attributes, **_pixel_tag(piece)}}
    return {**tags, "": {**piece.product.said_over(tags.get("", {})), **_time(piece)}}


def _time(piece: Slice) -> dict[str, str]:
    when = piece.first.dates[piece.date]
    return {} if when is None else {"time": str(when.astype("datetime64[s]"))}


def _pixel_tag(piece: Slice) -> dict[str, str]:
    """Whether coordinates mean pixel corners or centres, as in the source."""
    header = piece.place
    found = None if header is None else header.tags.get("", {}).get("AREA_OR_POINT")
    return {"AREA_OR_POINT": found} if found else {}


def _value(piece: Slice, window: Window, opaque: Callable[[int], float]) -> NDArray[Any]:
    values = np.empty((len(piece.bands), *window.shape), piece.first.dtype)
    for part in piece.parts:
        values[list(part.indexes)] = _part_value(part, piece.date, window)
    for index, band in enumerate(piece.bands):
        if band.kind is Kind.ALPHA:
            values[index] = _alpha(values[index], _complete(piece, window), opaque(index))
    return values


def _part_value(part: Part, date: int, window: Window) -> NDArray[Any]:
    if part.filled is None:
        return part.variable.reader.read(date, window)
    return np.asarray(part.filled.value[(date, slice(None), *window.slices)])


def _alpha(alpha: NDArray[Any], complete: NDArray[np.bool_], opaque: float) -> NDArray[Any]:
    """Opaque where it was transparent and every band is valid now; known pixels keep how opaque they were."""
    return np.where(complete, np.where(alpha != 0, alpha, alpha.dtype.type(opaque)), alpha.dtype.type(0))


def _opaque(piece: Slice, index: int) -> float:
    """What is fully opaque in a band of alpha, which need not be the greatest number that its dtype holds.

    Wide integers and floats may have it in 0 to 255 as well: it is the least of what is usual that no pixel exceeds.
    """
    dtype, bits = piece.first.dtype, piece.header.bits[index] if piece.header else None
    if bits:
        return (1 << bits) - 1
    floating = dtype.kind == "f"
    most = 65535.0 if floating else int(np.iinfo(dtype).max)
    less = (1.0, 255.0) if floating else (255,)
    if most <= less[-1]:
        return most
    greatest = _greatest(piece, index, less[-1])
    if greatest == 0:  # all of it is transparent
        return less[0] if floating else most
    return next((number for number in less if greatest <= number), most)


def _greatest(piece: Slice, index: int, enough: float) -> float:
    """The greatest number of one band of the source, or the first found that is more than `enough`."""
    part = next(part for part in piece.parts if index in part.indexes)
    greatest, place = 0.0, part.indexes.index(index)
    for window in blocks(piece.first.shape[2:], 1024):
        greatest = max(greatest, float(part.variable.reader.read(piece.date, window)[place].max()))
        if greatest > enough:
            break
    return greatest


def _mask(piece: Slice) -> Callable[[Window], NDArray[np.bool_]] | None:
    """A dataset mask where the source has one beside its bands."""
    readers = [reader_at(part.variable, piece.date) for part in piece.parts]
    masked = any(getattr(reader, "mask", "") in ("dataset", "band") for reader in readers)
    return (lambda window: _complete(piece, window)) if masked else None


def _complete(piece: Slice, window: Window) -> NDArray[np.bool_]:
    """(row, column), True where every continuous band is valid, known or filled."""
    complete = [_part_complete(part, piece.date, window) for part in piece.parts]
    return np.asarray(np.logical_and.reduce(complete), bool)


def _part_complete(part: Part, date: int, window: Window) -> NDArray[np.bool_]:
    continuous = [i for i, band in enumerate(part.variable.bands) if band.kind is Kind.CONTINUOUS]
    if part.filled is not None:
        source = np.asarray(part.filled.source[(date, slice(None), *window.slices)])[continuous]
        return np.asarray((source < OUTSIDE).all(axis=0))  # from there on pixels stay missing
    stored = part.variable.reader.read(date, window)
    valid = part.variable.reader.valid(date, window)
    complete: NDArray[np.bool_] = np.ones(window.shape, bool) if valid is None else valid
    for i in continuous:
        complete = complete & unpack(stored[i], part.variable.bands[i].encoding)[1]
    return complete


# The sidecars


def sidecars(piece: Slice) -> list[tuple[str, Content]]:
    """Suffixes and contents of the files beside the target; none where nothing was filled."""
    if not piece.filled:
        return []
    found = [
        ("source", _sidecar(piece, "source", "uint8", _flag_values(piece.product.source_codes), "mode")),
        ("reason", _sidecar(piece, "reason", "uint16", _flag_masks(piece.product.reason_masks), "nearest")),
        ("standard_error", _sidecar(piece, "standard_error", "float32", {}, "average")),
    ]
    if all(done.members is not None for done in piece.filled):
        found.append(("members", _many(piece, "members")))
    if piece.product.quantiles and all(done.quantiles is not None for done in piece.filled):
        found.append(("quantiles", _many(piece, "quantiles")))
    return found


def _flag_values(codes: Mapping[str, int]) -> dict[str, str]:
    """CF flag_values and flag_meanings (CF 1.11, section 3.5)."""
    names = {OBSERVED: "observed", OUTSIDE: "outside", UNFILLED: "unfilled"} | {c: name for name, c in codes.items()}
    values = sorted(names)
    return {"flag_values": ", ".join(map(str, values)), "flag_meanings": _meanings(names[value] for value in values)}


def _flag_masks(masks: Mapping[str, int]) -> dict[str, str]:
    pairs = sorted(masks.items(), key=lambda pair: pair[1])
    return {"flag_masks": ", ".join(str(c) for _, c in pairs), "flag_meanings": _meanings(name for name, _ in pairs)}


def _meanings(names: Iterable[str]) -> str:
    """Blank-separated, so a name has none of its own."""
    return " ".join(name.replace(" ", "_") for name in names)


def _shown(done: ProductVariable) -> list[int]:
    """Bands that sidecars describe: all but alpha, which is no variable."""
    return [i for i, band in enumerate(done.variable.bands) if band.kind is not Kind.ALPHA]


def _bands_shown(piece: Slice) -> list[Band]:
    return [done.variable.bands[i] for done in piece.filled for i in _shown(done)]


def _sidecar(piece: Slice, layer: str, dtype: str, flags: Mapping[str, str], resampling: str) -> Content:
    bands = _bands_shown(piece)
    physical = layer == "standard_error"

    def read(window: Window) -> NDArray[Any]:
        cut = (piece.date, slice(None), *window.slices)
        return np.concatenate([np.asarray(getattr(done, layer)[cut])[_shown(done)] for done in piece.filled])

    return Content(
        shape=(len(bands), *piece.first.shape[2:]),
        dtype=dtype,
        read=read,
        nodata=float("nan") if physical else None,
        resampling=resampling,
        descriptions=tuple(f"{band.name} {layer.replace('_', ' ')}" for band in bands),
        units=tuple(band.units if physical else "" for band in bands),
        tags=_layer_tags(piece, layer, flags),
        band_tags=tuple({"": dict(flags)} for _ in bands) if flags else (),
        **_ground(piece),
    )


def _many(piece: Slice, layer: str) -> Content:
    """Members or quantiles: all bands of the first one, then all of the second, and so on."""
    bands = _bands_shown(piece)
    count = int(getattr(piece.filled[0], layer).shape[0])
    stored = layer == "members"
    names = [f"member {n}" for n in range(count)] if stored else [f"quantile {q:g}" for q in piece.product.quantiles]

    def read(window: Window) -> NDArray[Any]:
        cut = (slice(None), piece.date, slice(None), *window.slices)
        found = [np.asarray(getattr(done, layer)[cut])[:, _shown(done)] for done in piece.filled]
        return np.concatenate(found, axis=1).reshape(-1, *window.shape)

    return Content(
        shape=(count * len(bands), *piece.first.shape[2:]),
        dtype=value_content(piece).dtype if stored else "float32",
        read=read,
        nodata=_nodata(piece) if stored else float("nan"),
        resampling="average",
        descriptions=tuple(f"{band.name} {name}" for name in names for band in bands),
        units=tuple(band.units for band in bands) * count,
        scales=tuple(band.encoding.scale for band in bands) * count if stored else (),
        offsets=tuple(band.encoding.offset for band in bands) * count if stored else (),
        tags=_layer_tags(piece, layer, {}),
        **_ground(piece),
    )


def _layer_tags(piece: Slice, layer: str, flags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"": {**piece.product.attributes, **_pixel_tag(piece), **_time(piece), "layer": layer, **flags}}
