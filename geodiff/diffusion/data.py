"""Training patches: cut from real observations, given realistic gaps, described as the filler would describe them.

`build` writes a cache that training reads by memory map; the same seed gives the same patches. `cut` makes one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodiff.diffusion.degraded import degraded_examples
from geodiff.diffusion.drawing import drawn, found, pools_of
from geodiff.diffusion.fields import CHANNELS, DATES, Layer, Scene, context, filled, whitening_error
from geodiff.diffusion.shapes import draw_gap
from geodiff.diffusion.sources import KINDS, Source, Stack, load
from geodiff.diffusion.unet import SCALARS
from geodiff.errors import InputError
from geodiff.fillers import Fitted
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.spatial import Laplace
from geodiff.lattice import reflected_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FRAME_PLANES", "PLAIN", "PLANES", "SHARES", "SIZE", "Cache", "Example", "build", "build_frames", "cut", "examples",
    "flags_of",
]  # fmt: skip

_log = logging.getLogger(__name__)

SHARES = {"optical": 0.26, "stack": 0.28, "hirise": 0.16, "msl": 0.14, "elevation": 0.08, "thermal": 0.08}
"""How often each kind is drawn, whatever its volume."""

PLAIN = np.array([float(name == "inpaint") for name in SCALARS], np.float32)
"""Scalars of a gap in exact data."""

SIZE = 128
_RELAXED = 0.15
"""Share of training patches with the harmonic fill as prior, which kriging gives way to where little is known."""
_EVERY = 60.0
"""Seconds between two words on how far the cutting of patches is."""
MARGIN = 16
"""Pixels of context around a patch when priors are computed, as the filler's halo gives."""


@dataclass(frozen=True, slots=True)
class Example:
    """One patch with hidden pixels."""

    kind: str
    source: str
    shape: str
    """Shape of the gap."""
    prior_kind: str
    context: NDArray[np.float32]
    """(channel, row, column), see `fields.CHANNELS`."""
    residual: NDArray[np.float32]
    """(truth - prior) / s0, (row, column); 0 where not hidden."""
    hidden: NDArray[np.bool_]
    """What is scored: hidden and in truth observed."""
    truth: NDArray[np.float32]
    prior: NDArray[np.float32]
    error: NDArray[np.float32]
    key: tuple[int, int, int, int]
    """Date, band, row and column: the place of its noise."""


def _crop(stack: Stack, rng: np.random.Generator, size: int) -> tuple[Any, ...]:
    """Row and column indices of a random square, mirrored where the image is smaller."""
    rows, columns = stack.values.shape[-2:]
    starts = [int(rng.integers(n - size + 1)) if n > size else (n - size) // 2 for n in (rows, columns)]
    index = [reflected_indices(s, size, n) for s, n in zip(starts, (rows, columns), strict=True)]
    return index[0][:, None], index[1][None, :], starts


def _thinned(stack: Stack, rng: np.random.Generator) -> int:
    """Step of a coarser look at a large image; 1 mostly."""
    return 2 if min(stack.values.shape[-2:]) > 2.2 * SIZE and rng.random() < 0.2 else 1


def cut(source: Source, stack: Stack, rng: np.random.Generator, masks: Sequence[NDArray[np.bool_]]) -> Example | None:
    """Draw a patch of a source and hide pixels; None where too little is known to learn from."""
    step = _thinned(stack, rng)
    full = (SIZE + 2 * MARGIN) * step
    rows, columns, start = _crop(stack, rng, full)
    date, band = int(rng.integers(stack.values.shape[0])), int(rng.integers(stack.values.shape[1]))
    turn = _turn(rng)

    def look(plane: NDArray[Any]) -> NDArray[Any]:
        turned: NDArray[Any] = turn(_coarser(plane[rows, columns], step))
        return turned

    values, observed = look(stack.values[date, band]), look(stack.known[date, band])
    if observed.mean() < 0.25 or values[observed].std() < 1e-3:
        return None
    others = _others(stack, date, band, look, rng, masks) if len(stack.values) > 1 else []
    shape, gap = draw_gap(values.shape, rng, masks, dates=bool(others))
    gap, target = _placed(gap, observed)
    if not (gap & observed)[MARGIN:-MARGIN, MARGIN:-MARGIN].mean() > 0.004:
        return None
    amplitude = np.float32(np.exp(rng.normal(0, 0.25)) * rng.choice([-1, 1]))
    scene, name = _scene(
        Layer(values * amplitude * target, target),
        gap & observed,
        [Layer(o.values * amplitude, o.known) for o in others],
        rng,
        relaxed=_RELAXED if source.part == "train" else 0.0,
    )
    scene = _with_sides(scene, stack, date, band, look, amplitude, rng)
    return _example(source, shape, name, scene, values * amplitude, (date, band, start[0], start[1]))


def _coarser(plane: NDArray[Any], step: int) -> NDArray[Any]:
    """Means of cells (of floats) or all of them (of booleans)."""
    if step == 1:
        return plane
    cells = plane.reshape(plane.shape[0] // step, step, plane.shape[1] // step, step)
    return np.asarray(cells.all((1, 3)) if plane.dtype == bool else cells.mean((1, 3), dtype=np.float32))


def _turn(rng: np.random.Generator) -> Any:
    """One of eight flips and quarter turns."""
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
    return lambda plane: np.ascontiguousarray(np.rot90(plane[:, ::-1] if flip else plane, quarter))


def _placed(gap: NDArray[np.bool_], observed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The gap and what stays known."""
    return gap, observed & ~gap


def _others(
    stack: Stack, date: int, band: int, look: Any, rng: np.random.Generator, masks: Sequence[NDArray[np.bool_]]
) -> list[Layer]:
    """Up to three nearest dates that show something here; half the time with gaps of their own."""
    days = np.arange(len(stack.values)) if stack.days is None else stack.days
    order = [int(i) for i in np.argsort(np.abs(days - days[date]), kind="stable") if i != date]
    gappy = rng.random() < 0.5
    layers: list[Layer] = []
    for index in order:
        known = look(stack.known[index, band])
        if gappy and rng.random() < 0.6:
            known &= ~draw_gap(known.shape, rng, masks)[1]
        if known.mean() > 0.2:
            layers.append(Layer(look(stack.values[index, band]) * known, known))
        if len(layers) == DATES:
            break
    return layers


def _scene(
    target: Layer, wanted: NDArray[np.bool_], others: list[Layer], rng: np.random.Generator, *, relaxed: float
) -> tuple[Scene, str]:
    """Prior and expected error: kriging, a share relaxed fills; with other dates also their regression."""
    basis = _predicted(target, others) if others and rng.random() < 0.25 else None
    base = np.zeros_like(target.values) if basis is None else basis
    departure = Layer(np.where(target.known, target.values - base, 0).astype(np.float32), target.known)
    name = "relaxed" if basis is None else "regression"
    if basis is None and rng.random() >= relaxed:
        name, rest = "kriging", _kriged(departure, wanted)
    else:
        rest = filled(departure, cycles=3)
    prior = np.where(target.known, target.values, base + rest)
    error = whitening_error(departure)
    keep = others if rng.random() > 0.4 else []
    return Scene(target, wanted, prior.astype(np.float32), error, keep), name


def _kriged(layer: Layer, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The layer's prediction by kriging, (row, column), as the filler makes it: harmonic in the margin."""
    mean = np.full_like(layer.values, layer.values[layer.known].mean() if layer.known.any() else 0)
    inside = np.zeros_like(wanted)
    core = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    inside[core] = wanted[core]
    harmonic = Laplace().plane(layer.values, layer.known, mean, Fitted("laplace"))
    return Kriging().within(layer.values, layer.known, inside, harmonic)


def _predicted(target: Layer, others: list[Layer]) -> NDArray[np.float32] | None:
    """Ridge regression of the target on the other dates, each relaxed over its own gaps."""
    design = np.stack([filled(o) for o in others] + [np.ones_like(target.values)], -1)
    seen = design[target.known].astype(np.float64)
    if len(seen) < 200:
        return None
    ridge = 1e-2 * len(seen) * np.eye(seen.shape[1])
    ridge[-1, -1] = 1e-6
    weights = np.linalg.solve(seen.T @ seen + ridge, seen.T @ target.values[target.known])
    return (design @ weights).astype(np.float32)


def _with_sides(
    scene: Scene, stack: Stack, date: int, band: int, look: Any, amplitude: np.float32, rng: np.random.Generator
) -> Scene:
    """Guide, elevation and day, each sometimes."""
    guide = None
    if stack.values.shape[1] > 1 and rng.random() < 0.25:
        other = (band + 1 + int(rng.integers(stack.values.shape[1] - 1))) % stack.values.shape[1]
        guide = Layer(look(stack.values[date, other]) * amplitude, look(stack.known[date, other]))
    ground = look(stack.elevation) if stack.elevation is not None and rng.random() < 0.7 else None
    day = None if stack.days is None or rng.random() < 0.4 else float(stack.days[date] % 365.25)
    return Scene(scene.target, scene.wanted, scene.prior, scene.error, scene.dates, guide, ground, day)


def _example(
    source: Source,
    shape: str,
    prior_kind: str,
    scene: Scene,
    truth: NDArray[np.float32],
    key: tuple[int, int, int, int],
) -> Example:
    inner = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    hidden = scene.wanted[inner]
    residual = np.where(hidden, (truth - scene.prior)[inner] / scene.error[inner], 0)
    return Example(
        source.kind,
        source.name.split(";")[0],
        shape,
        prior_kind,
        context(scene)[inner],
        residual.astype(np.float32),
        hidden,
        truth[inner],
        scene.prior[inner],
        scene.error[inner],
        key,
    )


def examples(
    part: str,
    seed: int,
    *,
    kinds: Sequence[str] | None = None,
    root: Path | None = None,
    sources: Sequence[Source] | None = None,
) -> Iterator[Example]:
    """Endless examples of a part, kinds in fixed shares, sources by weight; the same seed gives the same ones.

    Without `sources`, the observations of the shipped model; their own gaps are then the ones to transplant.
    """
    kinds = kinds or (KINDS if sources is None else sorted({s.kind for s in sources}))
    root, pools, masks = pools_of(part, kinds, root, sources)
    if not pools:
        where = f"in {root}; set GEODIFF_DATA to the folder that holds train/" if sources is None else "; give more"
        raise InputError(f"no {part} observations of {', '.join(kinds)} {where}")
    tries = (cut(source, load(root, source), rng, masks) for source, rng in drawn(pools, SHARES, [seed]))
    return found(
        tries,
        "patches in a row held too little to learn from, few known pixels or nothing that changes "
        "among them; give rasters with fewer gaps",
    )


# the cache


_FLAGS = tuple(c for c in CHANNELS if c.endswith("known") or c == "never")
_CONSTANT = ("sin_day", "cos_day")
PLANES = tuple(c for c in CHANNELS if c not in _FLAGS and c not in _CONSTANT and c != "degraded")
"""Channels that a cache of gaps keeps as numbers."""
FRAME_PLANES = ("value", "prior", "level", "log_error", "log_distance", "degraded")
"""Channels that a cache of degraded frames keeps."""


@dataclass(frozen=True)
class Cache:
    """Patches on disk: float16 planes, packed flags; read by memory map."""

    planes: NDArray[np.float16]
    """(patch, plane, row, column): continuous context and, last, the whitened residual."""
    flags: NDArray[np.uint8]
    """(patch, row, column): one bit per flag channel and, last, hidden."""
    days: NDArray[np.float32]
    """(patch, 2)."""
    kinds: list[str]
    scalars: NDArray[np.float32]
    """(patch, scalar), see `network.SCALARS`."""
    names: tuple[str, ...] = PLANES
    """Channels that `planes` holds, in order."""

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """Open a cache written by `build` or `build_frames`."""
        facts = json.loads((folder / "cache.json").read_text())
        planes = np.load(folder / "planes.npy", mmap_mode="r")
        flags = np.load(folder / "flags.npy", mmap_mode="r")
        scalars = folder / "scalars.npy"
        told = np.load(scalars) if scalars.exists() else np.repeat(PLAIN[None], len(flags), axis=0)
        names = tuple(facts.get("planes", PLANES))
        return cls(planes, flags, np.load(folder / "days.npy"), facts["kinds"], told, names)

    def __len__(self) -> int:
        return len(self.kinds)

    def first(self, count: int) -> Cache:
        """The first patches alone."""
        part = slice(count)
        arrays = (self.planes[part], self.flags[part], self.days[part])
        return Cache(*arrays, self.kinds[part], self.scalars[part], self.names)

    def take(
        self, index: int, row: int, column: int, size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Context, residual and hidden of a crop."""
        part = np.s_[..., row : row + size, column : column + size]
        planes = self.planes[index][part].astype(np.float32)
        bits = self.flags[index][part]
        full = np.zeros((len(CHANNELS), size, size), np.float32)
        for position, name in enumerate(self.names):
            full[CHANNELS.index(name)] = planes[position]
        for position, name in enumerate(_FLAGS):
            full[CHANNELS.index(name)] = (bits >> position) & 1
        for position, name in enumerate(_CONSTANT):
            full[CHANNELS.index(name)] = self.days[index, position]
        return full, planes[-1], ((bits >> len(_FLAGS)) & 1).astype(bool)


def flags_of(known: Mapping[str, NDArray[np.bool_]], hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One bit for each flag channel, absent ones 0, and the last for what is hidden."""
    bits = np.left_shift(hidden.astype(np.uint8), np.uint8(len(_FLAGS)))
    for position, name in enumerate(_FLAGS):
        if name in known:
            bits |= np.left_shift(known[name].astype(np.uint8), np.uint8(position))
    return bits


def _created(folder: Path, count: int, planes: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """New files of a cache: (example, plane, row, column) of numbers, (example, row, column) of flags.

    Raises OSError where the disk has no room for them: writing to a file in memory would end the process there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, planes, SIZE, SIZE)
    numbers = np.lib.format.open_memmap(folder / "planes.npy", "w+", np.float16, shape)
    flags = np.lib.format.open_memmap(folder / "flags.npy", "w+", np.uint8, (count, SIZE, SIZE))
    for path in (folder / "planes.npy", folder / "flags.npy"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return numbers, flags


def _told(count: int) -> Iterator[int]:
    """0 to `count` - 1, one for each patch to cut; once a minute the log says how far that is."""
    began = spoke = time.monotonic()
    for index in range(count):
        now = time.monotonic()
        if index and now - spoke >= _EVERY:
            spoke = now
            minutes = (now - began) / index * (count - index) / 60
            left = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
            _log.info("cutting: %s of %s patches, %s left", f"{index:,}", f"{count:,}", left)
        yield index


def build(
    folder: Path,
    count: int,
    *,
    part: str = "train",
    seed: int = 0,
    root: Path | None = None,
    sources: Sequence[Source] | None = None,
) -> Cache:
    """Write `count` examples of a part into a cache folder; takes about 0.2 s each. Overwrites."""
    made = islice(examples(part, seed, root=root, sources=sources), count)
    patches = (
        _Kept(e.kind, e.context, e.residual, {c: e.context[CHANNELS.index(c)] > 0 for c in _FLAGS}, e.hidden)
        for e in made
    )
    return _write(folder, count, PLANES, patches, {"seed": seed, "part": part})


def build_frames(
    folder: Path,
    count: int,
    *,
    part: str = "train",
    seed: int = 0,
    root: Path | None = None,
    sources: Sequence[Source] | None = None,
) -> Cache:
    """Write `count` degraded patches of a part into a cache folder. Overwrites."""
    made = islice(degraded_examples(part, seed, root=root, sources=sources), count)
    patches = (
        _Kept(e.task, e.view.context, e.residual, {"known": e.frame.known}, e.scored, e.view.scalars) for e in made
    )
    return _write(folder, count, FRAME_PLANES, patches, {"seed": seed, "part": part, "planes": FRAME_PLANES})


class _Kept(NamedTuple):
    """What a cache keeps of a patch."""

    kind: str
    context: NDArray[np.float32]
    residual: NDArray[np.float32]
    flags: Mapping[str, NDArray[np.bool_]]
    hidden: NDArray[np.bool_]
    scalars: NDArray[np.float32] = PLAIN


def _write(folder: Path, count: int, names: Sequence[str], patches: Iterable[_Kept], facts: Mapping[str, Any]) -> Cache:
    planes, flags = _created(folder, count, len(names) + 1)
    days, scalars, kinds = np.zeros((count, 2), np.float32), np.zeros((count, len(SCALARS)), np.float32), []
    for index, patch in zip(_told(count), patches, strict=True):
        planes[index] = [*(patch.context[CHANNELS.index(c)] for c in names), np.clip(patch.residual, -60, 60)]
        flags[index] = flags_of(patch.flags, patch.hidden)
        days[index] = [patch.context[CHANNELS.index(c), 0, 0] for c in _CONSTANT]
        scalars[index] = patch.scalars
        kinds.append(patch.kind)
    np.save(folder / "days.npy", days)
    np.save(folder / "scalars.npy", scalars)
    (folder / "cache.json").write_text(json.dumps({**facts, "kinds": kinds}))
    return Cache.open(folder)
