"""Verbs that look and tell: `info`, `demo`, `doctor`, `init`, `schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing

__all__ = ["demo", "doctor", "info", "init", "schema"]


@app.command(
    epilog=examples(
        "geodiff info scene.tif",
        "geodiff info scene.tif --qa sentinel2-scl:SCL.tif --mask clouds.gpkg",
        "geodiff info sst.zarr --json",
    )
)
def info(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Anything `fill` takes.")],
    qa: options.Qa = None,
    mask: options.Mask = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    fillable: options.Fillable = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Show a source: grid, CRS, bands, dates, encoding, gaps by reason, what would not be filled, a thumbnail."""
    talk(verbose, quiet=quiet)
    from geodiff.inspection import describe, render

    given = {**what_is_missing(None, None, qa, mask, nodata, valid_range), "fillable": fillable}
    facts = describe(source, **chosen(given))
    say(json.dumps(facts, indent=1, default=str) if as_json else render(facts))


@app.command(epilog=examples("geodiff demo", "geodiff demo --folder out --members 8"))
def demo(
    folder: Annotated[
        Path, typer.Option(parser=options.path, help="Where the products go.")
    ] = Path("geodiff-demo"),
    members: Annotated[int, typer.Option(help="Ensemble members to draw.")] = 4,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fill a synthetic cloud in a real Landsat scene, and compare with the true pixels."""
    talk(verbose, quiet=quiet)
    from geodiff.demo import run_demo

    facts = run_demo(folder, members=members, quiet=quiet)
    say(json.dumps(facts, indent=1) if as_json else facts["text"])


@app.command(epilog=examples("geodiff doctor", "geodiff doctor --json"))
def doctor(as_json: Json = False, verbose: Verbose = 0, quiet: Quiet = False) -> None:
    """Check the installation: versions, devices, PROJ and GDAL."""
    talk(verbose, quiet=quiet)
    from geodiff.doctor import examine, render

    facts = examine()
    say(json.dumps(facts, indent=1) if as_json else render(facts))
    raise typer.Exit(1 if facts["problems"] else 0)


@app.command(epilog=examples("geodiff init", "geodiff init my-job.toml", "geodiff fill --job my-job.toml"))
def init(
    path: Annotated[
        Path, typer.Argument(parser=options.path, metavar="PATH", help="The file to write.")
    ] = Path("job.toml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace the file.")] = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Write a commented job file with every option at its default."""
    talk(verbose, quiet=quiet)
    from geodiff.errors import TargetError
    from geodiff.identity import assert_writable
    from geodiff.jobfile import commented_toml

    if path.exists() and not overwrite:
        raise TargetError(f"{path} already exists; use --overwrite, or give another name")
    assert_writable(str(path.parent), "the folder of PATH")
    path.write_text(commented_toml())
    say(f"wrote {path}; edit it, then: geodiff fill --job {path}")


@app.command(epilog=examples("geodiff schema > job.schema.json"))
def schema(verbose: Verbose = 0, quiet: Quiet = False) -> None:
    """Print the JSON Schema of the job file."""
    talk(verbose, quiet=quiet)
    from geodiff.job import FillJob

    say(json.dumps(FillJob.model_json_schema(), indent=1))
