"""`geodiff score`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from geodiff.cli import options
from geodiff.cli.app import Json, Quiet, Verbose, app, chosen, examples, say, talk, what_is_missing, words

__all__ = ["score"]


@app.command(
    epilog=examples(
        "geodiff score scene.tif",
        "geodiff score sst.zarr --variable sst --dates 2024-06-01:2024-06-30 --out sst-score",
        "geodiff score scene.tif --fillers auto,laplace --peers gdal,pykrige --quick",
        "geodiff score scene.tif --realism",
        "geodiff score LC08_L2SP_015033_20240611/ --bands SR_B4,SR_B5 --trials 24 --json > score.json",
    )
)
def score(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Anything `fill` takes.")],
    variable: options.Variable = None,
    bands: options.Bands = None,
    dates: Annotated[str | None, typer.Option(help="Hide pixels only on these dates, D[,D..] or A:B.")] = None,
    qa: options.Qa = None,
    mask: options.Mask = None,
    nodata: options.Nodata = None,
    valid_range: options.ValidRange = None,
    fillers: Annotated[str | None, typer.Option(help="Fillers, F[,F..]; default: all that apply.")] = None,
    peers: Annotated[
        str | None, typer.Option(help="Other packages' methods, P[,P..] or none; default: all (the extra `score`).")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Gaps to hide (default 12).")] = None,
    members: Annotated[int | None, typer.Option(min=0, help="Independent draws to score (default 8).")] = None,
    model: options.Model = None,
    seed: Annotated[int, typer.Option(help="Random seed of the hidden gaps and the draws.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="4 gaps, 3 draws, little tuning: a first look.")
    ] = False,
    realism: Annotated[bool, typer.Option("--realism", metavar="", help="Add texture distances to the truth.")] = False,
    encoder: Annotated[str | None, typer.Option(help="Encoder for --realism: texture (default) or inception.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for score.json, league.csv and pictures.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Hide known pixels under realistic gaps, fill them with every filler and peer, and rank the methods."""
    talk(verbose, quiet=quiet)
    from geodiff.errors import JobError
    from geodiff.job import FillJob
    from geodiff.score import Budget
    from geodiff.score import score as run_score

    given = {**what_is_missing(variable, bands, qa, mask, nodata, valid_range), "dates": dates, "model": model}
    job = FillJob.build(source=source, target="score.tif", seed=seed, **chosen(given))
    budget = Budget.quick() if quick else Budget()
    changed = chosen({"trials": trials, "draws": members})
    if encoder is not None and not realism:
        raise JobError(f"--encoder {encoder} belongs to --realism; give both, or leave it out")
    changed |= {"encoder": encoder or "texture"} if realism else {}
    wanted = None if peers is None else tuple(p for p in words(peers) or () if p != "none")
    league = run_score(job, budget=replace(budget, **changed), fillers=words(fillers), peers=wanted, quiet=quiet)
    paths = league.save(out) if out is not None else []
    say(json.dumps(league.facts(), indent=1) if as_json else league)
    for path in paths if not as_json else ():
        say(f"wrote {path}")
