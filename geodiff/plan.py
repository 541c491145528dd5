"""The plan: what will be read, filled and written, how much memory it takes, and what is done already.

A plan prints itself. It fails before anything runs when the memory would not suffice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.credentials import legible, redacted
from geodiff.errors import MemoryPlanError
from geodiff.gaps import Reason, percent, shares
from geodiff.hidden import most_trials
from geodiff.lattice import STRIDE, WINDOW, Window, blocks
from geodiff.limits import free_memory
from geodiff.patches import EDGE_MEMORY, patch_bytes
from geodiff.scan import CHUNK, chunk_span
from geodiff.suspects import may_go_round, told_of_turns
from geodiff.threads import cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filler
    from geodiff.job import FillJob
    from geodiff.scan import Scan
    from geodiff.scene import Cube, Scene

__all__ = ["Block", "CubePlan", "FillPlan", "Means"]

DEFAULT_BLOCK = 512
_BASE_MEMORY = 600 << 20
"""Bytes of Python, GDAL's cache and, for the network, torch."""


_LEARNT = 4
"""Memory that a fit needs for the date of a trial, in patches of that date: its surfaces and the parts' fills."""


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One unit of work: a part of a variable on one date, made of whole chunks of the target."""

    variable: str
    date: int
    window: Window

    @property
    def key(self) -> str:
        """Name of the block in the working store and in the task graph."""
        place = f"{self.window.row}/{self.window.column}/{self.window.height}x{self.window.width}"
        return f"{self.variable}/{self.date}/{place}"


@dataclass(frozen=True, slots=True)
class CubePlan:
    """The plan for one variable."""

    name: str
    shape: tuple[int, int, int, int]
    """Dates, bands to fill, rows, columns."""
    scan: Scan
    blocks: tuple[Block, ...]
    """Blocks that hold gaps to fill."""
    all_blocks: int
    asked: int
    """Number of values to fill on the dates that were requested."""
    kept: tuple[Block, ...] = ()
    """With `--append`, blocks with gaps that the product already has filled."""
    new_dates: int | None = None
    """With `--append`, number of dates that the product does not have; None otherwise."""
    looks_at: int = 0
    """Number of dates from which one is filled; -1 for all."""
    land_unknown: bool = False
    """Whether it is a variable of the sea whose gaps cannot be told from land."""
    floor_unknown: bool = False
    """Whether its bands are levels whose gaps cannot be told from the ground below."""
    of_uncertainty: bool = False
    """Whether it describes the uncertainty of observations, of which there are none in its gaps."""
    notes: tuple[str, ...] = ()
    """How it is treated differently from plain numbers."""

    @classmethod
    def of(cls, cube: Cube, scan: Scan, size: int) -> CubePlan:
        """Blocks whose chunks hold gaps, by place and then by date, so that successive ones share what is read."""
        every = list(blocks(cube.shape, size))
        wanted = tuple(
            Block(cube.name, date, window)
            for window in every
            for date in cube.targets
            if _gap_pixels(scan, date, window)
        )
        shape = (len(cube.variable.dates), len(cube.bands), *cube.shape)
        asked = int(scan.wanted_by_date[list(cube.targets)].sum())
        unknown = bool(wanted) and cube.of_the_sea and not cube.land_is_told
        notes = tuple(told_of_turns([cube.variable.bands[band].name for band in cube.bands], scan.turns))
        return cls(
            cube.name, shape, scan, wanted, len(every) * len(cube.targets), asked, land_unknown=unknown,
            floor_unknown=bool(wanted) and cube.floor_unknown,
            of_uncertainty=bool(wanted) and cube.of_uncertainty, notes=notes,
        )  # fmt: skip

    def only(self, changed: NDArray[np.bool_], new_dates: int, looks_at: int) -> CubePlan:
        """The plan for a product that has everything but the `changed` chunks (date, chunk row, chunk column)."""
        todo = tuple(b for b in self.blocks if changed[(b.date, *chunk_span(b.window))].any())
        kept = set(self.blocks) - set(todo)
        left = tuple(b for b in self.blocks if b in kept)
        return replace(self, blocks=todo, kept=left, new_dates=new_dates, looks_at=looks_at)

    def lines(self, filler: str) -> list[str]:
        """The lines of the printed plan about this variable, to be filled by `filler`."""
        scan = self.scan
        dates, bands, rows, columns = self.shape
        size = f"{dates} dates, " if dates > 1 else ""
        text = [
            f"{self.name}: {size}{bands} band{'s' * (bands > 1)}, {rows} x {columns} pixels",
            f"  missing {_share(scan.missing, scan.total)}; to fill {_share(self.asked, scan.total)}",
        ]
        if scan.missing:
            found = shares(scan.reasons, scan.total)
            text.append("  because of " + ", ".join(f"{name} {percent(share)}" for name, share in found.items()))
        for cause, count in scan.left_out.items():
            if count:
                text.append(f"  not filled: {_share(count, scan.total)} ({CAUSES.get(cause, cause)})")
        with_gaps = len(self.blocks) + len(self.kept)
        rest = "; the others are copied" if with_gaps < self.all_blocks else ""
        text.append(f"  {with_gaps} of {self.all_blocks} blocks have gaps{rest}")
        text += [f"  note: {line}" for line in self.notes]
        text += [f"  warning: {line}" for line in scan.warnings(filler)]
        if self.of_uncertainty:
            text.append(
                f"  warning: {self.name} describes the uncertainty of observations; that of filled values is in their "
                "standard errors, so leave it out (--variable names what to fill)"
            )
        if self.land_unknown:
            text.append(
                "  a single date does not tell land from clouds: if some of the gaps are land, give the sea with "
                "--fillable PATH"
            )
        if self.floor_unknown:
            text.append(
                "  warning: a single date of several levels does not tell ground from gaps: what lies below the sea "
                "floor, or inside a mountain, would be filled too; give several dates"
            )
        if self.new_dates is not None:
            text.append(
                f"  new dates: {self.new_dates}; blocks that stay as they are: {len(self.kept)}; blocks to fill: "
                f"{len(self.blocks)}, on {len({b.date for b in self.blocks})} dates: new ones, and {self._again()}"
            )
        return text

    def _again(self) -> str:
        """Words for the earlier dates that are filled again."""
        held = self.shape[0] - (self.new_dates or 0)
        if not self.looks_at:
            return "those that changed in the source"
        if 0 < self.looks_at < held:
            return f"those with another date among the {self.looks_at} that the filler looks at"
        most = f"{self.looks_at} dates, more than the {held} there were"
        return f"those of before, because the filler looks at {most if self.looks_at > 0 else 'all dates'}"


CAUSES = {
    "qa_fill": "the quality band calls it fill; --fillable all would fill it",
    "undefined": "the quantity does not exist here: the wrong side of a coast, or off the globe",
    "collar": "the scene's collar; --fillable all would fill it",
    "below_ground": "never observed at this level, as below the sea floor; --fillable all would fill it",
    "never_seen": "never observed on any date; --fillable all or PATH would fill it",
}


@dataclass(frozen=True, slots=True)
class Means:
    """What a job may use; known before the source is scanned, so that a job too large for memory is refused at once."""

    block_size: int
    """Rows and columns of a block, whole chunks of the target."""
    processes: int
    memory: int
    """Bytes one process needs at most."""

    @classmethod
    def of(cls, scene: Scene, job: FillJob, filler: Filler, kept: int | None = None) -> Means:
        """Block size and number of processes, derived from the free memory where the job leaves them open.

        `kept` is the block size of an earlier run that is resumed. Raises MemoryPlanError if memory does not suffice.
        """
        size = block_size(job.block_size or kept)
        memory = max(_block_memory(cube, filler, job, size) for cube in scene.cubes)
        available, processes = free_memory(), job.workers or 1
        while job.block_size is None and kept is None and size > CHUNK and memory * processes > 0.8 * available:
            size //= 2
            memory = max(_block_memory(cube, filler, job, size) for cube in scene.cubes)
        if job.workers == 0 and not job.scheduler:
            processes = max(1, min(cores(), int(0.8 * available) // memory))
        if not job.scheduler and memory * processes > available:
            raise MemoryPlanError(
                f"blocks of {size} pixels need {_bytes(memory)} in each of {processes} processes, but "
                f"{_bytes(available)} are free; use a smaller --block-size, fewer --workers or fewer --members"
            )
        return cls(size, processes, memory)

    @property
    def chunk(self) -> int:
        """Rows and columns of the working store's chunks: large, for few files; blocks are whole chunks."""
        return 2 * CHUNK if self.block_size % (2 * CHUNK) == 0 else CHUNK


@dataclass(frozen=True, slots=True, repr=False)
class FillPlan:
    """What a job will do; `str` gives it as text."""

    job: FillJob
    fingerprint: str
    block_size: int
    cubes: tuple[CubePlan, ...]
    memory: int
    """Bytes one process needs at most."""
    processes: int = 1
    """Most processes that may work at once."""
    done: frozenset[str] = field(default_factory=frozenset)
    """Keys of the blocks that an earlier run finished."""

    @classmethod
    def of(
        cls,
        scene: Scene,
        scans: dict[str, Scan],
        job: FillJob,
        filler: Filler,
        fingerprint: str,
        means: Means | None = None,
    ) -> FillPlan:
        """Plan a job with the `means` found before; raises MemoryPlanError if a block would not fit in memory."""
        means = means or Means.of(scene, job, filler)
        cubes = tuple(CubePlan.of(cube, scans[cube.name], means.block_size) for cube in scene.cubes)
        return cls(job, fingerprint, means.block_size, cubes, means.memory, means.processes)

    def only(self, changed: Mapping[str, NDArray[np.bool_]], new_dates: Mapping[str, int], looks_at: int) -> FillPlan:
        """The plan for a product that is extended, arguments by variable; see `CubePlan.only`."""
        cubes = tuple(cube.only(changed[cube.name], new_dates[cube.name], looks_at) for cube in self.cubes)
        return replace(self, cubes=cubes)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for cube in self.cubes for block in cube.blocks)

    @property
    def to_do(self) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if block.key not in self.done)

    @property
    def wanted(self) -> int:
        """Number of values to fill, over all variables."""
        return sum(cube.asked for cube in self.cubes)

    @property
    def windows(self) -> int:
        """Approximate number of lattice windows with gaps, to which the time of the network is proportional."""
        per_chunk = (CHUNK / STRIDE + (WINDOW - STRIDE) / STRIDE) ** 2
        return round(sum(float((cube.scan.gap_counts > 0).sum()) * per_chunk for cube in self.cubes))

    def __str__(self) -> str:
        job = self.job
        lines = [redacted(f"fill {job.source} -> {job.target} with {job.filler}")]
        for cube in self.cubes:
            lines += [legible(line, lines=False) for line in cube.lines(self.job.filler)]
        if job.mask and not any(Reason.USER_MASK.meaning in shares(c.scan.reasons, 1) for c in self.cubes):
            lines.append(
                f"warning: no pixel lies in --mask {', '.join(map(redacted, job.mask))}, so it adds no gap; is it of "
                "another place, or another CRS than it says, or zero where pixels are missing? (nonzero means missing)"
            )
        lines.append(
            f"blocks of {self.block_size} pixels, {len(self.to_do)} to do"
            + (f" ({len(self.blocks) - len(self.to_do)} done by an earlier run)" if self.done else "")
            + f"; at most {_bytes(self.memory)} in {self._processes()}"
        )
        if len(self.blocks) > 50_000:
            lines.append(f"warning: {len(self.blocks):,} blocks overload a scheduler; use a larger --block-size")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)  # for notebooks; the fields would be pages of numbers

    def _processes(self) -> str:
        left_open = self.job.workers == 0
        count = min(self.processes, max(len(self.to_do), 1)) if left_open else self.processes
        return "one process" if count == 1 else f"each of {'up to ' * left_open}{count} processes"

    def facts(self) -> dict[str, Any]:
        """The plan as JSON-ready facts."""
        return {
            "source": redacted(self.job.source),
            "target": redacted(self.job.target),
            "filler": self.job.filler,
            "fingerprint": self.fingerprint,
            "block_size": self.block_size,
            "memory_bytes": self.memory,
            "blocks": len(self.blocks),
            "blocks_to_do": len(self.to_do),
            "variables": {cube.name: scan_facts(cube) for cube in self.cubes},
        }


def scan_facts(cube: CubePlan) -> dict[str, Any]:
    """What the scan of one variable found, JSON-ready."""
    scan = cube.scan
    return {
        "shape": list(cube.shape),
        "values": scan.total,
        "known": scan.known,
        "missing": scan.missing,
        "to_fill": cube.asked,
        "reasons": shares(scan.reasons, scan.total),
        "left_out": scan.left_out,
        "suspects": [asdict(suspect) for suspect in scan.suspects],
        "narrow_edge": scan.edge,
        "notes": list(cube.notes),
        "blocks_with_gaps": len(cube.blocks) + len(cube.kept),
        "blocks": cube.all_blocks,
        "appended": _appended_facts(cube),
    }


def _appended_facts(cube: CubePlan) -> dict[str, int]:
    """With `--append`, what is added to the product; empty otherwise."""
    if cube.new_dates is None:
        return {}
    filled = len({block.date for block in cube.blocks})
    return {"new_dates": cube.new_dates, "dates_filled": filled, "blocks_kept": len(cube.kept)}


def block_size(wanted: int | None) -> int:
    """The requested block size, rounded up to whole chunks of the target."""
    return -(-(wanted or DEFAULT_BLOCK) // CHUNK) * CHUNK


def _gap_pixels(scan: Scan, date: int, window: Window) -> int:
    return int(scan.gap_counts[(date, *chunk_span(window))].sum())


def _block_memory(cube: Cube, filler: Filler, job: FillJob, size: int) -> int:
    """Bytes at the peak of one block: the ground read, the blended layers, and one batch of patches."""
    context = int(getattr(filler, "context_dates", 0))
    dates = len(cube.variable.dates) if context < 0 else min(context + 1, len(cube.variable.dates))
    bands, item = _most_channels(cube), cube.variable.dtype.itemsize
    rows, columns = (min(n, size) + 2 * (WINDOW + filler.halo) for n in cube.shape)
    ground = dates * bands * rows * columns * (item + 8 + 4 + 3)
    layers = bands * min(size, cube.shape[0]) * min(size, cube.shape[1]) * (3 * 8 + job.drawn_members * (8 + item))
    patch = patch_bytes(dates, bands, filler.halo)
    # A batch of patches and the trials of the fit; a filler may hold a patch four times over.
    trials = most_trials(cube, patch) * (patch + _LEARNT * patch_bytes(1, bands, filler.halo))
    patches = 4 * patch + max(min(16 * patch, 200 << 20), trials)
    patches += 16 * bands * WINDOW * WINDOW * 4 * (job.drawn_members + 2)
    cells = int(np.prod(scan_cells(cube))) * 8
    return _BASE_MEMORY + EDGE_MEMORY + ground + layers + patches + 2 * cells


def scan_cells(cube: Cube) -> tuple[int, ...]:
    """Shape of the low-resolution fill."""
    from geodiff.pyramid import cell_size

    dates, bands = len(cube.variable.dates), _most_channels(cube)
    cell = cell_size(dates * bands, *cube.shape)
    return dates, bands, -(-cube.shape[0] // cell), -(-cube.shape[1] // cell)


def _most_channels(cube: Cube) -> int:
    """How many are estimated: of a band that goes round two, as far as its name or units tell."""
    bands = [cube.variable.bands[band] for band in cube.bands]
    return len(bands) + sum(may_go_round(band, cube.called) for band in bands)


def _share(count: int, total: int) -> str:
    return f"{count:,} values ({percent(count / total)})"


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
