"""The command line: every verb is a few lines over the functions it names."""

from __future__ import annotations

import errno
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.errors import GeodiffError

__all__ = ["app", "main"]

app = typer.Typer(
    name="geodiff",
    help="Fill gaps in rasters, say how sure the fill is, and leave every known pixel as it was.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.")]


def _examples(*lines: str) -> str:
    """The end of a verb's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def main() -> None:
    """The entry point: runs a verb and turns what went wrong into one line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interruption like Ctrl-C
    try:
        app(standalone_mode=True, prog_name="geodiff")
    except GeodiffError as error:
        _complain(error, error.exit_code)
    except SystemExit as end:  # typer has turned Ctrl-C into its exit code already, without a word
        if end.code == 130:
            typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        raise
    except Exception as error:  # noqa: BLE001 - the last door: one line for the user, the traceback with -vv
        _complain(error, 1)


def _complain(error: BaseException, code: int) -> None:
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).debug("where it went wrong", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        typer.echo(f"error: {error}; make room, or choose another place; the same command then goes on", err=True)
        sys.exit(code)
    known = isinstance(error, (GeodiffError, OSError))
    typer.echo(f"error: {error}" if known and str(error) else f"error: {type(error).__name__}: {error}", err=True)
    sys.exit(code)


def _talk(verbose: int, *, quiet: bool) -> None:
    """Set up logging to stderr."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("geodiff").setLevel(level)
    if verbose > 1:
        logging.getLogger().setLevel(logging.DEBUG)
        for chatty in ("rasterio", "matplotlib", "asyncio", "distributed", "PIL", "fsspec", "botocore", "h5py", "zarr"):
            logging.getLogger(chatty).setLevel(logging.WARNING)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    from geodiff.errors import JobError

    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise JobError(f"{what} {text!r}: expected numbers separated by commas, such as 0.05,0.95") from None


@app.command(
    epilog=_examples(
        "geodiff fill scene.tif filled.tif",
        "geodiff fill LC08_L2SP_015033_20240611/ filled/ --qa landsat-c2 --members 8",
        "geodiff fill sst.zarr filled.zarr --variable sst --dates 2024-06-01:2024-06-30",
        "geodiff fill frame.img frame.tif --detect dropouts --filler laplace",
        "geodiff fill scene.tif filled.tif --mask clouds.gpkg --buffer 2 --dry-run",
    )
)
def fill(
    source: Annotated[str | None, typer.Argument(help="Raster, Zarr, scene folder, glob, STAC, URL.")] = None,
    target: Annotated[str | None, typer.Argument(help=".tif, .zarr, .nc, .png, or folder/.")] = None,
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
    workers: Annotated[int | None, typer.Option(help="Local Dask worker processes.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of an existing Dask cluster.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows x bands a network call.")] = None,
    work: Annotated[str | None, typer.Option(help="Folder for the working store.")] = None,
    zarr_format: Annotated[int | None, typer.Option(help="2 for GDAL before 3.13.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Extend TARGET with new dates (not built yet).")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Renew the kept fit (not built yet).")] = False,
    fail_if_empty: Annotated[bool, typer.Option("--fail-if-empty", help="Exit 4 with nothing to fill.")] = False,
    report: Annotated[str | None, typer.Option(help="HTML report to write (not built yet).")] = None,
    stac: Annotated[str | None, typer.Option(help="STAC Item JSON to write (not built yet).")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fill the gaps of SOURCE and write TARGET with its error, source and reason layers."""
    given: dict[str, Any] = {
        "source": source, "target": target, "variable": _words(variable), "bands": _words(bands), "dates": dates,
        "qa": tuple(qa) if qa else None, "mask": tuple(mask) if mask else None, "fillable": fillable, "nodata": nodata,
        "valid_range": _numbers(valid_range, "--valid-range"), "buffer": buffer, "detect": _words(detect),
        "resolution": resolution, "filler": filler, "model": model, "members": members, "product": product,
        "seed": seed, "steps": steps, "sampler": sampler, "max_error": max_error, "gate": gate,
        "quantiles": _numbers(quantiles, "--quantiles"), "device": device, "dtype": dtype, "block_size": block_size,
        "workers": workers, "scheduler": scheduler, "batch": batch, "work": work, "zarr_format": zarr_format,
        "dry_run": dry_run or None, "overwrite": overwrite or None, "append": append or None, "refit": refit or None,
        "fail_if_empty": fail_if_empty or None, "report": report, "stac": stac,
    }  # fmt: skip
    _talk(verbose, quiet=quiet)
    from geodiff.job import FillJob
    from geodiff.pipeline import run

    chosen = {name: value for name, value in given.items() if value is not None}
    record = run(FillJob.from_toml(job, **chosen) if job else FillJob.build(**chosen), quiet=quiet)
    typer.echo(record.to_json() if as_json else _summary(record))
    raise typer.Exit(record.exit_code)


def _summary(record: Any) -> str:
    """What a person wants to know after a fill."""
    if record.status == "planned":
        return str(record.variables["text"])
    if record.status == "up to date":
        return f"{record.target} is this very product already; nothing to do"
    lines = []
    if record.status == "nothing to fill":
        lines.append(f"{record.source} has no gap to fill; the product is a copy with its layers")
    for name, facts in record.variables.items() if not lines else ():
        line = f"{name}: filled {facts['filled']:,} of {facts['to_fill']:,} missing values"
        if facts["refused"]:
            line += f" ({facts['refused']:,} left empty: the expected error is too large, or the band known nowhere)"
        check = facts["self_check"]
        if check.get("coverage90") is not None:
            line += (
                f"; 90 % intervals held {100 * check['coverage90']:.0f} % of {check['pixels']:,} hidden known values"
            )
        lines.append(line)
    lines += [f"failed: {key}: {error}" for key, error in record.failed_blocks.items()]
    lines += [f"wrote {path}" for path in record.products]
    return "\n".join(lines)


@app.command(epilog=_examples("geodiff info scene.tif", "geodiff info sst.zarr --json"))
def info(
    source: Annotated[str, typer.Argument(help="Anything `fill` takes.")],
    qa: Annotated[list[str] | None, typer.Option(help="Quality flags, as for fill.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Show a source: grid, CRS, bands, dates, encoding, gaps by reason, what would be left out, a thumbnail."""
    _talk(verbose, quiet=quiet)
    from geodiff.inspection import describe, render

    facts = describe(source, qa=tuple(qa) if qa else ("auto",))
    typer.echo(json.dumps(facts, indent=1, default=str) if as_json else render(facts))


@app.command(epilog=_examples("geodiff demo", "geodiff demo --folder out --members 8"))
def demo(
    folder: Annotated[Path, typer.Option(help="Where the products go.")] = Path("geodiff-demo"),
    members: Annotated[int, typer.Option(help="Realisations to draw.")] = 4,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fill a real Landsat scene in which a cloud was drawn, and compare with what it hid."""
    _talk(verbose, quiet=quiet)
    from geodiff.demo import run_demo

    facts = run_demo(folder, members=members, quiet=quiet)
    typer.echo(json.dumps(facts, indent=1) if as_json else facts["text"])


@app.command(epilog=_examples("geodiff doctor", "geodiff doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Show versions, devices, and whether PROJ and GDAL are sound."""
    from geodiff.doctor import examine, render

    facts = examine()
    typer.echo(json.dumps(facts, indent=1) if as_json else render(facts))
    raise typer.Exit(1 if facts["problems"] else 0)


@app.command(epilog=_examples("geodiff init", "geodiff init my-job.toml", "geodiff fill --job my-job.toml"))
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("job.toml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a commented job file with every option at its default."""
    from geodiff.errors import TargetError
    from geodiff.jobfile import commented_toml

    if path.exists() and not overwrite:
        raise TargetError(f"{path} is there already; use --overwrite, or give another name")
    path.write_text(commented_toml())
    typer.echo(f"wrote {path}; edit it, then: geodiff fill --job {path}")


@app.command(epilog=_examples("geodiff schema > job.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the job file."""
    from geodiff.job import FillJob

    typer.echo(json.dumps(FillJob.model_json_schema(), indent=1))


def _version(value: bool) -> None:
    if value:
        from geodiff import __version__

        typer.echo(f"geodiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Options of geodiff itself."""
