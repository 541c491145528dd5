"""Bands whose numbers are classes by what stands beside a raster: category names and tables of classes of GDAL's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

__all__ = ["bands_of_classes"]

_BAND = ("PAMRasterBand", "VRTRasterBand")
_MOST_BYTES = 16 << 20
_TEXT = "2"
"""Both the type of a column of text and the use as a name, as GDAL numbers them."""


def bands_of_classes(files: Sequence[str]) -> frozenset[int]:
    """Numbers, from 1, of the bands that a VRT or an `.aux.xml` among a raster's files gives names of classes.

    A table that counts numbers and names none, as that of a histogram or of whole metres, says nothing of them.
    """
    found: set[int] = set()
    for name in files:
        if name.lower().endswith((".aux.xml", ".vrt")):
            found.update(int(band.get("band", "0")) for band in _bands(Path(name)) if _named(band))
    return frozenset(found)


def _bands(path: Path) -> list[ET.Element]:
    """The bands of a text; none where it cannot be read, for what GDAL makes of it is GDAL's to say."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return []
        root = ET.parse(path).getroot()  # noqa: S314  # expat refuses entity bombs since 2.4.1
    except (OSError, ValueError, ET.ParseError):
        return []
    return [band for band in root if band.tag in _BAND and band.get("band", "").isdigit()]


def _named(band: ET.Element) -> bool:
    if any((category.text or "").strip() for category in band.iterfind("CategoryNames/Category")):
        return True
    tables = band.iterfind("GDALRasterAttributeTable")
    columns = [c for t in tables if t.get("tableType") != "athematic" for c in t.iterfind("FieldDefn")]
    return any(_TEXT in (column.findtext("Type"), column.findtext("Usage")) for column in columns)
