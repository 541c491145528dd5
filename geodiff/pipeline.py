"""The line: open, find the gaps, plan, fit, fill the blocks, finish.

`run(job)` is all of it. Every block is safe to run again; what is finished is marked in the working store, so the same
command goes on where a killed one stopped.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from geodiff.blocks import BlockResult, fill_block, filler_of, fit_path, forget
from geodiff.errors import InputError, NothingKnownError, NothingMissingError, SourceError, TargetError
from geodiff.fillers import Fitted
from geodiff.finishing import Times, begin_record, finish
from geodiff.fitting import fit_cube
from geodiff.identity import (
    assert_apart,
    assert_writable,
    model_identity,
    source_identity,
    source_stamp,
    target_stem,
    written_before,
)
from geodiff.io import check_target, read_fingerprint
from geodiff.io.places import exists, remove_tree
from geodiff.io.store import VariableSpec, create_work, load_fit, lock, open_work, remove_work, save_fit
from geodiff.plan import FillPlan
from geodiff.progress import Progress
from geodiff.running import run_blocks
from geodiff.scan import CHUNK, GapReader, Scan, scan_cube, tile_count
from geodiff.scene import Scene, open_scene

if TYPE_CHECKING:
    from geodiff.io import Raster
    from geodiff.io.store import WorkStore
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["plan", "run"]

logger = logging.getLogger(__name__)


def run(job: FillJob, *, quiet: bool = False) -> RunRecord:
    """Do a job from source to product.

    Returns
    -------
    RunRecord
        With `exit_code` 0, or 3 where some blocks failed and the rest was delivered.

    Raises
    ------
    GeodiffError
        With the exit code of the contract; the target is then as it was before.
    """
    started = time.time()
    with ExitStack() as held:
        held.callback(forget)
        scene = open_scene(job)
        check_target(scene.raster, job.target)
        assert_apart(job, scene.raster)
        fingerprint = job.fingerprint(source_identity(scene.raster), model_identity(job))
        if not job.dry_run and _up_to_date(job, fingerprint):
            remove_tree(fit_path(_work_path(job)))  # what a kill in the last clean-up left
            return begin_record(job, fingerprint, "up to date", started)
        if job.dry_run:
            return _planned(job, scene, fingerprint, started)
        assert_writable(target_stem(job.target)[0], "the folder of TARGET")
        assert_writable(job.work or target_stem(job.target)[0], "--work")
        held.enter_context(lock(_work_path(job)))
        stamp = source_stamp(scene.raster)
        work = _open_or_create(job, scene, fingerprint)
        with _nothing_left_of_a_refusal(work):
            scans, gaps = _scan(scene, work, job, quiet)
            planned = FillPlan.of(scene, scans, job, filler_of(job), fingerprint)
            planned = replace(planned, done=frozenset(work.done()))
            logger.info("%s", planned)
            _stop_if_empty(job, planned)
            _fit(scene, scans, gaps, work, job, needed=bool(planned.blocks))
        fitted = time.time()
        results = _run_blocks(planned, work.path, quiet)
        _assert_unchanged(scene.raster, stamp)
        record = finish(planned, scene, work, gaps, results, Times(started, fitted, time.time()))
        if not record.failed_blocks:
            _remove(work)
        return record


def plan(job: FillJob) -> FillPlan:
    """The plan of a job, without doing it: opens and scans the source, writes nothing that stays."""
    scene = open_scene(job)
    fingerprint = job.fingerprint(source_identity(scene.raster), model_identity(job))
    return _plan(job, scene, fingerprint)


def _plan(job: FillJob, scene: Scene, fingerprint: str) -> FillPlan:
    with tempfile.TemporaryDirectory(prefix="geodiff-plan-") as folder:
        work = create_work(f"{folder}/plan.zarr", _specs(scene, job), fingerprint)
        scans, _ = _scan(scene, work, job, quiet=True)
    return FillPlan.of(scene, scans, job, filler_of(job), fingerprint)


def _planned(job: FillJob, scene: Scene, fingerprint: str, started: float) -> RunRecord:
    planned = _plan(job, scene, fingerprint)
    record = begin_record(job, fingerprint, "planned", started)
    return replace(record, variables={"plan": planned.facts(), "text": str(planned)}, blocks=len(planned.blocks))


# -- before the blocks


def _up_to_date(job: FillJob, fingerprint: str) -> bool:
    """Whether the target is this very product, whole; raises TargetError when it is another and may not be replaced.

    A working store that is still there holds blocks that failed: the same command tries them again.
    """
    found = read_fingerprint(job.target)
    if found is None or job.overwrite:
        return False
    if found == fingerprint:
        return not exists(_work_path(job)) and all(exists(path) for path in written_before(job.target))
    what = "was made by another job or from another state of the source" if found else "is not a product of geodiff"
    raise TargetError(f"{job.target} is there already and {what}; use --overwrite to replace it, or another target")


def _work_path(job: FillJob) -> str:
    folder, stem = target_stem(job.target)
    return f"{job.work.rstrip('/') if job.work else folder}/{stem}.geodiff-work.zarr"


def _specs(scene: Scene, job: FillJob) -> list[VariableSpec]:
    """What the working store holds: the bands to fill of every cube, by chunk."""
    specs = []
    for cube in scene.cubes:
        shape = (len(cube.variable.dates), len(cube.bands), *cube.shape)
        dtype = cube.variable.dtype.str
        specs.append(
            VariableSpec(
                cube.name, shape, dtype, members=job.drawn_members, quantiles=len(job.quantiles),
                chunks=(1, 0, CHUNK, CHUNK),
            )
        )  # fmt: skip
    return specs


def _open_or_create(job: FillJob, scene: Scene, fingerprint: str) -> WorkStore:
    """The working store of this very job if a killed run left one; a stale one makes way."""
    path = _work_path(job)
    work = _left_behind(path)
    if work is not None and work.fingerprint == fingerprint:
        logger.info("resuming: %d blocks are done already", len(work.done()))
        return work
    if work is not None:
        logger.info("%s belongs to another job or an older source; starting anew", path)
    remove_work(path)
    remove_tree(fit_path(path))
    facts = {"job": job.model_dump(mode="json")}
    return create_work(path, _specs(scene, job), fingerprint, facts)


def _left_behind(path: str) -> WorkStore | None:
    """The working store that an earlier run left, whole; None where there is none."""
    try:
        return open_work(path)
    except TargetError:
        return None


def _scan(scene: Scene, work: WorkStore, job: FillJob, quiet: bool) -> tuple[dict[str, Scan], dict[str, GapReader]]:
    scans, gaps = {}, {}
    tiles = sum(tile_count(cube.shape) for cube in scene.cubes)
    with Progress("finding gaps", tiles, "tiles", quiet=quiet) as progress:
        for cube in scene.cubes:
            reason, outside = work.array(cube.name, "scan_reason"), work.array(cube.name, "outside")
            scans[cube.name], gaps[cube.name] = scan_cube(cube, reason, outside, job.buffer, progress.advance)
    return scans, gaps


@contextmanager
def _nothing_left_of_a_refusal(work: WorkStore) -> Iterator[None]:
    """Take the working store away again where a job is refused before its first block."""
    try:
        yield
    except (InputError, NothingMissingError):
        _remove(work)
        raise


def _remove(work: WorkStore) -> None:
    remove_tree(fit_path(work.path))
    remove_work(work.path)


def _assert_unchanged(raster: Raster, stamp: tuple[object, ...]) -> None:
    """What no block touched is still to be copied: it must come from the very source the blocks were filled from."""
    if source_stamp(raster) != stamp:
        raise SourceError(f"{raster.path} changed while it was being filled, so nothing was written; run this again")


def _stop_if_empty(job: FillJob, planned: FillPlan) -> None:
    """Nothing known ends here, and nothing missing with `--fail-if-empty`.

    Otherwise a source without gaps goes on and comes out as a copy with its layers.
    """
    if not any(cube.scan.known for cube in planned.cubes):
        raise NothingKnownError(
            f"none of the {sum(c.scan.total for c in planned.cubes):,} values of {job.source} is known, so nothing can "
            "be filled; check --nodata, --valid-range, --mask and --qa"
        )
    if planned.wanted or not job.fail_if_empty:
        return
    raise NothingMissingError(f"{job.source} has no gap to fill, and --fail-if-empty asked to be told")


def _fit(
    scene: Scene, scans: dict[str, Scan], gaps: dict[str, GapReader], work: WorkStore, job: FillJob, *, needed: bool
) -> None:
    """Fit every cube once and keep it in the working store; a resumed run finds it there."""
    path = fit_path(work.path)
    if exists(path):
        load_fit(path)
        return
    filler = filler_of(job)
    parts = {}
    for cube in scene.cubes:
        if needed and scans[cube.name].wanted:
            began = time.time()
            parts[cube.name] = fit_cube(cube, scans[cube.name], gaps[cube.name], filler).stored()
            logger.info("fitted %s in %.1f s", cube.name, time.time() - began)
    save_fit(path, Fitted("scene", {}, {}, parts), {"geodiff_fingerprint": work.fingerprint})


def _run_blocks(planned: FillPlan, work_path: str, quiet: bool) -> list[BlockResult]:
    """Every block that is not done yet: in this process, or on Dask workers that receive keys and no data."""
    finished = len(planned.blocks) - len(planned.to_do)
    with Progress("filling", len(planned.blocks), "blocks", done=finished, quiet=quiet) as progress:
        return run_blocks(fill_block, work_path, planned.to_do, planned.job, progress)
