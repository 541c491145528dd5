"""Where the product of each scene goes, whether it is new, and what is said of it: plain functions, no Prefect.

What is new is told from content: the fingerprint in the product and the record beside it, never from clock times or a
list kept elsewhere.
"""

from __future__ import annotations

import base64
import errno
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.finding import Found, called, find
from flows.verdicts import drop_verdict, keep_verdict, verdict
from geodiff.beside import record_of
from geodiff.credentials import redacted, unsaid
from geodiff.errors import GateError, GeodiffError, JobError, LockedError, NothingKnownError, TargetError
from geodiff.identity import describe_model, sidecars, target_stem
from geodiff.io.places import exists, local_path, read
from geodiff.io.stacitem import ITEM, update_catalogue
from geodiff.pipeline import run  # pages are written here, only for what is new
from geodiff.report import report_path, write_report
from geodiff.report.preview import preview
from geodiff.standing import standing

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = [
    "DELIVERED", "SceneRecord", "fill_new", "list_products", "on_gpu", "picture", "refusal",
    "scene_jobs", "settled", "shows", "twins", "write_page",
]  # fmt: skip

logger = logging.getLogger(__name__)

_OF_ONE_PRODUCT = ("append", "report", "stac")
_KINDS = (".tif", ".tiff", ".zarr", ".nc", ".png", ".xml", "/")

FAILED = frozenset({"failed", "refused", "some blocks failed"})
"""What a person has to look at. A scene without one known pixel (`unusable`) is an ordinary cloudy day, and one that
another run is filling (`held`) is told of by that run."""
DELIVERED = frozenset({"done", "nothing to fill", "up to date", "some blocks failed"})
"""Where there is a product."""


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """What became of one scene; small, so that it can travel."""

    scene: str
    target: str
    status: str
    """`done`, `up to date`, `nothing to fill`, `planned`, `unusable`, `held`, `some blocks failed`, `refused` or
    `failed`."""
    filled: int = 0
    to_fill: int = 0
    coverage90: float | None = None
    """Share of hidden known pixels inside value +- 1.645 standard errors; None where too few could be hidden."""
    unfilled: float | None = None
    """Share of the values to fill that stayed empty."""
    seam: float | None = None
    """Mean gradient across window edges over that elsewhere; None where too few edges lie in gaps."""
    seconds: float = 0.0
    message: str = ""
    """Why, where it was not filled."""
    page: str = ""
    """The HTML report, where there is one."""

    @property
    def name(self) -> str:
        """What it is called in tables and messages."""
        return called(self.scene)

    @property
    def failed(self) -> bool:
        """Whether a person has to look at it."""
        return self.status in FAILED


def scene_jobs(job: FillJob, kind: str = "", *, pages: bool = False) -> list[FillJob]:
    """One job a scene: `job.source` names the scenes, `job.target` the folder of products, the rest goes for each.

    Parameters
    ----------
    job : the options of every scene.
    kind : `.tif`, `.zarr`, `.nc`, `.png`, `.xml`, or `/` for a folder each; default as the source is.
    pages : whether each product gets its HTML report, beside it or in the folder that `job.report` names. Its STAC Item
        it gets in any case.

    Raises
    ------
    JobError
        Where products would land among the sources, or an option names something that only one product can have.
    """
    for option in _OF_ONE_PRODUCT:
        a_folder = option == "report" and str(job.report).endswith("/")  # each product's report goes into it
        if getattr(job, option) and not a_folder:
            raise JobError(f"--{option} belongs to one product; a flow over many scenes cannot use it")
    if kind and kind not in _KINDS:
        raise JobError(f"--kind {kind} is no kind of product; use {', '.join(_KINDS)} (a folder for each scene)")
    out = _place(job.target)
    _keep_apart(job.source, out)
    found = _no_products(find(job.source), job.source, out)
    return [_job_of(job, each, f"{out}/{each.name}{kind or each.like}", pages) for each in found]


def _job_of(job: FillJob, found: Found, target: str, pages: bool) -> FillJob:
    folder, stem = target_stem(target)
    own = {"source": found.source, "target": target, "stac": f"{folder}/{stem}{ITEM}"}
    return job.model_copy(update={**own, "report": report_path(target, job.report) if pages or job.report else None})


def _place(path: str) -> str:
    """A folder however it is spelt, without the slash at its end."""
    local = local_path(path)
    return path.rstrip("/") if local is None else os.path.realpath(local)  # `resolve` raises of links in a circle


def _keep_apart(source: str, out: str) -> None:
    local = local_path(source)
    folder = source if local is None or local.is_dir() else str(local.parent)
    if _place(folder) == out:
        raise JobError(f"products would land among their sources in {out}; name another folder")


def _no_products(found: Sequence[Found], source: str, out: str) -> list[Found]:
    """What a folder or a glob names, without what it finds in the folder of products."""
    root = _place(re.split(r"[^/]*[*?[]", source, maxsplit=1)[0] or ".")
    if _within(root, out):  # the scenes were named on purpose
        return list(found)
    return [each for each in found if not _within(_place(each.source), out)]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def twins(jobs: Iterable[FillJob]) -> Iterator[SceneRecord]:
    """Scenes whose products, or the layers beside them, would take each other's name; none of them is filled.

    Nor are those whose names nobody could read them by.
    """
    jobs = tuple(jobs)
    count = Counter(target_stem(job.target) for job in jobs)
    targets, layers = {job.target for job in jobs}, {layer for job in jobs for layer in sidecars(job.target)}
    for job in jobs:
        stem = target_stem(job.target)[1]
        if job.source.encode(errors="replace").decode() != job.source:
            message = "its path is no UTF-8, so that GDAL cannot open it; rename it"
        elif count[target_stem(job.target)] > 1:
            message = f"other scenes are also called {stem}; choose one with a glob, or rename them"
        elif job.target in layers:
            message = f"{stem} is also what a layer of another scene is called; choose one with a glob, or rename it"
        elif not targets.isdisjoint(sidecars(job.target)):
            message = f"another scene is called as a layer of {stem}; choose one with a glob, or rename it"
        else:
            continue
        yield SceneRecord(redacted(job.source), job.target, "failed", message=message)


def fill_new(job: FillJob) -> SceneRecord:
    """Fill one scene unless its product already exists, made by this job from this state of the source.

    A reprocessed source is filled again, a product that lacks blocks is completed, and a product of other options or
    of another hand is left alone with a TargetError, unless the job says `overwrite`.

    Raises
    ------
    GeodiffError
        Where the scene cannot be filled; the product is then as it was before.
    """
    if (unusable := _unusable(job)) is not None:
        return unusable
    try:
        record = _fill(job)
    except NothingKnownError as error:
        keep_verdict(job, error.fingerprint, "unusable", str(error))
        return SceneRecord(redacted(job.source), job.target, "unusable", message=str(error))
    drop_verdict(job)
    return _said(job, record)


def _unusable(job: FillJob) -> SceneRecord | None:
    status, message = verdict(job) or ("", "")
    if status != "unusable":  # a frame that another flow found sound has no product yet
        return None
    return SceneRecord(redacted(job.source), job.target, status, message=message)


def settled(job: FillJob) -> SceneRecord | None:
    """The record of a scene that needs no run: its product is there and whole, or it is known to be unusable.

    Told in some hundredths of a second, without a pixel being read. None of any other scene; what cannot be told, and
    what a gate would refuse now, is left to `fill_new`.
    """
    try:
        return _unusable(job) or _delivered(job)
    except Exception:  # noqa: BLE001 - here it would stop all scenes, in `fill_new` it stops its own
        return None


def _delivered(job: FillJob) -> SceneRecord | None:
    kept = record_of(job.target)
    if job.dry_run or not _ours(kept, job) or kept.get("failed_blocks"):
        return None
    record = standing(job.model_copy(update={"overwrite": False})).record
    if record is None:
        return None
    _page(job, record)
    return _said(job, record)


def _fill(job: FillJob) -> RunRecord:
    kept = record_of(job.target)
    ours = _ours(kept, job)
    incomplete = ours and bool(kept.get("failed_blocks"))
    try:
        return _run(job, overwrite=incomplete)
    except TargetError:
        if incomplete or not (ours or job.overwrite):
            raise
    return _run(job, overwrite=True)


def _ours(kept: Mapping[str, Any], job: FillJob) -> bool:
    """Whether a product's record is of this very job; what it is judged by makes no other of it."""
    return _without_gate(kept.get("command", "")) == _without_gate(job.command())


def _without_gate(command: str) -> list[str]:
    words = shlex.split(command)
    at = words.index("--gate") if "--gate" in words else len(words)
    return words[:at] + words[at + 2 :]


def _run(job: FillJob, *, overwrite: bool) -> RunRecord:
    record = run(job.model_copy(update={"overwrite": overwrite}), quiet=True)
    _page(job, record)
    return record


def _page(job: FillJob, record: RunRecord) -> None:
    """The report of a product that is new, or has none of its own."""
    new = record.status not in ("planned", "up to date")
    if job.report and (new or (record.status == "up to date" and not shows(job.report, record.fingerprint))):
        write_page(job.target, job.report)


def shows(page: str, fingerprint: str) -> bool:
    """Whether a report is there and of that product, not of the one before: a run may have been killed between."""
    return fingerprint.encode() in (read(page) or b"")


def write_page(target: str, page: str) -> None:
    """Write the report of a product; a page that cannot be made is no reason to fail a scene."""
    try:
        write_report(target, page)
    except GeodiffError as error:
        logger.warning("no report of %s: %s", target, error)


def picture(record: SceneRecord) -> str:
    """Before and after as a `data:` URL; empty where nothing new was filled or no picture can be made of it."""
    if record.status not in ("done", "some blocks failed"):
        return ""
    try:
        png = preview(record.target)
    except GeodiffError as error:
        logger.warning("no picture of %s: %s", record.target, error)
        return ""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def on_gpu(job: FillJob) -> bool:
    """Whether the network will run on something that scenes have to share."""
    if job.filler not in ("auto", "diffusion") or job.device == "cpu":
        return False
    return job.device != "auto" or describe_model(job)["device"] != "cpu"


def list_products(job: FillJob) -> bool:
    """Bring the static STAC catalogue in the folder of products up to date; whether there was anything to change."""
    return update_catalogue(job.target, f"Filled by geodiff from {redacted(job.source)}")


def _said(job: FillJob, record: RunRecord) -> SceneRecord:
    """The few figures that go into the table; those of a product that was there already come from its own record."""
    there = record.status == "up to date"
    kept = record_of(job.target) if there else {"variables": record.variables, "gates": record.gates}
    variables = [] if record.status == "planned" else list(kept.get("variables", {}).values())
    return SceneRecord(
        redacted(job.source),
        job.target,
        record.status,
        filled=sum(facts["filled"] for facts in variables),
        to_fill=sum(facts["to_fill"] for facts in variables),
        **{name: kept.get("gates", {}).get(name) for name in ("coverage90", "unfilled", "seam")},
        page=job.report if job.report and exists(job.report) else "",
        seconds=round(sum(record.seconds.values()), 1),
        message="; ".join(f"{key}: {error}" for key, error in record.failed_blocks.items()),
    )


def refusal(job: FillJob, error: BaseException) -> SceneRecord:
    """The record of a scene that ended in an error."""
    status = "refused" if isinstance(error, GateError) else "held" if isinstance(error, LockedError) else "failed"
    message = unsaid(str(error)) or type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message = f"{message}; make room, and the next run goes on where this one stopped"
    if isinstance(error, TimeoutError):
        message = f"out of time ({message.rstrip('.')}); the next run goes on where this one stopped"
    return SceneRecord(redacted(job.source), job.target, status, message=message)
