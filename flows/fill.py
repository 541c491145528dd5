"""`fill-scenes`: every scene of a folder, only what is new; `python -m flows.fill FOLDER OUT` needs no server.

One task is one scene: a small job goes in, a small record comes out. What is done already is told by the product
itself, so a run that was killed, repeated or scheduled twice does nothing twice. Each product gets its HTML report and
its STAC Item, and the folder of products a static STAC catalogue; the server gets tables and pictures.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows.local import run_alone, run_here
from flows.options import add_fill_options, add_many_options, job_of
from flows.scenes import (
    DELIVERED,
    SceneRecord,
    fill_new,
    list_products,
    on_gpu,
    picture,
    refusal,
    scene_jobs,
    settled,
    twins,
)
from flows.telling import SomeFailedError, Teller, linked, plain, source_name
from geodiff.credentials import redacted
from geodiff.errors import ClusterError, InputError, LockedError, WriteError
from geodiff.job import FillJob

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

__all__ = ["GPU", "ScenesFailedError", "fill_scene", "fill_scenes", "main", "passing"]

TAG = "geodiff-fill"
"""On every scene: `prefect concurrency-limit create geodiff-fill N` holds across flow runs."""
GPU = "geodiff-gpu"
"""On the scenes whose network runs on a GPU; `python -m flows.deploy` lets one of them run at a time."""
_NETWORK = re.compile(
    r"(?:can(?:no|')t|could(?: not|n't)|failed to) (?:connect|resolve)|name resolution|timed out|slow ?down|"
    r"connection.{0,20}(?:refused|reset|closed|aborted)|service unavailable|server broke off|"
    r"http.{0,20}\b(?:429|50[0234])\b",
    re.IGNORECASE,
)
"""What those who read over a network say when it, or a server, is away for a while: they have no error in common."""


class ScenesFailedError(SomeFailedError):
    """Some scenes could not be filled; the products of the others are delivered."""

    what = "scenes"


def passing(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect calls it so
    """Whether trying again can help: a disk, a network, a cluster or the clock failed, or another run has it."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (OSError, ClusterError, WriteError, LockedError)) or bool(_NETWORK.search(str(error)))


@task(
    name="fill-scene",
    task_run_name=source_name,
    tags=[TAG],
    cache_policy=NO_CACHE,  # the product says what is done; hashing arguments would only cost
    persist_result=False,
    retry_condition_fn=passing,
)
def fill_scene(job: FillJob) -> SceneRecord:
    """Fill one scene, unless its product already exists."""
    try:
        record = fill_new(job)
    except LockedError as error:  # no failure, and none to be shown as one when its tries have been
        if _tries_left():
            raise
        get_run_logger().warning("%s: held: %s", redacted(job.source), error)
        return refusal(job, error)
    get_run_logger().info("%s: %s, filled %d of %d", record.scene, record.status, record.filled, record.to_fill)
    shown = picture(record)
    if shown:
        create_image_artifact(shown, key=_picture_key(record), description=f"{record.target}: before and after")
    return record


def _tries_left() -> bool:
    """Whether this task is tried again if it fails now."""
    context = TaskRunContext.get()
    return context is not None and context.task_run.run_count <= context.task.retries


def _picture_key(record: SceneRecord) -> str:
    """One key a product, so that the server keeps its earlier pictures too; keys are small letters and hyphens."""
    name = Path(record.target.rstrip("/")).stem.lower()
    key = re.sub("[^a-z0-9]+", "-", name).strip("-")
    if not key or not name.isascii():  # what is left of it may be left of others too
        key = f"{key}-{sha256(name.encode()).hexdigest()[:8]}".strip("-")
    return f"filled-{key}"


@flow(name="fill-scenes", persist_result=False)
def fill_scenes(
    job: FillJob,
    kind: str = "",
    at_once: Annotated[int, Field(ge=1)] = 1,
    retries: Annotated[int, Field(ge=0)] = 3,
    backoff_seconds: Annotated[float, Field(ge=0)] = 10,
    timeout_minutes: Annotated[float, Field(gt=0)] = 240,
    pages: bool = True,
    dask: str = "",
) -> list[SceneRecord]:
    """Fill every scene of a folder that has no product yet, or whose source has changed.

    Parameters
    ----------
    job : the options of every scene; `source` is a folder, a glob, a STAC catalogue or one scene, `target` the folder
        of products.
    kind : `.tif`, `.zarr`, `.nc`, `.png` or `/`; default as the source is.
    at_once : scenes at a time.
    retries : how often a scene is tried again after a failure of disk, network or time.
    backoff_seconds : the wait before the first retry; it doubles each time.
    timeout_minutes : the time one try at one scene may take; the next goes on where it stopped.
    pages : write an HTML report beside each product.
    dask : run the scenes as tasks of a Dask cluster, by the address of its scheduler or `local`; needs prefect-dask.

    Raises
    ------
    ScenesFailedError
        After all scenes were tried, where some failed.
    GeodiffError
        Before any scene was tried, where the job cannot be used.
    """
    records, open_jobs = _standing(scene_jobs(job, kind, pages=pages))
    patient = fill_scene.with_options(
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_seconds),
        retry_jitter_factor=0.5,  # scenes that lost their disk together do not come back together
        timeout_seconds=timeout_minutes * 60,
        tags=[TAG, GPU] if on_gpu(job) else [TAG],
    )
    runner = _runner(at_once, dask)
    if open_jobs:  # or a cluster would start for nothing
        with runner:
            records += _fill_each(patient, open_jobs, runner)
    if any(record.status in DELIVERED for record in records):
        list_products(job)
    _TELLER.publish(records)
    if any(record.failed for record in records):
        raise ScenesFailedError(records)
    return records


def _standing(jobs: Sequence[FillJob]) -> tuple[list[SceneRecord], list[FillJob]]:
    """Records of the scenes that need no task, as one would be kept in Prefect's database for good; and the others."""
    records, open_jobs = list(twins(jobs)), []
    clashing = {record.scene for record in records}
    for job in jobs:
        if redacted(job.source) in clashing:
            continue
        if (record := settled(job)) is not None:
            records.append(record)
        else:
            open_jobs.append(job)
    return records, open_jobs


def _runner(at_once: int, dask: str) -> TaskRunner[Any]:
    """Threads of this process, or the workers of a Dask cluster."""
    if not dask:
        return ThreadPoolTaskRunner(max_workers=at_once)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise InputError("dask needs prefect-dask: pip install prefect-dask; or leave the option out") from None
    if dask == "local":
        return DaskTaskRunner(cluster_kwargs={"n_workers": at_once, "threads_per_worker": 1})
    return DaskTaskRunner(address=dask)


def _fill_each(patient: Task[..., SceneRecord], jobs: Sequence[FillJob], runner: TaskRunner[Any]) -> list[SceneRecord]:
    futures = [runner.submit(patient, {"job": job}) for job in jobs]
    return [_outcome(job, future) for job, future in zip(jobs, futures, strict=True)]


def _outcome(job: FillJob, future: PrefectFuture[SceneRecord]) -> SceneRecord:
    """The record of a scene, whether it went well or not."""
    outcome = future.result(raise_on_failure=False)
    return outcome if isinstance(outcome, SceneRecord) else refusal(job, outcome)


def _row(record: SceneRecord) -> dict[str, Any]:
    return {
        "scene": record.name,
        "status": record.status,
        "filled": record.filled,
        "to fill": record.to_fill,
        "coverage of 90 % intervals": _short(record.coverage90),
        "unfilled": _short(record.unfilled),
        "seam": _short(record.seam),
        "seconds": record.seconds,
        "why": record.message,
    }


def _short(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


def _cells(record: SceneRecord) -> list[str]:
    figures = (
        "" if figure is None else f"{figure:.3f}" for figure in (record.coverage90, record.unfilled, record.seam)
    )
    name = linked(record.name, record.page)
    return [name, record.status, f"{record.filled:,} of {record.to_fill:,}", *figures, plain(record.message)]


def _detail(record: SceneRecord) -> str:
    return f", filled {record.filled:,} of {record.to_fill:,}" if record.to_fill else ""


_HEAD = ["scene", "status", "filled", "coverage of 90 %", "unfilled", "seam", "why"]
_TELLER = Teller("scenes", "filled-scenes", _row, _HEAD, _cells, _detail)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.fill",
        description="Fill every scene of FOLDER that has no product in OUT yet, or whose source has changed.",
        epilog="exit codes: 0 all is well, 1 some scenes failed and the others are delivered, 2 bad usage or input",
    )
    add_fill_options(parser)
    parser.add_argument("--kind", default="", help=".tif, .zarr, .nc, .png or / for a folder; default as the source")
    parser.add_argument("--dask", default="", metavar="ADDRESS", help="scenes as tasks of a Dask cluster, or `local`")
    add_many_options(parser, "scene")
    return parser


_OPTIONS = ("kind", "at_once", "retries", "timeout_minutes", "pages", "dask")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow here and now; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    return run_here(lambda: _here(chosen), verbose=chosen.verbose)


def _here(chosen: argparse.Namespace) -> int:
    """Run the flow and print what came of it; returns the exit code."""
    job, options = job_of(chosen), {name: getattr(chosen, name) for name in _OPTIONS}
    return _TELLER.deliver(lambda: fill_scenes(job, **options))


if __name__ == "__main__":
    run_alone(main)
