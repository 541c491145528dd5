"""Grainy, coarse or holed frames made clear: the same network, told what happened to the frame.

`restore_band` works on one band in memory: windows of the canonical lattice, each prepared by `frames.prepared`, one
network call for value and standard error, `steps` calls for each realisation; blended with the lattice's weights. A
grainy frame is then restored at half the size too, which tells what is broad, and what patches of the whole frame have
in common clears a grainy or enlarged one further (`nonlocal_bayes`). The answer belongs to the frame: noise is keyed by
seed, band, row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.diffusion.fields import Layer, filled
from geodiff.diffusion.folder import RESTORED
from geodiff.diffusion.frames import (
    UNBOUNDED,
    Frame,
    Prepared,
    coarsened,
    consistent,
    enlarged,
    enlarged_frame,
    prepared,
)
from geodiff.diffusion.nonlocal_bayes import nonlocal_bayes
from geodiff.encoding import piles_up
from geodiff.errors import InputError, NothingKnownError
from geodiff.fillers.members import matched, recentred
from geodiff.lattice import WINDOW, Lattice, Window, overlap_shrinkage, reflected_indices, weights
from geodiff.noise import ground_noise
from geodiff.threads import cores, one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser

    Plane = NDArray[np.float32]
    _Answer = tuple[Plane, Plane, Plane]

__all__ = ["FACTORS", "UNBOUNDED", "Restored", "cut_off", "estimate_noise", "restore_band"]

FACTORS = (1, 2, 4)
"""Enlargements the network knows."""
_MARGIN = 16
_CUT = 0.05
"""Share of a block's cells that may stand at an end of the range: more, and noise is cut off there."""
_LOWER_MEAN = 0.5149
"""Mean of the lower three quarters of |z| for a standard normal z."""
_WEAKEST, _WEAKEST_COARSE = 0.08, 0.024
"""Weakest noise that training shows, over the scale of a frame: of its own grid, and of one that is enlarged."""
_NARROWEST = 1e-3
"""Of a frame's own scale: with less, values would outgrow float32."""
_CORRELATION = 0.97
"""Of two windows' draws for one pixel, as for gaps (`geodiff.patches`)."""
_LOST = 1e-6
"""What most numbers differ by, over a frame's own scale: with less, float32 has next to nothing of it."""
_FEATURELESS = 1e-6
"""Scale of a frame of one value, over that value: nothing in it says how far anything may depart from it."""
_PILED = 8
"""Pixels that make a pile at an end of a frame's numbers."""
_SMALLEST = 64
"""Pixels a side of a frame that is restored at half the size too."""
_BROAD = 0.8
"""Standard deviation, in pixels of the frame of half the size, of the lowpass of what that one tells."""
_WINDOWS_A_CORE, _BATCHES = 8, 4
"""Windows that are in memory at a time, by the core; or by the batch, where the network takes several at once."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored band, in the units of the input; on the finer grid where it was enlarged."""

    value: Plane
    """(row, column)."""
    standard_error: Plane
    members: Plane
    """(member, row, column); the first axis is empty where none were asked for."""
    noise: float
    """Standard deviation of the noise that was taken for granted; 0 where none was removed."""
    windows: int


def restore_band(
    values: NDArray[np.floating],
    known: NDArray[np.bool_],
    denoiser: Denoiser,
    *,
    denoise: bool = False,
    noise: float | None = None,
    factor: int = 1,
    members: int = 0,
    seed: int = 0,
    band: int = 0,
    steps: int = 10,
    sampler: str = "edm-dpm2m",
    bounds: tuple[float, float] = UNBOUNDED,
    advance: Callable[[], None] = lambda: None,
) -> Restored:
    """Denoise, enlarge and fill one band.

    Parameters
    ----------
    values : (row, column), any real numbers; ignored where not known.
    known : bool, same shape. What is not known is filled.
    denoise : take the observed pixels for noisy; `noise` is their standard deviation, estimated where not given.
    factor : 1, 2 or 4 wanted pixels a side for each observed one.
    members : realisations to draw.
    bounds : lowest and highest number that there can be; what is observed lies within.
    advance : called after each window.

    Returns
    -------
    Restored : where pixels are exact (neither denoised nor enlarged), they come back as they were, with error 0.

    Raises
    ------
    NothingKnownError, InputError (a factor the network does not know, a noise that is not positive, numbers beside
    which most others are lost).
    """
    _check(known, noise, factor)
    centre, scale = _robust(values[known])
    sigma = (estimate_noise(values, known) if noise is None else noise) if denoise else 0.0
    scale = _scale_for(sigma, scale or sigma or _FEATURELESS * (abs(centre) or 1.0), factor)
    within = (bounds[0] - centre) / scale, (bounds[1] - centre) / scale
    flat, level = np.where(known, (values - centre) / scale, 0).astype(np.float32), sigma / scale
    low = Frame(_quiet(flat, known) if factor == 1 else _closed(flat, known), known, level)
    wide = enlarged_frame(low, factor)
    windows = list(Lattice(wide.values.shape).windows())
    draws = _Draws(members, seed, band, steps, sampler)
    value, error, drawn = _blended(wide, windows, denoiser, draws, advance)
    if level > 0 or factor > 1:
        further = _cleared(value, error, low, denoiser) - value
        value, drawn = value + further, drawn + further
    if not level:
        value, error, drawn = _as_observed(low, factor, within, value, error, drawn)
    layers = (_scaled(value, scale, centre), _scaled(error, scale), _scaled(drawn, scale, centre))
    return Restored(*layers, sigma, len(windows))


def _as_observed(
    low: Frame, factor: int, within: tuple[float, float], value: Plane, error: Plane, drawn: Plane
) -> tuple[Plane, Plane, Plane]:
    """Value, error and members that hold to exact pixels: as they were, or as the means of the finer ones."""
    if factor > 1:
        held = np.stack([consistent(m, low, within) for m in drawn]) if len(drawn) else drawn
        return consistent(value, low, within), error, held
    known, seen = low.known, low.values
    return np.where(known, seen, value), np.where(known, np.float32(0), error), np.where(known, seen, drawn)


def _check(known: NDArray[np.bool_], noise: float | None, factor: int) -> None:
    if factor not in FACTORS:
        raise InputError(f"superres by {factor}: the network knows 2 and 4; choose one of them")
    if noise is not None and not noise > 0:
        raise InputError(f"a noise of {noise} cannot be removed; give its standard deviation in the units of the frame")
    if not known.any():
        raise NothingKnownError("no pixel of the frame is known, so nothing can be restored; check nodata and masks")


def _scaled(plane: NDArray[np.floating], scale: float, centre: float = 0.0) -> Plane:
    return np.asarray(plane * scale + centre, np.float32)


def cut_off(seen: NDArray[np.floating]) -> tuple[float, float]:
    """The lowest and highest number of a band where its numbers pile up there, as at black and saturation; else none.

    Parameters
    ----------
    seen : (pixel,), known values.
    """
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    if low == high:
        return UNBOUNDED
    return low if piles_up(seen, low, _PILED) else -np.inf, high if piles_up(seen, high, _PILED) else np.inf


def _robust(seen: NDArray[np.floating]) -> tuple[float, float]:
    """Median, and the robust standard deviation that training uses; 0 of a frame of one value."""
    exact = np.asarray(seen, np.float64)
    centre = float(np.median(exact))
    typical = 1.4826 * float(np.median(np.abs(exact - centre)))
    scale = max(typical, 0.3 * float(exact.std()))
    if 0 < typical < _LOST * scale:
        raise InputError(
            f"values range from {exact.min():.6g} to {exact.max():.6g}, which drowns the {typical:.3g} by which most "
            "differ; if the extremes are not measurements, mark them with --nodata or --valid-range"
        )
    return centre, scale


def _scale_for(noise: float, scale: float, factor: int) -> float:
    """The scale that a frame is divided by: its own, or a smaller one in which weak noise is as strong as in training.

    The network was never shown weaker noise, and takes less than `fields.FLOOR` for that much.
    """
    weakest = _WEAKEST if factor == 1 else _WEAKEST_COARSE
    return float(np.clip(noise / weakest, _NARROWEST * scale, scale)) if noise > 0 else scale


def _quiet(flat: Plane, known: NDArray[np.bool_]) -> Plane:
    """Holes filled with the mean, so that nothing rings into them."""
    return np.where(known, flat, np.float32(flat[known].mean()))


def estimate_noise(image: NDArray[np.floating], known: NDArray[np.bool_]) -> float:
    """Standard deviation of white noise, from the calmest tenth of the image.

    Texture can only add to the details of a cell, so the noise is what is left where there is least: the diagonal
    details (Donoho & Johnstone 1994) of blocks of 32 x 32 pixels without their largest quarter, at their tenth
    percentile, less what the percentile takes from pure noise (0.93, by simulation). A black sky and what is saturated
    hold none of the noise, or half of it, so blocks that stand at an end of the range tell only where there are no
    others.
    """
    a, b, c, d = _corners(np.where(known, image, 0))
    detail = np.abs(a - b - c + d) / 2
    whole = np.logical_and.reduce(_corners(known))
    seen = image[known]
    cut = np.logical_or.reduce(_corners((image == seen.min()) | (image == seen.max()))) if seen.size else ~whole
    levels, free = _levels(detail, whole, cut)
    chosen = levels[free] if free.any() else levels
    if not chosen.size:
        chosen = np.array([_typical(detail[whole])])
    return float(np.quantile(chosen, 0.1)) / (0.93 if len(chosen) > 8 else 1.0)


def _corners(plane: NDArray[Any]) -> NDArray[Any]:
    """(4, row, column): the pixels of each 2 x 2 cell."""
    rows, columns = (n // 2 * 2 for n in plane.shape)
    return np.stack([plane[i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)])


def _levels(
    detail: NDArray[np.floating], whole: NDArray[np.bool_], cut: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(block,): noise of the blocks of which enough is known, and whether next to none of it is cut off."""
    levels, free = [], []
    for row in range(0, detail.shape[0], 16):
        for column in range(0, detail.shape[1], 16):
            part = np.s_[row : row + 16, column : column + 16]
            seen = whole[part]
            if seen.sum() >= 64:
                levels.append(_typical(detail[part][seen]))
                free.append(cut[part][seen].mean() <= _CUT)
    return np.array(levels), np.array(free, bool)


def _typical(detail: NDArray[np.floating]) -> float:
    """The standard deviation that details of either sign have; 0 where half of them show none.

    A mean of the lower ones, and not their median: those of whole numbers are multiples of a half.
    """
    if not detail.size or not np.median(detail):
        return 0.0
    lower = np.sort(detail)[: max(detail.size * 3 // 4, 1)]
    return float(lower.mean()) / _LOWER_MEAN


def _closed(flat: Plane, known: NDArray[np.bool_]) -> Plane:
    """Holes filled from their edges, so that no step rings out of them when pixels are divided."""
    return flat if known.all() else filled(Layer(flat, known))


# -- windows


@dataclass(frozen=True, slots=True)
class _Draws:
    """What realisations are drawn, and how."""

    members: int
    seed: int
    band: int
    steps: int
    sampler: str


def _blended(
    frame: Frame, windows: Sequence[Window], denoiser: Denoiser, draws: _Draws, advance: Callable[[], None]
) -> tuple[Plane, Plane, Plane]:
    """Value, standard error and members of a frame; the same on any number of cores: windows are added in order."""
    total, many = _Blend(frame.values.shape, draws.members), cores()
    apart = denoiser.batch == 1  # each core has a window of its own; elsewhere windows share the network's calls
    together = many * _WINDOWS_A_CORE if apart else _BATCHES * denoiser.batch

    def view(window: Window) -> Prepared:
        return _view(frame, window)

    def alone(window: Window) -> _Answer:
        return _answers(frame, [window], [view(window)], denoiser, draws)[0]

    with one_thread(), ThreadPoolExecutor(many) as pool:
        for start in range(0, len(windows), together):
            some = windows[start : start + together]
            if apart:
                made: Iterable[_Answer] = pool.map(alone, some)
            else:
                made = _answers(frame, some, list(pool.map(view, some)), denoiser, draws)
            for window, layers in zip(some, made, strict=True):
                total.add(window, *layers)
                advance()
    return total.done()


def _answers(
    frame: Frame, windows: Sequence[Window], views: Sequence[Prepared], denoiser: Denoiser, draws: _Draws
) -> list[_Answer]:
    """Value, variance and members' departures of each window, (.., 128, 128)."""
    context, scalars = np.stack([view.context for view in views]), np.stack([view.scalars for view in views])
    wanted = np.ones((len(views), WINDOW, WINDOW), bool)
    means, spreads = denoiser.value(context, wanted, scalars)
    if draws.members:
        noise = np.stack([_starts(window, draws) for window in windows])
        drawn = denoiser.members(context, wanted, noise, scalars, sampler=draws.sampler, steps=draws.steps)
    else:
        drawn = np.empty((len(views), 0, WINDOW, WINDOW), np.float32)
    factors, widths = (
        np.asarray(stored, np.float32)
        for stored in (denoiser.calibration.restore_factors, denoiser.calibration.restore_spread)
    )
    answers = []
    for window, view, mean, spread, r in zip(windows, views, means, spreads, drawn, strict=True):
        classes = _classes(frame, window)
        variance = (view.error * spread * factors[classes]) ** 2
        answers.append((view.prior + view.error * mean, variance, _departures(view, mean, spread, r) * widths[classes]))
    return answers


def _starts(window: Window, draws: _Draws) -> Plane:
    """(member, row, column): noise that belongs to the frame."""
    place = {"row": window.row, "column": window.column, "date": 0, "band": draws.band}
    return np.stack([ground_noise(window.shape, **place, seed=draws.seed, member=m) for m in range(draws.members)])


def _departures(view: Prepared, mean: Plane, spread: Plane, r: Plane) -> Plane:
    """(member, row, column) of what was drawn, as wide as the value's own standard deviation."""
    departures = matched(r - mean, spread, np.ones(mean.shape, bool))
    return np.asarray(view.error * recentred(departures, np.zeros_like(mean)), np.float32)


def _view(frame: Frame, window: Window) -> Prepared:
    """The prepared window, cut with a margin that keeps the edge of the cosine blocks out."""
    wide = window.expand(_MARGIN)
    rows = reflected_indices(wide.row, wide.height, frame.values.shape[0])[:, None]
    columns = reflected_indices(wide.column, wide.width, frame.values.shape[1])[None, :]
    known = frame.known[rows, columns]
    values, added = frame.values[rows, columns], None if frame.added is None else frame.added[rows, columns]
    if not known.any():
        known = np.ones_like(known)  # nothing observed near: the frame's mean stands in
    whole = prepared(Frame(values, known, frame.noise, frame.factor, added))
    inner = np.s_[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return Prepared(whole.prior[inner], whole.error[inner], whole.context[inner], whole.scalars)


def _classes(frame: Frame, window: Window) -> NDArray[np.intp]:
    """Which of `folder.RESTORED` each pixel of a window is."""
    rows = reflected_indices(window.row, window.height, frame.values.shape[0])[:, None]
    columns = reflected_indices(window.column, window.width, frame.values.shape[1])[None, :]
    seen = {1: "denoise", 2: "superres2", 4: "superres4"}[frame.factor]
    return np.where(frame.known[rows, columns], RESTORED.index(seen), RESTORED.index("hole"))


class _Blend:
    """Weighted sums over the frame; windows may reach beyond it."""

    def __init__(self, shape: tuple[int, int], members: int) -> None:
        self.extent = Window(0, 0, *shape)
        self.value, self.variance, self.weight, self.square = (np.zeros(shape, np.float32) for _ in range(4))
        self.departures = np.zeros((members, *shape), np.float32)

    def add(self, window: Window, value: Plane, variance: Plane, departures: Plane) -> None:
        common = window.intersect(self.extent)
        assert common is not None
        inside, there = common.within(window), common.slices
        weight = weights()[inside]
        self.value[there] += weight * value[inside]
        self.variance[there] += weight * variance[inside]
        self.departures[(slice(None), *there)] += weight * departures[(slice(None), *inside)]
        self.weight[there] += weight
        self.square[there] += weight**2

    def done(self) -> tuple[Plane, Plane, Plane]:
        """Value, standard error, members."""
        value = self.value / self.weight
        shrinkage = overlap_shrinkage(self.square / self.weight**2, _CORRELATION)
        members = value + self.departures / self.weight / shrinkage
        return value, np.sqrt(self.variance / self.weight), members


def _cleared(value: Plane, error: Plane, low: Frame, denoiser: Denoiser) -> Plane:
    """The network's value cleared further by patches that look alike; as it is in the holes of a grainy frame.

    On validation frames .22 dB less error of white noise and .25 of photon noise, .04 of compression, which is not
    white; the network's standard errors still hold. An enlarged frame has no pixel that was observed: its value is
    taken for as noisy as it is expected to be wrong, half of that where grain was taken away with it (.02 to .05 dB
    on rover frames, .2 on orbiters').
    """
    if value.shape != low.values.shape:
        typical = float(np.median(error))
        return nonlocal_bayes(value, value, typical / 2 if low.noise else typical)
    pilot = _broadened(value, low, denoiser)
    seen = np.where(low.known, low.values, pilot)
    return np.where(low.known, nonlocal_bayes(seen, pilot, low.noise), value)


def _broadened(value: Plane, low: Frame, denoiser: Denoiser) -> Plane:
    """A grainy frame's value, what is broad in it as in the frame that is restored at half the size.

    Means of 2 x 2 cells have half the noise, and windows and patches see twice as far in them (the frame of half the
    size again, so that it goes down to the smallest; the scales meet as in Pierazzo & Facciolo 2017). Only what is
    coarser than about three of its pixels is taken from it: it has no edges as sharp.
    """
    from scipy import ndimage

    if min(value.shape) < _SMALLEST:
        return value
    planes, even = (np.where(low.known, low.values, value), low.known, value), [(0, n % 2) for n in value.shape]
    seen, share, mean = (coarsened(np.pad(plane, even, mode="edge"), 2) for plane in planes)
    whole = share == 1
    if not whole.any():
        return value
    missed = np.where(whole, _calm(seen, whole, low.noise / 2, denoiser) - mean, np.float32(0))
    broad = enlarged(ndimage.gaussian_filter(missed, _BROAD), 2)
    return value + broad[: value.shape[0], : value.shape[1]]


def _calm(values: Plane, known: NDArray[np.bool_], noise: float, denoiser: Denoiser) -> Plane:
    """The value alone of a grainy frame."""
    centre, scale = _robust(values[known])
    scale = _scale_for(noise, scale or noise, 1)
    frame = Frame(_quiet(((values - centre) / scale).astype(np.float32), known), known, noise / scale)
    windows = list(Lattice(values.shape).windows())
    value, error, _ = _blended(frame, windows, denoiser, _Draws(0, 0, 0, 0, ""), lambda: None)
    return _scaled(_cleared(value, error, frame, denoiser), scale, centre)
