"""`reconstruct-planetary`: the damaged frames of a folder made whole; `python -m flows.planetary FOLDER OUT`.

PDS, VICAR and ISIS products, PNG and JPEG frames: what is damaged is found, restored and shown before and after; what
lies on the ground becomes a mosaic. What is done already is told by the products themselves. No server is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows.fill import GPU, passing
from flows.finding import called
from flows.frames import FrameRecord, clashes, frame_jobs, merge_new, reconstruct, refused
from flows.local import run_alone, run_here
from flows.options import add_many_options
from flows.scenes import on_gpu
from flows.telling import SomeFailedError, Teller, linked, plain, source_name
from geodiff.credentials import redacted
from geodiff.restoring import RestoreJob

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

__all__ = ["FramesFailedError", "main", "reconstruct_frame", "reconstruct_planetary"]

TAG = "geodiff-restore"
"""On every frame: `prefect concurrency-limit create geodiff-restore N` holds across flow runs."""


class FramesFailedError(SomeFailedError):
    """Some frames could not be restored; the products of the others are delivered."""

    what = "frames"


@task(
    name="reconstruct-frame",
    task_run_name=source_name,
    tags=[TAG],
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=passing,
)
def reconstruct_frame(job: RestoreJob, every: bool = False, pages: bool = True) -> FrameRecord:
    """Restore one frame where it is damaged, unless its product already exists."""
    record = reconstruct(job, every=every, pages=pages)
    get_run_logger().info("%s: %s, %.2f %% damaged", called(job.source), record.status, 100 * record.damaged)
    return record


@flow(name="reconstruct-planetary", persist_result=False)
def reconstruct_planetary(
    job: RestoreJob,
    kind: str = "",
    every: bool = False,
    mosaic: bool = True,
    at_once: Annotated[int, Field(ge=1)] = 1,
    retries: Annotated[int, Field(ge=0)] = 3,
    backoff_seconds: Annotated[float, Field(ge=0)] = 10,
    timeout_minutes: Annotated[float, Field(gt=0)] = 240,
    pages: bool = True,
) -> list[FrameRecord]:
    """Find the damaged frames of a folder and restore them; only what is new.

    Parameters
    ----------
    job : the options of every frame; `source` is a folder, a glob or one frame, `target` the folder of products.
    kind : `.tif`, `.png` or `.xml` (a PDS4 label with its image); default PNG for PNG and JPEG frames, else GeoTIFF.
    every : restore sound frames too.
    mosaic : merge the products that lie on one ground.
    at_once : frames at a time.
    retries : how often a frame is tried again after a failure of disk, network or time.
    backoff_seconds : the wait before the first retry; it doubles each time.
    timeout_minutes : the time one try at one frame may take.
    pages : write an HTML report beside each product.

    Raises
    ------
    FramesFailedError
        After all frames were tried, where some failed.
    GeodiffError
        Before any frame was tried, where the job cannot be used.
    """
    jobs = frame_jobs(job, kind)
    records = clashes(jobs)
    clashing = {record.frame for record in records}
    patient = reconstruct_frame.with_options(
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_seconds),
        timeout_seconds=timeout_minutes * 60,
        tags=[TAG, GPU] if on_gpu(job.scene) else [TAG],
    )
    given = [{"job": job, "every": every, "pages": pages} for job in jobs if redacted(job.source) not in clashing]
    records += _each(patient, given, at_once)
    for line in merge_new(records, job.target.rstrip("/")) if mosaic else ():
        get_run_logger().info("mosaic: %s", line)
    _TELLER.publish(records)
    if any(record.failed for record in records):
        raise FramesFailedError(records)
    return records


def _each(patient: Task[..., FrameRecord], given: Sequence[dict[str, Any]], at_once: int) -> list[FrameRecord]:
    """What became of each frame, a task for each set of parameters."""
    threads: ThreadPoolTaskRunner[FrameRecord] = ThreadPoolTaskRunner(max_workers=at_once)
    with threads as runner:
        futures = [runner.submit(patient, parameters) for parameters in given]
        return [_outcome(each["job"], future) for each, future in zip(given, futures, strict=True)]


def _outcome(job: RestoreJob, future: PrefectFuture[FrameRecord]) -> FrameRecord:
    """The record of a frame, whether it went well or not."""
    outcome = future.result(raise_on_failure=False)
    return outcome if isinstance(outcome, FrameRecord) else refused(job, outcome)


def _row(record: FrameRecord) -> dict[str, Any]:
    return {
        "frame": record.name,
        "status": record.status,
        "damaged %": round(100 * record.damaged, 2),
        "filled": record.filled,
        "noise": record.noise,
        "seconds": record.seconds,
        "before and after": record.picture,
        "why": record.message,
    }


def _cells(record: FrameRecord) -> list[str]:
    figures = (f"{100 * record.damaged:.2f} %", f"{record.filled:,}", plain(record.noise), plain(record.message))
    return [linked(record.name, record.page), record.status, *figures]


def _detail(record: FrameRecord) -> str:
    return f", {100 * record.damaged:.2g} % damaged; {record.picture}" if record.status == "done" else ""


_HEAD = ["frame", "status", "damaged", "filled", "noise", "why"]
_TELLER = Teller("frames", "reconstructed-frames", _row, _HEAD, _cells, _detail)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.planetary",
        description="Find the damaged frames of FOLDER, restore them into OUT, and show them before and after.",
        epilog="exit codes: 0 all is well, 1 some frames failed and the others are delivered, 2 bad usage or input",
    )
    parser.add_argument("folder", help="folder of PDS, VICAR, ISIS, PNG or JPEG frames, or a glob in quotes")
    parser.add_argument("out", help="folder of products")
    parser.add_argument("--task", default="inpaint", help="inpaint (default), denoise, or denoise,inpaint")
    parser.add_argument("--detect", default="dropouts", help="damage to detect (default dropouts)")
    parser.add_argument("--every", action="store_true", help="restore undamaged frames too")
    parser.add_argument("--kind", default="", help=".tif, .png or .xml (PDS4); default as the frame")
    parser.add_argument("--no-mosaic", action="store_true", help="merge nothing")
    for option in ("noise", "members", "seed", "steps", "nodata", "model", "device", "dtype", "fillable"):
        described = str(RestoreJob.model_fields[option].description)
        parser.add_argument(f"--{option}", metavar="X", help=described)
    parser.add_argument("--overwrite", action="store_true", help="replace products made with other options")
    add_many_options(parser, "frame")
    return parser


_GIVEN = ("task", "noise", "members", "seed", "steps", "nodata", "model", "device", "dtype", "fillable", "overwrite")


_OPTIONS = ("kind", "every", "at_once", "retries", "timeout_minutes", "pages")


def _job(chosen: argparse.Namespace) -> RestoreJob:
    given = {name: getattr(chosen, name) for name in _GIVEN if getattr(chosen, name) is not None}
    detect = tuple(word.strip() for word in chosen.detect.split(",") if word.strip())
    return RestoreJob.build(source=chosen.folder, target=f"{chosen.out.rstrip('/')}/", detect=detect, **given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow here and now; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    return run_here(lambda: _here(chosen), verbose=chosen.verbose)


def _here(chosen: argparse.Namespace) -> int:
    """Run the flow and print what came of it; returns the exit code."""
    job, options = _job(chosen), {name: getattr(chosen, name) for name in _OPTIONS}
    return _TELLER.deliver(lambda: reconstruct_planetary(job, mosaic=not chosen.no_mosaic, **options))


if __name__ == "__main__":
    run_alone(main)
