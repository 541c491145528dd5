"""Training patches for restoration: real frames made grainy, coarse, blocky or holed, as cameras and links do it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.drawing import drawn, found, pools_of
from geodiff.diffusion.frames import Frame, Prepared, coarsened, enlarged_frame, prepared
from geodiff.diffusion.shapes import draw_gap
from geodiff.diffusion.sources import Source, Stack, load
from geodiff.errors import InputError
from geodiff.lattice import reflected_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = ["RESTORATION_SHARES", "TASKS", "Degraded", "degraded_examples", "noisy"]

RESTORATION_SHARES = {"hirise": 0.4, "msl": 0.4, "optical": 0.2}
TASKS = {"denoise": 0.42, "superres": 0.33, "denoise,inpaint": 0.15, "denoise,superres": 0.10}
SIZE = 128
_MARGIN = 16
_FACTORS = (2, 4)
_JPEG_SHARE = 0.12
"""Of the frames that are denoised: those that suffered from strong compression instead of white noise."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """One degraded patch with its truth, in normalised units."""

    kind: str
    source: str
    task: str
    frame: Frame
    truth: Plane
    scored: NDArray[np.bool_]
    """What was in truth observed."""
    view: Prepared

    @property
    def residual(self) -> Plane:
        """(truth - prior) / s0, 0 where not scored."""
        return np.asarray(np.where(self.scored, (self.truth - self.view.prior) / self.view.error, 0), np.float32)


def noisy(truth: Plane, noise: float, rng: np.random.Generator) -> Plane:
    """White normal noise of standard deviation `noise`; one in four frames gets half of it as photon noise."""
    if rng.random() < 0.75:
        return np.asarray(truth + noise * rng.standard_normal(truth.shape), np.float32)
    light = truth - truth.min()
    shot = noise * np.sqrt(light / max(float(light.mean()), 1e-6))
    strength = np.sqrt(0.5 * noise**2 + 0.5 * shot**2)
    return np.asarray(truth + strength * rng.standard_normal(truth.shape), np.float32)


def blocky(truth: Plane, rng: np.random.Generator) -> tuple[Plane, float]:
    """The frame after strong JPEG compression, and the standard deviation of what that did."""
    from PIL import Image

    low, high = float(truth.min()), float(truth.max())
    scale = max(high - low, 1e-3) / float(rng.uniform(120, 255))
    counts = np.clip(np.rint((truth - low) / scale), 0, 255).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(counts).save(held, "JPEG", quality=int(rng.integers(8, 50)))
    values = np.asarray(Image.open(held), np.float32) * np.float32(scale) + np.float32(low)
    return values, max(float((values - truth).std()), 0.02)


def degraded_examples(
    part: str,
    seed: int,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    root: Path | None = None,
    sources: Sequence[Source] | None = None,
) -> Iterator[Degraded]:
    """Endless degraded patches of a part; the same seed gives the same ones."""
    shares = RESTORATION_SHARES if sources is None else {s.kind: 1.0 for s in sources}
    root, pools, masks = pools_of(part, shares, root, sources)
    if not pools:
        raise InputError(f"no {part} frames to degrade; set frames = 0 in the configuration, or give more rasters")
    odds = np.array([TASKS[t] for t in tasks])

    def made(source: Source, rng: np.random.Generator) -> Degraded | None:
        task = str(rng.choice(list(tasks), p=odds / odds.sum()))
        return _degraded(source, load(root, source), task, rng, masks)

    return found(
        (made(source, rng) for source, rng in drawn(pools, shares, [seed, 7])),
        f"frames in a row of the {part} part were below {SIZE} pixels a side, had gaps "
        "of their own, or did not change; set frames = 0 in the configuration, or give more rasters",
    )


def _places(start: int, count: int) -> NDArray[np.intp]:
    """The rows or columns of a patch and its margins, mirrored at the frame's edges as in use.

    Where an edge is near the patch moves until coarser cells end there, as those of a whole frame do.
    """
    if start < _MARGIN or start > count - SIZE - _MARGIN:
        start -= (start if start < _MARGIN else start - count) % max(_FACTORS)
    return reflected_indices(start - _MARGIN, SIZE + 2 * _MARGIN, count)


def _degraded(
    source: Source, stack: Stack, task: str, rng: np.random.Generator, masks: Sequence[NDArray[np.bool_]]
) -> Degraded | None:
    dates, bands, *sides = stack.values.shape
    if min(sides) < SIZE:
        return None
    rows, columns = (_places(int(rng.integers(n - SIZE + 1)), n) for n in sides)
    part = np.s_[int(rng.integers(dates)), int(rng.integers(bands)), rows[:, None], columns[None, :]]
    truth, observed = stack.values[part], stack.known[part]
    if not observed.all() or truth.std() < 1e-2:
        return None
    quarter = int(rng.integers(4))
    truth = np.ascontiguousarray(np.rot90(truth[:, ::-1] if rng.integers(2) else truth, quarter))
    truth = truth * np.float32(np.exp(rng.normal(0, 0.2)) * rng.choice([-1, 1]))
    factor = int(rng.choice(_FACTORS)) if "superres" in task else 1
    seen = coarsened(truth, factor)
    noise = float(np.exp(rng.uniform(np.log(0.08), np.log(4.0)))) if "denoise" in task else 0.0
    if "superres" in task:
        noise *= 0.3
    if task == "denoise" and rng.random() < _JPEG_SHARE:
        seen, noise = blocky(seen, rng)
    elif noise:
        seen = noisy(seen, noise, rng)
    known = np.ones(truth.shape, bool)
    if "inpaint" in task:
        known = ~draw_gap(truth.shape, rng, masks)[1]
        if known.mean() < 0.25:
            return None
    wide = enlarged_frame(Frame(seen, np.ones(seen.shape, bool), noise), factor)
    wide = replace(wide, values=np.where(known, wide.values, np.float32(0)), known=known)
    view = prepared(wide)
    inner = np.s_[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    view = Prepared(view.prior[inner], view.error[inner], view.context[inner], view.scalars)
    frame = Frame(wide.values[inner], known[inner], noise, factor)
    return Degraded(source.kind, source.name.split(";")[0], task, frame, truth[inner], observed[inner], view)
