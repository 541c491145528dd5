"""The state of a job before any pixel is read: whether its product exists already, and from what it may continue."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from geodiff.appending import Kept, appendable, assert_appendable, find_kept, load_kept
from geodiff.beside import is_whole, kept_digests, lost_of, record_of, renew_digests, work_path, written_before
from geodiff.blocks import fit_path
from geodiff.errors import GateError, JobError, NothingMissingError, TargetError
from geodiff.finishing import begin_record, deliver_item, judge
from geodiff.identity import assert_apart, assert_nameable, inputs_identity, model_identity, source_identity
from geodiff.io import check_target, read_fingerprint
from geodiff.io.cube import files_closed
from geodiff.io.fitstore import has_fit
from geodiff.io.places import exists, remove_tree
from geodiff.io.stacitem import item_fingerprint
from geodiff.io.store import find_work
from geodiff.scene import Scene, open_scene

if TYPE_CHECKING:
    from geodiff.digests import Digests
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["Standing", "fingerprint_of", "kept_of", "nothing_missing", "standing", "standing_of", "tell_of_loss"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a job before any pixel is read."""

    fingerprint: str
    """Fingerprint of the product to be made."""
    record: RunRecord | None
    """What `run` returns if that product exists already; None if there is something to do."""
    digests: Digests
    """Digests of the source's files, kept for the next run."""


@files_closed()
def standing(job: FillJob) -> Standing:
    """The state of a job before any pixel is read, as `run` determines it first; raises what `run` raises by then."""
    started = time.time()
    return standing_of(job, open_scene(job), kept_of(job), started)


def standing_of(
    job: FillJob, scene: Scene, kept: Kept | None, started: float, digests: Digests | None = None
) -> Standing:
    """Determine whether the product exists already, and finish what a killed run left undone beside it.

    `digests` are those of an earlier look, so that unchanged files are not read again.
    """
    check_target(scene.raster, job.target, [cube.variable for cube in scene.cubes], job.layers)
    assert_nameable(job.target)
    assert_apart(job, scene.raster)
    digests = kept_digests(job.target) if digests is None else digests
    fingerprint = fingerprint_of(job, scene, kept, digests)
    if job.dry_run:
        _warn_of_refusal(job, fingerprint)
        return Standing(fingerprint, None, digests)
    if not _up_to_date(job, fingerprint):
        return Standing(fingerprint, None, digests)
    remove_tree(fit_path(work_path(job.target, job.work)))  # left by a run that was killed in its last clean-up
    renew_digests(job.target, digests)
    _judge_again(job)
    if job.stac and item_fingerprint(job.stac) != fingerprint:
        deliver_item(job, scene, written_before(job.target), fingerprint)
    status = "nothing to append" if job.append else "up to date"
    return Standing(fingerprint, begin_record(job, fingerprint, status, started), digests)


def kept_of(job: FillJob) -> Kept | None:
    """With `--append`, what is kept of the runs that made TARGET; None if everything is made anew."""
    if job.refit and not job.append:
        raise JobError("--refit renews the fit of a product that --append extends; add --append, or use --overwrite")
    if not job.append:
        return None
    assert_appendable(job)
    found = read_fingerprint(job.target)
    whole = None if found and lost_of(job.target, found) else found  # a product that has lost a part is made anew
    return find_kept(job, whole, _killed_before_keeping(job))


def _killed_before_keeping(job: FillJob) -> Kept | None:
    """What is left of a run that was killed between writing TARGET and storing its fit beside it."""
    work = find_work(work_path(job.target, job.work))
    if work is None or not has_fit(fit_path(work.path)):
        return None
    kept = load_kept(fit_path(work.path))
    return replace(kept, done={**kept.done, **work.done()})


def fingerprint_of(job: FillJob, scene: Scene, kept: Kept | None, digests: Digests) -> str:
    """Fingerprint of the product to be made; it includes the fit if that comes from an earlier state of the source."""
    files = source_identity(scene.raster, digests), inputs_identity(job, scene.raster, digests)
    identities = *files, model_identity(job)
    own = job.fingerprint(*identities)
    return own if kept is None or kept.fit == own else job.fingerprint(*identities, f"fit {kept.fit}")


def _up_to_date(job: FillJob, fingerprint: str) -> bool:
    """Whether TARGET is this very product, complete; raises TargetError if it is another and may not be replaced.

    The same command tries failed blocks again. They are known from a working store that is still there, or from the
    record if the store is gone or `--work` names another place.
    """
    found = read_fingerprint(job.target)
    if found is None or job.overwrite:
        return False
    if found == fingerprint:
        failed = exists(work_path(job.target, job.work)) or record_of(job.target).get("failed_blocks")
        return not failed and is_whole(job.target, fingerprint)
    if job.append:
        return False
    what = "was made by another job or from another version of the source" if found else "is not a product of geodiff"
    more = "; --append adds dates" if found and appendable(job.target) else ""
    raise TargetError(
        f"{job.target} already exists and {what}; use --overwrite to replace it, or another target{more}"
    )


def tell_of_loss(job: FillJob) -> None:
    """Warn why a product is made anew without `--overwrite`."""
    lost = lost_of(job.target, read_fingerprint(job.target) or "")
    if lost and not job.overwrite:
        told = "%s is gone, shorter than it was written, or another run's: all of the product is made anew"
        logger.warning(told, ", ".join(lost))


def _warn_of_refusal(job: FillJob, fingerprint: str) -> None:
    """Warn, beside a plan that is only shown, that the run itself would be refused."""
    try:
        _up_to_date(job, fingerprint)
    except TargetError as refused:
        logger.warning("without --dry-run this job is refused: %s", refused)


def _judge_again(job: FillJob) -> None:
    """Apply the gates of this run to a product that exists already, by the figures in its record."""
    record = record_of(job.target)
    if record.get("status") == "nothing to fill":  # there was nothing to judge either
        if job.fail_if_empty:
            raise nothing_missing(job)
        return
    if job.gates and "gates" not in record:
        raise GateError(
            f"the record of {job.target} is lost, so nothing tells whether it holds {job.gate}; --overwrite makes both "
            "anew, or drop the gate"
        )
    judge(job, record.get("gates", {}), f"{job.target}, which was made before, is kept as it is")


def nothing_missing(job: FillJob) -> NothingMissingError:
    """The error that `--fail-if-empty` asks for."""
    return NothingMissingError(f"{job.source} has no gap to fill, and --fail-if-empty asked to be told")
