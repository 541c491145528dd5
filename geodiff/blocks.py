"""One block: what a process needs to fill blocks, and how an answer becomes stored layers.

`fill_block` is all a worker runs. It opens everything from the working store's path, which is all that travels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import bands_of, first_channels
from geodiff.encoding import pack
from geodiff.estimate import estimate
from geodiff.fillers import OBSERVED, UNFILLED, FillerSettings, load_filler
from geodiff.fitting import CubeFit, load_cube_fit, normalised_rounding
from geodiff.io.fitstore import load_fit
from geodiff.io.store import open_work, write_block
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.patches import EdgeAnswers
from geodiff.scan import GapReader
from geodiff.scanned import load_occupied
from geodiff.scene import Cube, Scene, open_scene
from geodiff.seams import steps_by_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filler
    from geodiff.io.store import WorkStore
    from geodiff.patches import Blended
    from geodiff.plan import Block

__all__ = ["BlockResult", "block_layers", "fill_block", "filler_of", "fit_path", "forget", "lend", "lost_blocks"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What one block did; small, so that it can travel."""

    key: str
    windows: int = 0
    filled: int = 0
    refused: int = 0
    """Values left unfilled: their error exceeds --max-error, or their band is known nowhere."""
    steps: tuple[list[float], list[int]] = ([], [])
    """Sums and counts of |difference| between filled neighbours, in normalised units, by the place on the lattice of
    the line between them; empty where nothing was filled."""
    chunks: dict[str, int] = field(default_factory=dict)
    """By layer, how many chunks it wrote."""
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Everything a process needs to fill blocks; built once per process from the working store alone."""

    job: FillJob
    work: WorkStore
    cubes: dict[str, Cube]
    gaps: dict[str, GapReader]
    fits: dict[str, CubeFit]
    filler: Filler
    edges: EdgeAnswers


_lines: dict[str, Line] = {}
"""What this process has open, by working store: runs side by side have one each, and each lets go of its own."""
_scenes: dict[str, Scene] = {}
"""Sources that this process opened before its blocks: whoever opens one again says all that it says of it again."""


def lend(work_path: str, scene: Scene) -> None:
    """Fill the blocks of a working store in this process from a source that is open already."""
    _scenes[work_path] = scene


def _line(work_path: str) -> Line:
    """All that a process needs, opened once, so that workers receive keys and no data."""
    return _lines.get(work_path) or _lines.setdefault(work_path, _opened(work_path))


def _opened(work_path: str) -> Line:
    work = open_work(work_path)
    job = FillJob(**work.attributes["job"])
    scene = _scenes.get(work_path) or open_scene(job)
    stored, _ = load_fit(fit_path(work_path))
    cubes, occupied = {cube.name: cube for cube in scene.cubes}, load_occupied(work_path)
    gaps = {
        name: GapReader(
            work.array(name, "scan_reason"), work.array(name, "outside"), cube.shape, job.buffer,
            cube.rules.fill_everything, occupied[name],
        )
        for name, cube in cubes.items()
    }  # fmt: skip
    fits = {name: load_cube_fit(part) for name, part in stored.parts.items()}
    return Line(job, work, cubes, gaps, fits, filler_of(job), EdgeAnswers())


def fill_block(work_path: str, block: Block) -> BlockResult:
    """Fill one block and mark it done; never raises, so that one bad block does not stop the others.

    Parameters
    ----------
    work_path : the working store, from which a process opens all it needs.
    block : which part of which variable and date.
    """
    began = time.time()
    try:
        line = _line(work_path)
        result = replace(_fill_block(line, block), seconds=time.time() - began)
        line.work.mark_done(block.key, _marker(result))
    except Exception as error:  # a filler of a third party raises what it likes
        logger.debug("block %s failed", block.key, exc_info=True)
        return BlockResult(block.key, error=f"{type(error).__name__}: {error}", seconds=time.time() - began)
    return result


def _marker(result: BlockResult) -> dict[str, Any]:
    return {
        "windows": result.windows, "filled": result.filled, "refused": result.refused, "steps": list(result.steps),
        "chunks": result.chunks, "seconds": result.seconds,
    }  # fmt: skip


def lost_blocks(work: WorkStore, blocks: Sequence[Block], markers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of blocks that are marked as done and that have lost a layer, or a part of one, since."""
    there: dict[tuple[str, str], frozenset[str]] = {}
    lost = []
    for block in blocks:
        for layer, count in markers.get(block.key, {}).get("chunks", {}).items():
            place = block.variable, layer
            if place not in there:
                there[place] = work.chunks_there(*place)
            if len(there[place].intersection(work.chunks_of(*place, block.date, block.window))) < count:
                lost.append(block.key)
                break
    return lost


def filler_of(job: FillJob) -> Filler:
    """The filler a job names, with its settings."""
    settings = FillerSettings(job.model, job.drawn_members, job.steps, job.sampler, job.device, job.dtype, job.batch)
    return load_filler(job.filler, settings)


def fit_path(work_path: str) -> str:
    """Where a run keeps its fit while it works."""
    return f"{work_path}.fit"


def forget(work_path: str) -> None:
    """Let go of what this process opened for a run, so that a new job at the same place opens it anew."""
    _lines.pop(work_path, None)
    _scenes.pop(work_path, None)


def _fill_block(line: Line, block: Block) -> BlockResult:
    cube, fit, gaps = line.cubes[block.variable], line.fits[block.variable], line.gaps[block.variable]
    blended, windows = estimate(cube, gaps, fit, line.filler, block.date, block.window, line.job.seed, line.edges)
    if blended is None:
        return BlockResult(block.key)
    wanted = gaps.read(block.date, block.window).wanted
    return _write(line, cube, fit, block, blended, wanted, windows)


def _write(
    line: Line, cube: Cube, fit: CubeFit, block: Block, blended: Blended, wanted: NDArray[np.bool_], windows: int
) -> BlockResult:
    """Write one block's layers; known pixels are never in them."""
    layers, kept, refused = block_layers(line.job, cube, fit, blended, wanted)
    chunks = {
        layer: write_block(line.work.array(block.variable, layer), block.date, block.window, data)
        for layer, data in layers.items()
    }
    shown = kept[bands_of(fit.turns)] if fit.turns else kept
    steps = _steps(cube, block.window, blended.value[0], shown)
    return BlockResult(block.key, windows, int(kept.sum()), refused, steps, chunks)


def block_layers(
    job: FillJob, cube: Cube, fit: CubeFit, blended: Blended, wanted: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_], int]:
    """One block's layers as they are stored, by name, each (band, row, column) or with one axis more in front.

    Returns
    -------
    layers : `value`, `source`, `standard_error`, and `members` and `quantiles` where the job asks for them.
    kept : bool (band, row, column): where an estimate stands.
    refused : how many values were wanted and are not given.
    """
    physical, errors = fit.bands(blended.value[0], blended.standard_error[0], wanted)
    refused = wanted & (errors > job.max_error) if job.max_error is not None else np.zeros_like(wanted)
    first = first_channels(fit.turns, len(wanted))
    refused |= wanted & ~np.array(fit.estimable)[first, None, None]
    # what has no error, as what is no number, is not called filled
    refused |= wanted & (~np.isfinite(physical) | np.isnan(errors))
    kept = wanted & ~refused
    codes = np.where(kept, blended.source[0, first], np.uint8(OBSERVED))
    codes[refused] = UNFILLED
    members = None if blended.members is None else blended.members[:, 0]
    if job.product == "member" and members is not None:
        physical, _ = fit.bands(members[0], blended.standard_error[0], kept, blended.value[0])
    layers = {
        "value": _packed(cube, physical, kept),
        "source": codes.astype(np.uint8),
        "standard_error": np.where(kept, errors, np.float32(0)),
    }
    if members is not None and job.drawn_members:
        value, error = blended.value[0], blended.standard_error[0]
        drawn = [fit.bands(member, error, kept, value)[0] for member in members]
        layers["members"] = np.stack([_packed(cube, member, kept) for member in drawn])
    if job.quantiles:
        layers["quantiles"] = _quantiles(cube, fit, blended, job.quantiles, kept)
    return layers, kept, int(refused.sum())


def _packed(cube: Cube, physical: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[Any]:
    """Stored numbers (band, row, column); 0 where nothing was estimated."""
    stored = np.zeros(physical.shape, cube.variable.dtype)
    for place, band in enumerate(cube.bands):
        where = kept[place]
        stored[place][where] = pack(physical[place][where], cube.variable.bands[band].encoding)
    return stored


def _quantiles(
    cube: Cube, fit: CubeFit, blended: Blended, levels: Sequence[float], kept: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Gaussian quantiles about the value before any transform, (quantile, band, row, column).

    None lies beyond what can be stored or is valid, where no value lies either. Those of what goes round are arcs to
    either side of the value: the lower one of north may be 350.
    """
    from scipy.stats import norm

    planes, bounds = [], [cube.variable.bands[band].encoding.bounds for band in cube.bands]
    low, high = (np.array(ends)[:, None, None] for ends in zip(*bounds, strict=True))
    spread = np.hypot(blended.standard_error[0], normalised_rounding(fit.rounding, fit.normalisations))
    value, errors = fit.bands(blended.value[0], blended.standard_error[0], kept)
    for level in levels:
        shifted = blended.value[0] + np.float32(norm.ppf(level)) * spread
        physical = fit.bands(shifted, blended.standard_error[0], kept)[0]
        for band, turn in enumerate(fit.turns):
            if turn is not None:
                arc = np.clip(norm.ppf(level) * errors[band], -turn.length / 2, turn.length / 2)
                physical[band] = turn.within(value[band] + arc)
        physical = np.clip(physical, low, high)
        planes.append(np.where(kept, physical, np.nan))
    return np.stack(planes).astype(np.float32)


def _steps(
    cube: Cube, core: Window, value: NDArray[np.float32], kept: NDArray[np.bool_]
) -> tuple[list[float], list[int]]:
    """As `BlockResult.steps`."""
    row, column = cube.lattice.origin
    sums, counts = steps_by_line(value, kept, (core.row + row, core.column + column))
    return ([float(f"{total:.7g}") for total in sums], counts.tolist()) if counts.any() else ([], [])
