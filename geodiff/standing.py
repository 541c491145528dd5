"""How a job stands before any pixel is read: whether its product already exists, and what it may go on from."""

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
    """How a job stands before any pixel is read."""

    fingerprint: str
    """Of the product to come."""
    record: RunRecord | None
    """What `run` returns where that product already exists; None where there is something to do."""
    digests: Digests
    """What was read of the source, to be kept for the next time."""


@files_closed()
def standing(job: FillJob) -> Standing:
    """How a job stands before any pixel is read; `run` goes on from there. Raises what `run` raises until then."""
    started = time.time()
    return standing_of(job, open_scene(job), kept_of(job), started)


def standing_of(
    job: FillJob, scene: Scene, kept: Kept | None, started: float, digests: Digests | None = None
) -> Standing:
    """Whether the product already exists; what a kill left undone beside it is done.

    `digests` are those of a look before, by which what has not changed since is not read again.
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
    remove_tree(fit_path(work_path(job.target, job.work)))  # what a kill in the last clean-up left
    renew_digests(job.target, digests)
    _judge_again(job)
    if job.stac and item_fingerprint(job.stac) != fingerprint:
        deliver_item(job, scene, written_before(job.target), fingerprint)
    status = "nothing to append" if job.append else "up to date"
    return Standing(fingerprint, begin_record(job, fingerprint, status, started), digests)


def kept_of(job: FillJob) -> Kept | None:
    """With `--append`, what TARGET was made with; None where everything is made anew."""
    if job.refit and not job.append:
        raise JobError("--refit renews the fit of a product that --append extends; add --append, or use --overwrite")
    if not job.append:
        return None
    assert_appendable(job)
    found = read_fingerprint(job.target)
    whole = None if found and lost_of(job.target, found) else found  # what has lost a part is filled anew, all of it
    return find_kept(job, whole, _killed_before_keeping(job))


def _killed_before_keeping(job: FillJob) -> Kept | None:
    """What a run left that was killed between writing TARGET and keeping its fit."""
    work = find_work(work_path(job.target, job.work))
    if work is None or not has_fit(fit_path(work.path)):
        return None
    kept = load_kept(fit_path(work.path))
    return replace(kept, done={**kept.done, **work.done()})


def fingerprint_of(job: FillJob, scene: Scene, kept: Kept | None, digests: Digests) -> str:
    """Of the product to come; with a fit that an earlier state of the source gave, that fit is named in it too."""
    files = source_identity(scene.raster, digests), inputs_identity(job, scene.raster, digests)
    identities = *files, model_identity(job)
    own = job.fingerprint(*identities)
    return own if kept is None or kept.fit == own else job.fingerprint(*identities, f"fit {kept.fit}")


def _up_to_date(job: FillJob, fingerprint: str) -> bool:
    """Whether the target is this very product, whole; raises TargetError when it is another and may not be replaced.

    Blocks that failed are tried again by the same command: a working store that is still there says so, and the
    record, where the store is gone or `--work` names another place.
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
    """Say why a product is made anew that nobody asked to replace."""
    lost = lost_of(job.target, read_fingerprint(job.target) or "")
    if lost and not job.overwrite:
        told = "%s is gone, shorter than it was written, or another run's: all of the product is made anew"
        logger.warning(told, ", ".join(lost))


def _warn_of_refusal(job: FillJob, fingerprint: str) -> None:
    """Beside a plan, which writes nothing and is shown all the same, say that the run would be refused."""
    try:
        _up_to_date(job, fingerprint)
    except TargetError as refused:
        logger.warning("without --dry-run this job is refused: %s", refused)


def _judge_again(job: FillJob) -> None:
    """What this run asks of a product that already exists: the record of the run that made it holds the figures."""
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
    """What `--fail-if-empty` asks for."""
    return NothingMissingError(f"{job.source} has no gap to fill, and --fail-if-empty asked to be told")
