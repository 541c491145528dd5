"""`python -m flows.deploy`: a local Prefect server with its pages, and every flow of `prefect.yaml` at its hours.

`python -m flows.deploy FOLDER OUT --cron ...` serves `fill-scenes` for one folder instead. Either starts a server where
none answers, registers its deployments, and runs them in processes of this machine until it is stopped.
`prefect deploy` reads the same file for a work pool.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml
from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from flows.fill import GPU, fill_scenes
from flows.local import PORT, answers, local_server, run_alone, run_here
from flows.options import add_fill_options, job_of
from geodiff.errors import InputError

if TYPE_CHECKING:
    from geodiff.job import FillJob

__all__ = ["listed", "main", "nightly"]

LIST = Path("prefect.yaml")
"""The deployments that are served where no folder is named."""


def nightly(job: FillJob, cron: str, name: str = "nightly", timezone: str = "UTC", **limits: Any) -> RunnerDeployment:
    """The deployment of `fill-scenes`: a run at each of the cron's hours, never two at a time.

    Raises InputError where `cron` is no cron line or nobody knows the time zone.
    """
    here = {"source": _from_anywhere(job.source), "target": f"{_from_anywhere(job.target).rstrip('/')}/"}
    parameters = {"job": {**job.model_dump(mode="json", exclude_defaults=True), **here}, **limits}
    return _deployment(
        fill_scenes,
        name,
        schedules=[_schedule(cron, timezone)],
        parameters=parameters,
        concurrency_limit=1,  # a night that lasts too long is not overtaken by the next
    )


def _from_anywhere(path: str) -> str:
    """A path that means the same wherever a run starts; an address does already."""
    return path if "://" in path else str(Path(path).absolute())


class _Hours(BaseModel):
    """When an entry runs."""

    cron: str
    timezone: str = "UTC"
    active: bool = True


class _Entry(BaseModel):
    """A deployment as `prefect.yaml` lists it; what is there for a work pool besides is not looked at."""

    name: str
    entrypoint: str
    description: str | None = None
    tags: list[str] | None = None
    parameters: dict[str, Any] | None = None
    schedules: list[_Hours] | None = None
    concurrency_limit: int | None = None


class _List(BaseModel):
    """The part of a `prefect.yaml` that is served."""

    deployments: list[_Entry]


def listed(path: Path = LIST) -> list[RunnerDeployment]:
    """The deployments that a `prefect.yaml` lists, with the same names, descriptions, parameters, hours and limits.

    Raises InputError where there is no such file, it cannot be read, or an entry names no flow of this package, or
    hours or parameters that no run could begin with.
    """
    if not path.is_file():
        raise InputError(f"there is no {path} here; run this where it lies, or name FOLDER and OUT")
    try:
        entries = _List.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).deployments
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_wrong(error)}") from None
    return [_listed(entry) for entry in entries]


def _listed(entry: _Entry) -> RunnerDeployment:
    where = f"{LIST}, {entry.name}: "
    flow = _flow(entry.entrypoint)
    parameters = entry.parameters or {}
    try:
        _form(flow).model_validate(parameters)
    except ValidationError as error:
        raise InputError(f"{where}{_wrong(error)}") from None
    hours = [_schedule(each.cron, each.timezone, active=each.active, where=where) for each in entry.schedules or ()]
    usual = {"description": entry.description, "tags": entry.tags, "concurrency_limit": entry.concurrency_limit}
    given = {key: value for key, value in usual.items() if value}
    return _deployment(flow, entry.name, schedules=hours, parameters=parameters, **given)


def _form(flow: Flow[..., Any]) -> type[BaseModel]:
    """What a flow can be given; each may be left out here, since a run that is started by hand is given the rest."""
    taken = {name: (hint, None) for name, hint in get_type_hints(flow.fn, include_extras=True).items()}
    taken.pop("return")
    fields: Any = taken
    return create_model(flow.name, __config__=ConfigDict(extra="forbid"), **fields)


def _wrong(error: ValidationError) -> str:
    """Pydantic's errors, each with the place in the file, `job.gate`, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def _flow(entrypoint: str) -> Flow[..., Any]:
    """The flow that `flows/fill.py:fill_scenes` names."""
    file, _, name = entrypoint.partition(":")
    module = file.removesuffix(".py").replace("/", ".")
    try:
        found = getattr(import_module(module), name) if module.startswith("flows.") else None
    except (ImportError, AttributeError):
        found = None
    if not isinstance(found, Flow):
        raise InputError(f"{LIST} lists {entrypoint}, which is no flow of this version; take the entry out")
    return found


def _deployment(flow: Flow[..., Any], name: str, **given: Any) -> RunnerDeployment:
    usual = {"description": flow.description, "tags": ["geodiff"]}
    return RunnerDeployment.from_flow(
        flow,
        name=name,
        entrypoint_type=EntrypointType.MODULE_PATH,  # found wherever the run starts
        **{**usual, **given},
    )


def _schedule(cron: str, timezone: str, *, active: bool = True, where: str = "") -> Any:
    """A schedule; `where` is the place in a file that a message names in the place of options."""
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError:
        sign = "" if where else "--"
        raise InputError(
            f"{where}{sign}cron {cron!r} {sign}timezone {timezone!r}: no such hours; every night at three is "
            f"{sign}cron '0 3 * * *' {sign}timezone UTC"
        ) from None
    return Cron(cron, timezone=timezone, active=active)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description="Serve the flows of prefect.yaml at their hours, or fill what is new in FOLDER on a schedule, "
        "until interrupted. Starts a Prefect server on this machine where none answers.",
    )
    add_fill_options(parser, optional=True)
    parser.add_argument("--cron", default="0 3 * * *", help="schedule as a cron line (default every night at three)")
    parser.add_argument("--timezone", default="UTC", help="time zone of the schedule (default UTC)")
    parser.add_argument("--name", default="nightly", help="name of the deployment (default nightly)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="scenes at a time (default 1)")
    parser.add_argument("--gpu-at-once", type=int, default=1, metavar="N", help="GPU scenes at a time, over all runs")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port of the server (default {PORT})")
    return parser


def _chosen(given: argparse.Namespace) -> list[RunnerDeployment]:
    if given.folder is None:
        return listed()
    if given.out is None:
        raise InputError("OUT is missing; give FOLDER and OUT, or neither to serve what prefect.yaml lists")
    return [nightly(job_of(given), given.cron, given.name, given.timezone, at_once=given.at_once)]


def _limit_gpu(scenes: int) -> None:
    """Let no more than that many scenes use the GPU at a time, whichever runs they belong to."""
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU, concurrency_limit=scenes)


def _check_server() -> None:
    if not answers():
        raise InputError(
            f"no Prefect server answers at {PREFECT_API_URL.value()}; start one with `prefect server start`, or "
            "take PREFECT_API_URL away and one is started here"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code."""
    given = _parser().parse_args(arguments)
    return run_here(lambda: _served(given), verbose=True)


def _served(given: argparse.Namespace) -> int:
    deployments = _chosen(given)
    with local_server(given.port) as pages:
        _check_server()
        _limit_gpu(given.gpu_at_once)
        sys.stderr.write(f"the server's pages: {pages}\n")
        serve(*deployments)
    return 0


if __name__ == "__main__":
    run_alone(main)
