"""`geodiff restore`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing, words

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
    task: Annotated[str, typer.Option(help="denoise, superres, inpaint, or several, such as denoise,inpaint.")],
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the noise, in units of the variable (default: estimated band by band)."
        ),
    ] = None,
    poisson: Annotated[
        float | None,
        typer.Option(help="Photon noise: units per photon; --noise is then the read noise."),
    ] = None,
    factor: Annotated[int | None, typer.Option(help="Upscaling factor of superres: 2 or 4 (default 2).")] = None,
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
    """Denoise, upscale or repair SOURCE; write TARGET with its standard error, source and reason layers."""
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
    say(record.to_json() if as_json else str(record))
    raise typer.Exit(record.exit_code)
