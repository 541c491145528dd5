"""`fill-meteorology`: a cube that grows; `python -m flows.meteorology SOURCE TARGET` needs no server.

SOURCE is a cube, or a folder of files of one date each, to which dates are added. A run appends to TARGET (`.zarr` or
`.nc`) those it lacks, fills again the blocks whose neighbours in time changed, and leaves the rest as it is. The fit is
the one of the first run; `--refit` renews it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows.cubes import CubeRecord, append_new, growing
from flows.fill import passing
from flows.local import complain, local_prefect, run_alone, run_here
from flows.options import add_fill_options, add_run_options, job_of
from geodiff.errors import GeodiffError
from geodiff.job import FillJob

if TYPE_CHECKING:
    from prefect import Task

__all__ = ["BlocksFailedError", "append_dates", "fill_meteorology", "main"]

TABLE = "filled-cubes"
"""Key of the table artifact."""


class BlocksFailedError(GeodiffError):
    """The cube is delivered, but some of its blocks could not be filled; the next run tries them again."""

    exit_code = 3

    def __init__(self, record: CubeRecord) -> None:
        self.record = record
        super().__init__(f"{record.target}: {record.status}: {record.message}")


def _cube_name() -> str:
    from prefect.runtime import task_run

    return Path(task_run.parameters["job"].target).name


@task(
    name="append-dates",
    task_run_name=_cube_name,
    tags=["geodiff-fill"],
    cache_policy=NO_CACHE,  # the product says what it holds; hashing arguments would only cost
    persist_result=False,
    retry_condition_fn=passing,
)
def append_dates(job: FillJob) -> CubeRecord:
    """Add to a cube the dates that it lacks."""
    record = append_new(job)
    get_run_logger().info("%s", _line(record))
    return record


@flow(name="fill-meteorology", persist_result=False)
def fill_meteorology(
    job: FillJob,
    retries: Annotated[int, Field(ge=0)] = 3,
    backoff_seconds: Annotated[float, Field(ge=0)] = 10,
    timeout_minutes: Annotated[float, Field(gt=0)] = 240,
) -> CubeRecord:
    """Append to a filled cube the dates that are new in its source, and refill the dates whose neighbours changed.

    Parameters
    ----------
    job : the options of the fill; `source` is a cube or a folder of dated files, `target` a `.zarr` or `.nc`. With a
        `gate`, a cube that does not hold it is refused and the one of before stays.
    retries : how often it is tried again after a failure of disk, network or time.
    backoff_seconds : the wait before the first retry; it doubles each time.
    timeout_minutes : the time one try may take; the next goes on where it stopped.

    Raises
    ------
    BlocksFailedError
        Where some blocks could not be filled; the others are delivered.
    GeodiffError
        Where nothing could be appended; the product is then as it was.
    """
    patient: Task[..., CubeRecord] = append_dates.with_options(
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_seconds),
        timeout_seconds=timeout_minutes * 60,
    )
    record = patient(growing(job))
    create_table_artifact(key=TABLE, table=[_row(record)], description=_line(record))
    if record.failed:
        raise BlocksFailedError(record)
    return record


def _row(record: CubeRecord) -> dict[str, Any]:
    return {
        "cube": Path(record.target).name,
        "status": record.status,
        "dates": record.dates,
        "new": record.new_dates,
        "filled on": record.dates_filled,
        "filled": record.filled,
        "to fill": record.to_fill,
        "coverage of 90 % intervals": None if record.coverage90 is None else round(record.coverage90, 3),
        "seconds": record.seconds,
        "why": record.message,
    }


def _line(record: CubeRecord) -> str:
    line = f"{Path(record.target).name}: {record.status}"
    if record.dates:
        line += f", {record.new_dates} of {record.dates} dates new, filled on {record.dates_filled}"
    return f"{line}: {record.message}" if record.message else line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.meteorology",
        usage="%(prog)s SOURCE TARGET [options]",
        description="Append to TARGET (.zarr or .nc) the dates of SOURCE that it lacks: a cube, or a folder of files "
        "of one date each. Dates whose neighbours arrived late are filled again.",
        epilog="exit codes: 0 all is well, also with nothing to append; 2 bad usage or input; 3 some blocks failed; "
        "5 a gate refused and TARGET is as it was",
    )
    add_fill_options(parser)
    add_run_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow here and now; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    return run_here(lambda: _here(chosen), verbose=chosen.verbose)


def _here(chosen: argparse.Namespace) -> int:
    """Run the flow and print what came of it; returns the exit code."""
    try:
        job = growing(job_of(chosen))
        with local_prefect():
            record = fill_meteorology(job, retries=chosen.retries, timeout_minutes=chosen.timeout_minutes)
    except BlocksFailedError as error:
        sys.stdout.write(f"{_line(error.record)}\n")
        return complain("some blocks failed and the rest is delivered; the same command tries them again", 3)
    sys.stdout.write(f"{_line(record)}\n")
    return 0


if __name__ == "__main__":
    run_alone(main)
