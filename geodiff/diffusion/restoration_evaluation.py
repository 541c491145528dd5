"""How well the network restores degraded frames of the validation part, and the calibration that follows.

Every figure is a mean over patches with a 95 % bootstrap interval; intervals and spread are cross-fitted as in
`evaluation`. The prior is the closed-form restoration of `frames`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.degraded import TASKS, Degraded, degraded_examples
from geodiff.diffusion.evaluation import detail, sampler_of, widths, with_ends
from geodiff.diffusion.folder import RESTORED, Calibration
from geodiff.fillers.calibration import Z90
from geodiff.fillers.members import matched
from geodiff.metrics import crps_ensemble_field
from geodiff.noise import ground_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser

    Numbers = NDArray[np.float64]

__all__ = ["RestorationOutcome", "calibrate_restoration", "evaluate_restoration", "summarise_restoration"]

_DRAWS = 4
_PIXELS = 4000


@dataclass(frozen=True, slots=True)
class RestorationOutcome:
    """One degraded patch, at some of its pixels; in units of s0 unless said otherwise."""

    task: str
    fold: int
    truth: Numbers
    """(pixel,) whitened residual: what the closed-form restoration missed."""
    mean: Numbers
    sigma: Numbers
    draws: Numbers
    """(draw, pixel)."""
    s0: Numbers
    classes: NDArray[np.intp]
    """(pixel,) place in `folder.RESTORED`."""
    detail: tuple[float, float, float, float]
    """Energy in the top octave: truth, one draw, value, prior."""


def evaluate_restoration(
    denoiser: Denoiser, count: int, *, seed: int = 1000, steps: int = 10, root: Path | None = None
) -> list[RestorationOutcome]:
    """`count` patches of each task of the validation part."""
    outcomes = []
    for task in TASKS:
        source = degraded_examples("validation", seed, tasks=[task], root=root)
        outcomes += [_assess(next(source), denoiser, index, steps) for index in range(count)]
    return outcomes


def _assess(example: Degraded, denoiser: Denoiser, index: int, steps: int) -> RestorationOutcome:
    shape = example.truth.shape
    noise = np.stack([ground_noise(shape, row=0, column=0, seed=index, band=0, member=m) for m in range(_DRAWS)])
    planes, scalars = example.view.context[None], example.view.scalars[None]
    everywhere = np.ones((1, *shape), bool)
    mean, sigma = (a[0] for a in denoiser.value(planes, everywhere, scalars))
    draws = denoiser.members(planes, everywhere, noise[None], scalars, steps=steps)[0]
    draws = mean + matched(draws - mean, sigma, everywhere[0])
    prior, error = example.view.prior, example.view.error
    images = (example.truth, prior + error * draws[0], prior + error * mean, prior)
    truth_energy, one_energy, value_energy, prior_energy = (detail(image, everywhere[0]) for image in images)
    energy = (truth_energy, one_energy, value_energy, prior_energy)
    at = sampler_of(example.scored, _PIXELS)
    seen = {1: "denoise", 2: "superres2", 4: "superres4"}[example.frame.factor]
    classes = np.where(at(example.frame.known) > 0, RESTORED.index(seen), RESTORED.index("hole"))
    fold = zlib.crc32(example.source.encode()) % 2
    return RestorationOutcome(
        example.task, fold, at(example.residual), at(mean), at(sigma), at(draws), at(error), classes, energy
    )


def calibrate_restoration(outcomes: Sequence[RestorationOutcome], base: Calibration) -> Calibration:
    """`base` with the factors of restored pixels: conformal on the value, mean absolute on the draws."""
    found = [widths([(o, o.classes == index) for o in outcomes]) for index in range(len(RESTORED))]
    factors, spread = (tuple(round(own[which], 4) for own in found) for which in (1, 2))
    return replace(base, restore_factors=factors, restore_spread=spread)


def _facts(o: RestorationOutcome, calibration: Calibration) -> Numbers:
    """Per-patch means that the table is made of, relative to the prior's mean square so that patches weigh alike."""
    factor, spread = (np.asarray(x)[o.classes] for x in (calibration.restore_factors, calibration.restore_spread))
    draws = o.mean + spread * (o.draws - o.mean)
    error, scale = (o.truth - o.mean) * o.s0, ((o.truth * o.s0) ** 2).mean()
    return np.array(
        [
            10 * np.log10(scale / (error**2).mean()),
            (np.abs(o.truth - o.mean) <= Z90 * factor * o.sigma).mean(),
            (crps_ensemble_field(draws, o.truth) * o.s0).mean() / scale**0.5,
            (np.abs(o.truth) * o.s0).mean() / scale**0.5,
            (((draws[0] - o.truth) * o.s0) ** 2).mean() / scale,
            (error**2).mean() / scale,
            *(10 * np.log10(np.maximum(np.asarray(o.detail[1:]) / o.detail[0], 1e-6))),
        ]
    )


_FIGURES: dict[str, Callable[[Numbers], float]] = {
    "PSNR gained over the closed form, dB": lambda m: float(m[0]),
    "coverage of 90 %": lambda m: float(m[1]),
    "CRPS 4 draws / MAE closed form": lambda m: float(m[2] / m[3]),
    "RMSE draw / value": lambda m: float((m[4] / m[5]) ** 0.5),
    "top octave, draw, dB": lambda m: float(m[6]),
    "top octave, value, dB": lambda m: float(m[7]),
    "top octave, closed form, dB": lambda m: float(m[8]),
}


def summarise_restoration(
    outcomes: Sequence[RestorationOutcome], *, repeats: int = 500
) -> dict[str, dict[str, list[float]]]:
    """By task: each figure with the ends of its 95 % bootstrap interval over patches."""
    halves = [calibrate_restoration([o for o in outcomes if o.fold != fold], Calibration()) for fold in (0, 1)]
    rng = np.random.default_rng(0)
    rows = {task: [_facts(o, halves[o.fold]) for o in outcomes if o.task == task] for task in TASKS}
    return {task: with_ends(np.array(own), _FIGURES, rng, repeats) for task, own in rows.items() if own}
