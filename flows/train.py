"""`train-model`: fine-tune a model on rasters, and replace the last good one only by a better one.

`python -m flows.train OUT SOURCES... --minutes M`. A stopped run goes on from its checkpoint; no server is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import Field

from flows.fill import GPU, passing
from flows.finding import find_scenes
from flows.local import local_prefect, run_alone, run_here
from geodiff.errors import GateError, InputError
from geodiff.io.places import local_path
from geodiff.learning import Learnt, next_model

__all__ = ["main", "train_model", "train_once"]

TABLE = "trained-model"
"""Key of the table artifact."""


@task(name="train", cache_policy=NO_CACHE, persist_result=False, tags=[GPU], retry_condition_fn=passing)
def train_once(sources: list[str], out: str, begin_from: str, settings: dict[str, Any]) -> Learnt:
    """Train in a folder beside OUT, and deliver where the model is better than the one it began from."""
    rasters = [raster for source in sources for raster in _rasters(source)]
    return next_model(rasters, Path(out), begin_from, settings)


def _rasters(source: str) -> list[str]:
    """The rasters of a folder one by one, as `fill-scenes` takes them; anything else as it is, stacks of dates too."""
    local = local_path(source)
    is_folder = source.endswith("/") if local is None else local.is_dir()
    rasters = find_scenes(source) if is_folder else [source]
    if not rasters:
        raise InputError(f"{source} holds no rasters to learn from; name another folder, or rasters")
    return rasters


@flow(name="train-model", persist_result=False)
def train_model(
    sources: list[str],
    out: str,
    begin_from: str = "",
    minutes: Annotated[float, Field(gt=0)] = 15,
    settings: dict[str, Any] | None = None,
    retries: Annotated[int, Field(ge=0)] = 1,
) -> Learnt:
    """Fine-tune a model on rasters.

    Parameters
    ----------
    sources : rasters to learn from, gaps and all, or folders of them; a glob is one stack of dates.
    out : the model folder; it is replaced only by a model that does better on the part set aside.
    begin_from : a model folder or name; default OUT where it is there, else the shipped model.
    minutes : training time.
    settings : any field of the training configuration.
    retries : how often a run is tried again after a failure of disk or time; it goes on from its checkpoint.

    Raises
    ------
    GateError
        Where the new model is no better; the last good one stays.
    """
    patient = train_once.with_options(retries=retries, retry_delay_seconds=30)
    learnt = patient(sources, out, begin_from, {**(settings or {}), "minutes": minutes})
    get_run_logger().info("%s", learnt)
    if learnt.left_out:
        get_run_logger().warning("nothing could be learnt from %s", ", ".join(learnt.left_out))
    create_table_artifact(key=TABLE, table=[asdict(learnt)], description=f"{learnt.steps} steps for {out}")
    if not learnt.delivered:
        raise GateError(
            f"the new model has {learnt.after:.3f} on the part set aside, the one it began from {learnt.before:.3f}; "
            f"{out} stays as it was; train longer or on more rasters"
        )
    return learnt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.train",
        description="Fine-tune a model on SOURCES and write it to OUT where it is better than before.",
        epilog="exit codes: 0 delivered, 2 bad input, 5 no better than the last good model, which stays",
    )
    parser.add_argument("out", help="the model folder")
    parser.add_argument("sources", nargs="+", help="rasters to learn from, or folders of them")
    parser.add_argument("--from", dest="begin_from", default="", help="a model; default OUT, else the shipped one")
    parser.add_argument("--minutes", type=float, default=15, help="training time (default 15)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show Prefect's log")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow here and now; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    return run_here(lambda: _here(chosen), verbose=chosen.verbose)


def _here(chosen: argparse.Namespace) -> int:
    """Run the flow and print what came of it; returns the exit code."""
    with local_prefect():
        learnt = train_model(chosen.sources, chosen.out, chosen.begin_from, chosen.minutes)
    print(f"wrote {learnt.model}: {learnt.after:.3f} on the part set aside, {learnt.before:.3f} before")  # noqa: T201
    if learnt.left_out:
        print(f"left out: {', '.join(learnt.left_out)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    run_alone(main)
