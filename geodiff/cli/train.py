"""`geodiff train`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing

if TYPE_CHECKING:
    from geodiff.diffusion.trainconfig import TrainConfig
    from geodiff.learning import Learnt

__all__ = ["train"]

_ANEW = {"patches": 4000, "frames": 0, "minutes": 120.0}
"""What training from nothing takes where nothing else is said."""


@app.command(
    epilog=examples(
        "geodiff train scene.tif --from default --out my-model --minutes 15",
        "geodiff train scenes/*.tif --out my-model --config training.toml --work build/training",
        "geodiff train scenes/*.tif --out my-model --work build/training --resume",
        "geodiff fill scene.tif filled.tif --model my-model",
    )
)
def train(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCES", help="Rasters to train on, with or without gaps: anything `fill` takes."),
    ],
    out: Annotated[Path, typer.Option(parser=options.path, help="The model folder to write.")],
    begin_from: Annotated[str | None, typer.Option("--from", help="Fine-tune this model: a folder or a name.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(parser=options.path, help="TOML or JSON with any field of the training configuration."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(parser=options.path, help="Checkpoints, patches and logs; default beside OUT.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Resume from the checkpoint in the work folder.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    steps: Annotated[int | None, typer.Option(help="Stop after this many steps.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after this many validations without improvement.")] = None,
    loss: Annotated[str | None, typer.Option(help="mse, huber, or MODULE:FUNCTION.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of features dropped in training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of patches, crops and noise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda[:i], mps; default cpu.")] = None,
    variable: options.Variable = None,
    bands: options.Bands = None,
    qa: options.Qa = None,
    mask: options.Mask = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace OUT.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a network on your rasters, or fine-tune the shipped one; they may have gaps."""
    talk(verbose, quiet=quiet)
    from geodiff.learning import learn

    given: dict[str, Any] = {
        "begin_from": begin_from, "minutes": minutes, "steps": steps, "patience": patience, "loss": loss,
        "dropout": dropout, "seed": seed, "device": device, "work": work,
    }  # fmt: skip
    made = _configuration(out, config, chosen(given))
    named = chosen(what_is_missing(variable, bands, qa, mask, nodata, valid_range))
    learnt = learn(sources, out, made, resume=resume, overwrite=overwrite, quiet=quiet, **named)
    if not learnt.held_out:
        return  # one of several processes; the first one speaks
    if as_json:
        say(json.dumps(asdict(learnt), indent=1))
        return
    gained = f", {learnt.before:.3f} before" if learnt.before is not None else ""
    say(
        f"wrote {learnt.model}: {learnt.steps:,} steps, {learnt.minutes:.0f} min ({learnt.stopped}){_kept(learnt)}; on "
        f"{learnt.held_out} patches set aside the value's RMSE is {learnt.after:.3f} of kriging's{gained}"
    )
    if learnt.left_out:
        say(f"left out {len(learnt.left_out)} of {len(sources)} sources: {', '.join(learnt.left_out)}")


def _kept(learnt: Learnt) -> str:
    """Whose weights the model has, where they are not those of the last step."""
    if learnt.kept == learnt.steps:
        return ""
    if learnt.kept == 0 and learnt.before is not None:
        return ", none of which did better than the model it began from, whose weights are kept"
    return f", of which step {learnt.kept:,} did best and is kept"


def _configuration(out: Path, path: Path | None, given: dict[str, Any]) -> TrainConfig:
    """What was given over the file's fields, and those over what fine-tuning or training from nothing takes."""
    from geodiff.diffusion.folder import find_folder
    from geodiff.diffusion.trainconfig import read_config, read_fields
    from geodiff.learning import FINE_TUNING

    told = read_fields(path) | given
    if isinstance(told.get("begin_from"), str):
        told["begin_from"] = find_folder(told["begin_from"])
    standing = FINE_TUNING if told.get("begin_from") else _ANEW
    return read_config(None, {**standing, "work": out.with_name(f"{out.name}.training")}, **told)
