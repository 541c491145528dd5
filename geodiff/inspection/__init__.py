"""What `geodiff info` says about a source: its grid, bands, dates and encoding, its gaps and why, and a look at it.

Gaps are counted by the very pass a plan makes, tile by tile, with the reasons in a temporary store. A source too large
for that in some seconds is looked at through evenly spread small windows, and the answer says so.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.gaps import Reason
from geodiff.inspection.counting import gap_facts
from geodiff.inspection.picture import day, thumbnail
from geodiff.inspection.words import render
from geodiff.io import Kind, OpenOptions, open_raster
from geodiff.io.cube import files_closed
from geodiff.job import FillJob
from geodiff.scene import scene_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from odc.geo.geobox import GeoBox

    from geodiff.io import Band, Raster, Variable

__all__ = ["describe", "render", "thumbnail"]


@files_closed()
def describe(source: str, **missing: Any) -> dict[str, Any]:
    """Look at a source.

    Parameters
    ----------
    source : anything `fill` takes.
    missing : options of `fill` that say what is missing, and what of it may be filled: qa, mask, nodata, valid_range,
        fillable.

    Returns
    -------
    dict
        JSON-ready facts; counts are values (date x band x pixel), shares are of all values of the variable.

    Raises
    ------
    SourceError, FlagError, JobError
        With the cure, as `fill` would.
    """
    job = FillJob.build(source=source, target="unused.zarr", filler="nearest", **missing)  # which leaves out no classes
    raster = open_raster(source, OpenOptions(job.nodata, job.valid_range, job.resolution))
    gaps = _gap_facts(job, raster)
    return {
        "source": source,
        "driver": raster.driver,
        "files": sum(not name.startswith("item:") for name in raster.files),
        "items": len(raster.origins),
        "quality": [_quality_facts(q) for q in raster.quality],
        "variables": [_variable_facts(v, raster) | gaps.get(v.name, {}) for v in raster.variables],
    }


def _quality_facts(quality: Any) -> dict[str, Any]:
    explains = list(quality.applies_to) or "every variable on its ground"
    alone = {"alone": [bit.meaning for bit in Reason if bit & quality.only]} if quality.only != 0xFFFF else {}
    return {"name": quality.variable.name, "preset": quality.preset, "explains": explains, **alone}


def _variable_facts(variable: Variable, raster: Raster) -> dict[str, Any]:
    return {
        "name": variable.name,
        "grid": _grid_facts(variable) | _control_points(raster),
        "dates": _date_facts(variable.dates),
        "bands": [_band_facts(band) for band in variable.bands],
        "attributes": {k: _plain(v) for k, v in variable.attributes.items() if isinstance(v, (str, int, float, bool))},
    }


def _grid_facts(variable: Variable) -> dict[str, Any]:
    geobox = variable.geobox
    rows, columns = variable.shape[2:]
    facts = {"rows": rows, "columns": columns, "georeferenced": variable.georeferenced, "crs": _crs_name(geobox)}
    if not variable.georeferenced:
        return facts
    affine = geobox.affine
    corners = [(column, row) for column in (0, columns) for row in (0, rows)]
    xs = [affine.a * column + affine.b * row + affine.c for column, row in corners]
    ys = [affine.d * column + affine.e * row + affine.f for column, row in corners]
    return facts | {
        "affine": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "pixel": [math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)],
        "bounds": [min(xs), min(ys), max(xs), max(ys)],
        "units": _axis_units(geobox),
    }


def _control_points(raster: Raster) -> dict[str, int]:
    """How many ground control points place the raster; empty where none does."""
    points = raster.attributes.get("gcps")
    return {} if points is None else {"control_points": len(json.loads(points)["features"])}


def _crs_name(geobox: GeoBox) -> str | None:
    """`EPSG:32618 (WGS 84 / UTM zone 18N)`, or the name alone where no authority has a code for it."""
    if geobox.crs is None:
        return None
    crs = geobox.crs.proj
    code = crs.to_authority(min_confidence=70)
    if code:
        return f"{':'.join(code)} ({crs.name})"
    operation = crs.coordinate_operation  # MODIS grids, and CF grid mappings without WKT, are written without a name
    if crs.name not in ("unknown", "undefined"):
        return str(crs.name)
    return f"unnamed, {operation.method_name}" if operation is not None else f"unnamed, {crs.type_name}"


def _axis_units(geobox: GeoBox) -> str:
    axes = geobox.crs.proj.axis_info if geobox.crs is not None else []
    return str(axes[0].unit_name) if axes else "units"


def _date_facts(dates: Sequence[np.datetime64 | None]) -> dict[str, Any] | None:
    known = np.array([date for date in dates if date is not None], "datetime64[s]")
    if len(dates) < 2 and not known.size:
        return None
    in_time = np.sort(known)
    steps = np.diff(in_time).astype(np.int64)
    return {
        "count": len(dates),
        "timed": known.size,
        "first": day(in_time[0]) if known.size else None,
        "last": day(in_time[-1]) if known.size else None,
        "median_step_days": float(np.median(steps)) / 86400 if steps.size else None,
        "in_order": bool((known[1:] >= known[:-1]).all()),
    }


def _band_facts(band: Band) -> dict[str, Any]:
    encoding = band.encoding
    return {
        "name": band.name,
        "kind": band.kind.value,
        "dtype": str(encoding.dtype),
        "nodata": _plain(encoding.nodata),
        "more_nodata": [_plain(v) for v in encoding.extra_nodata],
        "scale": encoding.scale,
        "offset": encoding.offset,
        "valid_range": None if encoding.valid_range is None else [_plain(v) for v in encoding.valid_range],
        "units": band.units,
    }


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _gap_facts(job: FillJob, raster: Raster) -> dict[str, dict[str, Any]]:
    """By variable: what is missing, what would be filled, and a thumbnail; only variables with a continuous band."""
    if not any(band.kind is Kind.CONTINUOUS for v in raster.variables for band in v.bands):
        return {}
    cubes = scene_of(raster, job).cubes
    return {cube.name: gap_facts(cube) for cube in cubes}
