"""geodiff fills gaps in rasters, says how sure it is, and leaves every known pixel as it was.

    import geodiff

    geodiff.fill("scene.tif", "filled.tif", qa="landsat-c2", members=8)
    value, standard_error = geodiff.fill_array(values, known)

Heavy packages (torch, rasterio, dask, xarray) load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodiff.errors import GeodiffError

if TYPE_CHECKING:
    from geodiff.api import fill, fill_array, open_scene, plan
    from geodiff.fillers import Filled, Filler, Fitted, Patch
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__version__ = "0.1.0"

__all__ = [
    "FillJob",
    "Filled",
    "Filler",
    "Fitted",
    "GeodiffError",
    "Patch",
    "RunRecord",
    "fill",
    "fill_array",
    "open_scene",
    "plan",
]

_HOMES = {
    "FillJob": "geodiff.job",
    "Filled": "geodiff.fillers",
    "Filler": "geodiff.fillers",
    "Fitted": "geodiff.fillers",
    "Patch": "geodiff.fillers",
    "RunRecord": "geodiff.record",
    "fill": "geodiff.api",
    "fill_array": "geodiff.api",
    "open_scene": "geodiff.api",
    "plan": "geodiff.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geodiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
