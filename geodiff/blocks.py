"""Filling one block: what a process needs for it, and how the filler's answers become stored layers.

`fill_block` is all that a worker runs. It is sent the path of the working store, from which it opens everything else.
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
    """The outcome of one block; small, as workers send it back."""

    key: str
    windows: int = 0
    filled: int = 0
    refused: int = 0
    """Values left unfilled: their error exceeds --max-error, or their band is known nowhere."""
    steps: tuple[list[float], list[int]] = ([], [])
    """Sums and counts of |difference| between filled neighbours, in normalised units, by the position on the lattice of
    the line between them; empty where nothing was filled."""
    chunks: dict[str, int] = field(default_factory=dict)
    """Number of chunks written, by layer."""
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
"""What this process has open, by working store, as several runs may share a process."""
_scenes: dict[str, Scene] = {}
"""Sources, by working store, that the process opened before its blocks: opening one again would repeat its log."""


def lend(work_path: str, scene: Scene) -> None:
    """Let this process fill the blocks of a working store from a source that is already open."""
    _scenes[work_path] = scene


def _line(work_path: str) -> Line:
    """What the process needs for blocks of a working store, opened once."""
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
    block : the part of a variable and date to fill.
    """
    began = time.time()
    try:
        line = _line(work_path)
        result = replace(_fill_block(line, block), seconds=time.time() - began)
        line.work.mark_done(block.key, _marker(result))
    except Exception as error:  # third-party fillers may raise anything
        logger.debug("block %s failed", block.key, exc_info=True)
        return BlockResult(block.key, error=f"{type(error).__name__}: {error}", seconds=time.time() - began)
    return result


def _marker(result: BlockResult) -> dict[str, Any]:
    return {
        "windows": result.windows, "filled": result.filled, "refused": result.refused, "steps": list(result.steps),
        "chunks": result.chunks, "seconds": result.seconds,
    }  # fmt: skip


def lost_blocks(
    work: WorkStore, blocks: Sequence[Block], markers: Mapping[str, Mapping[str, Any]], *, whole: bool = False
) -> list[str]:
    """Keys of blocks that are marked as done but have since lost chunks of a layer.

    With `whole`, truncated chunks count as lost too. This is for resumed runs; writing a product finds those by itself.
    """
    there: dict[tuple[str, str], frozenset[str]] = {}
    lost = []
    for block in blocks:
        for layer, count in markers.get(block.key, {}).get("chunks", {}).items():
            place = block.variable, layer
            if place not in there:
                there[place] = work.chunks_there(*place, whole=whole)
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
    """Close what this process opened for a run, so that a new job at the same place opens it anew."""
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
    """Layers of one block as they are stored, by name: (band, row, column), some with one more axis in front.

    Returns
    -------
    layers : `value`, `source`, `standard_error`, and `members` and `quantiles` where the job asks for them.
    kept : bool (band, row, column), the pixels that were filled.
    refused : number of values to fill that are left unfilled.
    """
    physical, errors = fit.bands(blended.value[0], blended.standard_error[0], wanted)
    refused = wanted & (errors > job.max_error) if job.max_error is not None else np.zeros_like(wanted)
    first = first_channels(fit.turns, len(wanted))
    refused |= wanted & ~np.array(fit.estimable)[first, None, None]
    # an estimate that is not finite, or without a standard error, does not count as filled
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
    """Gaussian quantiles around the value, in normalised units, converted to physical ones.

    (quantile, band, row, column), clipped to the range of valid numbers. For cyclic quantities they are arcs to either
    side of the value: the lower quantile of a direction of north may be 350.
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
    """`BlockResult.steps` of a block."""
    row, column = cube.lattice.origin
    sums, counts = steps_by_line(value, kept, (core.row + row, core.column + column))
    return ([float(f"{total:.7g}") for total in sums], counts.tolist()) if counts.any() else ([], [])
