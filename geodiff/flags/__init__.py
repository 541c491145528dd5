"""What quality bands say, as data: tables of bits, classes, levels and special values, and one decoder.

Each table is a TOML file beside this module, names its source document, and turns stored flags into `Reason` bits.
Kinds of layers:

`bits`      fields of one or more bits in an unsigned number; whole numbers may mean something of their own (255: fill)
`bands`     one bit per spectral band (saturation), and some for all
`classes`   one number per class
`levels`    ordered grades; clear from one of them on
`special`   reserved numbers inside the image itself, by dtype (ISIS) or as constants that its label names (PDS, CF)

A number that its table does not know is an error, never silently clear.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import FlagError
from geodiff.gaps import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PRESETS",
    "Layer",
    "Match",
    "Preset",
    "ProductFacts",
    "Source",
    "decode",
    "guess",
    "is_fill",
    "layer_named",
    "load_preset",
    "matches",
    "slc_off_as_nodata",
]

PRESETS: tuple[str, ...] = (
    "landsat-c2",
    "landsat-c1",
    "sentinel2-scl",
    "hls-fmask",
    "modis-vi",
    "modis-state",
    "modis-lst",
    "modis-snow",
    "viirs",
    "maiac",
    "ecostress",
    "goes-dqf",
    "ghrsst",
    "isis-special",
    "pds",
    "eolearn-clm",
    "cf-codes",
)
"""Every name `--qa` accepts, besides `auto`."""


@dataclass(frozen=True, slots=True)
class Source:
    """The document a table was made from."""

    title: str
    version: str
    section: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One quality band, or the reserved values of an image."""

    name: str
    kind: str
    """bits, bands, classes, levels or special."""
    low: int = 0
    """The flag value that the first entry of `reasons` is for."""
    reasons: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    """Reason bits per flag value, from `low` on; for `bands` of those bits that concern every band."""
    unknown: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """True for flag values the table does not know."""
    bits: Mapping[str, int] = field(default_factory=dict)
    """For `bands`: bit by the band name's ending; -1 for bands that have none."""
    special: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For `special`: per dtype, the reserved numbers (floats by their bit pattern) and their reasons."""
    constants: Mapping[str, Reason] = field(default_factory=dict)
    """For `special`: reasons by the keyword a label names the constant with."""
    file_patterns: tuple[str, ...] = ()
    band_patterns: tuple[str, ...] = ()
    product_patterns: tuple[str, ...] = ()
    """File names of which one must be there for a band's name to count."""
    drivers: tuple[str, ...] = ()
    alternative: bool = False
    """Says the same as an earlier layer in other words: looked for only where that one is not there."""
    meanings: tuple[str, ...] = ()
    """Words of a CF `flag_meanings` attribute that give the product away; all must be there."""
    judges: str = ""
    """Which quantities it grades, a pattern in their names and standard names: what lies beside them for the user's
    convenience has another source. Empty for all."""

    @property
    def tells_of_places(self) -> bool:
        """Whether it knows where there is no such quantity at all, whichever it is."""
        return bool((self.reasons & np.uint16(Reason.UNDEFINED)).any())


@dataclass(frozen=True, slots=True)
class Preset:
    """The quality bands of one family of products."""

    name: str
    source: Source
    layers: tuple[Layer, ...]
    """The one meant when none is named comes first."""

    def layer(self, name: str | None) -> Layer:
        """The layer of that name (any case), or the first; raises FlagError when there is none."""
        if name is None:
            return self.layers[0]
        for layer in self.layers:
            if layer.name.lower() == name.lower():
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise FlagError(f"preset {self.name} has no layer {name!r}; it has {known}")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """What a source shows from outside, enough to tell whose quality flags it carries."""

    files: tuple[str, ...] = ()
    """File names, without folders."""
    bands: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Band descriptions or variable names, each with its attributes."""
    driver: str = ""
    """GDAL's short name of the format."""


@dataclass(frozen=True, slots=True)
class Match:
    """A quality layer found in a product."""

    preset: str
    layer: str
    file: str | None = None
    """The file that holds it, if it has one of its own."""
    band: str | None = None
    """The band or variable that holds it; None with no file: the image's own reserved values."""


# Loading


@cache
def load_preset(name: str) -> Preset:
    """The table of that name; raises FlagError for a name that is not in `PRESETS`."""
    if name not in PRESETS:
        raise FlagError(f"no quality preset is called {name!r}; choose one of {', '.join(PRESETS)}")
    table = tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(name, Source(**table["source"]), tuple(_layer(part) for part in table["layer"]))


def _layer(table: dict[str, Any]) -> Layer:
    build = {"bits": _bits, "bands": _bands, "classes": _classes, "levels": _levels, "special": _special}[table["kind"]]
    return Layer(
        name=table["name"],
        kind=table["kind"],
        file_patterns=tuple(table.get("files", ())),
        band_patterns=tuple(table.get("bands", ())),
        product_patterns=tuple(table.get("products", ())),
        drivers=tuple(table.get("drivers", ())),
        alternative=table.get("alternative", False),
        meanings=tuple(table.get("meanings", ())),
        judges=table.get("judges", ""),
        **build(table),
    )


def _reason(words: str) -> Reason:
    """`clear`, or reasons as `cloud|buffer`."""
    total = Reason.KNOWN
    for word in words.split("|"):
        total |= Reason.KNOWN if word == "clear" else Reason[word.upper()]
    return total


def _bits(table: dict[str, Any]) -> dict[str, Any]:
    numbers = np.arange(1 << table["width"])
    reasons = np.zeros(numbers.size, np.uint16)
    unknown = np.zeros(numbers.size, bool)
    claimed = 0
    for part in table["field"]:
        first, last = part["bits"]
        claimed |= (1 << last + 1) - (1 << first)
        value = numbers >> first & (1 << last - first + 1) - 1
        meanings = {"0": "clear", "1": part["set"]} if "set" in part else part.get("values", {})
        for key, words in meanings.items():
            reasons[value == int(key)] |= np.uint16(_reason(words))
        if meanings:
            unknown |= ~np.isin(value, [int(key) for key in meanings])
    unknown |= (numbers & ~claimed) != 0
    _whole(table, numbers, reasons, unknown)
    return {"reasons": reasons, "unknown": unknown}


def _bands(table: dict[str, Any]) -> dict[str, Any]:
    numbers = np.arange(1 << table["width"])
    reasons = np.zeros(numbers.size, np.uint16)
    for key, words in table["every"].items():
        reasons[(numbers >> int(key) & 1) == 1] |= np.uint16(_reason(words))
    claimed = sum(1 << bit for bit in {*table["bit"].values(), *map(int, table["every"])} if bit >= 0)
    return {"reasons": reasons, "unknown": (numbers & ~claimed) != 0, "bits": table["bit"]}


def _classes(table: dict[str, Any]) -> dict[str, Any]:
    keys = [int(key) for key in (*table["values"], *table.get("whole", {}))]
    numbers = np.arange(min(keys), max(keys) + 1)
    reasons, unknown = np.zeros(numbers.size, np.uint16), np.ones(numbers.size, bool)
    for part in ("values", "whole"):
        _whole({"whole": table.get(part, {})}, numbers, reasons, unknown)
    return {"low": min(keys), "reasons": reasons, "unknown": unknown}


def _levels(table: dict[str, Any]) -> dict[str, Any]:
    grades = range(table["first"], table["first"] + len(table["levels"]))
    values = {str(g): "clear" if g >= table["clear_from"] else table["below"] for g in grades}
    return _classes({"values": values, "whole": table.get("whole", {})})


def _whole(
    table: dict[str, Any], numbers: NDArray[Any], reasons: NDArray[np.uint16], unknown: NDArray[np.bool_]
) -> None:
    """Enter the meanings of whole numbers, over whatever stood there."""
    for key, words in table.get("whole", {}).items():
        reasons[numbers == int(key)] = int(_reason(words))
        unknown[numbers == int(key)] = False


def _special(table: dict[str, Any]) -> dict[str, Any]:
    reason = {name: int(_reason(words)) for name, words in table.get("meaning", {}).items()}
    special: dict[str, dict[str, int]] = {}
    for dtype, numbers in table.get("dtype", {}).items():
        special[dtype] = {}
        for name, number in numbers.items():
            special[dtype][str(number)] = reason[name]
    constants = {name: _reason(words) for name, words in table.get("constants", {}).items()}
    return {"special": special, "constants": constants}


# Decoding


def decode(
    values: NDArray[Any],
    preset: str,
    *,
    layer: str | None = None,
    band: str | None = None,
    constants: Mapping[str, float] | None = None,
) -> NDArray[np.uint16]:
    """Quality flags to reason bits.

    Parameters
    ----------
    values : flags of any shape; for `isis-special` and `pds` the image itself, as stored.
    preset : one of `PRESETS`.
    layer : which quality band of the preset; default its first.
    band : for one-bit-per-band layers, the spectral band that is to be judged; None takes any band's bit.
    constants : for `pds` and `cf-codes`, the label's keywords and numbers.

    Returns
    -------
    uint16, same shape: bits of `Reason`; 0 where clear.

    Raises
    ------
    FlagError
        For an unknown preset, layer or keyword, and for flag values the table does not know.
    """
    table = load_preset(preset).layer(layer)
    if table.constants:
        return _decode_constants(values, preset, table, constants)
    if table.kind == "special":
        return _decode_special(values, table)
    index = _indices(values, preset, table)
    strange = table.unknown[index]
    if strange.any():
        _refuse(values, strange, preset, table)
    reason: NDArray[np.uint16] = table.reasons[index]
    if table.kind == "bands":
        reason[(index & _wanted_bits(table, band)) != 0] |= np.uint16(Reason.SATURATED)
    return reason


def is_fill(values: NDArray[Any], preset: str, *, layer: str | None = None) -> NDArray[np.bool_]:
    """Where quality flags say that nothing was ever observed; a number that the table does not know says nothing."""
    table = load_preset(preset).layer(layer)
    fill = np.flatnonzero(table.reasons & np.uint16(Reason.QA_FILL)) + table.low
    if values.dtype.kind == "i" and 1 << 8 * values.dtype.itemsize == table.reasons.size:
        values = values.view(f"u{values.dtype.itemsize}")  # NetCDF 3 has no unsigned numbers
    return np.isin(values, fill)


def _indices(values: NDArray[Any], preset: str, table: Layer) -> NDArray[Any]:
    """Positions of flag values in the lookup table."""
    size = table.reasons.size
    if np.issubdtype(values.dtype, np.floating):
        values = _integers(values, preset, table)
    if values.dtype.kind == "i" and table.kind in {"bits", "bands"} and 1 << 8 * values.dtype.itemsize == size:
        values = values.view(f"u{values.dtype.itemsize}")  # NetCDF 3 has no unsigned numbers
    limits = (table.low, table.low + size - 1)
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    info = np.iinfo(values.dtype)
    if info.min < limits[0] or info.max > limits[1]:
        strange = (values < limits[0]) | (values > limits[1])
        if strange.any():
            _refuse(values, strange, preset, table)
    return values if table.low == 0 else values.astype(np.int32) - table.low


def _integers(values: NDArray[Any], preset: str, table: Layer) -> NDArray[np.int64]:
    """Flags that a reader handed over as floats; a float that is no whole number (NaN too) was never a flag."""
    strange = ~np.isfinite(values)
    whole = np.where(strange, 0, values)
    strange |= (whole != np.rint(whole)) | (np.abs(whole) > 2**31)
    if strange.any():
        _refuse(values, strange, preset, table)
    return whole.astype(np.int64)


def _refuse(values: NDArray[Any], strange: NDArray[np.bool_], preset: str, table: Layer) -> None:
    found = np.unique(values[strange])
    shown = ", ".join(str(v) for v in found[:5].tolist()) + (", ..." if found.size > 5 else "")
    raise FlagError(
        f"{table.name} holds {shown} at {int(strange.sum())} pixels, which {preset} does not know "
        f"({load_preset(preset).source.title}); was the band resampled, scaled or made by another producer? "
        "Name the right one with --qa PRESET:PATH, or use --mask"
    )


def _wanted_bits(table: Layer, band: str | None) -> int:
    """Bits that say that this band is saturated; any band's where the name is none of the table's."""
    for ending, bit in table.bits.items():
        if band is not None and re.search(rf"(^|[^A-Z0-9]){ending}$", band.upper()):
            return 1 << bit if bit >= 0 else 0
    return sum(1 << bit for bit in set(table.bits.values()) if bit >= 0)


def _decode_special(values: NDArray[Any], table: Layer) -> NDArray[np.uint16]:
    name = values.dtype.newbyteorder("=").name
    if name not in table.special:
        raise FlagError(
            f"{table.name} reserves no numbers in {name} (only in {', '.join(table.special)}); "
            "decode the image as it is stored, before scale and offset"
        )
    stored = values.astype(values.dtype.newbyteorder("="), copy=False)
    if stored.dtype.kind == "f":
        stored = np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}")
    reason = np.zeros(values.shape, np.uint16)
    for number, bits in table.special[name].items():
        reason[stored == int(number, 0)] |= np.uint16(bits)
    return reason


def _decode_constants(
    values: NDArray[Any], preset: str, table: Layer, constants: Mapping[str, float] | None
) -> NDArray[np.uint16]:
    if not constants:
        raise FlagError(f"{preset} needs the constants that a label names, and there are none; use --nodata V")
    reason = np.zeros(values.shape, np.uint16)
    for keyword, number in constants.items():
        meaning = table.constants.get(keyword.upper())
        if meaning is None:
            raise FlagError(f"{preset} knows no label constant {keyword!r}; it knows {', '.join(table.constants)}")
        bit = keyword.upper().endswith("_BIT")
        reason[(values & values.dtype.type(int(number))) != 0 if bit else _equal(values, number)] |= np.uint16(meaning)
    return reason


def _equal(values: NDArray[Any], number: float) -> NDArray[np.bool_]:
    """Where the stored numbers are `number`, rounded as a floating dtype would; nowhere if the dtype cannot hold it."""
    if np.isnan(number):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(values == np.asarray(number).astype(values.dtype))
    limits = np.iinfo(values.dtype)
    if number != int(number) or not limits.min <= int(number) <= limits.max:
        return np.zeros(values.shape, bool)
    return np.asarray(values == values.dtype.type(int(number)))


def slc_off_as_nodata(reason: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Reason bits with the quality band's fill taken for nodata, so that only the collar of it is outside.

    For Landsat 7 since 2003-05-31, whose quality band calls the scan gaps fill.
    """
    fill = (reason & np.uint16(Reason.QA_FILL)) != 0
    return np.where(fill, reason & ~np.uint16(Reason.QA_FILL) | np.uint16(Reason.NODATA), reason)


# Guessing


def guess(facts: ProductFacts) -> str | None:
    """The preset of a product's own quality flags, for `--qa auto`; None where it names none."""
    return next((match.preset for match in matches(facts)), None)


def matches(facts: ProductFacts) -> list[Match]:
    """Every quality layer the product shows, of one preset (the first that fits), main layer first."""
    for name in PRESETS:
        found: list[Match] = []
        for layer in load_preset(name).layers:
            if not (found and layer.alternative):
                found += _matches(name, layer, facts)
        if found:
            return found
    return []


def layer_named(preset: str, name: str) -> str | None:
    """The layer of a preset that a file or band of that name holds; None where its name does not say."""
    for layer in load_preset(preset).layers:
        if _like(name, layer.file_patterns) or _like(PurePath(name).stem, layer.band_patterns):
            return layer.name
    return None


def _matches(preset: str, layer: Layer, facts: ProductFacts) -> list[Match]:
    found = [Match(preset, layer.name, file=name) for name in facts.files if _like(name, layer.file_patterns)]
    named = not layer.product_patterns or any(_like(name, layer.product_patterns) for name in facts.files)
    for band, attributes in facts.bands.items():
        words = str(attributes.get("flag_meanings", "")).lower().split()
        spelled = bool(layer.meanings) and all(word in words for word in layer.meanings)
        if spelled or (named and _like(band, layer.band_patterns)):
            found.append(Match(preset, layer.name, band=band))
    if facts.driver in layer.drivers:
        found.append(Match(preset, layer.name))
    return found


def _like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
