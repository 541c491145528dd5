"""Camera frames out: PNG for 8- and 16-bit images of 1 to 4 bands without georeferencing, their layers as GeoTIFF."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.errors import TargetError, WriteError
from geodiff.io.cog import OPTIONS
from geodiff.io.places import arriving
from geodiff.io.tiffs import slice_of, value_content, write_layers
from geodiff.lattice import Window

if TYPE_CHECKING:
    from geodiff.io import Product, Raster
    from geodiff.io.cog import Content
    from geodiff.io.places import Arrivals

__all__ = ["refuse_unfit", "write_png"]

_END = b"IEND\xaeB`\x82"
"""The last chunk of a PNG, and its check sum."""


def write_png(product: Product, target: Path) -> list[str]:
    """Write a frame as PNG and its layers beside it; the PNG last.

    Raises TargetError for what PNG cannot hold: other dtypes, more bands, dates, a place on the ground.
    """
    variables = product.raster.variables
    refuse_unfit(product.raster, target)
    piece = slice_of(product, variables, 0, target)
    with arriving() as arrivals:
        written = write_layers(piece, target, arrivals)
        _write(value_content(piece), target, arrivals)
    return [*written, str(target)]


def refuse_unfit(raster: Raster, target: Path) -> None:
    """Raise TargetError for a source whose product PNG cannot hold."""
    variables = raster.variables
    bands = sum(len(variable.bands) for variable in variables)
    first = variables[0]
    reasons = {
        f"{bands} bands, and PNG holds 1 to 4": bands > 4,
        f"{first.dtype} numbers, and PNG holds uint8 and uint16": str(first.dtype) not in ("uint8", "uint16"),
        "a place on the ground, which PNG cannot say": first.georeferenced,
        f"{len(first.dates)} dates, and PNG holds one": len(first.dates) > 1,
    }
    for reason, applies in reasons.items():
        if applies:
            raise TargetError(f"{target}: the product has {reason}; use .tif")


def _write(content: Content, target: Path, arrivals: Arrivals) -> None:
    """The whole frame at once: PNG is not written in tiles, and frames are small."""
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.enums import ColorInterp
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy

    bands, rows, columns = content.shape
    profile = {"count": bands, "height": rows, "width": columns, "dtype": content.dtype, "nodata": content.nodata}
    try:
        with (
            arrivals.appearing(target) as partial,
            rasterio.Env(**OPTIONS),
            warnings.catch_warnings(),
            MemoryFile() as memory,
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # that is what PNG is for
            with memory.open(driver="GTiff", **profile) as dataset:
                if content.colours:
                    dataset.colorinterp = [ColorInterp[name] for name in content.colours]
                for number, table in content.colourmaps.items():
                    dataset.write_colormap(number, dict(table))
                dataset.write(content.read(Window(0, 0, rows, columns)))
                dataset.update_tags(**content.tags.get("", {}))
                copy(dataset, str(partial), driver="PNG", write_metadata_as_text="YES")
            _assert_whole(partial)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise WriteError(f"{target} cannot be written: {error}; check free space and permissions") from error


def _assert_whole(path: Path) -> None:
    """Raise OSError where a PNG breaks off: GDAL tells nobody where closing a file fails."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(_END), 0))
        whole = file.read() == _END
    if not whole:
        raise OSError(errno.ENOSPC, "the disk took a part of the file only", str(path))
