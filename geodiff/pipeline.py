"""The line: open, find the gaps, plan, fit, fill the blocks, finish.

`run(job)` is all of it. Every block is safe to run again; what is finished is marked in the working store, so the same
command goes on where a killed one stopped.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geodiff.appending import (
    Kept,
    appendable,
    assert_appendable,
    extended,
    find_kept,
    kept_cube,
    kept_job,
    load_kept,
    save_kept,
)
from geodiff.beside import (
    alone,
    assert_own_layers,
    is_whole,
    keep_digests,
    kept_digests,
    lost_of,
    record_of,
    renew_digests,
    work_path,
    written_before,
)
from geodiff.blocks import BlockResult, fill_block, filler_of, fit_path, forget, lend, lost_blocks
from geodiff.credentials import redacted
from geodiff.errors import (
    GateError,
    InputError,
    JobError,
    NothingKnownError,
    NothingMissingError,
    TargetError,
)
from geodiff.fillers import Fitted
from geodiff.finishing import Times, begin_record, deliver_item, finish, judge
from geodiff.fitting import extended_fit, fit_cube, load_cube_fit
from geodiff.identity import (
    assert_apart,
    assert_nameable,
    assert_unchanged,
    assert_writable,
    inputs_identity,
    model_identity,
    source_identity,
    stamp_of,
    target_stem,
)
from geodiff.io import check_target, read_fingerprint
from geodiff.io.ancillary import is_layer
from geodiff.io.cube import files_closed
from geodiff.io.filledbefore import filled_before
from geodiff.io.places import exists, remove_tree
from geodiff.io.stacitem import item_fingerprint
from geodiff.io.store import VariableSpec, create_work, has_fit, open_work, remove_work
from geodiff.plan import FillPlan, Means
from geodiff.progress import Progress, waiting
from geodiff.running import assert_main_guard, assert_scheduler, local_workers, run_blocks
from geodiff.scan import GapReader, Scan, scan_cube, tile_count
from geodiff.scanned import load_scans, save_scans
from geodiff.scene import Cube, Scene, open_scene
from geodiff.threads import side_by_side

if TYPE_CHECKING:
    from concurrent.futures import Future

    from geodiff.digests import Digests
    from geodiff.io.earlier import Earlier
    from geodiff.io.store import WorkStore
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["Standing", "plan", "run", "standing"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands before any pixel is read."""

    fingerprint: str
    """Of the product to come."""
    record: RunRecord | None
    """What `run` returns where that product is there already; None where there is something to do."""
    digests: Digests
    """What was read of the source, to be kept for the next time."""


@files_closed()
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
        scene = open_scene(job)
        stamp = stamp_of(job, scene.raster)  # before its identity is read, which must be that of what is filled
        assert_nameable(job.target)  # before its record is looked for
        there, kept = _what_is_there(job), _kept(job)
        stands = _stands(job, scene, kept, started)
        if stands.record is not None:
            return stands.record
        assert_own_layers(job.target, overwrite=job.overwrite)
        if job.dry_run:
            return _planned(job, scene, stands.fingerprint, kept, started)
        _assert_may_begin(job)
        assert_ours = held.enter_context(alone(job.target, job.work))
        # one was killed in its last clean-up; another ended until then: TARGET is another, its dates lie elsewhere
        if _cleared(job) or _what_is_there(job) != there:
            kept = _kept(job)
            stands = _stands(job, scene, kept, started, stands.digests)
            if stands.record is not None:
                return stands.record
            assert_own_layers(job.target, overwrite=job.overwrite)
        assert_unchanged(job, scene.raster, stamp)
        _tell_of_loss(job)
        work, means = _open_or_create(job, scene, stands.fingerprint, kept)
        held.callback(forget, work.path)
        lend(work.path, scene)
        with local_workers(job) as local:
            with _nothing_left_of_a_refusal(work):
                planned, gaps, earlier = _prepared(job, scene, stands.fingerprint, work, means, kept, quiet=quiet)
            fitted = time.time()
            results = _run_blocks(planned, work.path, local, quiet)
        assert_unchanged(job, scene.raster, stamp)
        assert_ours()
        record = finish(planned, scene, work, gaps, results, Times(started, fitted, time.time()), earlier)
        keep_digests(job.target, stands.digests)
        assert_unchanged(job, scene.raster, stamp, written=True)
        if not record.failed_blocks:
            _remove(work)
        return record


def _assert_may_begin(job: FillJob) -> None:
    """Raise before anything is read where what the run needs cannot be written or reached."""
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
    """Scan, plan and fit, all of it kept in the working store; with what is `kept` of TARGET, how that is extended."""
    scans, gaps = _scan(scene, work, job, kept, quiet)
    planned = FillPlan.of(scene, scans, job, filler_of(job), fingerprint, means)
    planned = replace(planned, done=_done(work, planned))
    _stop_if_empty(job, planned)
    _tell_of_earlier_fills(planned, scene)
    _tell_of_one_date(planned, scene)
    if kept is None:
        logger.info("%s", planned)
    now, earlier = _fit(planned, scene, scans, gaps, work, kept, quiet=quiet), None
    if kept is not None:
        planned, now, earlier = extended(planned, scene, scans, filler_of(job), kept, now)
        save_kept(fit_path(work.path), now)
        logger.info("%s", planned)
    return planned, gaps, earlier


def _what_is_there(job: FillJob) -> tuple[object, ...]:
    """What a run that ends leaves changed."""
    return read_fingerprint(job.target), record_of(job.target)


@files_closed()
def standing(job: FillJob) -> Standing:
    """How a job stands before any pixel is read; `run` goes on from there. Raises what `run` raises until then."""
    started = time.time()
    return _stands(job, open_scene(job), _kept(job), started)


@files_closed()
def plan(job: FillJob) -> FillPlan:
    """The plan of a job, without doing it: opens and scans the source, writes nothing that stays."""
    scene, kept = open_scene(job), _kept(job)
    return _plan(job, scene, _fingerprint(job, scene, kept, kept_digests(job.target)), kept)


def _plan(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None) -> FillPlan:
    means = _means(job, scene, kept)
    with tempfile.TemporaryDirectory(prefix="geodiff-plan-") as folder:
        work = create_work(f"{folder}/plan.zarr", _specs(scene, job, means), fingerprint)
        scans, gaps = _scan(scene, work, job, kept, quiet=True)
        planned = FillPlan.of(scene, scans, job, filler_of(job), fingerprint, means)
        if kept is not None:
            now = _now(planned, scene, scans, gaps, kept, {})
            planned, _, _ = extended(planned, scene, scans, filler_of(job), kept, now)
    return planned


def _means(job: FillJob, scene: Scene, kept: Kept | None, resumed: int | None = None) -> Means:
    """What may be spent; a product that is extended keeps its blocks, by which its markers are known."""
    sized = job if kept is None else job.model_copy(update={"block_size": kept.block_size})
    return Means.of(scene, sized, filler_of(job), resumed)


def _planned(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None, started: float) -> RunRecord:
    planned = _plan(job, scene, fingerprint, kept)
    _stop_if_empty(job, planned)
    _tell_of_earlier_fills(planned, scene)
    _tell_of_one_date(planned, scene)
    record = begin_record(job, fingerprint, "planned", started)
    return replace(record, variables={"plan": planned.facts(), "text": str(planned)}, blocks=len(planned.blocks))


# -- before the blocks


def _stands(
    job: FillJob, scene: Scene, kept: Kept | None, started: float, digests: Digests | None = None
) -> Standing:
    """Whether the product is there already; what a kill left undone beside it is done.

    `digests` are those of a look before, by which what has not changed since is not read again.
    """
    check_target(scene.raster, job.target, [cube.variable for cube in scene.cubes], job.layers)
    assert_nameable(job.target)
    assert_apart(job, scene.raster)
    digests = kept_digests(job.target) if digests is None else digests
    fingerprint = _fingerprint(job, scene, kept, digests)
    if job.dry_run:
        _warn_of_refusal(job, fingerprint)
        return Standing(fingerprint, None, digests)
    if not _up_to_date(job, fingerprint):
        return Standing(fingerprint, None, digests)
    remove_tree(fit_path(_work_path(job)))  # what a kill in the last clean-up left
    renew_digests(job.target, digests)
    _judge_again(job)
    if job.stac and item_fingerprint(job.stac) != fingerprint:
        deliver_item(job, scene, written_before(job.target), fingerprint)
    status = "nothing to append" if job.append else "up to date"
    return Standing(fingerprint, begin_record(job, fingerprint, status, started), digests)


def _kept(job: FillJob) -> Kept | None:
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
    work = _left_behind(_work_path(job))
    if work is None or not has_fit(fit_path(work.path)):
        return None
    kept = load_kept(fit_path(work.path))
    return replace(kept, done={**kept.done, **work.done()})


def _fingerprint(job: FillJob, scene: Scene, kept: Kept | None, digests: Digests) -> str:
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
        failed = exists(_work_path(job)) or record_of(job.target).get("failed_blocks")
        return not failed and is_whole(job.target, fingerprint)
    if job.append:
        return False
    what = "was made by another job or from another state of the source" if found else "is not a product of geodiff"
    more = "; --append adds dates" if found and appendable(job.target) else ""
    raise TargetError(
        f"{job.target} is there already and {what}; use --overwrite to replace it, or another target{more}"
    )


def _tell_of_loss(job: FillJob) -> None:
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
    """What this run asks of a product that is there already: the record of the run that made it holds the figures."""
    record = record_of(job.target)
    if record.get("status") == "nothing to fill":  # there was nothing to judge either
        if job.fail_if_empty:
            raise _nothing_missing(job)
        return
    if job.gates and "gates" not in record:
        raise GateError(
            f"the record of {job.target} is lost, so nothing tells whether it holds {job.gate}; --overwrite makes both "
            "anew, or drop the gate"
        )
    judge(job, record.get("gates", {}), f"{job.target}, which was made before, is kept as it is")


def _work_path(job: FillJob) -> str:
    return work_path(job.target, job.work)


def _specs(scene: Scene, job: FillJob, means: Means) -> list[VariableSpec]:
    """What the working store holds: the bands to fill of every cube, by chunk."""
    specs = []
    for cube in scene.cubes:
        shape = (len(cube.variable.dates), len(cube.bands), *cube.shape)
        dtype = cube.variable.dtype.str
        specs.append(
            VariableSpec(
                cube.name, shape, dtype, members=job.drawn_members, quantiles=len(job.quantiles),
                chunks=(1, 0, means.chunk, means.chunk), by_level=cube.by_level,
            )
        )  # fmt: skip
    return specs


def _open_or_create(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None) -> tuple[WorkStore, Means]:
    """The working store of this very job if a killed run left one, and what to spend; a stale store makes way.

    A resumed run keeps the blocks of the first one, whatever memory there is now.
    """
    path = _work_path(job)
    work = _left_behind(path)
    ours = work is not None and work.fingerprint == fingerprint
    means = _means(job, scene, kept, work.attributes.get("block_size") if work is not None and ours else None)
    if work is not None and ours and all(spec.chunks[-1] == means.chunk for spec in work.variables):
        logger.info("resuming: %d blocks are done already", len(work.done()))
        return work, means
    if work is not None and ours:
        logger.info("%s was made for blocks of another size; starting anew", path)
    elif work is not None:
        logger.info("%s belongs to another job or an older source; starting anew", path)
    remove_work(path)
    remove_tree(fit_path(path))
    facts = {"job": job.model_dump(mode="json"), "block_size": means.block_size}
    return create_work(path, _specs(scene, job, means), fingerprint, facts), means


def _cleared(job: FillJob) -> bool:
    """Whether there was a working store that a kill left half made or half removed; it is gone now."""
    path = _work_path(job)
    if not exists(path) or _left_behind(path) is not None:
        return False
    remove_work(path)
    return True


def _left_behind(path: str) -> WorkStore | None:
    """The working store that an earlier run left, whole; None where there is none."""
    try:
        return open_work(path)
    except TargetError:
        return None


def _scan(
    scene: Scene, work: WorkStore, job: FillJob, kept: Kept | None, quiet: bool
) -> tuple[dict[str, Scan], dict[str, GapReader]]:
    """Look at every pixel once; a resumed run takes what the first one found."""
    found = load_scans(work)
    if found is not None:
        return found, {cube.name: _gap_reader(cube, work, job, found[cube.name]) for cube in scene.cubes}
    scans, gaps = {}, {}
    parts = {} if kept is None else kept.fitted.parts
    tiles = sum(tile_count(cube.shape) for cube in scene.cubes)
    with Progress("finding gaps", tiles, "tiles", quiet=quiet) as progress:
        for cube in scene.cubes:
            reason, outside = work.array(cube.name, "scan_reason"), work.array(cube.name, "outside")
            before = load_cube_fit(parts[cube.name]) if cube.name in parts else None
            chosen = (None, None) if before is None else (before.cells.cell, before.turns)
            scans[cube.name], gaps[cube.name] = scan_cube(cube, reason, outside, job.buffer, progress.advance, *chosen)
    save_scans(work, scans)
    return scans, gaps


def _done(work: WorkStore, planned: FillPlan) -> frozenset[str]:
    """The blocks that an earlier run filled; those whose layers are not there any more are filled again."""
    markers = work.done()
    lost = lost_blocks(work, planned.blocks, markers, whole=True)
    if lost:
        logger.warning("%s has lost what it held of %d blocks: they are filled again", work.path, len(lost))
    for key in lost:
        work.forget(key)
    return frozenset(markers).difference(lost)


def _gap_reader(cube: Cube, work: WorkStore, job: FillJob, scan: Scan) -> GapReader:
    reason, outside = work.array(cube.name, "scan_reason"), work.array(cube.name, "outside")
    return GapReader(reason, outside, cube.shape, job.buffer, cube.rules.fill_everything, scan.occupied)


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


def _stop_if_empty(job: FillJob, planned: FillPlan) -> None:
    """Nothing known ends here, and nothing missing with `--fail-if-empty`.

    Otherwise a source without gaps goes on and comes out as a copy with its layers.
    """
    if not any(cube.scan.known for cube in planned.cubes):
        raise NothingKnownError(
            f"none of the {sum(c.scan.total for c in planned.cubes):,} values of {job.source} is known, so nothing can "
            "be filled; check --nodata, --valid-range, --mask and --qa",
            fingerprint=planned.fingerprint,
        )
    if planned.wanted or not job.fail_if_empty:
        return
    raise _nothing_missing(job)


def _tell_of_earlier_fills(planned: FillPlan, scene: Scene) -> None:
    """Say of a source that is itself a product that what was filled there is taken for known."""
    variables = {cube.name: cube.variable for cube in scene.cubes}
    names = [cube.name for cube in planned.cubes if cube.scan.wanted]
    told = [name for name in names if filled_before(variables[name]) is not None]
    made = scene.raster.attributes.get("geodiff_command", "")
    if told:
        left = "keep their source, reason and standard error, while members and quantiles repeat them"
    elif names and made and not any(is_layer(v.name, v.attributes) for v in scene.raster.variables):
        left = "count as observed in the layers too, because those of that run do not lie beside it"
    else:
        return
    logger.warning(
        "%s was filled before%s: the values of that run are taken for known, as if they had been observed, and %s; "
        "fill what that run was given instead if you can",
        redacted(planned.job.source), f" ({made})" if made else "", left,
    )  # fmt: skip


def _tell_of_one_date(planned: FillPlan, scene: Scene) -> None:
    """Say of a filler that lives by other dates that there is none."""
    dated = any(len(cube.variable.dates) > 1 for cube in scene.cubes)
    if planned.wanted and not dated and getattr(filler_of(planned.job), "needs_dates", False):
        logger.warning(
            "--filler %s fills from other dates, and %s has one: its gaps are filled in space alone, as by laplace",
            planned.job.filler, redacted(planned.job.source),
        )  # fmt: skip


def _nothing_missing(job: FillJob) -> NothingMissingError:
    return NothingMissingError(f"{job.source} has no gap to fill, and --fail-if-empty asked to be told")


def _fit(
    planned: FillPlan,
    scene: Scene,
    scans: dict[str, Scan],
    gaps: dict[str, GapReader],
    work: WorkStore,
    kept: Kept | None,
    *,
    quiet: bool,
) -> Kept:
    """Fit every cube once and keep it in the working store; a resumed run finds it there."""
    path = fit_path(work.path)
    if has_fit(path):
        with suppress(TargetError):  # it is damaged, and the same one is made again
            return load_kept(path)
    filler, parts = filler_of(planned.job), {}
    known = {} if kept is None else kept.fitted.parts
    for cube in scene.cubes:
        if planned.blocks and scans[cube.name].wanted and cube.name not in known:
            began = time.time()
            trying = f"trying {filler.name} on known pixels of {cube.name}"
            with waiting(trying, quiet=quiet), side_by_side(planned.job.workers or 0):
                parts[cube.name] = fit_cube(cube, scans[cube.name], gaps[cube.name], filler).stored()
            logger.info("fitted %s in %.1f s", cube.name, time.time() - began)
    now = _now(planned, scene, scans, gaps, kept, parts)
    save_kept(path, now)
    return now


def _now(
    planned: FillPlan,
    scene: Scene,
    scans: dict[str, Scan],
    gaps: dict[str, GapReader],
    kept: Kept | None,
    parts: dict[str, Fitted],
) -> Kept:
    """The fit over the dates of now, and what dates to come will be compared with."""
    old = {} if kept is None else kept.fitted.parts
    longer = {
        cube.name: extended_fit(
            load_cube_fit(old[cube.name]), scans[cube.name], around=cube.lattice.periodic
        ).stored()
        for cube in scene.cubes
        if cube.name in old
    }
    dated = appendable(planned.job.target) and any(c.variable.dates != (None,) for c in scene.cubes)
    cubes = {c.name: kept_cube(c, gaps[c.name]) for c in scene.cubes} if dated else {}
    fit = planned.fingerprint if kept is None else kept.fit
    model = model_identity(planned.job)
    fitted = Fitted("scene", {}, {}, {**longer, **parts})
    return Kept(fitted, planned.fingerprint, fit, kept_job(planned.job), model, planned.block_size, cubes)


def _run_blocks(planned: FillPlan, work_path: str, local: Future[Any] | None, quiet: bool) -> list[BlockResult]:
    """Every block that is not done yet: in this process, or on Dask workers that receive keys and no data."""
    finished = len(planned.blocks) - len(planned.to_do)
    with Progress("filling", len(planned.blocks), "blocks", done=finished, quiet=quiet) as progress:
        return run_blocks(fill_block, work_path, planned.to_do, planned.job, progress, local, planned.processes)
