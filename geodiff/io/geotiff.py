"""A raster that GDAL opens, as geodiff sees it: kinds of bands, their encodings, variables by dtype, quality bands.

GeoTIFF is the common case and gives the module its name; writing is in `cog`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import Encoding
from geodiff.errors import EncodingError, SourceError
from geodiff.flags import ProductFacts, matches
from geodiff.io import KIND, Band, Kind, OpenOptions, QualityBand, Raster, Variable
from geodiff.io.addresses import gdal_path
from geodiff.io.gdal import GdalReader, read_header
from geodiff.io.header import Header
from geodiff.io.mosaic import refuse_mosaic
from geodiff.io.planetary import DRIVERS as PLANETARY
from geodiff.io.planetary import UNBOUNDED, Missing, missing_values
from geodiff.lattice import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["NAME", "band_of", "control_points", "finer_points", "geobox_of", "open_geotiff", "variable_of"]

logger = logging.getLogger(__name__)

NAME = "band_data"
"""What the numbers of a file that has no name for them are called; rioxarray's word."""

_COMPLEX = {"complex_int16": "complex64", "complex_int32": "complex128"}


def open_geotiff(path: str, options: OpenOptions) -> Raster:
    """Open any raster of GDAL's, lazily.

    Bands of one dtype make one variable; alpha bands stay in it and count as its mask.

    Raises
    ------
    SourceError, EncodingError
        For what cannot be opened, or whose tags contradict its dtype.
    """
    header = read_header(gdal_path(path))
    refuse_mosaic(header)
    if header.driver == "GTiff" and len(header.images) > 1:
        several, following = len(header.images), header.images[1]
        logger.warning("%s holds %d images; the first is read, the next is called %s", path, several, following)
    names = band_names(header)
    quality = _quality(header, names)
    if header.driver == "GRIB":
        from geodiff.io.grib import grib_variables

        variables = grib_variables(header, options)
    else:
        flags = {q.variable.name for q in quality} | _flags_as_floats(header, names)
        variables = tuple(_variables(header, names, flags, options))
    if header.lossy:
        for number in sorted({n for variable in variables for band in variable.bands for n in _smeared(band)}):
            _say_smeared(path.rpartition("/")[0], "JPEG" if header.driver == "GTiff" else header.driver, number)
    if header.alpha is not None and not header.lossy and _is_grey(header, header.alpha):
        colours = ",".join(header.colours).replace("alpha", "undefined")
        _say_grey(path.rpartition("/")[0], names[header.alpha - 1], colours)
    return Raster(
        path=path,
        driver=header.driver,
        variables=variables,
        quality=tuple(quality) or _special(header, variables),
        attributes=dataset_attributes(header),
        files=header.files,
    )


def _smeared(band: Band) -> list[float]:
    """Numbers of 8 bits that mean missing, where nothing else says which numbers are good."""
    encoding = band.encoding
    if encoding.dtype != np.uint8 or encoding.valid_range is not None:
        return []
    return [float(number) for number in (encoding.nodata, *encoding.extra_nodata) if number is not None]


@cache  # once for a folder: a stack has many such files, and each is opened several times
def _say_smeared(_folder: str, compression: str, number: float) -> None:
    logger.warning(
        "%s compression smears nodata (%g) into the pixels beside it, which are then neither nodata nor ground, but "
        "count as known; exclude them with --valid-range %s --buffer 2, or give a --mask",
        compression, number, "16,255" if number < 128 else "0,239",
    )  # fmt: skip


def _is_grey(header: Header, number: int) -> bool:
    """Whether most of what alpha does not hide, at five places, is half transparent in many degrees."""
    rows, columns = header.shape
    height, width = min(rows, 64), min(columns, 64)
    reader, places = GdalReader(header.path, (number,)), ((1, 1), (1, 3), (2, 2), (3, 1), (3, 3))
    windows = [Window((rows - height) * i // 4, (columns - width) * j // 4, height, width) for i, j in places]
    opaque = np.concatenate([reader.read(0, window).ravel() for window in windows])
    opaque = opaque[opaque > 0]
    return bool(opaque.size) and np.unique(opaque).size > 16 and bool((opaque < opaque.max()).mean() > 0.5)


@cache
def _say_grey(_folder: str, band: str, colours: str) -> None:
    logger.warning(
        "%s is tagged as alpha, as programs tag a fourth band by default, but its many values look like a measurement "
        "such as infrared. An alpha band is not filled, but set to opaque where the others are filled; if it is a "
        "measurement, correct the tag first: rio edit-info --colorinterp %s FILE", band, colours,
    )  # fmt: skip


def band_names(header: Header) -> list[str]:
    """Descriptions where the file has them, `band_N` where not; each once."""
    names: list[str] = []
    taken: set[str] = set()  # of tens of thousands of bands, as a VRT of many dates has them
    for number, text in enumerate(header.descriptions, 1):
        name = (text or "").strip() or f"band_{number}"
        names.append(name if name not in taken else f"{name}_{number}")
        taken.add(names[-1])
    return names


def _variables(header: Header, names: Sequence[str], flags: set[str], options: OpenOptions) -> Iterator[Variable]:
    groups = _groups(header)
    for indexes in groups:
        bands = tuple(_flagged(band_of(header, i, names[i], options), flags) for i in indexes)
        yield variable_of(header, _variable_name(header, names, indexes, len(groups)), indexes, bands)


def _flagged(band: Band, flags: set[str]) -> Band:
    return replace(band, kind=Kind.FLAGS) if band.name in flags else band


def _groups(header: Header) -> list[tuple[int, ...]]:
    """Bands (from 0) that go together: of one dtype and nodata, and of one mask where each band has its own."""
    keys: dict[Any, list[int]] = {}
    for index, dtype in enumerate(header.dtypes):
        own = index if _own_mask(header, index) else -1
        keys.setdefault((dtype, str(header.nodata[index]), own), []).append(index)
    groups = list(keys.values())
    for alone in [group for group in groups if header.alpha is not None and group == [header.alpha - 1]]:
        together = next((g for g in groups if g is not alone and header.dtypes[g[0]] == header.dtypes[alone[0]]), None)
        if together is not None:  # alpha has no nodata and belongs to its colours
            together += alone
            groups.remove(alone)
    return [tuple(group) for group in groups]


def _own_mask(header: Header, index: int) -> bool:
    """A mask of the band alone; planetary drivers make one of the special pixels, which are decoded as such."""
    return not header.masks[index] and header.driver not in PLANETARY and header.count > 1


def _variable_name(header: Header, names: Sequence[str], indexes: Sequence[int], groups: int) -> str:
    if len(indexes) == 1 and (header.descriptions[indexes[0]] or groups > 1):
        return names[indexes[0]].replace("/", "_")
    if groups == 1:
        return NAME
    dtypes = {dtype for i, dtype in enumerate(header.dtypes) if i not in indexes}
    name = f"{NAME}_{header.dtypes[indexes[0]]}"
    return name if header.dtypes[indexes[0]] not in dtypes else f"{name}_{indexes[0] + 1}"


def variable_of(header: Header, name: str, indexes: Sequence[int], bands: tuple[Band, ...]) -> Variable:
    """Some bands (from 0) of a file as one variable."""
    dtype = header.dtypes[indexes[0]]
    numbers = tuple(index + 1 for index in indexes)
    reader = GdalReader(header.path, numbers, mask_of(header, indexes), _COMPLEX.get(dtype))
    attributes = {"units": bands[0].units} if len(bands) == 1 and bands[0].units else {}
    return Variable(name, bands, geobox_of(header), reader, chunk=_chunk(header), attributes=attributes)


def mask_of(header: Header, indexes: Sequence[int]) -> str:
    """Where a reader finds validity: the alpha band, the dataset's mask, its numbers together, the band's own mask."""
    if header.alpha:
        return f"alpha:{header.alpha}"
    if header.dataset_mask:
        return "dataset"
    if "NODATA_VALUES" in header.tags.get("", {}):
        return "numbers"
    return "band" if not header.masks[indexes[0]] and header.driver not in PLANETARY else ""


def geobox_of(header: Header) -> GeoBox:
    """The grid exactly as the file has it.

    Raises SourceError for a CRS that PROJ cannot express.
    """
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

    try:
        crs = None if header.crs is None else CRS(header.crs.to_wkt(version="WKT2_2019"))
    except (ValueError, RuntimeError) as error:
        said = f"{header.path} has a CRS that PROJ does not know ({str(error).splitlines()[0]})"
        raise SourceError(f"{said}; repair it with gdal_edit.py -a_srs") from error
    return GeoBox(header.shape, header.affine, crs)


def _chunk(header: Header) -> tuple[int, int]:
    """Whole blocks of the file, at least 256 pixels and at most 1024 each way."""
    rows, columns = header.blocks[0]
    return tuple(min(max(256 // n, 1) * n, 1024) for n in (rows, columns))  # type: ignore[return-value]


def band_of(header: Header, index: int, name: str, options: OpenOptions) -> Band:
    """One band (from 0): its kind, and how its numbers are stored."""
    kind = kind_of(header, index)
    units = header.units[index] or header.band_tags[index].get("", {}).get("GRIB_UNIT", "").strip("[]")
    return Band(name, encoding_of(header, index, kind, options), kind, units)


def kind_of(header: Header, index: int) -> Kind:
    """What the numbers mean, by what the file says of them."""
    if header.dtypes[index].startswith("complex"):
        return Kind.COMPLEX
    if header.colours[index] == "alpha":
        return Kind.ALPHA
    if header.bits[index] == 1:
        return Kind.BOOLEAN  # GDAL gives every bit a palette of black and white
    if header.colours[index] == "palette" or index + 1 in header.colourmaps:
        return Kind.PALETTE
    own = header.band_tags[index].get("", {})
    if own.get(KIND) == Kind.FLAGS or own.get("LAYER_TYPE") == "thematic" or index + 1 in header.classes:
        return Kind.FLAGS
    return Kind.FLAGS if "flag_meanings" in own and ("flag_values" in own or "flag_masks" in own) else Kind.CONTINUOUS


def encoding_of(header: Header, index: int, kind: Kind, options: OpenOptions) -> Encoding:
    """Dtype, nodata, scale and offset of one band, and what the options add to a continuous one."""
    dtype = np.dtype(_COMPLEX.get(header.dtypes[index], header.dtypes[index]))
    missing = missing_values(header, index) if header.driver in PLANETARY else Missing(header.nodata[index])
    if kind is not Kind.CONTINUOUS:
        return Encoding(dtype, missing.nodata if kind is not Kind.COMPLEX and _fits(missing.nodata, dtype) else None)
    nodata = missing.nodata
    # what looks at all bands comes last: it is asked for each band, and there may be tens of thousands
    if not _fits(nodata, dtype) and (options.nodata is not None or header.alpha is not None or header.dataset_mask):
        nodata = None  # the tag can never match, and what is missing is told otherwise
    added = () if options.nodata is None else (options.nodata,)  # for the bands that can have it
    extra = tuple(dict.fromkeys((*missing.extra, *added)))
    scale, offset = header.scales[index], header.offsets[index]
    low, high = sorted(bound * scale + offset for bound in missing.bounds)
    valid = options.valid_range or ((low, high) if missing.bounds != UNBOUNDED else None)
    try:
        return Encoding(dtype, nodata, scale, offset, valid, extra)
    except EncodingError as error:
        raise EncodingError(f"{header.path}, band {index + 1}: {error}") from error


def _fits(value: float | None, dtype: np.dtype[Any]) -> bool:
    try:
        Encoding(dtype, value)
    except EncodingError:
        return False
    return True


def _quality(header: Header, names: Sequence[str]) -> list[QualityBand]:
    """Quality bands among the file's bands, and the file itself where it is one."""
    integers = [i for i, dtype in enumerate(header.dtypes) if dtype.startswith(("int", "uint"))]
    own = {names[i]: header.band_tags[i].get("", {}) for i in integers}
    facts = ProductFacts(files=(Path(header.path).name,), bands=own)
    found: dict[str, QualityBand] = {}
    for match in matches(facts):
        index = names.index(match.band) if match.band in own else 0
        name = names[index]
        if name not in found and name in own:
            band = replace(band_of(header, index, name, OpenOptions()), kind=Kind.FLAGS)
            found[name] = QualityBand(variable_of(header, name, (index,), (band,)), match.preset, layer=match.layer)
    return list(found.values())


def _flags_as_floats(header: Header, names: Sequence[str]) -> set[str]:
    """Bands of floats with the name of known quality bands: exports of one dtype for all bands hold them so.

    They are copied; with NaN among them they can explain nothing by themselves.
    """
    floats = [name for name, dtype in zip(names, header.dtypes, strict=True) if dtype.startswith("float")]
    return {name for name in floats if matches(ProductFacts(files=(Path(header.path).name,), bands={name: {}}))}


def _special(header: Header, variables: Sequence[Variable]) -> tuple[QualityBand, ...]:
    """Planetary images are their own quality bands: their special numbers say why."""
    if header.driver not in PLANETARY:
        return ()
    found = []
    for variable in variables:
        missing = missing_values(header, variable.reader.indexes[0] - 1)  # type: ignore[attr-defined]
        if missing.preset:
            found.append(QualityBand(variable, missing.preset, (variable.name,), constants=missing.constants))
    return tuple(found)


def dataset_attributes(header: Header) -> dict[str, str]:
    """What a file says of itself, for formats without namespaces.

    Tags are `name` or `NAMESPACE:name`, labels stand under their own name; ground control points are GeoJSON in `gcps`
    with their CRS in `gcps_crs` (rioxarray's convention), rational polynomials are GDAL's `RPC:` items.
    """
    flat: dict[str, str] = {}
    for namespace, tags in header.tags.items():
        for key, value in tags.items():
            flat[key if not namespace or key == namespace else f"{namespace}:{key}"] = value
    if header.gcps:
        flat["gcps"] = _geojson(header)
    if header.gcps and header.gcp_crs is not None:
        flat["gcps_crs"] = header.gcp_crs.to_wkt(version="WKT2_2019")
    if header.rpcs is not None:
        flat |= {f"RPC:{key}": str(value) for key, value in header.rpcs.to_gdal().items()}
    return flat


def control_points(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `dataset_attributes` says of ground control points and rational polynomials, as rasterio takes it."""
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.rpc import RPC

    found: dict[str, Any] = {}
    if "gcps" in attributes:
        features = json.loads(attributes["gcps"])["features"]
        places = [(f["properties"], f["geometry"]["coordinates"]) for f in features]
        found["gcps"] = tuple(GroundControlPoint(said["row"], said["col"], *place) for said, place in places)
        found["gcp_crs"] = CRS.from_wkt(attributes["gcps_crs"]) if "gcps_crs" in attributes else None
    polynomials = {key.removeprefix("RPC:"): value for key, value in attributes.items() if key.startswith("RPC:")}
    return found | ({"rpcs": RPC.from_gdal(polynomials)} if polynomials else {})


def finer_points(attributes: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """The same where every pixel was divided: control points count from corners of pixels, polynomials from middles."""
    finer = dict(attributes)
    if "gcps" in finer:
        collection = json.loads(finer["gcps"])
        for feature in collection["features"]:
            feature["properties"] |= {name: factor * feature["properties"][name] for name in ("row", "col")}
        finer["gcps"] = json.dumps(collection)
    for axis in ("LINE", "SAMP"):
        if f"RPC:{axis}_OFF" in finer:
            finer[f"RPC:{axis}_OFF"] = str((float(finer[f"RPC:{axis}_OFF"]) + 0.5) * factor - 0.5)
            finer[f"RPC:{axis}_SCALE"] = str(float(finer[f"RPC:{axis}_SCALE"]) * factor)
    return finer


def _geojson(header: Header) -> str:
    def feature(point: Any) -> dict[str, Any]:
        place = [point.x, point.y, *([] if point.z is None else [point.z])]
        properties = {"id": point.id, "info": point.info or "", "row": point.row, "col": point.col}
        return {"type": "Feature", "properties": properties, "geometry": {"type": "Point", "coordinates": place}}

    return json.dumps({"type": "FeatureCollection", "features": [feature(point) for point in header.gcps]})
