"""`geodiff model show|calibrate|prune|export`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing

__all__ = ["model"]

model = typer.Typer(
    help="Show, calibrate, prune or export a model.",
    no_args_is_help=True,
    epilog=examples(
        "geodiff model show default",
        "geodiff model calibrate default scene.tif --out my-model",
        "geodiff model prune default --share 0.25 --out smaller",
        "geodiff model export default --out for-the-hub",
    ),
)
app.add_typer(model, name="model")

Name = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or the name of a shipped one.")]
Out = Annotated[Path, typer.Option(parser=options.path, help="The folder to write.")]
Replace = Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace OUT.")]


@model.command(epilog=examples("geodiff model show default", "geodiff model show my-model --json"))
def show(name: Name = "default", as_json: Json = False, verbose: Verbose = 0, quiet: Quiet = False) -> None:
    """Show a model's card, size, hash and calibration; checks the hash."""
    talk(verbose, quiet=quiet)
    from geodiff.diffusion.exporting import describe

    facts = describe(name)
    if as_json:
        say(json.dumps(facts, indent=1))
        return
    card = facts.pop("card")
    say("\n".join(f"{key:>12}  {_shown(value)}" for key, value in facts.items()))
    say(f"\n{card}")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


@model.command(epilog=examples("geodiff model calibrate default scene.tif --out my-model"))
def calibrate(
    name: Name,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCES", help="Rasters to calibrate on.")],
    out: Out,
    variable: options.Variable = None,
    bands: options.Bands = None,
    qa: options.Qa = None,
    mask: options.Mask = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    overwrite: Replace = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Write a copy of a model whose standard errors are calibrated on your rasters."""
    talk(verbose, quiet=quiet)
    from geodiff.learning import recalibrate

    named = chosen(what_is_missing(variable, bands, qa, mask, nodata, valid_range))
    calibration = recalibrate(name, sources, out, overwrite=overwrite, quiet=quiet, **named)
    if as_json:
        say(json.dumps({"model": str(out), **asdict(calibration)}, indent=1))
        return
    say(f"wrote {out}: standard errors times {calibration.factors}, departures times {calibration.spread}")


@model.command(epilog=examples("geodiff model prune default --share 0.25 --out smaller"))
def prune(
    name: Name,
    out: Out,
    share: Annotated[float, typer.Option(help="Share of each block's inner channels to remove.")] = 0.25,
    overwrite: Replace = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Remove channels (structured pruning); `geodiff train --from OUT` then regains the accuracy lost."""
    talk(verbose, quiet=quiet)
    from geodiff.diffusion.exporting import prune_folder

    facts = prune_folder(name, out, share, overwrite=overwrite)
    if as_json:
        say(json.dumps({"model": str(out), **facts}, indent=1))
        return
    say(
        f"wrote {out}: {facts['parameters']:,} of {facts['before']:,} parameters, {facts['gflop']:.2f} of "
        f"{facts['gflop_before']:.2f} GFLOP a window; its calibration is no longer its own: "
        f"geodiff train SCENES --from {out} --out BETTER"
    )


@model.command(epilog=examples("geodiff model export default --out for-the-hub"))
def export(
    name: Name,
    out: Out,
    overwrite: Replace = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Copy a model as a folder for the Hub: float16 safetensors, configuration and card, no executable code."""
    talk(verbose, quiet=quiet)
    from geodiff.diffusion.folder import model_hash
    from geodiff.diffusion.shipping import copied

    copied(name, out, overwrite=overwrite)
    if as_json:
        say(json.dumps({"model": str(out), "sha256": model_hash(out)}, indent=1))
        return
    say(f"wrote {out}; upload it with: huggingface-cli upload OWNER/NAME {quote(str(out))}")
