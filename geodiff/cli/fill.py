"""`geodiff fill`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, numbers, say, talk, what_is_missing, words

__all__ = ["fill"]


@app.command(
    epilog=examples(
        "geodiff fill scene.tif filled.tif",
        "geodiff fill LC08_L2SP_015033_20240611/ filled/ --qa landsat-c2 --members 8",
        "geodiff fill sst.zarr filled.zarr --variable sst --dates 2024-06-01:2024-06-30",
        "geodiff fill sst.zarr filled.zarr --append",
        "geodiff fill frame.img frame.tif --detect dropouts --filler laplace",
        "geodiff fill scene.tif filled.tif --mask clouds.gpkg --buffer 2 --dry-run",
    )
)
def fill(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="Raster, Zarr, scene folder, glob, STAC or URL.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help=".tif, .zarr, .nc, .png, .xml (PDS4), or folder/.")
    ] = None,
    job: options.JobFile = None,
    variable: options.Variable = None,
    bands: options.Bands = None,
    dates: options.Dates = None,
    resolution: options.Resolution = None,
    qa: options.Qa = None,
    mask: options.Mask = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    buffer: options.Buffer = None,
    detect: options.Detect = None,
    fillable: options.Fillable = None,
    filler: options.Filler = None,
    model: options.Model = None,
    members: options.Members = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    product: options.Product = None,
    quantiles: options.Quantiles = None,
    max_error: options.MaxError = None,
    gate: options.Gate = None,
    report: options.Report = None,
    stac: options.Stac = None,
    zarr_format: options.ZarrFormat = None,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    refit: options.Refit = False,
    fail_if_empty: options.FailIfEmpty = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    block_size: options.BlockSize = None,
    batch: options.Batch = None,
    work: options.Work = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fill the gaps of SOURCE; write TARGET with its standard error, source and reason layers."""
    given: dict[str, Any] = {
        **what_is_missing(variable, bands, qa, mask, nodata, valid_range),
        "source": source, "target": target, "dates": dates, "fillable": fillable, "buffer": buffer,
        "detect": words(detect),
        "resolution": resolution, "filler": filler, "model": model, "members": members, "product": product,
        "seed": seed, "steps": steps, "sampler": sampler, "max_error": max_error, "gate": gate,
        "quantiles": numbers(quantiles, "--quantiles"), "device": device, "dtype": dtype, "block_size": block_size,
        "workers": workers, "scheduler": scheduler, "batch": batch, "work": work, "zarr_format": zarr_format,
        "dry_run": dry_run or None, "overwrite": overwrite or None, "append": append or None, "refit": refit or None,
        "fail_if_empty": fail_if_empty or None, "report": report, "stac": stac,
    }  # fmt: skip
    talk(verbose, quiet=quiet)
    from geodiff.job import FillJob
    from geodiff.report import run_and_report

    fields = chosen(given)
    asked = FillJob.from_toml(job, **fields) if job else FillJob.build(**fields)
    if asked.workers is None:  # a script that calls `fill` may have no main guard, which new processes need; this has
        asked = asked.model_copy(update={"workers": 0})
    record = run_and_report(asked, quiet=quiet)
    say(record.to_json() if as_json else str(record))
    raise typer.Exit(record.exit_code)
