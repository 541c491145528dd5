"""`geodiff restore`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing, words
from geodiff.credentials import legible

__all__ = ["restore"]


@app.command(
    epilog=examples(
        "geodiff restore frame.img frame.tif --task denoise",
        "geodiff restore frame.png clear.png --task denoise,inpaint --detect dropouts --members 8",
        "geodiff restore frame.tif fine.tif --task superres --factor 4",
        "geodiff restore dark.tif clear.tif --task denoise --poisson 2.3 --noise 4",
    )
)
def restore(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Anything `fill` takes.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help=".tif, .zarr, .nc, .png, .xml (PDS4), or folder/.")],
    task: Annotated[str, typer.Option(help="denoise, superres, inpaint, or several: denoise,inpaint.")],
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the noise, in units of the variable (default: estimated band by band)."
        ),
    ] = None,
    poisson: Annotated[
        float | None,
        typer.Option(help="Photon noise: how many units one photon makes; --noise is then the read noise."),
    ] = None,
    factor: Annotated[int | None, typer.Option(help="Pixels a side superres makes of one: 2 or 4.")] = None,
    variable: options.Variable = None,
    bands: options.Bands = None,
    qa: options.Qa = None,
    mask: options.Mask = None,
    fillable: options.Fillable = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    buffer: options.Buffer = None,
    detect: options.Detect = None,
    model: options.Model = None,
    members: options.Members = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    zarr_format: options.ZarrFormat = None,
    overwrite: options.Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Denoise, enlarge or repair the frames of SOURCE; write TARGET with its error, source and reason layers."""
    given: dict[str, Any] = {
        "source": source, "target": target, "task": task, "noise": noise, "poisson": poisson, "factor": factor,
        **what_is_missing(variable, bands, qa, mask, nodata, valid_range),
        "fillable": fillable, "buffer": buffer, "detect": words(detect),
        "model": model, "members": members, "seed": seed, "steps": steps, "device": device, "dtype": dtype,
        "zarr_format": zarr_format, "overwrite": overwrite or None,
    }  # fmt: skip
    talk(verbose, quiet=quiet)
    from geodiff.restoring import RestoreJob, run

    record = run(RestoreJob.build(**chosen(given)), quiet=quiet)
    say(record.to_json() if as_json else _summary(record))
    raise typer.Exit(record.exit_code)


def _summary(record: Any) -> str:
    """What a person wants to know after a restoration."""
    if record.status == "up to date":
        return f"{record.target} is this very product already; nothing to do"
    lines = [line for name, facts in record.variables.items() for line in _told(name, facts)]
    return "\n".join([*lines, *(f"wrote {path}" for path in record.products)])


def _told(name: str, facts: dict[str, Any]) -> list[str]:
    rows, columns = facts["shape"][-2:]
    text = f"{legible(name, lines=False)}: {rows} x {columns} pixels"
    if facts["missing"]:
        text += f", {100 * facts['missing'] / facts['values']:.2g} % missing, {facts['filled']:,} values filled"
    return [text, *(f"  noise of {', '.join(bands)}: {level}" for level, bands in _alike(facts["noise"]).items())]


def _alike(noise: dict[str, float | list[float]]) -> dict[str, list[str]]:
    """Bands by their level of noise as it is printed: one line for all that share one."""
    bands: dict[str, list[str]] = {}
    for band, level in noise.items():
        bands.setdefault(f"standard deviation {_level(level)}" if level else "none found", []).append(band)
    return bands


def _level(level: float | list[float]) -> str:
    return f"{level:.4g}" if isinstance(level, float) else ", ".join(f"{n:.4g}" for n in level)
