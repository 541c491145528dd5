"""A CF dataset, or one that only half follows CF, as a `Raster`: what is stored, where it lies, what it means.

Attributes are read as the file has them (xarray decodes nothing), so that one place, here, decides what a number means
and what is copied is copied verbatim.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import Encoding
from geodiff.errors import EncodingError, SourceError
from geodiff.gaps import Reason
from geodiff.io import KIND, Band, Kind, OpenOptions, QualityBand, Raster, Variable
from geodiff.io.axes import coordinate_of, curvilinear, layout_of, role, scattered, spatial, upright
from geodiff.io.calendars import Date, dates_after, dates_of
from geodiff.io.cube import CubeReader, Layout, MemorySource, Source, native, pick
from geodiff.io.grids import goes_around, grid_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["open_dataset_as_raster", "tell_of_others"]

logger = logging.getLogger(__name__)

GRID_NOTE = "geodiff_grid"
"""Attribute that says why a variable is kept in index space."""

_FLAG_NAMES = ("status_flag", "quality_flag", "area_type", "land_binary_mask", "sea_binary_mask", "region")
_CALLED_FLAGS = re.compile(
    r"(^|[_\W])(qa|qc|dqf?|qf\d?|flags?|qual(ity)?|mask|class(es|ification)?|reliability|state_\d+k?m)([_\W\d]|$)"
)
"""Words in the names of flags and classes that no attribute says to be such, as in HDF files of NASA's."""
_CODES = "cf-codes"
_ELSEWHERE = re.compile(r"(^|_)(land|coast(line|al)?|shore(line)?|lakes?|rivers?|water|ocean|sea)(_|$)")
_LAND_WORDS = ("land", "land_mask", "is_land", "on_land", "over_land", "continent", "continental_ice_snow")
"""Meanings of flags that say land of a whole pixel; `land_spill_over` and the like do not."""
_UNSEEN = re.compile(r"cloud|missing|fill|no_?data")
"""Meanings of codes beside numbers: where there is no such quantity at all, though not where it was only not seen."""
_OFFSETS = re.compile(r"(\w+_)?dtime")
"""Names of times of observation that are counted from the file's own, as GHRSST has them."""
_NO_UNITS = re.compile(r"|1|none|n/?a|-+|unitless|dimensionless|.*\b(bits?|flags?|class(es)?|bit_?field)\b.*")
_CHUNK = 256


def open_dataset_as_raster(
    dataset: xr.Dataset,
    *,
    path: str = "",
    driver: str = "xarray",
    options: OpenOptions | None = None,
    source: Source | None = None,
    files: Sequence[str] = (),
) -> Raster:
    """Every spatial variable of a dataset as (date, band, row, column).

    Parameters
    ----------
    dataset : with stored numbers (`mask_and_scale=False`) or, for one at hand in memory, decoded ones.
    source : where readers find the dataset again; default the dataset itself.

    Raises
    ------
    SourceError
        When no variable has rows and columns.
    """
    options, source = options or OpenOptions(), source or MemorySource(dataset)
    layouts = spatial(dataset)
    dots = next((name for name in layouts if not name.strip(".")), None)
    if dots is not None:
        raise SourceError(f"{path or 'the dataset'} has a variable called {dots!r}, which no store can hold; rename it")
    variables = tuple(_variable(dataset, name, layout, options, source) for name, layout in layouts.items())
    if not variables:
        held = ", ".join(f"{name}({', '.join(map(str, v.dims))})" for name, v in list(dataset.variables.items())[:8])
        listed = ", ".join(sorted(scattered(dataset)))
        cure = (
            f"points and cells that are listed one by one ({listed}) lie in no rows and columns: bring them to a grid "
            "first (cdo remapcon, xesmf)"
            if listed
            else "name its dimensions y and x (or lat and lon), or give them coordinates with a standard_name"
        )
        raise SourceError(
            f"{path or 'the dataset'} holds no numeric variable with rows and columns (it holds {held or 'nothing'}); "
            f"{cure}"
        )
    _tell_notes(variables)
    quality = (*_quality(variables, path, driver), *_places(dataset, variables, source))
    return Raster(path, driver, variables, quality, dict(dataset.attrs), tuple(files))


def tell_of_others(path: str, chosen: str, groups: Sequence[str]) -> None:
    """Say which groups with arrays of rows are not looked at, beside the chosen one."""
    others = [name or "the root" for name in groups if name != chosen]
    if others:
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        logger.warning(
            "%s: %s alone is read; %s%s are left out of what is filled and written (ncks -g, or xarray's group=, takes "
            "them apart)", path, f"the group {chosen}" if chosen else "the root group", ", ".join(others[:4]), more,
        )  # fmt: skip


def _tell_notes(variables: Sequence[Variable]) -> None:
    """One line for all variables that are kept in index space for one reason."""
    named: dict[str, list[str]] = {}
    for variable in variables:
        if GRID_NOTE in variable.attributes:
            named.setdefault(variable.attributes[GRID_NOTE], []).append(variable.name)
    for note, names in named.items():
        shown = ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        logger.info("%s: %s", shown, note)


def _variable(dataset: xr.Dataset, name: str, layout: Layout, options: OpenOptions, source: Source) -> Variable:
    stored = dataset.variables[name]
    encoding, kind = encoding_of(stored, options), kind_of(stored, name)
    geobox, note = grid_of(dataset, stored, layout)
    attributes = {**stored.attrs, **({GRID_NOTE: note} if note else {})}
    units = str(pick(stored, "units", ""))
    bands = tuple(Band(label, encoding, kind, units) for label in _band_names(dataset, name, layout))
    reader = CubeReader(source, name, layout, encoding.dtype)
    levels = any(upright(dim, coordinate_of(dataset, stored, dim)) for dim in layout.extras)
    dates = _dates(dataset, stored, layout)
    around = geobox.crs is None and goes_around(dataset, stored, layout)  # an affine in degrees tells by itself
    return Variable(
        name, bands, geobox, reader, dates, _chunk(stored, layout), attributes, levels=levels, around=around
    )


# -- what numbers mean


def kind_of(variable: xr.Variable, name: str = "") -> Kind:
    """Flags, booleans, complex numbers and times of observation are never estimated; the rest is continuous.

    Whole numbers without units that are called flags, quality or classes are such.
    """
    attributes = variable.attrs
    if variable.dtype.kind == "c":
        return Kind.COMPLEX
    if variable.dtype.kind == "b" or attributes.get("dtype") == "bool":
        return Kind.BOOLEAN
    names = str(attributes.get("standard_name", "")).split()
    flagged = any(key in attributes for key in ("flag_values", "flag_masks", "flag_meanings"))
    flagged = (flagged and not _measures(attributes)) or attributes.get(KIND) == Kind.FLAGS
    timed = " since " in str(attributes.get("units", "")) or bool(_OFFSETS.fullmatch(name.lower()))
    codes = flagged or _called_flags(variable, name) or any(word in _FLAG_NAMES for word in names)
    return Kind.FLAGS if codes or timed else Kind.CONTINUOUS


def _called_flags(variable: xr.Variable, name: str) -> bool:
    """Whether a variable of whole numbers, neither scaled nor measured in anything, has the name of flags."""
    scaled = _number(variable.attrs.get("scale_factor"), 1.0), _number(variable.attrs.get("add_offset"), 0.0)
    units = str(pick(variable, "units", "")).strip().lower()
    whole = variable.dtype.kind in "iu" and scaled == (1.0, 0.0) and _NO_UNITS.fullmatch(units)
    return bool(whole and _CALLED_FLAGS.search(name.lower()))


def _measures(attributes: Mapping[str, Any]) -> bool:
    """Whether flags only stand beside numbers, beyond the valid range: land, coast and pole hole of sea ice (NSIDC)."""
    both = attributes.get("valid_range", [attributes.get("valid_min"), attributes.get("valid_max")])
    low, high = (_number(end, np.nan) for end in both) if np.size(both) == 2 else (np.nan, np.nan)
    codes = [_number(code, np.nan) for code in np.ravel(attributes.get("flag_values", []))]
    told = bool(codes) and low < high and "flag_masks" not in attributes
    return told and all(code < low or code > high for code in codes)


def encoding_of(variable: xr.Variable, options: OpenOptions) -> Encoding:
    """How a variable is stored: `_FillValue`, `missing_value`, `scale_factor`, `add_offset`, `valid_*`, `_Unsigned`."""
    attributes, dtype = variable.attrs, _meant_dtype(variable)
    scale, offset = (
        _number(attributes.get(key), default) for key, default in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    if scale == 0 or not np.isfinite([scale, offset]).all():
        raise EncodingError(
            f"scale_factor {scale} and add_offset {offset} give no physical values; repair the attributes"
        )
    markers = [_stored(value, variable.dtype, dtype) for value in _marked(attributes)]
    extra = [value for value in markers[1:] if value is not None] + (
        [options.nodata] if options.nodata is not None else []
    )
    valid = options.valid_range or _valid_range(attributes, variable.dtype, dtype, scale, offset)
    nodata = markers[0] if markers else None
    undefined = _undefined(attributes, variable.dtype, dtype) if _measures(attributes) else ()
    return Encoding(dtype, nodata, scale, offset, valid, tuple(extra), undefined)


def _undefined(attributes: Mapping[str, Any], stored: np.dtype[Any], meant: np.dtype[Any]) -> tuple[float, ...]:
    """The codes beside numbers, as stored, that say that there is none: land and coast among sea ice."""
    codes, words = np.ravel(attributes["flag_values"]), str(attributes.get("flag_meanings", "")).lower().split()
    elsewhere = [_ELSEWHERE.search(word) and not _UNSEEN.search(word) for word in words]
    found = [_stored(code, stored, meant) for code, there in zip(codes, elsewhere, strict=False) if there]
    return tuple(code for code in found if code is not None)


def _meant_dtype(variable: xr.Variable) -> np.dtype[Any]:
    """The dtype with the sign that `_Unsigned` gives it."""
    dtype = variable.dtype.newbyteorder("=")
    unsigned = str(variable.attrs.get("_Unsigned", "")).lower()
    if unsigned == "true" and dtype.kind == "i":
        return np.dtype(f"u{dtype.itemsize}")
    return np.dtype(f"i{dtype.itemsize}") if unsigned == "false" and dtype.kind == "u" else dtype


def _marked(attributes: Mapping[str, Any]) -> list[Any]:
    """Missing markers, `_FillValue` first, each once; text is none."""
    values = [value for key in ("_FillValue", "missing_value") for value in np.ravel(attributes.get(key, []))]
    numbers = [value for value in values if isinstance(value, np.number)]
    return list({repr(value.item()): value for value in reversed(numbers)}.values())[::-1]


def _stored(value: Any, stored: np.dtype[Any], meant: np.dtype[Any]) -> float | int | None:
    """A marker as the stored dtype has it; None when no pixel could carry it (a foreign default fill, mostly)."""
    if stored.kind == "c":
        return None
    if stored.kind == "f":
        with np.errstate(over="ignore"):
            return float(stored.type(value))
    if not np.isfinite(value) or int(value) != value:
        return None
    number, bits = int(value), 8 * meant.itemsize
    if meant != stored and stored.kind in "iu":  # the same bits with the other sign
        number = number % 2**bits if meant.kind == "u" else (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    if meant.kind == "b":
        return None
    limits = np.iinfo(meant)
    return number if limits.min <= number <= limits.max else None


def _valid_range(
    attributes: Mapping[str, Any], stored: np.dtype[Any], meant: np.dtype[Any], scale: float, offset: float
) -> tuple[float, float] | None:
    """Physical bounds. CF gives them in packed units; floating ones of packed integers are physical already (NUG)."""
    both = [*np.ravel(attributes.get("valid_range", []))]
    low, high = both if len(both) == 2 else (attributes.get("valid_min"), attributes.get("valid_max"))
    given = [value for value in (low, high) if value is not None]
    bounds = _number(low, -np.inf), _number(high, np.inf)
    if not given or np.isnan(bounds).any() or stored.kind in "bc":
        return None
    physical = stored.kind in "iu" and (scale, offset) != (1, 0) and any(np.asarray(v).dtype.kind == "f" for v in given)
    if not physical:
        if meant.kind == "u" and stored.kind == "i":  # written with the stored sign, meant with the other
            bounds = tuple(b + 2.0 ** (8 * meant.itemsize) if b < 0 and np.isfinite(b) else b for b in bounds)  # type: ignore[assignment]
        bounds = bounds[0] * scale + offset, bounds[1] * scale + offset
        bounds = (bounds[1], bounds[0]) if scale < 0 else bounds
    return bounds if bounds[0] < bounds[1] else None


def _number(value: Any, default: float) -> float:
    try:
        return default if value is None else float(np.ravel(value)[0])
    except (ValueError, TypeError, IndexError):
        return default


# -- where and when


def _dates(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> tuple[Date, ...]:
    if layout.time is not None:
        axis = coordinate_of(dataset, variable, layout.time)
        if axis is None:
            return (None,) * layout.sizes[layout.time]
        dates = dates_of(axis)
        began = _moment(dataset, variable)[0] if all(date is None for date in dates) else None
        return dates if began is None else dates_after(began, axis)
    return _moment(dataset, variable)


def _moment(dataset: xr.Dataset, variable: xr.Variable) -> tuple[Date, ...]:
    """The one time that a variable has beside its axes, such as that at which a forecast began."""
    listed = [*str(pick(variable, "coordinates", "")).split(), *map(str, dataset.coords), "time", "t"]
    for name in listed:
        scalar = dataset.variables.get(name)
        if scalar is not None and scalar.size == 1 and role("", scalar) == "t":
            return dates_of(scalar)
    return (None,)


def _band_names(dataset: xr.Dataset, name: str, layout: Layout) -> tuple[str, ...]:
    """Labels of the extra dimensions; the variable's own name where it has none."""
    if layout.bands == 1:
        return (name,)
    told = dataset.variables[name].attrs.get("long_name")
    if isinstance(told, (list, tuple, np.ndarray)) and len(told) == layout.bands:  # as rioxarray names bands
        return tuple(map(str, told))
    columns = [_labels(dataset, dim, layout.sizes[dim]) for dim in layout.extras]
    grid = np.meshgrid(*[np.arange(len(labels)) for labels in columns], indexing="ij")
    places = np.stack([axis.ravel() for axis in grid], axis=1)
    return tuple(" ".join(column[i] for column, i in zip(columns, place, strict=True)) for place in places)


def _labels(dataset: xr.Dataset, dim: str, size: int) -> list[str]:
    names = dataset.variables.get(f"{dim}_name")  # as our own products have them
    axis = names if names is not None and names.dims == (dim,) else dataset.variables.get(dim)
    if axis is None or axis.dims != (dim,):
        return [str(i + 1) for i in range(size)]
    return [_label(value) for value in native(np.asarray(axis.values)).tolist()]


def _label(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chunk(variable: xr.Variable, layout: Layout) -> tuple[int, int]:
    """Rows and columns that lie together in the file; 256 where it does not say."""
    held = variable.encoding.get("shards") or variable.encoding.get("chunksizes") or variable.encoding.get("chunks")
    if not held or len(held) != len(layout.dims):
        return _CHUNK, _CHUNK
    sizes = dict(zip(layout.dims, held, strict=True))
    return int(sizes[layout.y]), int(sizes[layout.x])


# -- quality flags


def _quality(variables: Sequence[Variable], path: str, driver: str) -> tuple[QualityBand, ...]:
    """Flag variables whose table is known, with the variables that name them as `ancillary_variables`.

    Where none does, and the table grades some quantities of several, those: of the others it tells only where land is.
    """
    from geodiff.flags import ProductFacts, load_preset, matches

    flags = {v.name: v for v in variables if v.bands[0].kind is Kind.FLAGS and v.shape[1] == 1}
    facts = ProductFacts(
        files=(path.rstrip("/").rsplit("/", 1)[-1],),
        bands={name: dict(variable.attributes) for name, variable in flags.items()},
        driver=driver,
    )
    found = []
    for match in matches(facts):
        if match.band in flags:
            users = tuple(
                v.name for v in variables if match.band in str(v.attributes.get("ancillary_variables", "")).split()
            )
            layer = load_preset(match.preset).layer(match.layer)
            judged, others = _judged(variables, layer.judges) if layer.judges and not users else (users, ())
            found.append(QualityBand(flags[match.band], match.preset, judged, layer=match.layer))
            if others and layer.tells_of_places:
                found.append(replace(found[-1], applies_to=others, only=int(Reason.UNDEFINED)))
    known = {quality.variable.name for quality in found}
    return (*found, *_land(variables, [v for name, v in flags.items() if name not in known]), *_codes_inside(variables))


def _land(variables: Sequence[Variable], flags: Sequence[Variable]) -> list[QualityBand]:
    """Flags whose meanings name land, for what is missing of the sea: one date alone does not tell it from a gap."""
    of_the_sea = [v for v in variables if v.bands[0].kind is Kind.CONTINUOUS and v.of_the_sea]
    found = []
    for variable in flags:
        users = tuple(v.name for v in of_the_sea if _alongside(variable, v))
        words = str(variable.attributes.get("flag_meanings", "")).lower().split()
        bits, numbers = (np.ravel(variable.attributes.get(key, [])) for key in ("flag_masks", "flag_values"))
        codes = bits if numbers.size == 0 or np.array_equal(bits, numbers) else numbers if bits.size == 0 else ()
        if not users or variable.dtype.kind not in "iu" or len(words) != len(codes):
            continue
        for word, code in zip(words, codes, strict=True):
            if word in _LAND_WORDS:
                constants = {"LAND_BIT" if codes is bits else "LAND_FLAG": float(code)}
                found.append(QualityBand(variable, _CODES, users, constants=constants, of_gaps=True))
    return found


def _alongside(flags: Variable, variable: Variable) -> bool:
    """Whether flags are of a variable's own pixels, on its dates or of all of them."""
    one, other = flags.geobox, variable.geobox
    same = one.shape == other.shape and one.affine == other.affine and one.crs == other.crs
    return same and (len(flags.dates) == 1 or tuple(flags.dates) == tuple(variable.dates))


def _judged(variables: Sequence[Variable], pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measurements whose name or standard name has the pattern, and the others; neither where none has it."""
    measured = [v for v in variables if v.bands[0].kind is Kind.CONTINUOUS]
    called = {v.name: f"{v.name} {v.attributes.get('standard_name', '')}".lower() for v in measured}
    judged = tuple(name for name, words in called.items() if re.search(pattern, words))
    return judged, tuple(name for name in called if judged and name not in judged)


def _places(dataset: xr.Dataset, variables: Sequence[Variable], source: Source) -> list[QualityBand]:
    """Latitudes of swaths, where they are missing: nothing was seen there, and what is filled in would lie nowhere."""
    users: dict[str, list[str]] = {}
    for variable in variables:
        if not variable.georeferenced and variable.bands[0].kind is Kind.CONTINUOUS:
            names = curvilinear(dataset, dataset.variables[variable.name])
            if names is not None:
                users.setdefault(names[0], []).append(variable.name)
    found = []
    for name, those in users.items():
        layout = layout_of(dataset, dataset.variables[name])
        if layout is not None:
            latitude = _variable(dataset, name, layout, OpenOptions(), source)
            marker = latitude.bands[0].encoding.nodata
            if marker is None and latitude.dtype.kind == "f":
                marker = np.nan
            if marker is not None:
                found.append(QualityBand(latitude, _CODES, tuple(those), constants={"NO_PLACE": float(marker)}))
    return found


def _codes_inside(variables: Sequence[Variable]) -> list[QualityBand]:
    """What variables themselves say of codes among their numbers: cloud, for one; of land the encoding knows."""
    from geodiff.flags import load_preset

    known = load_preset(_CODES).layers[0].constants
    found = []
    for variable in variables:
        if variable.bands[0].kind is Kind.CONTINUOUS and _measures(variable.attributes):
            words = str(variable.attributes.get("flag_meanings", "")).upper().split()
            wrap = 2 ** (8 * variable.dtype.itemsize) if variable.dtype.kind == "u" else 0
            codes = [code + wrap * (code < 0) for code in np.ravel(variable.attributes["flag_values"]).tolist()]
            told = dict(zip(words, codes, strict=True)) if len(words) == len(codes) else {}
            constants = {word: code for word, code in told.items() if word in known}
            if constants:
                found.append(QualityBand(variable, _CODES, (variable.name,), constants=constants))
    return found
