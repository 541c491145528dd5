"""How well the network restores degraded frames of the validation part, and the calibration that follows.

Every figure is a mean over patches with a 95 % bootstrap interval; intervals and spread are cross-fitted as in
`evaluation`. The prior is the closed-form restoration of `frames`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.diffusion.degraded import TASKS, Degraded, degraded_examples
from geodiff.diffusion.evaluation import fair_crps
from geodiff.diffusion.folder import RESTORED, Calibration
from geodiff.fillers.calibration import Z90
from geodiff.fillers.members import matched
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
    truth_energy, one_energy, value_energy, prior_energy = (_detail(image) for image in images)
    energy = (truth_energy, one_energy, value_energy, prior_energy)
    places = np.flatnonzero(example.scored)
    kept = places[:: -(-len(places) // _PIXELS)]

    def at(plane: NDArray[Any]) -> Numbers:
        return plane.reshape(*plane.shape[:-2], -1)[..., kept].astype(np.float64)

    seen = {1: "denoise", 2: "superres2", 4: "superres4"}[example.frame.factor]
    classes = np.where(at(example.frame.known) > 0, RESTORED.index(seen), RESTORED.index("hole"))
    fold = zlib.crc32(example.source.encode()) % 2
    return RestorationOutcome(
        example.task, fold, at(example.residual), at(mean), at(sigma), at(draws), at(error), classes, energy
    )


def _detail(image: NDArray[Any]) -> float:
    """Mean square of the Haar details of 2 x 2 cells: the power in the top octave."""
    cells = image.astype(np.float64).reshape(image.shape[0] // 2, 2, -1, 2)
    return float(((cells - cells.mean((1, 3), keepdims=True)) ** 2).mean())


def calibrate_restoration(outcomes: Sequence[RestorationOutcome], base: Calibration) -> Calibration:
    """`base` with the factors of restored pixels: conformal on the value, mean absolute on the draws."""
    factors, spread = np.ones(len(RESTORED)), np.ones(len(RESTORED))
    for index in range(len(RESTORED)):
        parts = [(o, o.classes == index) for o in outcomes if (o.classes == index).any()]
        if not parts:
            continue
        ratio = np.concatenate([(np.abs(o.truth - o.mean) / o.sigma)[m] for o, m in parts])
        factors[index] = np.quantile(ratio, 0.9) / Z90
        error = np.mean([np.abs(o.truth - o.mean)[m].mean() for o, m in parts])
        spread[index] = error / np.mean([_deviation(o.draws[:, m]) for o, m in parts])
    rounded = [tuple(np.round(a, 4).tolist()) for a in (factors, spread)]
    return replace(base, restore_factors=rounded[0], restore_spread=rounded[1])


def _deviation(draws: Numbers) -> float:
    count = len(draws)
    return float(np.abs(draws - draws.mean(axis=0)).mean() * np.sqrt(count / (count - 1)))


def _facts(o: RestorationOutcome, calibration: Calibration) -> Numbers:
    """Per-patch means that the table is made of, relative to the prior's mean square so that patches weigh alike."""
    factor, spread = (np.asarray(x)[o.classes] for x in (calibration.restore_factors, calibration.restore_spread))
    draws = o.mean + spread * (o.draws - o.mean)
    error, scale = (o.truth - o.mean) * o.s0, ((o.truth * o.s0) ** 2).mean()
    return np.array(
        [
            10 * np.log10(scale / (error**2).mean()),
            (np.abs(o.truth - o.mean) <= Z90 * factor * o.sigma).mean(),
            (fair_crps(draws, o.truth) * o.s0).mean() / scale**0.5,
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
    table: dict[str, dict[str, list[float]]] = {}
    for task in TASKS:
        rows = np.array([_facts(o, halves[o.fold]) for o in outcomes if o.task == task])
        if not len(rows):
            continue
        draws = [rows[rng.integers(len(rows), size=len(rows))].mean(axis=0) for _ in range(repeats)]
        table[task] = {"examples": [float(len(rows))]}
        for label, figure in _FIGURES.items():
            low, high = np.quantile([figure(d) for d in draws], (0.025, 0.975))
            table[task][label] = [round(float(x), 3) for x in (figure(rows.mean(axis=0)), low, high)]
    return table
