"""Extending a product: what a run leaves for the dates that come later, and what a later run must fill again.

Beside the fit, a run keeps its dates, a digest of every chunk of the source it saw, and the markers of its blocks. A
later run compares. A chunk stays as it is where its date has the same context dates as before and where nothing
within reach of the filler has changed on any of them; every other chunk that holds gaps is filled again. With the
same fit that is what one run over all dates would have done, to the byte.

The fit is kept as it was learnt; only what belongs to single dates (the low-resolution fill, and which dates show
anything) is worked out for the new ones, with the normalisation and the cell size of old.

The fingerprint of an extended product covers the source with all its dates and, since the fit cannot be told from
those any more, the fingerprint of the run that made the fit. So it does not depend on how many steps the dates came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.context import context, nearest_dates
from geodiff.errors import JobError, TargetError
from geodiff.fillers import Fitted
from geodiff.fitting import load_cube_fit
from geodiff.identity import model_identity, target_stem
from geodiff.io.earlier import Earlier, open_earlier
from geodiff.io.fitstore import load_fit, save_fit
from geodiff.io.places import local_path
from geodiff.job import without_places
from geodiff.lattice import WINDOW, Window, blocks
from geodiff.scan import CHUNK, chunk_span

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filler
    from geodiff.fitting import CubeFit
    from geodiff.job import FillJob
    from geodiff.plan import FillPlan
    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube, Scene

__all__ = [
    "Kept",
    "KeptCube",
    "affected",
    "appendable",
    "assert_appendable",
    "assert_same_job",
    "chunk_digests",
    "extended",
    "find_kept",
    "kept_beside",
    "kept_cube",
    "kept_job",
    "load_kept",
    "origins",
    "renumbered",
    "save_kept",
]


@dataclass(frozen=True, slots=True)
class KeptCube:
    """What was seen of one variable."""

    dates: tuple[str, ...]
    """ISO dates, to the second; '' where there are none."""
    grid: str
    """Shape, bands, affine, CRS, and how numbers are stored."""
    digests: NDArray[np.uint64]
    """(date, chunk row, chunk column) of stored values and reasons."""
    outside: NDArray[np.uint64]
    """(chunk row, chunk column) of what is outside: a new date that sees what none had seen changes it on all dates."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run leaves beside its product, for the dates that come later."""

    fitted: Fitted
    """One part a variable, as `CubeFit.stored` gives it."""
    fingerprint: str
    """Of the product it belongs to."""
    fit: str
    """Of the run that learnt the fit."""
    job: Mapping[str, Any]
    """What can change a pixel."""
    model: str
    block_size: int
    cubes: Mapping[str, KeptCube]
    done: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Markers of finished blocks, by key."""


def save_kept(path: str, kept: Kept) -> None:
    """Store the fit with all that goes with it, whole or not at all."""
    extra = {
        "geodiff_fingerprint": kept.fingerprint,
        "fit": kept.fit,
        "job": dict(kept.job),
        "model": kept.model,
        "block_size": kept.block_size,
        "cubes": {name: {"dates": list(cube.dates), "grid": cube.grid} for name, cube in kept.cubes.items()},
        "done": dict(kept.done),
    }
    digests = {name: np.concatenate([cube.digests, cube.outside[None]]) for name, cube in kept.cubes.items()}
    save_fit(path, replace(kept.fitted, arrays=digests), extra)


def load_kept(path: str) -> Kept:
    """The inverse of `save_kept`; raises TargetError where there is no fit, or one that no dates can be added to."""
    fitted, extra = load_fit(path)
    digests = {name: np.asarray(fitted.arrays[name]) for name in extra.get("cubes", ())}
    if "cubes" not in extra or any(len(d) != len(extra["cubes"][name]["dates"]) + 1 for name, d in digests.items()):
        raise TargetError(f"the fit at {path} is from an older geodiff and takes no new dates; use --overwrite")
    cubes = {
        name: KeptCube(tuple(facts["dates"]), facts["grid"], digests[name][:-1], digests[name][-1])
        for name, facts in extra["cubes"].items()
    }
    return Kept(
        fitted, extra["geodiff_fingerprint"], extra["fit"], extra["job"], extra["model"], extra["block_size"], cubes,
        extra["done"],
    )  # fmt: skip


def kept_beside(target: str) -> str:
    """Where the fit of a target stays."""
    folder, stem = target_stem(target)
    return f"{folder}/{stem}.geodiff-fit.zarr"


# -- what can be extended


def appendable(target: str) -> bool:
    """Whether dates can be added to a target of that kind: one array for all dates, on a local disk."""
    suffix = Path(target.rstrip("/")).suffix.lower()
    return local_path(target) is not None and not target.endswith("/") and suffix in (".zarr", ".nc", ".nc4")


def assert_appendable(job: FillJob) -> None:
    """Raise JobError where --append and TARGET do not go together."""
    if job.overwrite:
        raise JobError("--append and --overwrite exclude each other; --append --refit renews the fit and every date")
    if not appendable(job.target):
        raise JobError(
            f"--append {job.target}: only a local .zarr or .nc holds all dates in one array that can be extended; "
            "choose one of these, or use --overwrite, or for a folder of scenes python -m flows.fill"
        )


def assert_same_job(job: FillJob, kept: Kept) -> None:
    """Raise TargetError unless the job is the one that TARGET was made by.

    Source and masks may be reached by other paths; what has changed in them is told from the digests of the chunks.
    """
    ours, theirs = without_places(job.pixels()), without_places(kept.job)
    other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if other:
        options = ", ".join(_as_option(name, theirs.get(name)) for name in other)
        raise TargetError(
            f"{job.target} was made by another job, {options}; append with the same options, or use --overwrite"
        )
    if not job.refit and kept.model != model_identity(job):
        raise TargetError(
            f"{job.target} was made by another model or version of geodiff; use --append --refit to make all of it anew"
        )


def _as_option(name: str, value: Any) -> str:
    """`with --buffer 2`, `without --nodata`."""
    words = [str(v) for v in value] if isinstance(value, (list, tuple)) else [] if value is None else [str(value)]
    option = f"--{name.replace('_', '-')}"
    return f"with {option} {','.join(words)}" if words else f"without {option}"


def kept_job(job: FillJob) -> dict[str, Any]:
    """The part of a job that must be the same for dates to be added."""
    return {name: value for name, value in job.pixels().items() if name != "source"}


def find_kept(job: FillJob, found: str | None, unfinished: Kept | None) -> Kept | None:
    """What a product that is to be extended was made with; None where everything is made anew.

    Where TARGET is gone but its fit is there, that fit is used: `cubes` is then empty.

    Parameters
    ----------
    found : fingerprint of TARGET, None where there is none.
    unfinished : what a run left that was killed between writing TARGET and keeping its fit.

    Raises
    ------
    TargetError
        Where TARGET is no product of this job, or has lost its fit.
    """
    beside = _loaded(kept_beside(job.target))
    if found is None:
        return _fit_alone(job, beside)
    fits = [kept for kept in (beside, unfinished) if kept is not None and kept.fingerprint == found]
    if not fits:
        what = f"the fit it was made with is not at {kept_beside(job.target)}" if found else "is no product of geodiff"
        raise TargetError(f"{job.target} cannot be extended: {what}; use --overwrite, or another target")
    assert_same_job(job, fits[0])
    return None if job.refit else fits[0]


def _fit_alone(job: FillJob, beside: Kept | None) -> Kept | None:
    if beside is None or job.refit:
        return None
    try:
        assert_same_job(job, beside)
    except TargetError:
        return None
    return replace(beside, cubes={}, done={})


def _loaded(path: str) -> Kept | None:
    try:
        return load_kept(path)
    except TargetError:
        return None


# -- what was seen


def kept_cube(cube: Cube, gaps: GapReader) -> KeptCube:
    """One more pass over a scanned cube: its dates, its grid, and a digest a chunk."""
    variable = cube.variable
    dates = tuple("" if d is None else str(d.astype("datetime64[s]")) for d in variable.dates)
    geobox = variable.geobox
    stored = variable.dtype.str, *((band.encoding.scale, band.encoding.offset) for band in variable.bands)
    grid = repr([variable.shape[1:], tuple(geobox.affine)[:6], str(geobox.crs), stored, cube.bands])
    return KeptCube(dates, grid, *chunk_digests(cube, gaps))


def chunk_digests(cube: Cube, gaps: GapReader) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Digests of stored values and reasons (date, chunk row, chunk column), and of what is outside (row, column)."""
    rows, columns = cube.shape
    outside = np.zeros((-(-rows // CHUNK), -(-columns // CHUNK)), np.uint64)
    found = np.zeros((len(cube.variable.dates), *outside.shape), np.uint64)
    for strip in blocks(cube.shape, 8 * CHUNK):
        _digest(outside, strip, np.asarray(gaps.outside[(..., *strip.slices)]))
        for date, of_date in enumerate(found):
            stored = cube.variable.reader.read(date, strip)
            _digest(of_date, strip, stored, np.asarray(gaps.reason[(date, slice(None), *strip.slices)]))
    return found, outside


def _digest(found: NDArray[np.uint64], strip: Window, *parts: NDArray[Any]) -> None:
    """Enter into `found` (chunk row, chunk column) what the chunks of a strip hold of arrays (..., row, column)."""
    for inside in blocks(strip.shape, CHUNK):
        digest = hashlib.blake2b(digest_size=8)
        for part in parts:
            digest.update(np.ascontiguousarray(part[..., *inside.slices]).tobytes())
        place = (strip.row + inside.row) // CHUNK, (strip.column + inside.column) // CHUNK
        found[place] = np.frombuffer(digest.digest(), np.uint64)[0]


# -- what has changed


def origins(before: Sequence[str], now: Sequence[str], target: str) -> tuple[int, ...]:
    """For each date its place among those of before, -1 where it is new; equal dates are matched in their order.

    Raises TargetError where dates of before are gone.
    """
    places: dict[str, list[int]] = {}
    for place, date in enumerate(before):
        places.setdefault(date, []).append(place)
    found = tuple(places[date].pop(0) if places.get(date) else -1 for date in now)
    gone = sorted(date for date, left in places.items() if left)
    if gone:
        raise TargetError(
            f"{target} holds {len(gone)} dates that the source no longer has (the first is {gone[0]}), so its other "
            "dates would be filled from different neighbours; give the whole source, or use --overwrite"
        )
    return found


def affected(
    cube: Cube, filler: Filler, buffer: int, kept: Kept, now: KeptCube, places: Sequence[int], fit: CubeFit | None
) -> NDArray[np.bool_]:
    """(date, chunk row, chunk column): True where an estimate, or a known value, may differ from that of before."""
    found = np.ones(now.digests.shape, bool)
    before, part = kept.cubes[cube.name], kept.fitted.parts.get(cube.name)
    if part is None or fit is None:  # nothing was estimated, so that nothing need be kept
        return found
    old = load_cube_fit(part)
    seconds = np.zeros(len(before.dates), np.int64)
    for date, place in enumerate(places):
        if place >= 0:
            seconds[place] = cube.seconds[date]
    turn = cube.shape[1] if cube.lattice.periodic else 0
    cells = fit.cells.values, old.cells.values, fit.cells.cell
    changes = _Changes(now.digests, before.digests, now.outside != before.outside, *cells, filler, buffer, turn)
    for date, place in enumerate(places):
        around = context(cube, filler, date, fit.seen)
        if place >= 0 and [places[d] for d in around] == nearest_dates(seconds, filler, place, old.seen):
            found[date] = np.any([changes.near(d, places[d]) for d in around], axis=0)
    return found


@dataclass(frozen=True, slots=True)
class _Changes:
    """Where dates differ from what they were."""

    digests: NDArray[np.uint64]
    old_digests: NDArray[np.uint64]
    outside: NDArray[np.bool_]
    """(chunk row, chunk column): where what is outside has changed."""
    cells: NDArray[np.float64]
    old_cells: NDArray[np.float64]
    cell: int
    filler: Filler
    buffer: int
    turn: int
    """Columns once around the globe; 0 where the raster has a left and a right edge."""
    seen: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def near(self, date: int, place: int) -> NDArray[np.bool_]:
        """(chunk row, chunk column): True where something within a window's reach has changed on a date."""
        if date not in self.seen:
            reach, form = WINDOW + self.filler.halo + self.buffer, self.digests.shape[1:]
            stored = (self.digests[date] != self.old_digests[place]) | self.outside
            coarse = (self.cells[date] != self.old_cells[place]).any(axis=0)
            near = _touched(stored, CHUNK, reach, form, self.turn)
            near |= _touched(coarse, self.cell, reach + self.cell, form, self.turn)
            self.seen[date] = near
        return self.seen[date]


def _touched(
    changed: NDArray[np.bool_], size: int, reach: int, form: tuple[int, ...], turn: int
) -> NDArray[np.bool_]:
    """Chunks (row, column) from which a changed element is at most `reach` pixels away; elements are `size` pixels."""

    def near(chunk: int, shift: int) -> slice:
        first, stop = chunk * CHUNK - reach + shift, (chunk + 1) * CHUNK + reach + shift
        return slice(max(0, first) // size, max(0, -(-stop // size)))

    found = np.zeros(form, bool)
    if changed.any():
        for row, column in np.ndindex(*form):
            spans = [near(column, shift) for shift in ((0, -turn, turn) if turn else (0,))]
            found[row, column] = any(changed[near(row, 0), span].any() for span in spans)
    return found


def renumbered(kept: Kept, name: str, places: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Markers of a variable's finished blocks, by their keys among the dates of now."""
    dates = {place: date for date, place in enumerate(places) if place >= 0}
    found = {}
    for key, marker in kept.done.items():
        variable, date, row, column, size = key.rsplit("/", 4)
        if variable == name and int(date) in dates:
            found[f"{variable}/{dates[int(date)]}/{row}/{column}/{size}"] = marker
    return found


# -- the run that extends


def extended(
    planned: FillPlan, scene: Scene, scans: Mapping[str, Scan], filler: Filler, kept: Kept, now: Kept
) -> tuple[FillPlan, Kept, Earlier | None]:
    """The plan without what TARGET holds already, what is kept with its markers, and TARGET to take the rest from.

    Parameters
    ----------
    kept : what TARGET was made with.
    now : the same fit over the dates of now.
    """
    if not kept.cubes:  # there is a fit to use, but nothing to extend
        return planned, now, None
    job = planned.job
    gone = sorted(kept.cubes.keys() - {cube.name for cube in scene.cubes})
    if gone:
        raise TargetError(
            f"{job.target} holds {', '.join(gone)}, which the source no longer has, so it would be lost; give one "
            "that has it, or use --overwrite"
        )
    places = {cube.name: _places(cube, kept, now, job.target) for cube in scene.cubes}
    _assert_same_source(kept, now, places, job.target)
    changed = {
        cube.name: _changed(cube, scans[cube.name], filler, job.buffer, kept, now, places[cube.name])
        for cube in scene.cubes
    }
    added = {name: found.count(-1) for name, found in places.items()}
    planned = planned.only(changed, added, int(getattr(filler, "context_dates", 0)))
    blocks_kept = {block.key for cube in planned.cubes for block in cube.kept}
    markers = {key: m for name, p in places.items() for key, m in renumbered(kept, name, p).items()}
    done = {key: marker for key, marker in markers.items() if key in blocks_kept}
    same = {name: ~mask for name, mask in changed.items() if not mask.all()}
    earlier = open_earlier(job.target, {name: places[name] for name in same}, same, CHUNK)
    return planned, replace(now, done=done), earlier


def _places(cube: Cube, kept: Kept, now: Kept, target: str) -> tuple[int, ...]:
    """Each date's place in TARGET; raises TargetError where the grid is another or dates are gone."""
    found, before = now.cubes[cube.name], kept.cubes.get(cube.name)
    if before is None:
        return (-1,) * len(found.dates)
    if before.grid != found.grid:
        raise TargetError(
            f"{target} holds {cube.name} as {before.grid}, the source has {found.grid}; use --overwrite, or give the "
            "source that it was made from"
        )
    return origins(before.dates, found.dates, target)


def _assert_same_source(kept: Kept, now: Kept, places: Mapping[str, Sequence[int]], target: str) -> None:
    """Raise TargetError where the source has not one chunk as TARGET's source had it."""
    pairs = [
        (now.cubes[name].digests[date], kept.cubes[name].digests[place])
        for name, found in places.items()
        for date, place in enumerate(found)
        if place >= 0
    ]
    if not any((one == other).any() for one, other in pairs):
        raise TargetError(
            f"{target} was made from another source, or all of its source has changed; use --append --refit to fill "
            "all of it again, or give another target"
        )


def _changed(
    cube: Cube, scan: Scan, filler: Filler, buffer: int, kept: Kept, now: Kept, places: Sequence[int]
) -> NDArray[np.bool_]:
    """What is affected, and what blocks that failed have left."""
    part = now.fitted.parts.get(cube.name)
    fit = load_cube_fit(part) if part is not None else None
    if cube.name not in kept.cubes:
        return np.ones(now.cubes[cube.name].digests.shape, bool)
    found = affected(cube, filler, buffer, kept, now.cubes[cube.name], places, fit)
    finished = np.zeros_like(found)
    for key in renumbered(kept, cube.name, places):
        _, date, row, column, size = key.rsplit("/", 4)
        height, width = size.split("x")
        rows, columns = chunk_span(Window(int(row), int(column), int(height), int(width)))
        finished[int(date), rows, columns] = True
    return found | ((scan.gap_counts > 0) & ~finished)
