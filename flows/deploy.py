"""`python -m flows.deploy FOLDER OUT`: fill what is new in a folder on a cron schedule, on a local Prefect server.

It registers the deployment, waits for its hours, and runs them in processes of this machine until it is stopped.
`prefect.yaml` lists the same for a work pool.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.fill import fill_scenes
from flows.options import add_fill_options, job_of
from geodiff.errors import GeodiffError, InputError

if TYPE_CHECKING:
    from geodiff.job import FillJob

__all__ = ["main", "nightly"]

LOCAL = "http://127.0.0.1:4200/api"
"""Where `prefect server start` listens."""


def nightly(job: FillJob, cron: str, name: str = "nightly", timezone: str = "UTC", **limits: Any) -> RunnerDeployment:
    """The deployment of `fill-scenes`: a run at each of the cron's hours, never two at a time.

    Raises InputError where `cron` is no cron line or nobody knows the time zone.
    """
    _check_cron(cron, timezone)
    here = {"source": str(Path(job.source).absolute()), "target": f"{Path(job.target).absolute()}/"}
    kept = {} if "://" in job.source + job.target else here
    return RunnerDeployment.from_flow(
        fill_scenes,
        name=name,
        schedule=Cron(cron, timezone=timezone),
        parameters={"job": {**job.model_dump(mode="json", exclude_defaults=True), **kept}, **limits},
        description=fill_scenes.description,
        concurrency_limit=1,
        tags=["geodiff"],
        entrypoint_type=EntrypointType.MODULE_PATH,  # found wherever the run starts
    )


def _check_cron(cron: str, timezone: str) -> None:
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError:
        raise InputError(
            f"--cron {cron!r} --timezone {timezone!r}: no such hours; every night at three is --cron '0 3 * * *' "
            "--timezone UTC"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description="Fill what is new in FOLDER on a schedule, until interrupted. Needs a server: prefect server start",
    )
    add_fill_options(parser)
    parser.add_argument("--cron", default="0 3 * * *", help="when, as a cron line (default every night at three)")
    parser.add_argument("--timezone", default="UTC", help="whose hours these are (default UTC)")
    parser.add_argument("--name", default="nightly", help="name of the deployment (default nightly)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="scenes at a time (default 1)")
    return parser


def _on_a_server() -> AbstractContextManager[Any]:
    """The server that is set up, or the local one where none is."""
    return nullcontext() if PREFECT_API_URL.value() else temporary_settings({PREFECT_API_URL: LOCAL})


def _check_server() -> None:
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise InputError(
                f"no Prefect server answers at {PREFECT_API_URL.value()}; start one with `prefect server start`, or "
                "name another in PREFECT_API_URL"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        deployment = nightly(job_of(chosen), chosen.cron, chosen.name, chosen.timezone, at_once=chosen.at_once)
        with _on_a_server():
            _check_server()
            serve(deployment)
    except GeodiffError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
