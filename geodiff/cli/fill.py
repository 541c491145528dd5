"""`geodiff fill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, numbers, talk, what_is_missing, words

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
    source: Annotated[str | None, typer.Argument(help="Raster, Zarr, scene folder, glob, STAC, URL.")] = None,
    target: Annotated[str | None, typer.Argument(help=".tif, .zarr, .nc, .png, .xml (PDS4), or folder/.")] = None,
    job: Annotated[Path | None, typer.Option(help="A job file; options here override it.")] = None,
    variable: Annotated[str | None, typer.Option(help="Variables to fill, V[,V..]; default all.")] = None,
    bands: Annotated[str | None, typer.Option(help="Bands to fill by number or name, 1,4.")] = None,
    dates: Annotated[str | None, typer.Option(help="Fill only these dates, D[,D..] or A:B.")] = None,
    qa: Annotated[list[str] | None, typer.Option(help="PRESET[:PATH or band], auto or none; repeatable.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help="Raster or vector of missing pixels; repeatable.")] = None,
    fillable: Annotated[str | None, typer.Option(help="auto, all, or a raster or vector file.")] = None,
    nodata: Annotated[float | None, typer.Option(help="An added nodata value.")] = None,
    valid_range: Annotated[str | None, typer.Option(help="Physical bounds A,B.")] = None,
    buffer: Annotated[int | None, typer.Option(help="Dilate gaps by N pixels.")] = None,
    detect: Annotated[str | None, typer.Option(help="dropouts,stripes,reseau,hotpixels")] = None,
    resolution: Annotated[float | None, typer.Option(help="One ground resolution for scenes with several.")] = None,
    filler: Annotated[str | None, typer.Option(help="auto, diffusion, laplace, matern, ...")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder or the name of a shipped one.")] = None,
    members: Annotated[int | None, typer.Option(help="Realisations (default 4); 0 is fast.")] = None,
    product: Annotated[str | None, typer.Option(help="What TARGET holds: value or member.")] = None,
    seed: Annotated[int | None, typer.Option(help="Key of the ground noise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Network calls a member, at least 4.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, default edm-dpm2m.")] = None,
    max_error: Annotated[float | None, typer.Option(help="Leave nodata where the error exceeds this.")] = None,
    gate: Annotated[str | None, typer.Option(help='Refuse unless "coverage90>=0.85,seam<=1.05".')] = None,
    quantiles: Annotated[str | None, typer.Option(help="Also write these quantile layers, 0.05,0.95.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda[:i], mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Smallest unit of I/O in pixels.")] = None,
    workers: Annotated[int | None, typer.Option(help="Local Dask processes; default 0, as many as pay.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of an existing Dask cluster.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows x bands a network call.")] = None,
    work: Annotated[str | None, typer.Option(help="Folder for the working store.")] = None,
    zarr_format: Annotated[int | None, typer.Option(help="2 for GDAL before 3.13.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Extend TARGET with new dates, with its kept fit.")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="With --append: renew the kept fit.")] = False,
    fail_if_empty: Annotated[bool, typer.Option("--fail-if-empty", help="Exit 4 with nothing to fill.")] = False,
    report: Annotated[str | None, typer.Option(help="HTML report: a file, or a folder for it.")] = None,
    stac: Annotated[str | None, typer.Option(help="STAC Item JSON to write.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fill the gaps of SOURCE and write TARGET with its error, source and reason layers."""
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
    typer.echo(record.to_json() if as_json else _summary(record))
    raise typer.Exit(record.exit_code)


def _summary(record: Any) -> str:
    """What a person wants to know after a fill."""
    from geodiff.record import FEW_TRIALS

    if record.status == "planned":
        return str(record.variables["text"])
    if record.status == "up to date":
        return f"{record.target} is this very product already; nothing to do"
    if record.status == "nothing to append":
        return f"{record.target} holds every date of {record.source} as it is; nothing to append"
    lines = []
    if record.status == "nothing to fill":
        lines.append(f"{record.source} has no gap to fill; the product is a copy with its layers")
    for name, facts in record.variables.items() if not lines else ():
        line = f"{name}: filled {facts['filled']:,} of {facts['to_fill']:,} missing values"
        if facts["refused"]:
            line += f" ({facts['refused']:,} left empty: the expected error is too large, or the band known nowhere)"
        if facts.get("appended"):
            added = facts["appended"]
            line += f"; {added['new_dates']} dates are new, {added['blocks_kept']:,} blocks stayed as they were"
        check = facts["self_check"]
        if check.get("coverage90") is not None:
            line += (
                f"; 90 % intervals held {100 * check['coverage90']:.0f} % of {check['pixels']:,} hidden known values"
            )
            if check["trials"] < FEW_TRIALS:
                line += f" (in {check['trials']} place{'s' * (check['trials'] > 1)} only: that says little)"
        lines.append(line)
    lines += [f"failed: {key}: {error}" for key, error in record.failed_blocks.items()]
    lines += [f"wrote {path}" for path in record.products]
    return "\n".join(lines)
