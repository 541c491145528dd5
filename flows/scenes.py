"""Which scenes there are, where each product goes, and what is said of each one: plain functions, no Prefect.

A scene is a raster file, a Zarr store or a folder of band files. What is new is told from content: the fingerprint in
the product and the record beside it, never from clock times or a list kept elsewhere.
"""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.errors import GateError, JobError, NothingKnownError, SourceError, TargetError
from geodiff.identity import target_stem
from geodiff.io.places import read
from geodiff.io.scenes import is_scene
from geodiff.pipeline import run

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["SceneRecord", "fill_new", "find_scenes", "refusal", "scene_jobs", "twins"]

_RASTERS = {
    ".tif", ".tiff", ".jp2", ".vrt", ".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf", ".grib", ".grb", ".grib2",
    ".grb2", ".img", ".cub", ".vic", ".lbl", ".png", ".jpg", ".jpeg",
}  # fmt: skip
_LABELLED = {".img", ".dat", ".qub", ".raw"}
"""Data parts that may have a detached label, by which they are opened."""
_LIKE_THE_SOURCE = {".zarr": ".zarr", ".nc": ".nc", ".nc4": ".nc", ".png": ".png", ".jpg": ".png", ".jpeg": ".png"}
_OF_ONE_PRODUCT = ("append", "report", "stac")

FAILED = frozenset({"failed", "refused", "some blocks failed"})
"""What a person has to look at. A scene without one known pixel (`unusable`) is an ordinary cloudy day."""


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
    seconds: float = 0.0
    message: str = ""
    """Why, where it was not filled."""

    @property
    def failed(self) -> bool:
        """Whether a person has to look at it."""
        return self.status in FAILED


def find_scenes(source: str) -> list[str]:
    """The scenes of a folder, of a quoted glob, or the one scene that a path names, as absolute paths in order.

    Raises SourceError where the path does not exist. An empty folder holds no scenes and is no error.
    """
    path = Path(source)
    if "://" in source:
        return [source]
    if path.is_dir() and not _is_one_scene(path):
        return sorted({str(_opened_by(entry)) for entry in path.resolve().iterdir() if _is_source(entry)})
    if path.exists():
        return [str(path.resolve())]
    if any(sign in source for sign in "*?["):
        matches = (Path(name).resolve() for name in glob.glob(source))  # noqa: PTH207 - a path in quotes, absolute or not
        return sorted(str(match) for match in matches)
    raise SourceError(f"{source} does not exist; name a folder of scenes, one scene, or a glob in quotes")


def _is_one_scene(folder: Path) -> bool:
    return folder.suffix == ".zarr" or (folder / "zarr.json").exists() or is_scene(str(folder))


def _is_source(entry: Path) -> bool:
    if entry.name.startswith("."):
        return False
    return _is_one_scene(entry) if entry.is_dir() else entry.suffix.lower() in _RASTERS


def _opened_by(entry: Path) -> Path:
    """The label of a data file that has one beside it; otherwise the file itself."""
    labels = (entry.with_suffix(end) for end in (".lbl", ".LBL", ".xml") if entry.suffix.lower() in _LABELLED)
    return next((label for label in labels if label.is_file()), entry)


def scene_jobs(job: FillJob, kind: str = "") -> list[FillJob]:
    """One job a scene: `job.source` names the scenes, `job.target` the folder of products, the rest goes for each.

    Parameters
    ----------
    job : the options of every scene.
    kind : `.tif`, `.zarr`, `.nc`, `.png`, or `/` for a folder each; default as the source is.

    Raises
    ------
    JobError
        Where products would land among the sources, or an option names something that only one product can have.
    """
    for option in _OF_ONE_PRODUCT:
        if getattr(job, option):
            raise JobError(f"--{option} belongs to one product; a flow over many scenes cannot use it")
    out = job.target.rstrip("/")
    if "://" not in out:
        _keep_apart(job.source, Path(out))
        out = str(Path(out).resolve())
    sources = find_scenes(job.source)
    return [job.model_copy(update={"source": source, "target": _target(source, out, kind)}) for source in sources]


def _keep_apart(source: str, out: Path) -> None:
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    if folder.resolve() == out.resolve():
        raise JobError(f"products would land among their sources in {out}; name another folder")


def _target(source: str, out: str, kind: str) -> str:
    path = Path(source)
    like = "/" if path.is_dir() and path.suffix != ".zarr" else _LIKE_THE_SOURCE.get(path.suffix.lower(), ".tif")
    name = path.name if like == "/" else path.stem
    return f"{out}/{name}{kind or like}"


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
    kept = _record_beside(job.target)
    ours = kept.get("command") == job.command()
    incomplete = ours and bool(kept.get("failed_blocks"))
    try:
        return _said(job, _run(job, overwrite=incomplete))
    except TargetError:
        if incomplete or not (ours or job.overwrite):
            raise
        return _said(job, _run(job, overwrite=True))
    except NothingKnownError as error:
        return SceneRecord(job.source, job.target, "unusable", message=str(error))


def _run(job: FillJob, *, overwrite: bool) -> RunRecord:
    return run(job.model_copy(update={"overwrite": overwrite}), quiet=True)


def _record_beside(target: str) -> dict[str, Any]:
    """What the last run said of a product; empty where there is none."""
    folder, stem = target_stem(target)
    text = read(f"{folder}/{stem}.geodiff.json")
    try:
        found = json.loads(text or b"{}")
    except ValueError:  # half a record is none
        return {}
    return found if isinstance(found, dict) else {}


def _said(job: FillJob, record: RunRecord) -> SceneRecord:
    """The few figures that go into the table; those of a product that was there already come from its own record."""
    there = record.status == "up to date"
    kept = _record_beside(job.target) if there else {"variables": record.variables, "gates": record.gates}
    variables = [] if record.status == "planned" else list(kept.get("variables", {}).values())
    return SceneRecord(
        job.source,
        job.target,
        record.status,
        filled=sum(facts["filled"] for facts in variables),
        to_fill=sum(facts["to_fill"] for facts in variables),
        coverage90=kept.get("gates", {}).get("coverage90"),
        seconds=round(sum(record.seconds.values()), 1),
        message="; ".join(f"{key}: {error}" for key, error in record.failed_blocks.items()),
    )


def refusal(job: FillJob, error: BaseException) -> SceneRecord:
    """The record of a scene that ended in an error."""
    status = "refused" if isinstance(error, GateError) else "failed"
    message = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        message = f"out of time ({message.rstrip('.')}); the next run goes on where this one stopped"
    return SceneRecord(job.source, job.target, status, message=message)
