"""Which frames of a folder are damaged, and what becomes of each: plain functions, no Prefect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.finding import called
from flows.scenes import scene_jobs, shows, twins, write_page
from flows.verdicts import drop_verdict, keep_verdict, verdict
from geodiff.beside import record_of
from geodiff.credentials import unsaid
from geodiff.errors import GeodiffError, JobError, LockedError, NothingKnownError, TargetError
from geodiff.identity import target_stem
from geodiff.io.places import exists, put
from geodiff.pipeline import plan
from geodiff.report import report_path
from geodiff.restoring import RestoreJob, run
from geodiff.restoring.mosaic import mosaics
from geodiff.restoring.pictures import before_and_after

__all__ = ["FrameRecord", "clashes", "frame_jobs", "merge_new", "reconstruct", "refused"]

FAILED = frozenset({"failed"})
_KINDS = (".tif", ".png", ".xml")


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """What became of one frame; small, so that it can travel."""

    frame: str
    target: str
    status: str
    """`done`, `up to date`, `sound` (nothing found that is damaged), `unusable` (nothing known), `held` (another run is
    at it) or `failed`."""
    filled: int = 0
    damaged: float = 0.0
    """Share of the values that were missing or found damaged."""
    noise: str = ""
    """What was taken for the noise, band by band."""
    picture: str = ""
    """Before and after, as a PNG."""
    page: str = ""
    """The HTML report, where there is one."""
    seconds: float = 0.0
    message: str = ""

    @property
    def name(self) -> str:
        """What it is called in tables and messages."""
        return called(self.frame)

    @property
    def failed(self) -> bool:
        """Whether a person has to look at it."""
        return self.status in FAILED


def frame_jobs(job: RestoreJob, kind: str = "") -> list[RestoreJob]:
    """One job a frame: `job.source` names the folder, `job.target` that of the products, the rest goes for each.

    Raises JobError where products would land among their sources, or are of a kind that frames are not.
    """
    if kind and kind not in _KINDS:
        kinds = ", ".join(_KINDS)
        raise JobError(f"--kind {kind}: frames become one of {kinds}; leave it out to keep PNG and JPEG as PNG")
    found = scene_jobs(job.scene, kind)
    pairs = [(each.source, _of_kind(each.target)) for each in found]
    return [job.model_copy(update={"source": source, "target": target}) for source, target in pairs]


def _of_kind(target: str) -> str:
    """Datasets and folders become GeoTIFF, so that they can be merged and looked at."""
    path = Path(target.rstrip("/"))
    return str(path) if path.suffix in _KINDS else str(path.with_suffix(".tif"))


def clashes(jobs: Iterable[RestoreJob]) -> list[FrameRecord]:
    """Frames whose products would take each other's name."""
    return [
        FrameRecord(twin.scene, twin.target, "failed", message=twin.message) for twin in twins(j.scene for j in jobs)
    ]


def reconstruct(job: RestoreJob, *, every: bool = False, pages: bool = True) -> FrameRecord:
    """Restore one frame where it is damaged, or in any case with `every`; once for each state of the source.

    Before and after as a picture, and with `pages` the HTML report, go beside the product.

    Raises
    ------
    GeodiffError
        Where it cannot be restored; the product is then as it was before.
    """
    looked = ""
    if not every and not exists(job.target):
        found = verdict(job.scene)
        if found is not None:
            return FrameRecord(job.source, job.target, found[0], message=found[1])
        planned = plan(job.scene)
        looked = planned.fingerprint
        if not any(cube.scan.missing for cube in planned.cubes):
            keep_verdict(job.scene, looked, "sound")
            return FrameRecord(job.source, job.target, "sound")
    try:
        status = _restored(job)
    except NothingKnownError as error:
        keep_verdict(job.scene, looked, "unusable", str(error))
        return FrameRecord(job.source, job.target, "unusable", message=str(error))
    drop_verdict(job.scene)
    return _said(job, status, report_path(job.target) if pages else "")


def _restored(job: RestoreJob) -> str:
    """The status of the run; a product of this very command from an older source makes way."""
    try:
        return run(job, quiet=True).status
    except TargetError:
        if record_of(job.target).get("command") != job.command():
            raise
        return run(job.model_copy(update={"overwrite": True}), quiet=True).status


def _said(job: RestoreJob, status: str, page: str) -> FrameRecord:
    kept = record_of(job.target)
    facts = list((kept.get("variables") or {}).values())
    values = sum(each["values"] for each in facts)
    noise = [f"{band} {_shown(level)}" for each in facts for band, level in each["noise"].items()]
    picture = _picture(job)
    if status != "up to date" or not exists(picture):
        put(picture, before_and_after(job))
    if page and (status != "up to date" or not shows(page, kept.get("fingerprint", ""))):
        write_page(job.target, page)
    return FrameRecord(
        job.source,
        job.target,
        status,
        filled=sum(each["filled"] for each in facts),
        damaged=sum(each["missing"] for each in facts) / values if values else 0.0,
        noise=", ".join(noise),
        picture=picture,
        page=page if page and exists(page) else "",
        seconds=round(sum((kept.get("seconds") or {}).values()), 1),
    )


def _shown(level: float | list[float]) -> str:
    """A noise level, or one a date, as people read it."""
    return " ".join(f"{each:.3g}" for each in (level if isinstance(level, list) else [level]))


def _picture(job: RestoreJob) -> str:
    folder, stem = target_stem(job.target)
    return f"{folder}/{stem}_before_after.png"


def refused(job: RestoreJob, error: BaseException) -> FrameRecord:
    """The record of a frame that ended in an error."""
    status = "held" if isinstance(error, LockedError) else "failed"
    return FrameRecord(job.source, job.target, status, message=unsaid(str(error)) or type(error).__name__)


def merge_new(records: Iterable[FrameRecord], folder: str) -> list[str]:
    """Mosaics of the products that lie on the ground, made again when one of them is new; the paths written.

    A mosaic that cannot be made is no reason to fail the frames: its error is returned as a line instead.
    """
    records = [record for record in records if record.status in ("done", "up to date")]
    there = any(Path(folder).glob("mosaic*.tif"))
    if there and all(record.status == "up to date" for record in records):
        return []
    try:
        return mosaics([r.target for r in records if r.target.endswith((".tif", ".xml"))], Path(folder))
    except GeodiffError as error:
        return [f"no mosaic: {error}"]
