"""The main line: open, find the gaps, plan, fit, fill the blocks, finish.

`run(job)` does all of it. Any block may be run again, and finished blocks are marked in the working store, so that the
same command resumes where a killed one stopped.
"""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geodiff.appending import Kept, extended, save_kept
from geodiff.beside import alone, assert_own_layers, keep_digests, kept_digests, record_of
from geodiff.blocks import BlockResult, fill_block, filler_of, fit_path, forget, lend
from geodiff.finishing import Times, begin_record, finish
from geodiff.identity import assert_nameable, assert_unchanged, assert_writable, stamp_of, target_stem
from geodiff.io import read_fingerprint
from geodiff.io.cube import files_closed
from geodiff.io.store import create_work
from geodiff.plan import FillPlan, Means
from geodiff.preparing import (
    blocks_done,
    fit_scene,
    half_a_store_cleared,
    kept_now,
    look_over,
    means_of,
    nothing_left_of_a_refusal,
    open_or_create_work,
    remove_all,
    scan_scene,
    work_specs,
)
from geodiff.progress import Progress
from geodiff.running import assert_main_guard, assert_scheduler, local_workers, run_blocks
from geodiff.scene import Scene, open_scene
from geodiff.standing import fingerprint_of, kept_of, standing_of, tell_of_loss

if TYPE_CHECKING:
    from concurrent.futures import Future

    from geodiff.io.earlier import Earlier
    from geodiff.io.store import WorkStore
    from geodiff.job import FillJob
    from geodiff.record import RunRecord
    from geodiff.scan import GapReader

__all__ = ["plan", "run"]

logger = logging.getLogger(__name__)


@files_closed()
def run(job: FillJob, *, quiet: bool = False) -> RunRecord:
    """Do a job from source to product.

    Returns
    -------
    RunRecord
        With `exit_code` 0, or 3 if some blocks failed and the rest was delivered.

    Raises
    ------
    GeodiffError
        With the exit code of the contract; the target is then unchanged.
    """
    started = time.time()
    with ExitStack() as held:
        scene = open_scene(job)
        stamp = stamp_of(job, scene.raster)  # before its identity is read, to notice if the source changes after that
        assert_nameable(job.target)  # before its record is looked for
        there, kept = _what_is_there(job), kept_of(job)
        stands = standing_of(job, scene, kept, started)
        if stands.record is not None:
            return stands.record
        assert_own_layers(job.target, overwrite=job.overwrite)
        if job.dry_run:
            return _planned(job, scene, stands.fingerprint, kept, started)
        _assert_may_begin(job)
        assert_ours = held.enter_context(alone(job.target, job.work))
        # Look again if an earlier run was killed in its last clean-up, or if another has replaced TARGET meanwhile.
        if half_a_store_cleared(job) or _what_is_there(job) != there:
            kept = kept_of(job)
            stands = standing_of(job, scene, kept, started, stands.digests)
            if stands.record is not None:
                return stands.record
            assert_own_layers(job.target, overwrite=job.overwrite)
        assert_unchanged(job, scene.raster, stamp)
        tell_of_loss(job)
        work, means = open_or_create_work(job, scene, stands.fingerprint, kept)
        held.callback(forget, work.path)
        lend(work.path, scene)
        with local_workers(job) as local:
            with nothing_left_of_a_refusal(work):
                planned, gaps, earlier = _prepared(job, scene, stands.fingerprint, work, means, kept, quiet=quiet)
            fitted = time.time()
            results = _run_blocks(planned, work.path, local, quiet)
        assert_unchanged(job, scene.raster, stamp)
        assert_ours()
        record = finish(planned, scene, work, gaps, results, Times(started, fitted, time.time()), earlier)
        keep_digests(job.target, stands.digests)
        assert_unchanged(job, scene.raster, stamp, written=True)
        if not record.failed_blocks:
            remove_all(work)
        return record


def _what_is_there(job: FillJob) -> tuple[object, ...]:
    """What a run changes at TARGET when it ends."""
    return read_fingerprint(job.target), record_of(job.target)


def _assert_may_begin(job: FillJob) -> None:
    """Raise, before anything is read, if a place that the run needs cannot be written or reached."""
    assert_main_guard(job)
    assert_writable(target_stem(job.target)[0], "the folder of TARGET")
    assert_writable(job.work or target_stem(job.target)[0], "--work")
    if job.stac is not None:
        assert_writable(target_stem(job.stac)[0], "the folder of --stac")
    assert_scheduler(job)


def _prepared(
    job: FillJob,
    scene: Scene,
    fingerprint: str,
    work: WorkStore,
    means: Means,
    kept: Kept | None,
    *,
    quiet: bool,
) -> tuple[FillPlan, dict[str, GapReader], Earlier | None]:
    """Scan, plan and fit, storing all of it in the working store; given what is `kept` of TARGET, extend that."""
    scans, gaps = scan_scene(scene, work, job, kept, quiet=quiet)
    planned = FillPlan.of(scene, scans, job, filler_of(job), fingerprint, means)
    planned = replace(planned, done=blocks_done(work, planned))
    look_over(planned, scene)
    if kept is None:
        logger.info("%s", planned)
    now, earlier = fit_scene(planned, scene, scans, gaps, work, kept, quiet=quiet), None
    if kept is not None:
        planned, now, earlier = extended(planned, scene, scans, filler_of(job), kept, now)
        save_kept(fit_path(work.path), now)
        logger.info("%s", planned)
    return planned, gaps, earlier


def _run_blocks(planned: FillPlan, work_path: str, local: Future[Any] | None, quiet: bool) -> list[BlockResult]:
    """Fill the blocks that are not done yet, in this process or on Dask workers, which are sent keys and no data."""
    finished = len(planned.blocks) - len(planned.to_do)
    with Progress("filling", len(planned.blocks), "blocks", done=finished, quiet=quiet) as progress:
        return run_blocks(fill_block, work_path, planned.to_do, planned.job, progress, local, planned.processes)


@files_closed()
def plan(job: FillJob) -> FillPlan:
    """Plan a job without running it: opens and scans the source, and leaves nothing behind."""
    scene, kept = open_scene(job), kept_of(job)
    return _plan(job, scene, fingerprint_of(job, scene, kept, kept_digests(job.target)), kept)


def _plan(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None) -> FillPlan:
    means = means_of(job, scene, kept)
    with tempfile.TemporaryDirectory(prefix="geodiff-plan-") as folder:
        work = create_work(f"{folder}/plan.zarr", work_specs(scene, job, means), fingerprint)
        scans, gaps = scan_scene(scene, work, job, kept, quiet=True)
        planned = FillPlan.of(scene, scans, job, filler_of(job), fingerprint, means)
        if kept is not None:
            now = kept_now(planned, scene, scans, gaps, kept, {})
            planned, _, _ = extended(planned, scene, scans, filler_of(job), kept, now)
    return planned


def _planned(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None, started: float) -> RunRecord:
    planned = _plan(job, scene, fingerprint, kept)
    look_over(planned, scene)
    record = begin_record(job, fingerprint, "planned", started)
    return replace(record, variables={"plan": planned.facts(), "text": str(planned)}, blocks=len(planned.blocks))
