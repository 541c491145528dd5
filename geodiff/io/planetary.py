"""What planetary labels say of missing pixels: ISIS special pixels, PDS3 and PDS4 constants, VICAR.

GDAL reads PDS3, PDS4, ISIS2, ISIS3 and VICAR, and for some of them invents a nodata value that no label states. Here
the label decides: what it names is missing, and a frame whose label names nothing has no nodata.

Special pixels: ISIS, SpecialPixel.h. Labels: PDS Standards Reference 3.8, appendix on special constants;
PDS4 Information Model, Special_Constants.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from geodiff.errors import SourceError
from geodiff.flags import load_preset

if TYPE_CHECKING:
    from geodiff.io.header import Header

__all__ = ["DRIVERS", "Missing", "missing_values"]

_MOSAIC = re.compile(r"color_filter_array_state>\s*Encoded\s*<", re.IGNORECASE)
DRIVERS = ("PDS", "PDS4", "ISIS2", "ISIS3", "VICAR")
UNBOUNDED = (-np.inf, np.inf)
"""The bounds of a label that names none."""
_TABLES = ("TABLE", "COLUMN", "SERIES", "HISTOGRAM", "PALETTE", "HEADER")
"""Ends of names of objects beside the image, whose constants are not its own."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Which stored numbers mean missing, and who says so."""

    nodata: float | int | None
    extra: tuple[float, ...] = ()
    preset: str = ""
    """`isis-special` or `pds`, for the reasons behind the numbers."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """The label's keywords and their numbers, for `pds`."""
    bounds: tuple[float, float] = UNBOUNDED
    """Lowest and highest stored number that the label calls valid."""


def isis_special(dtype: str) -> tuple[float, ...]:
    """The special pixels of a stored dtype, null first; none for a dtype that ISIS does not write."""
    table = load_preset("isis-special").layers[0].special.get(dtype, {})
    numbers = [int(number, 0) for number in table]
    if np.dtype(dtype).kind == "f":
        patterns = np.array(numbers, np.uint64).astype(f"u{np.dtype(dtype).itemsize}")
        return tuple(float(value) for value in patterns.view(dtype))
    return tuple(numbers)


def missing_values(header: Header, band: int) -> Missing:
    """What a planetary file's label says is missing in a band (counted from 0)."""
    _refuse_mosaic(header)
    declared = header.nodata[band]
    if header.driver in ("ISIS2", "ISIS3"):
        return _isis(header, band)
    if header.driver == "PDS4":
        said = _pds4_said(header.tags.get("xml:PDS4", {}).get("xml:PDS4", ""), declared)
        return _constants(said, None if said else declared, header, band)
    if header.driver == "PDS":
        said = _pds3_said(_label(header, "json:PDS"))
        return _constants(said, declared if header.crs is not None else None, header, band)
    return Missing(declared)


def _refuse_mosaic(header: Header) -> None:
    """Raise SourceError for a colour mosaic: neighbours show different colours, so estimating across them is wrong."""
    said = _says_mosaic(header)
    if said:
        raise SourceError(
            f"{header.path} is a colour mosaic (its label says {said}), whose neighbouring "
            "pixels show different colours; write each of its four colour planes (every second row and column) to a "
            "file of its own and fill those, or take the product after demosaicking"
        )


def _says_mosaic(header: Header) -> str:
    """What of a label says that the colours were not yet made of the mosaic; empty where nothing does.

    PDS4: color_filter_array_state of the imaging dictionary. PDS3 and VICAR: BAYER_METHOD of the camera groups, which
    names how colours were made, or RAW_BAYER; only frames of one band are meant.
    """
    if _MOSAIC.search(header.tags.get("xml:PDS4", {}).get("xml:PDS4", "")):
        return "color_filter_array_state Encoded"
    if len(header.dtypes) != 1:
        return ""
    for name in ("json:PDS", "json:VICAR"):
        for value in _values_of(_label(header, name), "BAYER_METHOD"):
            if value.strip().strip('"').upper() == "RAW_BAYER":
                return "BAYER_METHOD RAW_BAYER"
    return ""


def _values_of(label: Any, keyword: str) -> list[str]:
    """What a label says under a keyword, wherever it stands and whatever namespace is before it."""
    if not isinstance(label, dict):
        return []
    own = [str(value) for key, value in label.items() if key.upper().rpartition(":")[2] == keyword]
    return own + [value for part in label.values() for value in _values_of(part, keyword)]


def _isis(header: Header, band: int) -> Missing:
    special = () if header.dtypes[band].startswith("complex") else isis_special(header.dtypes[band])
    if not special:
        return Missing(header.nodata[band])
    return Missing(special[0], special[1:], "isis-special")


def _constants(said: Mapping[str, Any], otherwise: float | None, header: Header, band: int) -> Missing:
    """Label constants that the dtype can hold; the one that says missing leads, `otherwise` where there is none."""
    dtype = np.dtype(header.dtypes[band])
    numbers = {name: _number(_of_band(value, band, len(header.dtypes)), dtype) for name, value in said.items()}
    found = {name: value for name, value in numbers.items() if value is not None}
    bounds = found.pop("VALID_MINIMUM", -np.inf), found.pop("VALID_MAXIMUM", np.inf)
    held = {name: value for name, value in found.items() if _holds(dtype, value)}
    missing = [value for name, value in held.items() if "MISSING" in name or name.endswith("NULL")]
    nodata = next(iter(missing), otherwise if otherwise is not None and _holds(dtype, otherwise) else None)
    extra = tuple(dict.fromkeys(value for value in held.values() if value != nodata))
    return Missing(nodata, extra, "pds" if held else "", held, bounds if bounds[0] < bounds[1] else UNBOUNDED)


def _of_band(value: Any, band: int, bands: int) -> Any:
    """One band's of a keyword that lists a number for each band."""
    return value[band if len(value) == bands else 0] if isinstance(value, list) and value else value


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        return bool(np.isnan(value) or np.isinf(value) or abs(value) <= float(np.finfo(dtype).max) * (1 + 1e-6))
    if dtype.kind not in "iu" or not np.isfinite(value) or int(value) != value:
        return False
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)


def _label(header: Header, name: str) -> Any:
    """The label as GDAL gives it, parsed; empty where it is no JSON (GDAL escapes some texts wrongly)."""
    text = header.tags.get(name, {}).get(name, "")
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return dict(re.findall(r'"(\w+)"\s*:\s*"?([-+#\w.]+)', text))


def _keyword(name: str) -> str:
    """A name as the `pds` table, or a bound, is called; empty for any other."""
    name = name.upper().removeprefix("CORE_") if "VALID_M" in name.upper() else name.upper()
    known = load_preset("pds").layers[0].constants
    return name if name in known or name in ("VALID_MINIMUM", "VALID_MAXIMUM") else ""


def _pds3_said(label: Any) -> dict[str, Any]:
    """Constants and bounds of the first image object that names them, as they are spelt, or else of the whole label."""
    own: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for key, value in label.items() if isinstance(label, dict) else ():
        if _keyword(key):
            own.setdefault(_keyword(key), value)
        elif isinstance(value, dict) and not key.upper().endswith(_TABLES):
            inner = {**_pds3_said(value), **inner}
    return {**own, **inner}


def _number(value: Any, dtype: np.dtype[Any]) -> float | None:
    """A label's number: decimal, a based integer such as 16#FF7FFFFB# or 0xFF7FFFFB (its bits), or `{value, unit}`."""
    if isinstance(value, dict):
        return _number(value.get("value"), dtype)
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip().strip('"')
    based = re.fullmatch(r"(?:16#|0x)([0-9A-F]+)#?", text, re.IGNORECASE)
    if based:
        return _of_bits(int(based.group(1), 16), dtype)
    try:
        return float(text)
    except ValueError:
        return None


def _of_bits(bits: int, dtype: np.dtype[Any]) -> float | None:
    """What a pixel of these bits is; None where there is no such pixel."""
    if dtype.kind not in "iuf" or bits >= 1 << 8 * dtype.itemsize:
        return None
    return float(np.array(bits, f"u{dtype.itemsize}").view(f"{dtype.kind}{dtype.itemsize}"))


def _pds4_said(text: str, declared: float | None) -> dict[str, str]:
    """Special_Constants of the label by keyword, as they are spelt.

    Where several arrays have their own, those that name what GDAL declares of the one that is open, or the first.
    """
    if not text:
        return {}
    try:
        root = ET.fromstring(text)  # noqa: S314  # expat refuses entity bombs since 2.4.1
    except ET.ParseError:
        return {}
    special = [node for node in root.iter() if node.tag.rpartition("}")[2] == "Special_Constants"]
    said = [{_keyword(node.tag.rpartition("}")[2]): node.text or "" for node in each} for each in special]
    double = np.dtype(np.float64)
    own = [each for each in said if declared in [_number(value, double) for value in each.values()]]
    return {name: value for name, value in (own or said or [{}])[0].items() if name}
