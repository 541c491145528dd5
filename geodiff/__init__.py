"""geodiff fills gaps in rasters, gives a standard error for each filled pixel, and keeps every known pixel as it was.

    import geodiff

    geodiff.fill("scene.tif", "filled.tif", qa="landsat-c2", members=8)
    value, standard_error = geodiff.fill_array(values, known)

Heavy packages (torch, rasterio, dask, xarray) load on first use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geodiff.errors import GeodiffError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from geodiff.api import fill, fill_array, open_scene, plan_fill
    from geodiff.fillers import Filled, Filler, Fitted, Patch
    from geodiff.job import FillJob
    from geodiff.record import RunRecord
    from geodiff.restoring import restore

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
    "plan_fill",
    "restore",
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
    "plan_fill": "geodiff.api",
    "restore": "geodiff.restoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geodiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _AfterXarray(MetaPathFinder):
    """Registers the accessor when xarray is imported: importing xarray here would cost every user a second."""

    _asking = False

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The spec that others find, its loader followed by the registration; None for any other module."""
        if name != "xarray" or self._asking:
            return None
        self._asking = True  # the others are asked through find_spec, which asks this one too
        try:
            spec = find_spec(name)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                # Only now, for a spec may be asked for without an import: diffusers looks what is installed.
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                execute(module)
                import_module("geodiff.accessor")

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "xarray" in sys.modules:
    import_module("geodiff.accessor")
else:
    sys.meta_path.insert(0, _AfterXarray())
