"""`geodiff report` and `geodiff view`: look at a finished fill."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from geodiff.cli.app import Json, Quiet, Verbose, app, examples, say, talk

__all__ = ["report", "view"]

Target = Annotated[str, typer.Argument(metavar="TARGET", help="A product of `geodiff fill`.")]


@app.command(epilog=examples("geodiff report filled.tif", "geodiff report filled.zarr --out pages/"))
def report(
    target: Target,
    out: Annotated[str | None, typer.Option(help="HTML file, or a folder for it; default beside TARGET.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Write the HTML report of a product: before and after, standard errors, gaps, checks; one file, no network."""
    talk(verbose, quiet=quiet)
    from geodiff.report import write_report

    written = write_report(target, out)
    say(json.dumps({"report": str(written)}, indent=1) if as_json else f"wrote {written}")


@app.command(epilog=examples("geodiff view filled.zarr", "geodiff view filled.tif --port 8000 --no-browser"))
def view(
    target: Target,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 is any free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", metavar="", help="Open the page in the browser.")
    ] = True,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Serve the report locally with every pixel, for products too large for one file."""
    talk(verbose, quiet=quiet)
    from geodiff.viewer import view as serve_until_interrupted

    serve_until_interrupted(target, port, browser=browser, say=typer.echo)
