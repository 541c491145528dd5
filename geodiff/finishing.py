"""After the blocks: judge the run, write the product, keep the fit, write the record."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff import __version__
from geodiff.appending import kept_beside, load_kept, save_kept
from geodiff.beside import delete_left_layers, keep_record
from geodiff.blocks import BlockResult, fit_path, lost_blocks
from geodiff.credentials import redacted
from geodiff.errors import BlockError, GateError, TargetError, WriteError
from geodiff.fillers import source_codes
from geodiff.gaps import Reason
from geodiff.identity import describe_model, record_path
from geodiff.io import Product, write_product
from geodiff.io.places import exists
from geodiff.io.stacitem import write_item
from geodiff.io.store import remove_work
from geodiff.layers import product_variable
from geodiff.plan import FillPlan, scan_facts
from geodiff.record import RunRecord, versions
from geodiff.scanned import is_kept
from geodiff.seams import seam

if TYPE_CHECKING:
    from geodiff.fillers import Fitted
    from geodiff.io.earlier import Earlier
    from geodiff.io.store import WorkStore
    from geodiff.job import FillJob
    from geodiff.scan import GapReader
    from geodiff.scene import Scene

__all__ = ["Times", "begin_record", "deliver_item", "finish", "judge", "peak_memory"]


_DATASETS = ("Zarr", "netCDF", "HDF5")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since 1970 at which a run began, had its fit, and had filled its blocks."""

    started: float
    fitted: float
    filled: float


def finish(
    planned: FillPlan,
    scene: Scene,
    work: WorkStore,
    gaps: Mapping[str, GapReader],
    results: Sequence[BlockResult],
    times: Times,
    earlier: Earlier | None = None,
) -> RunRecord:
    """Judge, write the product, the fit and the record; with an `earlier` product, extend that.

    Raises BlockError where every block failed, WriteError where the working store has lost what the others wrote, and
    GateError where a gate refuses; the target is then as it was.
    """
    job = planned.job
    failed = {result.key: result.error for result in results if result.error}
    if failed and len(failed) == len(planned.blocks):
        raise BlockError(f"every block failed; the first one with: {next(iter(failed.values()))}")
    done = work.done()
    _assert_all_there(planned, work, gaps, done, failed)
    kept = load_kept(fit_path(work.path))
    markers = {**kept.done, **done}
    variables = _variable_facts(planned, markers, kept.fitted)
    figures = _figures(variables, markers)
    if planned.wanted:  # where nothing was to be filled there is nothing to judge
        left = f"{job.target} is unchanged" if exists(job.target) else f"{job.target} was not written"
        kept_too = "what was filled is kept, and the same command with another gate goes on from there"
        judge(job, figures, f"{left}; {kept_too}")
    paths = tuple(write_product(replace(_product(planned, scene, work, gaps), earlier=earlier), job.target))
    delete_left_layers(job.target, paths)
    if kept.fitted.parts or kept.cubes:
        save_kept(kept_beside(job.target), replace(kept, done=markers))
    record = replace(
        begin_record(job, planned.fingerprint, _status(planned, failed), times.started),
        exit_code=3 if failed else 0,
        products=paths,
        variables=variables,
        blocks=len(planned.blocks),
        blocks_resumed=len(planned.blocks) - len(planned.to_do),
        failed_blocks=failed,
        gates=figures,
        seconds=_seconds(times),
        peak_memory_bytes=peak_memory(),
    )
    keep_record(job.target, record.to_json())
    deliver_item(job, scene, paths, planned.fingerprint)
    return record


def _assert_all_there(
    planned: FillPlan,
    work: WorkStore,
    gaps: Mapping[str, GapReader],
    done: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
) -> None:
    """Raise WriteError where the working store does not hold any more what the scan and the blocks put there.

    A file system that went away for a while and who cleans up temporary files leave such a store. What is gone reads as
    no gap and as no estimate, and would be delivered as that. What is left of it must not be believed by the next run.
    """
    scans = {cube.name: cube.scan.occupied for cube in planned.cubes if cube.name in gaps}
    if not all(is_kept(work, name, occupied) for name, occupied in scans.items()):
        with suppress(TargetError):  # with its file system all of it may be gone
            remove_work(work.path)
        what = "what the scan found"
    else:
        lost = {block.key for block in planned.blocks if block.key not in done and block.key not in failed}
        lost.update(lost_blocks(work, planned.blocks, done))
        if not lost:
            return
        for key in lost:
            work.forget(key)
        what = f"what it held of {len(lost)} blocks"
    raise WriteError(
        f"the working store {work.path} has lost {what} during the run; see that nothing deletes or unmounts it, or "
        "choose another place with --work: the same command then resumes"
    )


def deliver_item(job: FillJob, scene: Scene, products: Sequence[str], fingerprint: str) -> None:
    """Write the STAC Item of a finished product, where the job asks for one."""
    if job.stac:
        write_item(job.stac, scene.raster, products, _attributes(job, fingerprint), record_path(job.target))


def _product(planned: FillPlan, scene: Scene, work: WorkStore, gaps: Mapping[str, GapReader]) -> Product:
    job = planned.job
    missing = {cube.name for cube in planned.cubes if cube.scan.missing}
    # In a dataset of many variables, those without gaps are copied and need no layers to say so.
    told = [cube for cube in scene.cubes if cube.name in missing] if scene.raster.driver in _DATASETS else []
    return Product(
        scene.raster,
        tuple(product_variable(cube, gaps[cube.name], work) for cube in told or scene.cubes),
        _attributes(job, planned.fingerprint, ran=planned.wanted > 0),
        source_codes(),
        {reason.meaning: int(reason) for reason in Reason},
        job.quantiles,
        job.zarr_format,
    )


def _status(planned: FillPlan, failed: Mapping[str, str]) -> str:
    if failed:
        return "some blocks failed"
    return "done" if planned.wanted else "nothing to fill"


def _seconds(times: Times) -> dict[str, float]:
    """How long each stage took."""
    return {
        "scan_and_fit": times.fitted - times.started,
        "fill": times.filled - times.fitted,
        "write": time.time() - times.filled,
    }


_CHECKED = ("pixels", "trials", "rmse", "coverage90", "coverage", "pit", "league")


def _variable_facts(planned: FillPlan, markers: dict[str, dict[str, Any]], stored: Fitted) -> dict[str, Any]:
    facts = {}
    for cube in planned.cubes:
        records = [markers[b.key] for b in (*cube.blocks, *cube.kept) if b.key in markers]
        part = stored.parts.get(cube.name)
        facts[cube.name] = {
            **scan_facts(cube),
            "filled": sum(r["filled"] for r in records),
            "refused": sum(r["refused"] for r in records),
            "windows": sum(r["windows"] for r in records),
            "self_check": dict(zip(_CHECKED, part.facts["check"], strict=False)) if part else {},
            "fit": dict(part.parts["filler"].facts) if part else {},
        }
    return facts


def judge(job: FillJob, figures: Mapping[str, float | None], left: str) -> None:
    """Raise GateError, which says what is `left`, where a gate does not hold, or cannot be measured."""
    for gate in job.gates:
        value = figures.get(gate.figure)
        asked = f"{gate.figure}{gate.relation}{gate.bound:g}"
        if value is None:
            raise GateError(
                f"gate {asked}: the run is too small to measure {gate.figure}; drop this gate, or fill a larger scene"
            )
        chance = figures.get(f"{gate.figure}_chance") or 0.0
        if not gate.holds(value - chance if gate.relation == "<=" else value + chance):
            by_chance = f", of which chance makes {chance:.2g}" if chance else ""
            raise GateError(f"gate {asked} refused the product: {gate.figure} is {value:.4g}{by_chance}; {left}")


def _figures(variables: dict[str, Any], markers: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """What gates can ask for; None where the run is too small to measure it."""
    checks = [v["self_check"] for v in variables.values() if v["self_check"].get("coverage90") is not None]
    pixels = sum(c["pixels"] for c in checks)
    coverage = sum(c["coverage90"] * c["pixels"] for c in checks) / pixels if pixels else None
    wanted, filled = (sum(v[k] for v in variables.values()) for k in ("to_fill", "filled"))
    blocks = [m.get("steps") for m in markers.values()]  # a run begun by an older version has none
    steepness, chance = _seam([block for block in blocks if block and block[1]])
    unfilled = 1 - filled / wanted if wanted else 0.0
    return {"coverage90": coverage, "unfilled": unfilled, "seam": steepness, "seam_chance": chance}


def _seam(steps: Sequence[tuple[list[float], list[int]]]) -> tuple[float | None, float | None]:
    """`seams.seam` over what all blocks have counted."""
    if not steps:
        return None, None
    sums, counts = zip(*steps, strict=True)
    return seam(np.sum(sums, axis=0), np.sum(counts, axis=0))


def _attributes(job: FillJob, fingerprint: str, *, ran: bool = True) -> dict[str, str]:
    """What the product says about itself.

    No clock time and nothing that cannot change a pixel stands in it, so that equal jobs give equal bytes.
    """
    command = job.model_copy(update={"target": Path(job.target.rstrip("/")).name}).command()
    return {
        "history": f"geodiff {__version__}: {command}",
        "geodiff_command": command,
        "geodiff_version": __version__,
        "geodiff_fingerprint": fingerprint,
        "geodiff_filler": job.filler,
        "geodiff_seed": str(job.seed),
        "geodiff_versions": " ".join(f"{name}={number}" for name, number in versions().items()),
        **{f"geodiff_{name}": value for name, value in describe_model(job, ran=ran).items()},
    }


_RAN = ("done", "some blocks failed")


def begin_record(job: FillJob, fingerprint: str, status: str, started: float) -> RunRecord:
    """A record of what is known before anything was filled."""
    return RunRecord(
        source=redacted(job.source),
        target=redacted(job.target),
        command=job.command(),
        status=status,
        fingerprint=fingerprint,
        seed=job.seed,
        model=describe_model(job, ran=status in _RAN),
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        versions=versions(),
    )


def peak_memory() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
