"""Products with a PDS4 label: `frame.xml` beside `frame_image.tif`, their layers as GeoTIFF sidecars.

GDAL's driver writes the label, with the source's own as its template where that is PDS4 too, and the image as an
uncompressed GeoTIFF with its numbers in one piece, as PDS4 wants arrays. What only an archive can give (identifiers,
mission, instrument) stays in braces where no template gives it: geodiff invents no identifiers.

PDS4 Information Model 1.16: File, Element_Array, Special_Constants.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import numpy as np

from geodiff.errors import TargetError, WriteError
from geodiff.io import Kind
from geodiff.io.cog import OPTIONS, write_cog
from geodiff.io.places import arriving
from geodiff.io.tiffs import one_file, slice_of, value_content, write_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from affine import Affine
    from rasterio.crs import CRS

    from geodiff.io import Product, Raster, Variable
    from geodiff.io.cog import Content
    from geodiff.io.places import Arrivals

__all__ = ["image_of", "label_fingerprint", "labelled_files", "refuse_unfit", "write_pds4"]

_CREATION = {"driver": "PDS4", "IMAGE_FORMAT": "GEOTIFF", "INTERLEAVE": "BSQ"}
_NUMBERS = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
"""Dtypes that GDAL's driver writes."""
_FINGERPRINT = re.compile(r"geodiff_fingerprint: ([^\s<]+)")
_FILE_NAME = re.compile(r"<(?:\w+:)?file_name>\s*([^<]+?)\s*</")
_LONGEST = 2**24
"""Bytes of a label that are looked through for its fingerprint."""


def image_of(target: Path) -> Path:
    """Where the numbers of a labelled product lie: `<stem>_image.tif`, a name that belongs to the target."""
    return target.with_name(f"{target.stem}_image.tif")


def write_pds4(product: Product, target: Path) -> list[str]:
    """Write sidecars, image and label, the label last; they are whole or not there.

    Raises TargetError for what a PDS4 image cannot hold, WriteError where the disk takes no more or where what stands
    there is not what was to be written.
    """
    refuse_unfit(product.raster, target)
    piece = slice_of(product, one_file(product.raster, target), 0, target)
    with arriving() as arrivals:
        written = write_layers(piece, target, arrivals)
        _write(value_content(piece), product.attributes, target, arrivals)
    return [*written, str(image_of(target)), str(target)]


def refuse_unfit(raster: Raster, target: Path) -> None:
    """Raise TargetError for a source whose product a PDS4 label cannot describe."""
    image = image_of(target)
    if str(image.resolve()) in {str(Path(path).resolve()) for path in (raster.path, *raster.files)}:
        raise TargetError(f"{target} would put its image at {image}, which is a part of the source; use another name")
    variables = one_file(raster, target)
    bands = [band for variable in variables for band in variable.bands]
    first = variables[0]
    kinds = {band.kind for band in bands}
    packing = {(band.encoding.scale, band.encoding.offset) for band in bands}
    reasons = {
        f"{first.dtype} numbers, which no PDS4 image of GDAL's has": str(first.dtype) not in _NUMBERS,
        "a colour table, which PDS4 images have none of": Kind.PALETTE in kinds,
        "alpha, which is no part of a PDS4 image": Kind.ALPHA in kinds,
        f"{len(packing)} scales or offsets, and a label has one for all bands": len(packing) > 1,
        "control points or RPCs, which a label does not hold": _control_points(raster),
        "a grid or CRS that comes back from a PDS4 label as another one": not _survives(first),
    }
    for reason, applies in reasons.items():
        if applies:
            raise TargetError(f"{target}: the product has {reason}; use .tif")


def label_fingerprint(path: Path) -> str:
    """The job fingerprint that a label carries, '' for a label of foreign making and for one without its image."""
    found = _FINGERPRINT.search(_text(path))
    return found[1] if found and image_of(path).is_file() else ""


def labelled_files(path: Path) -> tuple[str, ...]:
    """Names of the files that a PDS4 label of an observation describes; none for any other XML."""
    text = _text(path)
    return tuple(_FILE_NAME.findall(text)) if "Product_Observational" in text else ()


def _text(path: Path) -> str:
    """A label's text; '' where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""


def _control_points(raster: Raster) -> bool:
    return any(key == "gcps" or key.startswith("RPC:") for key in raster.attributes)


def _survives(variable: Variable) -> bool:
    """Whether the place of one pixel is still the same after a way through a label: they know few grids."""
    import rasterio
    from rasterio.crs import CRS

    geobox = variable.geobox
    crs = None if geobox.crs is None else CRS.from_wkt(geobox.crs.to_wkt())
    with tempfile.TemporaryDirectory(prefix="geodiff-label-") as scratch, rasterio.Env(**OPTIONS):
        label = Path(scratch) / "probe.xml"
        place = {} if geobox.affine.is_identity else {"transform": geobox.affine}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a place that is lost is told by what comes back
            source = label.with_name("source.tif")
            with rasterio.open(
                source, "w", driver="GTiff", width=1, height=1, count=1, dtype="uint8", crs=crs, **place
            ) as file:
                file.write(np.zeros((1, 1, 1), np.uint8))
            _label(source, label)
            with rasterio.open(label) as file:
                return _same_place(file, geobox.affine, crs)


def _same_place(file: Any, affine: Affine, crs: CRS | None) -> bool:
    """Whether a file has this CRS, and its corners within a millionth of a pixel."""
    apart = [
        abs(a - b) for corner in ((0, 0), (file.width, 0), (0, file.height))
        for a, b in zip(~affine * (file.transform * corner), corner, strict=True)
    ]  # fmt: skip
    return (file.crs or None) == crs and max(apart) < 1e-6


def _label(source: Path, label: Path) -> None:
    """Have GDAL write a label, and the image beside it; that an archive's own words are missing is no news."""
    import rasterio.shutil

    gdal = logging.getLogger("rasterio._env")
    level = gdal.level
    gdal.setLevel(logging.ERROR)
    try:
        rasterio.shutil.copy(str(source), str(label), **_CREATION)
    finally:
        gdal.setLevel(level)


def _write(content: Content, attributes: Mapping[str, str], target: Path, arrivals: Arrivals) -> None:
    """The value as COG, which GDAL turns into label and image in a folder beside the target; then both move out.

    An older label goes before its image is replaced, so that no label ever names an image of another run. The layers
    that are among `arrivals` come right before.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    image = image_of(target)
    folder = target.with_name(f".{target.stem}.geodiff-partial.pds4")  # always the same: a killed run's is cleared
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        with rasterio.Env(**OPTIONS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            staging, label = folder / "value.tif", folder / f"{image.stem}.xml"
            write_cog(content, staging)
            _label(staging, label)
            made = folder / image.name
            _said(label, made, attributes, target)
            _assert_same(staging, label, target)
        target.unlink(missing_ok=True)
        arrivals.land()
        made.replace(image)
        label.replace(target)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise WriteError(f"{target} cannot be written: {error}; check free space and permissions") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _said(label: Path, image: Path, attributes: Mapping[str, str], target: Path) -> None:
    """Put size, checksum and what geodiff says of the product into the label's File, and a title where it had none."""
    with image.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    said = "\n".join(f"{name}: {value}" for name, value in attributes.items())
    facts = (
        f'<file_size unit="byte">{image.stat().st_size}</file_size>\n      <md5_checksum>{digest}</md5_checksum>\n'
        f"      <comment>{escape(said)}</comment>"
    )
    name = f"<file_name>{escape(image.name)}</file_name>"
    text = label.read_text(encoding="utf-8")
    if text.count(name) != 1:
        raise WriteError(f"{target} cannot be written: its label does not name {image.name} once; use .tif")
    text = text.replace(name, f"{name}\n      {facts}")
    text = text.replace(f"<title>{label.name}</title>", f"<title>{escape(target.stem)}, gaps filled</title>")
    label.write_text(text, encoding="utf-8")


def _assert_same(staging: Path, label: Path, target: Path) -> None:
    """Raise WriteError unless the label is well-formed and GDAL reads the very numbers through it."""
    import rasterio

    try:
        ET.parse(label)  # noqa: S314  # written a moment ago
    except ET.ParseError as error:
        raise WriteError(f"{target} cannot be written: its label is no XML ({error}); use .tif") from error
    with rasterio.open(staging) as one, rasterio.open(label) as other:
        for _, window in one.block_windows(1):
            if one.read(window=window).tobytes() != other.read(window=window).tobytes():
                raise WriteError(f"{target} cannot be written: its image holds other numbers at {window}; use .tif")
