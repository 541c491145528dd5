"""The Python face of the command line: the same job, the same line, the same record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geodiff.arrays import fill_array
from geodiff.job import FillJob, as_fields
from geodiff.pipeline import plan
from geodiff.report import run_and_report
from geodiff.scene import open_scene as open_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodiff.options import FillOptions
    from geodiff.plan import FillPlan
    from geodiff.record import RunRecord
    from geodiff.scene import Scene

__all__ = ["fill", "fill_array", "open_scene", "plan_fill"]


def fill(source: str | Path, target: str | Path, **options: Unpack[FillOptions]) -> RunRecord:
    """Fill the gaps of `source`; write `target` with its standard error, source and reason layers.

    Parameters
    ----------
    source, target : paths or URLs, as for `geodiff fill`.
    **options : the command line's, with underscores; lists may be given as one string (`qa="landsat-c2"`). What is
        filled: `variable`, `bands`, `dates`, `resolution`. What is missing: `qa`, `mask`, `nodata`, `valid_range`,
        `buffer`, `detect`, `fillable`. How: `filler`, `model`, `members`, `seed`, `steps`, `sampler`. What is written:
        `product`, `quantiles`, `max_error`, `gate`, `report`, `stac`, `zarr_format`, `dry_run`, `overwrite`, `append`,
        `refit`, `fail_if_empty`. Where it runs: `device`, `dtype`, `workers`, `scheduler`, `block_size`, `batch`,
        `work`.

    Returns
    -------
    RunRecord : what was done; it prints as a summary, and `products` are the paths written.

    Raises
    ------
    GeodiffError : with the value, the reason and the cure; the target is then as it was before.
    """
    return run_and_report(_job(source, target, options), quiet=True)


def plan_fill(source: str | Path, target: str | Path = "filled.zarr", **options: Unpack[FillOptions]) -> FillPlan:
    """The plan of `fill` with these options: it prints as a summary, and nothing is written."""
    return plan(_job(source, target, options))


def open_scene(source: str | Path, **options: Unpack[FillOptions]) -> Scene:
    """Open a source as a scene, whose cubes give stored values and the reasons of missing pixels, window by window."""
    return open_job(_job(source, "unused.zarr", options))


def _job(source: str | Path, target: str | Path, options: Mapping[str, Any]) -> FillJob:
    return FillJob.build(source=str(source), target=str(target), **as_fields(options))
