"""Before the blocks: the working store of a job, its scan, its fit, and warnings about its plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from geodiff.appending import Kept, appendable, kept_cube, kept_job, load_kept, save_kept
from geodiff.beside import work_path
from geodiff.blocks import filler_of, fit_path, lost_blocks
from geodiff.credentials import redacted
from geodiff.errors import InputError, NothingKnownError, NothingMissingError, TargetError
from geodiff.fillers import Fitted
from geodiff.fitting import extended_fit, fit_cube, load_cube_fit
from geodiff.identity import model_identity
from geodiff.io.ancillary import is_layer
from geodiff.io.filledbefore import filled_before
from geodiff.io.fitstore import has_fit
from geodiff.io.places import exists, remove_tree
from geodiff.io.store import VariableSpec, create_work, find_work, remove_work
from geodiff.plan import FillPlan, Means
from geodiff.progress import Progress, waiting
from geodiff.scan import GapReader, Scan, scan_cube, tile_count
from geodiff.scanned import load_scans, save_scans
from geodiff.scene import Cube, Scene
from geodiff.standing import nothing_missing
from geodiff.threads import side_by_side

if TYPE_CHECKING:
    from geodiff.io.store import WorkStore
    from geodiff.job import FillJob

__all__ = [
    "blocks_done",
    "fit_scene",
    "half_a_store_cleared",
    "kept_now",
    "look_over",
    "means_of",
    "nothing_left_of_a_refusal",
    "open_or_create_work",
    "remove_all",
    "scan_scene",
    "work_specs",
]

logger = logging.getLogger(__name__)


# -- the working store


def means_of(job: FillJob, scene: Scene, kept: Kept | None, resumed: int | None = None) -> Means:
    """What the job may use; an extended product keeps its block size, on which the keys of its markers depend."""
    sized = job if kept is None else job.model_copy(update={"block_size": kept.block_size})
    return Means.of(scene, sized, filler_of(job), resumed)


def work_specs(scene: Scene, job: FillJob, means: Means) -> list[VariableSpec]:
    """The arrays of the working store: the bands to fill of every cube, in chunks."""
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


def open_or_create_work(job: FillJob, scene: Scene, fingerprint: str, kept: Kept | None) -> tuple[WorkStore, Means]:
    """The working store that a killed run of this same job left, or a new one in place of any other, and the means.

    A resumed run keeps the block size of the first one, however much memory is free now.
    """
    path = work_path(job.target, job.work)
    work = find_work(path)
    ours = work is not None and work.fingerprint == fingerprint
    means = means_of(job, scene, kept, work.attributes.get("block_size") if work is not None and ours else None)
    if work is not None and ours and all(spec.chunks[-1] == means.chunk for spec in work.variables):
        logger.info("resuming: %d blocks are done already", len(work.done()))
        return work, means
    if work is not None and ours:
        logger.info("%s was made for blocks of another size; starting over", path)
    elif work is not None:
        logger.info("%s belongs to another job or an older source; starting over", path)
    remove_work(path)
    remove_tree(fit_path(path))
    facts = {"job": job.model_dump(mode="json"), "block_size": means.block_size}
    return create_work(path, work_specs(scene, job, means), fingerprint, facts), means


def half_a_store_cleared(job: FillJob) -> bool:
    """Remove a working store that a kill left half made or half removed; return whether there was one."""
    path = work_path(job.target, job.work)
    if not exists(path) or find_work(path) is not None:
        return False
    remove_work(path)
    return True


def blocks_done(work: WorkStore, planned: FillPlan) -> frozenset[str]:
    """Keys of the blocks that an earlier run filled, without those that have lost layers, whose markers are removed."""
    markers = work.done()
    lost = lost_blocks(work, planned.blocks, markers, whole=True)
    if lost:
        logger.warning("%s has lost what it held of %d blocks: they are filled again", work.path, len(lost))
    for key in lost:
        work.forget(key)
    return frozenset(markers).difference(lost)


@contextmanager
def nothing_left_of_a_refusal(work: WorkStore) -> Iterator[None]:
    """Remove the working store again if the job is refused before its first block."""
    try:
        yield
    except (InputError, NothingMissingError):
        remove_all(work)
        raise


def remove_all(work: WorkStore) -> None:
    """Delete a working store and its fit."""
    remove_tree(fit_path(work.path))
    remove_work(work.path)


# -- the scan


def scan_scene(
    scene: Scene, work: WorkStore, job: FillJob, kept: Kept | None, *, quiet: bool
) -> tuple[dict[str, Scan], dict[str, GapReader]]:
    """Scan every pixel once; a resumed run loads the scan of the first one."""
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


def _gap_reader(cube: Cube, work: WorkStore, job: FillJob, scan: Scan) -> GapReader:
    reason, outside = work.array(cube.name, "scan_reason"), work.array(cube.name, "outside")
    return GapReader(reason, outside, cube.shape, job.buffer, cube.rules.fill_everything, scan.occupied)


# -- the fit


def fit_scene(
    planned: FillPlan,
    scene: Scene,
    scans: dict[str, Scan],
    gaps: dict[str, GapReader],
    work: WorkStore,
    kept: Kept | None,
    *,
    quiet: bool,
) -> Kept:
    """Fit every cube once and store the fit; a resumed run loads it."""
    path = fit_path(work.path)
    if has_fit(path):
        with suppress(TargetError):
            return load_kept(path)
        remove_tree(path)  # damaged; fitting again gives the same
    filler, parts = filler_of(planned.job), {}
    known = {} if kept is None else kept.fitted.parts
    for cube in scene.cubes:
        if planned.blocks and scans[cube.name].wanted and cube.name not in known:
            began = time.time()
            trying = f"trying {filler.name} on known pixels of {cube.name}"
            with waiting(trying, quiet=quiet), side_by_side(planned.job.workers or 0):
                parts[cube.name] = fit_cube(cube, scans[cube.name], gaps[cube.name], filler).stored()
            logger.info("fitted %s in %.1f s", cube.name, time.time() - began)
    now = kept_now(planned, scene, scans, gaps, kept, parts)
    save_kept(path, now)
    return now


def kept_now(
    planned: FillPlan,
    scene: Scene,
    scans: dict[str, Scan],
    gaps: dict[str, GapReader],
    kept: Kept | None,
    parts: dict[str, Fitted],
) -> Kept:
    """The fit extended to the present dates, and what later runs compare the dates with."""
    old = {} if kept is None else kept.fitted.parts
    longer = {
        cube.name: extended_fit(load_cube_fit(old[cube.name]), scans[cube.name], around=cube.lattice.periodic).stored()
        for cube in scene.cubes
        if cube.name in old
    }
    dated = appendable(planned.job.target) and any(c.variable.dates != (None,) for c in scene.cubes)
    cubes = {c.name: kept_cube(c, gaps[c.name]) for c in scene.cubes} if dated else {}
    fit = planned.fingerprint if kept is None else kept.fit
    model = model_identity(planned.job)
    fitted = Fitted("scene", {}, {}, {**longer, **parts})
    return Kept(fitted, planned.fingerprint, fit, kept_job(planned.job), model, planned.block_size, cubes)


# -- what is said of a plan


def look_over(planned: FillPlan, scene: Scene) -> None:
    """Log what a user may not expect of a plan.

    Raises NothingKnownError if no value is known, and NothingMissingError if none is missing and the job has
    `--fail-if-empty`; otherwise the product of a source without gaps is a copy with its layers.
    """
    _stop_if_empty(planned)
    _tell_of_earlier_fills(planned, scene)
    _tell_of_one_date(planned, scene)


def _stop_if_empty(planned: FillPlan) -> None:
    if not any(cube.scan.known for cube in planned.cubes):
        raise NothingKnownError(
            f"none of the {sum(c.scan.total for c in planned.cubes):,} values of {planned.job.source} is known, so "
            "nothing can be filled; check --nodata, --valid-range, --mask and --qa",
            fingerprint=planned.fingerprint,
        )
    if not planned.wanted and planned.job.fail_if_empty:
        raise nothing_missing(planned.job)


def _tell_of_earlier_fills(planned: FillPlan, scene: Scene) -> None:
    """Warn that the source is itself a product, whose filled values are treated as known."""
    variables = {cube.name: cube.variable for cube in scene.cubes}
    names = [cube.name for cube in planned.cubes if cube.scan.wanted]
    told = [name for name in names if filled_before(variables[name]) is not None]
    made = scene.raster.attributes.get("geodiff_command", "")
    if told:
        left = "keep their source, reason and standard error, while members and quantiles repeat them"
    elif names and made and not any(is_layer(v.name, v.attributes) for v in scene.raster.variables):
        left = "count as observed in the layers too, because the layers of that run are not beside it"
    else:
        return
    logger.warning(
        "%s was filled before%s: values filled by that run are treated as observed, and %s; if you can, fill the "
        "original source instead",
        redacted(planned.job.source), f" ({made})" if made else "", left,
    )  # fmt: skip


def _tell_of_one_date(planned: FillPlan, scene: Scene) -> None:
    """Warn that a filler which needs other dates has none."""
    dated = any(len(cube.variable.dates) > 1 for cube in scene.cubes)
    if planned.wanted and not dated and getattr(filler_of(planned.job), "needs_dates", False):
        logger.warning(
            "--filler %s fills from other dates, and %s has one: its gaps are filled in space alone, as by laplace",
            planned.job.filler, redacted(planned.job.source),
        )  # fmt: skip
