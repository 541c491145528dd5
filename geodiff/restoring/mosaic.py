"""Finished products of one ground as one: each CRS its mosaic, value by value from the first product that has one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from geodiff.errors import TargetError
from geodiff.io.gdal import read_header
from geodiff.io.places import appearing

__all__ = ["mosaic", "mosaics"]

_log = logging.getLogger(__name__)
LAYERS = ("source", "standard_error", "")
"""Merged in one order, so that they tell of the same product everywhere; the value last."""


def mosaics(products: Iterable[str], folder: Path) -> list[str]:
    """Merge GeoTIFF and PDS4 products that lie on one CRS, source and standard error too; returns the paths written.

    Products without georeferencing, and those that are alone on their CRS, stay out. So do those that are stored unlike
    all others on it, and a warning says so. The first is `mosaic.tif` and any further one `mosaic_2.tif`, so that no
    old one is left when a later product makes them two.
    """
    grounds: dict[str, dict[str, list[str]]] = {}
    for product in sorted(products):
        header = read_header(product)
        if header.crs is not None:
            stored = f"{', '.join(map(str, header.dtypes))} with nodata {', '.join(map(str, header.nodata))}"
            grounds.setdefault(header.crs.to_wkt(), {}).setdefault(stored, []).append(product)
    chosen: list[list[str]] = []
    for ground in grounds.values():
        chosen += [group for group in ground.values() if len(group) > 1]
        alone = {stored: group[0] for stored, group in ground.items() if len(group) == 1 and len(ground) > 1}
        for stored, product in alone.items():
            _log.warning("%s stays out of the mosaic: no other product on its CRS is %s", Path(product).name, stored)
    written: list[str] = []
    for number, group in enumerate(chosen, 1):
        written += mosaic(group, folder / ("mosaic.tif" if number == 1 else f"mosaic_{number}.tif"))
    return written


def mosaic(products: Sequence[str], target: Path) -> list[str]:
    """One mosaic of products on one CRS, on the resolution of the first.

    Raises TargetError where it cannot be made.
    """
    written = []
    for layer in LAYERS:
        paths = [_layer(product, layer) for product in products]
        if all(Path(path).is_file() for path in paths):
            beside = Path(_layer(str(target), layer))
            _merge(paths, beside)
            written.append(str(beside))
    return written


def _layer(product: str, layer: str) -> str:
    path = Path(product)
    return product if not layer else str(path.with_name(f"{path.stem}_{layer}.tif"))


def _merge(paths: Sequence[str], target: Path) -> None:
    from rasterio.errors import RasterioError
    from rasterio.merge import merge

    nodata = 254 if target.stem.endswith("_source") else None  # between the products nothing is observed
    try:
        with appearing(target) as partial, warnings.catch_warnings():
            # what rasterio does inside with affine 3
            warnings.filterwarnings("ignore", message="Use `@` matmul", category=PendingDeprecationWarning)
            merge(list(paths), dst_path=partial, nodata=nodata, dst_kwds={"driver": "GTiff", "compress": "deflate"})
    except (RasterioError, OSError, ValueError) as error:
        raise TargetError(f"{target} cannot be made of {len(paths)} products: {error}") from error
