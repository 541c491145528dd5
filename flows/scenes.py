"""Which scenes there are, where each product goes, and what is said of each one: plain functions, no Prefect.

A scene is a raster file, a Zarr store, a folder of band files or an Item of a STAC catalogue. What is new is told from
content: the fingerprint in the product and the record beside it, never from clock times or a list kept elsewhere.
"""

from __future__ import annotations

import base64
import glob
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.beside import record_of
from geodiff.credentials import redacted
from geodiff.errors import GateError, GeodiffError, JobError, NothingKnownError, SourceError, TargetError
from geodiff.identity import describe_model, target_stem
from geodiff.io.catalogue import is_stac
from geodiff.io.pds4 import labelled_files
from geodiff.io.places import exists
from geodiff.io.scenes import is_scene
from geodiff.io.stac import item_places
from geodiff.io.stacitem import CATALOGUE, ITEM, update_catalogue
from geodiff.pipeline import run  # pages are written here, only for what is new
from geodiff.report import report_path, write_report
from geodiff.report.preview import preview

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = [
    "DELIVERED", "SceneRecord", "fill_new", "find_scenes", "list_products", "on_gpu", "picture", "refusal",
    "scene_jobs", "twins", "write_page",
]  # fmt: skip

logger = logging.getLogger(__name__)

_RASTERS = {
    ".tif", ".tiff", ".jp2", ".vrt", ".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf", ".grib", ".grb", ".grib2",
    ".grb2", ".img", ".cub", ".qub", ".vic", ".lbl", ".png", ".jpg", ".jpeg",
}  # fmt: skip
_LABELLED = {".img", ".dat", ".qub", ".raw"}
"""Data parts that may have a detached label, by which they are opened."""
_LIKE_THE_SOURCE = {".zarr": ".zarr", ".nc": ".nc", ".nc4": ".nc", ".png": ".png", ".jpg": ".png", ".jpeg": ".png"}
_OF_ONE_PRODUCT = ("append", "report", "stac")

FAILED = frozenset({"failed", "refused", "some blocks failed"})
"""What a person has to look at. A scene without one known pixel (`unusable`) is an ordinary cloudy day."""
DELIVERED = frozenset({"done", "nothing to fill", "up to date", "some blocks failed"})
"""Where there is a product."""


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """What became of one scene; small, so that it can travel."""

    scene: str
    target: str
    status: str
    """`done`, `up to date`, `nothing to fill`, `planned`, `unusable`, `some blocks failed`, `refused` or `failed`."""
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
    def failed(self) -> bool:
        """Whether a person has to look at it."""
        return self.status in FAILED


@dataclass(frozen=True, slots=True)
class _Found:
    """A scene, what its product is to be called, and the kind of product that is most like it."""

    source: str
    name: str
    like: str


def find_scenes(source: str) -> list[str]:
    """The scenes of a folder, a quoted glob or a STAC catalogue, or the one scene that a path names, in order.

    Raises SourceError where the path does not exist. An empty folder holds no scenes and is no error.
    """
    return [found.source for found in _find(source)]


def _find(source: str) -> list[_Found]:
    if is_stac(source):
        return sorted(_of_catalogue(source), key=lambda found: found.source)
    found = [_Found(path, *_called(Path(path))) for path in _paths(source)]
    catalogue = Path(source) / CATALOGUE
    return found if found or not catalogue.is_file() else _find(str(catalogue))


def _of_catalogue(source: str) -> Iterator[_Found]:
    for place in item_places(source):
        suffixes = {Path(asset.partition("?")[0].rstrip("/")).suffix.lower() for asset in place.assets}
        alone = len(place.assets) == 1
        yield _Found(
            place.href,
            re.sub(r"[^\w.+@-]", "_", place.id),
            _LIKE_THE_SOURCE.get(suffixes.pop(), ".tif") if alone else "/",
        )


def _called(path: Path) -> tuple[str, str]:
    folder = path.is_dir() and path.suffix != ".zarr"
    like = "/" if folder else _LIKE_THE_SOURCE.get(path.suffix.lower(), ".tif")
    return (path.name if folder else path.stem), like


def _paths(source: str) -> list[str]:
    path = Path(source)
    if "://" in source:
        return [source]
    if path.is_dir() and not _is_one_scene(path):
        return _inside(path.resolve())
    if path.exists():
        return [str(path.resolve())]
    if any(sign in source for sign in "*?["):
        matches = (Path(name).resolve() for name in glob.glob(source))  # noqa: PTH207 - a path in quotes, absolute or not
        return sorted(str(match) for match in matches)
    raise SourceError(f"{source} does not exist; name a folder of scenes, one scene, a glob in quotes or a catalogue")


def _inside(folder: Path) -> list[str]:
    """The sources of a folder: labels in the place of the data that they describe, under whatever name it goes."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    labels = {entry: labelled_files(entry) for entry in entries if entry.suffix.lower() == ".xml"}
    described = {folder / name for names in labels.values() for name in names}
    found = {entry for entry, names in labels.items() if names}
    found |= {_opened_by(entry) for entry in entries if entry not in described and _is_source(entry)}
    return sorted(map(str, found))


def _is_one_scene(folder: Path) -> bool:
    return folder.suffix == ".zarr" or (folder / "zarr.json").exists() or is_scene(str(folder))


def _is_source(entry: Path) -> bool:
    if entry.is_dir():
        return _is_one_scene(entry)
    return entry.suffix.lower() in _RASTERS or _opened_by(entry) != entry


def _opened_by(entry: Path) -> Path:
    """The label of a data file that has one beside it; otherwise the file itself."""
    labels = (entry.with_suffix(end) for end in (".lbl", ".LBL", ".xml", ".XML") if entry.suffix.lower() in _LABELLED)
    return next((label for label in labels if label.is_file()), entry)


def scene_jobs(job: FillJob, kind: str = "", *, pages: bool = False) -> list[FillJob]:
    """One job a scene: `job.source` names the scenes, `job.target` the folder of products, the rest goes for each.

    Parameters
    ----------
    job : the options of every scene.
    kind : `.tif`, `.zarr`, `.nc`, `.png`, or `/` for a folder each; default as the source is.
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
    out = job.target.rstrip("/")
    if "://" not in out:
        _keep_apart(job.source, Path(out))
        out = str(Path(out).resolve())
    return [_job_of(job, found, f"{out}/{found.name}{kind or found.like}", pages) for found in _find(job.source)]


def _job_of(job: FillJob, found: _Found, target: str, pages: bool) -> FillJob:
    folder, stem = target_stem(target)
    own = {"source": found.source, "target": target, "stac": f"{folder}/{stem}{ITEM}"}
    return job.model_copy(update={**own, "report": report_path(target, job.report) if pages or job.report else None})


def _keep_apart(source: str, out: Path) -> None:
    if "://" in source:
        return
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    if folder.resolve() == out.resolve():
        raise JobError(f"products would land among their sources in {out}; name another folder")


def twins(jobs: Iterable[FillJob]) -> Iterator[SceneRecord]:
    """Scenes whose products would take each other's name; none of them is filled."""
    jobs = tuple(jobs)
    count = Counter(target_stem(job.target) for job in jobs)
    for job in jobs:
        if count[target_stem(job.target)] > 1:
            message = f"other scenes are also called {Path(job.source).stem}; choose one with a glob, or rename them"
            yield SceneRecord(job.source, job.target, "failed", message=message)


def fill_new(job: FillJob) -> SceneRecord:
    """Fill one scene unless its product is there already, made by this job from this state of the source.

    A reprocessed source is filled again, a product that lacks blocks is completed, and a product of other options or
    of another hand is left alone with a TargetError, unless the job says `overwrite`.

    Raises
    ------
    GeodiffError
        Where the scene cannot be filled; the product is then as it was before.
    """
    try:
        return _said(job, _fill(job))
    except NothingKnownError as error:
        return SceneRecord(job.source, job.target, "unusable", message=str(error))


def _fill(job: FillJob) -> RunRecord:
    kept = record_of(job.target)
    ours = kept.get("command") == job.command()
    incomplete = ours and bool(kept.get("failed_blocks"))
    try:
        return _run(job, overwrite=incomplete)
    except TargetError:
        if incomplete or not (ours or job.overwrite):
            raise
    return _run(job, overwrite=True)


def _run(job: FillJob, *, overwrite: bool) -> RunRecord:
    record = run(job.model_copy(update={"overwrite": overwrite}), quiet=True)
    if job.report and record.status != "planned" and (record.status != "up to date" or not exists(job.report)):
        write_page(job.target, job.report)
    return record


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
        job.source,
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
    status = "refused" if isinstance(error, GateError) else "failed"
    message = redacted(str(error)) or type(error).__name__
    if isinstance(error, TimeoutError):
        message = f"out of time ({message.rstrip('.')}); the next run goes on where this one stopped"
    return SceneRecord(job.source, job.target, status, message=message)
