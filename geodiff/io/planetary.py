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
    from geodiff.io.gdal import Header

__all__ = ["DRIVERS", "Missing", "missing_values"]

_MOSAIC = re.compile(r"color_filter_array_state>\s*Encoded\s*<", re.IGNORECASE)
DRIVERS = ("PDS", "PDS4", "ISIS2", "ISIS3", "VICAR")


@dataclass(frozen=True, slots=True)
class Missing:
    """Which stored numbers mean missing, and who says so."""

    nodata: float | int | None
    extra: tuple[float, ...] = ()
    preset: str = ""
    """`isis-special` or `pds`, for the reasons behind the numbers."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """The label's keywords and their numbers, for `pds`."""


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
        return _constants(_pds4_constants(header.tags.get("xml:PDS4", {}).get("xml:PDS4", "")), declared, header, band)
    if header.driver == "PDS":
        found = _pds3_constants(_label(header, "json:PDS"))
        georeferenced = header.crs is not None
        return _constants(found, declared if found or georeferenced else None, header, band)
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


def _constants(found: Mapping[str, float], declared: float | None, header: Header, band: int) -> Missing:
    """Label constants that the dtype can hold; the declared nodata leads, or else the one that says missing."""
    dtype = np.dtype(header.dtypes[band])
    held = {name: value for name, value in found.items() if _holds(dtype, value)}
    missing = [value for name, value in held.items() if "MISSING" in name or name.endswith(("CORE_NULL", "NULL"))]
    nodata = declared if declared is not None and _holds(dtype, declared) else next(iter(missing), None)
    extra = tuple(dict.fromkeys(value for value in held.values() if value != nodata))
    return Missing(nodata, extra, "pds" if held else "", held)


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


_PDS3_KEYWORDS = (
    "MISSING", "MISSING_CONSTANT", "INVALID_CONSTANT", "NOT_APPLICABLE_CONSTANT", "UNKNOWN_CONSTANT", "NULL_CONSTANT",
    "CORE_NULL", "CORE_LOW_REPR_SATURATION", "CORE_LOW_INSTR_SATURATION", "CORE_HIGH_INSTR_SATURATION",
    "CORE_HIGH_REPR_SATURATION",
)  # fmt: skip


def _pds3_constants(label: Any) -> dict[str, float]:
    """Constants of the image objects, wherever they stand in the label."""
    found: dict[str, float] = {}
    if isinstance(label, dict):
        for key, value in label.items():
            number = _number(value)
            if key.upper() in _PDS3_KEYWORDS and number is not None:
                found.setdefault(key.upper(), number)
            elif isinstance(value, dict):
                found = {**_pds3_constants(value), **found}
    return found


def _number(value: Any) -> float | None:
    """A label's number: decimal, a PDS3 based integer such as 16#FF7FFFFB# (a float's bits), or `{value, unit}`."""
    if isinstance(value, dict):
        return _number(value.get("value"))
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip().strip('"')
    based = re.fullmatch(r"16#([0-9A-Fa-f]{8})#", text)
    if based:
        return float(np.array([int(based.group(1), 16)], np.uint32).view(np.float32)[0])
    try:
        return float(text)
    except ValueError:
        return None


def _pds4_constants(text: str) -> dict[str, float]:
    """Special_Constants of the label by keyword; the first array's where several have their own."""
    if not text:
        return {}
    try:
        root = ET.fromstring(text)  # noqa: S314  # expat refuses entity bombs since 2.4.1
    except ET.ParseError:
        return {}
    special = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Special_Constants"), None)
    found = {} if special is None else {node.tag.rpartition("}")[2]: _number(node.text) for node in special}
    return {name.upper(): value for name, value in found.items() if value is not None}
