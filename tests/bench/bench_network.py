"""What the network adds to kriging, and whether a draw has the spectrum of the ground, on validation patches.

    python tests/bench/bench_network.py [--model default] [--count 16] [--large 6] [--seed 909]

Geometric means of RMSE over kriging's, by kind, with 95 % bootstrap intervals over patches; then, on patches whose gaps
hold a square of 32 pixels, the power of one draw over the truth's by octave, and its CRPS. Prints figures and asserts
none; needs GEODIFF_DATA.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from geodiff.diffusion.data import Example, examples
from geodiff.diffusion.denoiser import Denoiser, open_denoiser
from geodiff.diffusion.evaluation import Drawn, draw
from geodiff.diffusion.fields import channel
from geodiff.diffusion.sources import KINDS
from geodiff.fillers.members import matched
from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.weights import default_weights
from geodiff.metrics import crps_ensemble_field, octave_power

SIDE = 32
_TRIED = 50
"""Patches of a kind among which large gaps are looked for."""
PARTS = ("laplace", "kriging", "diffusion")

Plane = NDArray[np.floating]


def _single(kind: str, seed: int) -> Iterator[Example]:
    """Validation patches whose prior is kriging."""
    return (e for e in examples("validation", seed, kinds=[kind]) if e.prior_kind == "kriging")


def _errors(example: Example, denoiser: Denoiser) -> dict[str, float]:
    """RMSE in the gap: harmonic fill, kriging, network on crops and on whole windows, the stack by default weights."""
    known = example.context[channel("known")] > 0
    seen = np.where(known, example.truth, 0).astype(np.float32)
    mean = denoiser.value(example.context[None], example.hidden[None])[0][0]
    whole = denoiser.value(example.context[None], np.ones_like(example.hidden)[None])[0][0]  # no crop: all is wanted
    fills: dict[str, Plane] = {
        "laplace": relaxed_fill(seen[None], known[None], np.zeros_like(seen)[None])[0],
        "kriging": example.prior,
        "diffusion": example.prior + example.error * mean,
        "whole windows": example.prior + example.error * whole,
    }
    weights = default_weights(PARTS)[-1]  # these have the same shares at any distance
    fills["default weights"] = sum(w * fills[name] for w, name in zip(weights, PARTS, strict=True))
    return {n: float(np.sqrt(np.mean((f - example.truth)[example.hidden] ** 2))) for n, f in fills.items()}


def _interval(rows: Plane, figure: Callable[[Plane], Plane]) -> tuple[Plane, Plane, Plane]:
    """A figure of patches (patch, ...), and the ends of its 95 % interval."""
    rng = np.random.default_rng(0)
    drawn = [figure(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(500)]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return figure(rows), low, high


def _show_values(found: Mapping[str, Sequence[dict[str, float]]]) -> None:
    for kind, rows in found.items():
        told = [f"{kind:10s} {len(rows):3d} patches"]
        for name in ("laplace", "diffusion", "whole windows", "default weights"):
            ratios = np.log([row[name] / row["kriging"] for row in rows])
            middle, low, high = _interval(ratios, lambda r: np.exp(r.mean(axis=0)))
            told.append(f"{name} {middle:.3f} ({low:.3f} to {high:.3f})")
        print("  ".join(told), flush=True)


def _squares(hidden: NDArray[np.bool_]) -> list[tuple[slice, slice]]:
    starts = [range(0, n - SIDE + 1, SIDE // 2) for n in hidden.shape]
    places = [np.s_[row : row + SIDE, column : column + SIDE] for row in starts[0] for column in starts[1]]
    return [place for place in places if hidden[place].all()]


def _power(image: Plane, squares: Sequence[tuple[slice, slice]]) -> Plane:
    return np.mean([octave_power(image[place].astype(np.float64)) for place in squares], axis=0)


def _drawn_rows(drawn: Drawn) -> dict[str, Plane]:
    """For each way to make departures: powers of truth and draw by octave, CRPS, MAE, squares of draw and value."""
    example, hidden = drawn.example, drawn.example.hidden
    raw = np.where(hidden, drawn.draws - drawn.mean, np.float32(0))
    ways = {"raw": raw, "widened": matched(raw, drawn.sigma, hidden), "broad noise": drawn.departures}
    truth = example.residual[hidden].astype(np.float64)
    error, squares = example.error[hidden], _squares(hidden)
    scale = float(np.mean(error**2))
    rows = {}
    for name, departures in ways.items():
        draws = (drawn.mean + departures)[:, hidden].astype(np.float64)
        one = np.where(hidden, example.prior + example.error * (drawn.mean + departures[0]), example.truth)
        crps, mae = (crps_ensemble_field(draws, truth) * error).mean(), (np.abs(truth) * error).mean()
        apart = np.mean(((draws - truth) * error) ** 2), np.mean(((drawn.mean[hidden] - truth) * error) ** 2)
        powers = np.concatenate([_power(example.truth, squares), _power(one, squares)]) / scale
        rows[name] = np.array([*powers, crps / mae, apart[0] / apart[1]])
    return rows


def _figures(rows: Plane) -> Plane:
    """Octaves in dB, power pooled; mean CRPS / MAE of kriging; root mean square of draw over value."""
    mean = rows.mean(axis=0)
    return np.array([*(10 * np.log10(mean[3:6] / mean[:3])), mean[6], np.sqrt(mean[7])])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int, default=16, help="patches of each kind for the value")
    parser.add_argument("--large", type=int, default=6, help="large gaps of each kind for the draws, at most")
    parser.add_argument("--seed", type=int, default=909)
    given = parser.parse_args()
    torch.set_num_threads(1)
    denoiser = open_denoiser(given.model)
    print(f"model {given.model}, weights {denoiser.sha256[:12]}; RMSE over kriging's, geometric mean")
    found = {k: [_errors(e, denoiser) for e in islice(_single(k, given.seed), given.count)] for k in KINDS}
    _show_values({**found, "all": [row for rows in found.values() for row in rows]})
    gathered: dict[str, list[Plane]] = {}
    for kind in KINDS:
        large = [e for e in islice(_single(kind, given.seed + 1), _TRIED) if _squares(e.hidden)][: given.large]
        for index, example in enumerate(large):
            for name, row in _drawn_rows(draw(example, denoiser, index, 10, "edm-dpm2m")).items():
                gathered.setdefault(name, []).append(row)
    for name, rows in gathered.items():
        middle, low, high = _interval(np.array(rows), _figures)
        told = [f"{m:+.2f} ({a:+.2f} to {b:+.2f})" for m, a, b in zip(middle, low, high, strict=True)]
        print(f"{name:12s} {len(rows)} large gaps; octaves from the finest, dB: {', '.join(told[:3])}; "
              f"CRPS / MAE {told[3][1:]}; RMSE draw / value {told[4][1:]}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
