"""How good the network is on the validation part: value, draws, intervals, texture; and the calibration that follows.

    python -m geodiff.diffusion.evaluation --model MODEL [--count 24] [--json OUT] [--calibrate]

Every figure is a mean over examples (one patch, one gap) with a 95 % paired-bootstrap interval. Intervals and spread
are cross-fitted: the factors used on one half of the examples come from the other.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.diffusion.data import Example, examples
from geodiff.diffusion.denoiser import Denoiser, open_denoiser
from geodiff.diffusion.fields import channel
from geodiff.diffusion.folder import Calibration, find_folder
from geodiff.diffusion.sources import KINDS, Source
from geodiff.fillers.calibration import DISTANCE_EDGES, DISTANCES, Z90
from geodiff.fillers.members import Broad, matched, starts
from geodiff.metrics import crps_ensemble_field, crps_gaussian_field
from geodiff.noise import ground_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = [
    "Drawn", "Outcome", "calibrate", "detail", "drawn_examples", "evaluate", "outcome_of", "sampler_of", "summarise",
    "widths", "with_ends",
]  # fmt: skip

DRAWS = 8
_THIN = 50
"""Pixels of a distance class that speak as loud as the calibration before: two independent ones, at 25 to one."""
_PIXELS = 3000
"""Hidden pixels kept of an example."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One example, at its hidden pixels; in units of s0 unless said otherwise."""

    kind: str
    source: str
    prior_kind: str
    fold: int
    truth: Numbers
    """(pixel,) whitened residual: what the prior missed."""
    mean: Numbers
    sigma: Numbers
    draws: Numbers
    """(draw, pixel)."""
    s0: Numbers
    """(pixel,) normalised units."""
    distance: NDArray[np.intp]
    """(pixel,) class of the distance to data."""
    detail: tuple[float, float, float, float]
    """Energy in the top octave, normalised units: truth, one draw, value, prior; whitened before it is averaged."""


def detail(image: NDArray[Any], hidden: NDArray[np.bool_]) -> float:
    """Mean square of the Haar details of 2 x 2 cells that are wholly hidden: the power in the top octave."""
    cells = image.astype(np.float64).reshape(image.shape[0] // 2, 2, -1, 2).transpose(0, 2, 1, 3)
    whole = hidden.reshape(hidden.shape[0] // 2, 2, -1, 2).all((1, 3))
    inside = cells[whole]
    return float(((inside - inside.mean((1, 2), keepdims=True)) ** 2).mean()) if len(inside) else 0.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """An example with what the network says of it; whitened fields."""

    example: Example
    index: int
    mean: NDArray[np.float32]
    """(row, column)."""
    sigma: NDArray[np.float32]
    draws: NDArray[np.float32]
    """(draw, row, column), independent."""
    broad: Broad

    @property
    def fold(self) -> int:
        """Which half of the examples it belongs to: by source where sources are many."""
        by_source = self.example.kind in ("hirise", "msl")
        return (zlib.crc32(self.example.source.encode()) if by_source else self.index) % 2

    @property
    def distance(self) -> NDArray[np.float32]:
        away: NDArray[np.float32] = np.expm1(self.example.context[channel("log_distance")])
        return away

    @property
    def departures(self) -> NDArray[np.float32]:
        """(draw, row, column), as wide as the value's own standard deviation; 0 outside the gap."""
        hidden = self.example.hidden
        return matched(np.where(hidden, self.draws - self.mean, np.float32(0)), self.sigma, hidden, self.broad)


def draw(example: Example, denoiser: Denoiser, index: int, steps: int, sampler: str) -> Drawn:
    """Run the network on an example: one call for the value, `DRAWS` independent draws."""
    date, band, row, column = example.key

    def white(margin: int, number: int) -> NDArray[np.float32]:
        shape = example.hidden.shape[0] + 2 * margin, example.hidden.shape[1] + 2 * margin
        place = {"row": row - margin, "column": column - margin, "date": date, "band": band}
        return ground_noise(shape, **place, seed=index, member=number)

    noise = starts(white, DRAWS)
    planes, wanted = example.context[None], example.hidden[None]
    mean, sigma = (a[0] for a in denoiser.value(planes, wanted))
    draws = denoiser.members(planes, wanted, noise[None], sampler=sampler, steps=steps)[0]
    away = np.expm1(example.context[channel("log_distance")])
    return Drawn(example, index, mean, sigma, draws, Broad.of(white, DRAWS, away))


def outcome_of(drawn: Drawn) -> Outcome:
    """An example's figures, its draws as wide as a fill makes them."""
    example, mean = drawn.example, drawn.mean
    classes = np.searchsorted(DISTANCE_EDGES, drawn.distance)
    draws = mean + drawn.departures
    one, value = example.prior + example.error * draws[0], example.prior + example.error * mean
    truth_energy, one_energy, value_energy, prior_energy = (
        detail(image, example.hidden) for image in (example.truth, one, value, example.prior)
    )
    at = sampler_of(example.hidden, _PIXELS)
    return Outcome(
        example.kind,
        example.source,
        example.prior_kind,
        drawn.fold,
        at(example.residual),
        at(mean),
        at(drawn.sigma),
        at(draws),
        at(example.error),
        at(classes).astype(np.intp),
        (truth_energy, one_energy, value_energy, prior_energy),
    )


def sampler_of(scored: NDArray[np.bool_], count: int) -> Callable[[NDArray[Any]], Numbers]:
    """What takes (..., pixel) of planes (..., row, column): about `count` of the scored pixels, evenly."""
    places = np.flatnonzero(scored)
    kept = places[:: -(-len(places) // count)]
    return lambda planes: planes.reshape(*planes.shape[:-2], -1)[..., kept].astype(np.float64)


def calibrate(outcomes: Sequence[Outcome], base: Calibration | None = None) -> Calibration:
    """`base` with factors by distance class: conformal on the value's standard error, mean absolute on the spread.

    A class of few pixels keeps more of what `base` says of it.
    """
    base = base or Calibration()
    factors, spread = np.asarray(base.factors, np.float64).copy(), np.asarray(base.spread, np.float64).copy()
    for distance in range(DISTANCES):
        pixels, factor, wider = widths([(o, o.distance == distance) for o in outcomes])
        trust = pixels / (pixels + _THIN)
        factors[distance] *= (factor / factors[distance]) ** trust
        spread[distance] *= (wider / spread[distance]) ** trust
    rounded = [tuple(np.round(a, 4).tolist()) for a in (factors, spread)]
    return replace(base, factors=rounded[0], spread=rounded[1])


def widths(parts: Sequence[tuple[Any, NDArray[np.bool_]]]) -> tuple[int, float, float]:
    """Pixels of outcomes and which of theirs are asked; what standard errors and draws there are to be multiplied by.

    1 and 1 where there are none.
    """
    parts = [(o, m) for o, m in parts if m.any()]
    if not parts:
        return 0, 1.0, 1.0
    ratio = np.concatenate([(np.abs(o.truth - o.mean) / o.sigma)[m] for o, m in parts])
    error = np.mean([np.abs(o.truth - o.mean)[m].mean() for o, m in parts])
    wide = np.mean([_deviation(o.draws[:, m]) for o, m in parts])
    return len(ratio), float(np.quantile(ratio, 0.9) / Z90), float(error / wide)


def _deviation(draws: Numbers) -> float:
    """Mean absolute departure from the draws' mean, less the mean's own uncertainty; heavy tails do not own it."""
    count = len(draws)
    return float(np.abs(draws - draws.mean(axis=0)).mean() * np.sqrt(count / (count - 1)))


def drawn_examples(
    denoiser: Denoiser,
    count: int,
    *,
    seed: int = 1000,
    steps: int = 10,
    sampler: str = "edm-dpm2m",
    kinds: Sequence[str] = KINDS,
    root: Path | None = None,
    sources: Sequence[Source] | None = None,
) -> list[Drawn]:
    """`count` examples of each kind of the validation part, with draws; of `sources` where they are given."""
    found: list[Drawn] = []
    for kind in kinds if sources is None else sorted({s.kind for s in sources}):
        source = examples("validation", seed, kinds=[kind], root=root, sources=sources)
        found.extend(draw(next(source), denoiser, index, steps, sampler) for index in range(count))
    return found


def evaluate(denoiser: Denoiser, count: int, **options: Any) -> list[Outcome]:
    """Figures of `count` examples of each kind; options: `drawn_examples`."""
    return [outcome_of(one) for one in drawn_examples(denoiser, count, **options)]


def _facts(outcome: Outcome, calibration: Calibration) -> Numbers:
    """Per-example means that the table is made of, in normalised units."""
    o, s0 = outcome, outcome.s0
    factor, spread = (np.asarray(x)[o.distance] for x in (calibration.factors, calibration.spread))
    draws = o.mean + spread * (o.draws - o.mean)
    error = o.truth - o.mean
    return np.array(
        [
            ((error * s0) ** 2).mean(),
            ((o.truth * s0) ** 2).mean(),
            (np.abs(o.truth) * s0).mean(),
            (crps_ensemble_field(draws, o.truth) * s0).mean(),
            (crps_gaussian_field(np.zeros_like(s0), np.ones_like(s0), o.truth) * s0).mean(),
            (np.abs(error) <= Z90 * factor * o.sigma).mean(),
            (draws.var(axis=0, ddof=1) * s0**2).mean(),
            (((draws[0] - o.truth) * s0) ** 2).mean(),
            (crps_gaussian_field(o.mean, factor * o.sigma, o.truth) * s0).mean(),
            (error**2)[o.distance <= 1].sum(),
            (o.truth**2)[o.distance <= 1].sum(),
            *(np.asarray(o.detail) / (s0**2).mean()),
        ]
    )


_FIGURES: dict[str, Callable[[Numbers], float]] = {
    "RMSE value / prior": lambda m: float(np.sqrt(m[0] / m[1])),
    "the same within 4 px (whitened)": lambda m: float(np.sqrt(m[9] / max(m[10], 1e-9))),
    "CRPS 8 draws / MAE prior": lambda m: float(m[3] / m[2]),
    "CRPS prior + N(0, s0) / MAE prior": lambda m: float(m[4] / m[2]),
    "CRPS 8 draws / CRPS prior + N(0, s0)": lambda m: float(m[3] / m[4]),
    "CRPS N(value, se) / MAE prior": lambda m: float(m[8] / m[2]),
    "coverage of 90 %": lambda m: float(m[5]),
    "spread / skill": lambda m: float(np.sqrt(m[6] / m[0])),
    "RMSE draw / value": lambda m: float(np.sqrt(m[7] / m[0])),
    "top octave, draw, dB": lambda m: float(10 * np.log10(m[12] / m[11])),
    "top octave, value, dB": lambda m: float(10 * np.log10(m[13] / m[11])),
    "top octave, prior, dB": lambda m: float(10 * np.log10(m[14] / m[11])),
}


def summarise(outcomes: Sequence[Outcome], *, repeats: int = 500) -> dict[str, dict[str, list[float]]]:
    """By kind: each figure with the ends of its 95 % bootstrap interval over examples."""
    halves = [calibrate([o for o in outcomes if o.fold != fold]) for fold in (0, 1)]
    groups: dict[str, list[Numbers]] = {}
    for outcome in outcomes:
        name = outcome.kind if outcome.prior_kind != "regression" else f"{outcome.kind}, {outcome.prior_kind}"
        groups.setdefault(name, []).append(_facts(outcome, halves[outcome.fold]))
    groups["all"] = [f for own in list(groups.values()) for f in own]
    rng = np.random.default_rng(0)
    return {name: with_ends(np.array(own), _FIGURES, rng, repeats) for name, own in groups.items()}


def with_ends(
    rows: Numbers, figures: Mapping[str, Callable[[Numbers], float]], rng: np.random.Generator, repeats: int
) -> dict[str, list[float]]:
    """Figures of the means of `rows` (example, fact), each with the ends of its 95 % bootstrap interval."""
    draws = [rows[rng.integers(len(rows), size=len(rows))].mean(axis=0) for _ in range(repeats)]
    told = {"examples": [float(len(rows))]}
    for label, figure in figures.items():
        low, high = np.quantile([figure(d) for d in draws], (0.025, 0.975))
        told[label] = [round(float(x), 4) for x in (figure(rows.mean(axis=0)), low, high)]
    return told


def as_markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Figures down, groups across; every group has the same figures."""
    names = list(table)
    lines = ["| figure | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label in table[names[0]]:
        cells = [_cell(table[n][label]) for n in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(numbers: list[float]) -> str:
    return f"{numbers[0]:.0f}" if len(numbers) == 1 else f"{numbers[0]:.3f} ({numbers[1]:.3f} to {numbers[2]:.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--calibrate", action="store_true", help="write the calibration into the model folder")
    given = parser.parse_args()
    denoiser = open_denoiser(given.model)
    drawn = drawn_examples(denoiser, given.count, seed=given.seed, steps=given.steps)
    outcomes = [outcome_of(one) for one in drawn]
    table = summarise(outcomes)
    calibration = calibrate(outcomes, replace(denoiser.calibration, steps=given.steps))
    print(as_markdown(table))  # noqa: T201 (a command line)
    print(calibration)  # noqa: T201
    if given.json:
        given.json.write_text(json.dumps({"table": table, "calibration": calibration.as_json()}, indent=1))
    if given.calibrate:
        path = find_folder(given.model) / "model_index.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "calibration": calibration.as_json()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
