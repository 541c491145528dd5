"""How well stacks of dates are filled, beside what else fills them: RMSE, CRPS, coverage, swing, by stratum.

    GEODIFF_DATA=... python tests/bench/bench_time.py [--part validation|evaluate] [--sets A,B] [--seeds 1,2,3] \
        [--out FILE] [--keep DIR]

Known pixels are hidden under the set's own gaps of other dates, and on some dates altogether, once for each seed; the
pixels of all draws are judged together, because one draw hides a few dates and says as much of those as of the method.
Every method sees the same stack and chooses its settings inside it. Prints Markdown; `--out x.json` also writes every
figure; `--keep` holds what the peers said, for the next time. `evaluate` is for measuring: nothing may be chosen by it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import stacks
import time_peers
from numpy.typing import NDArray
from stacks import Hidden, Stack

from geodiff.metrics import crps_ensemble_field

Numbers = NDArray[np.float64]

MOST_SCORED = 4000
"""Hidden pixels of a date that are scored."""
TILE = 16
"""Rows and columns of the blocks that the bootstrap draws."""
REPEATS = 400
DRAWN_WINDOWS, DRAWN_LOST, DRAWN_OTHERS = 6, 2, 3
"""Lattice windows for which members are drawn, at eighty network calls each; lost dates, and others, at least."""
DAY_EDGES, DISTANCE_EDGES, SHARE_EDGES = (5.0, 15.0), (4.0, 16.0, 64.0), (0.1, 0.4, 0.8)
Z90 = 1.6448536269514722


@dataclass(frozen=True)
class Places:
    """Where a stack is scored."""

    date: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]

    @classmethod
    def of(cls, hidden: NDArray[np.bool_], most: int = MOST_SCORED) -> Places:
        rng = np.random.default_rng(0)
        parts = []
        for date in np.flatnonzero(hidden.any(axis=(1, 2))):
            found = np.argwhere(hidden[date])
            parts.append(np.insert(found[np.sort(rng.permutation(len(found))[:most])], 0, date, axis=1))
        return cls(*np.concatenate(parts).T)

    def cut(self, planes: NDArray[Any], dates: Sequence[int]) -> NDArray[Any]:
        """(..., target, row, column) at the scored pixels."""
        at = np.searchsorted(dates, self.date)
        return planes[..., at, self.row, self.column]

    @property
    def block(self) -> NDArray[np.intp]:
        """Which block of the bootstrap each pixel belongs to."""
        keys = np.stack([self.date, self.row // TILE, self.column // TILE])
        return np.unique(keys, axis=1, return_inverse=True)[1].ravel()

    def wanted(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        plane = np.zeros(shape, bool)
        plane[self.row, self.column] = True
        return plane


@dataclass(frozen=True)
class Answer:
    """What geodiff says at the scored pixels."""

    value: Numbers
    error: Numbers
    draws: NDArray[np.float64] | None = None
    """(draw, pixel), NaN where none were drawn."""
    weights: Any = None


# -- geodiff


def _cube(stack: Stack, seen: NDArray[np.floating[Any]]) -> Any:
    """The stack as the pipeline sees it, opened as a dataset in memory."""
    import xarray as xr

    from geodiff.io.cf import open_dataset_as_raster
    from geodiff.job import FillJob
    from geodiff.scene import scene_of

    axes = {
        "time": (stack.days * 86400).astype("M8[s]").astype("M8[ns]"),
        "y": -10.0 * np.arange(seen.shape[1]),
        "x": 10.0 * np.arange(seen.shape[2]),
    }
    dataset = xr.Dataset({"v": (("time", "y", "x"), seen.astype(np.float32))}, axes)
    cube = scene_of(open_dataset_as_raster(dataset), FillJob.build(source="bench", target="bench.zarr")).cubes[0]
    ever = np.isfinite(stack.values).any(axis=0)  # the user's mask: with a date hidden, land and sea look alike
    return replace(cube, rules=replace(cube.rules, fillable=lambda window: ever[window.slices]))


def _filler(network: bool, members: int) -> Any:
    from geodiff.fillers import FillerSettings
    from geodiff.fillers.stacked import Auto, Stacked

    auto = Auto.configured(FillerSettings(members=members))
    if network:
        return auto
    return Stacked(tuple(part for part in auto.stack.fillers if part.name != "diffusion"))


def geodiff_answer(
    hidden: Hidden, working: Numbers, places: Places, *, network: bool, drawn: Sequence[int] = ()
) -> Answer:
    """Value and standard error at the scored pixels; independent draws on the dates `drawn`."""
    from geodiff.estimate import estimate
    from geodiff.fitting import fit_cube
    from geodiff.lattice import Window
    from geodiff.scan import scan_cube

    cube = _cube(hidden.stack, working)
    reason = np.zeros((len(working), 1, *cube.shape), np.uint16)
    scan, gaps = scan_cube(cube, reason, np.zeros(cube.shape, bool), 0)
    filler = _filler(network, 0)
    fit = fit_cube(cube, scan, gaps, filler)
    recipe, whole = fit.normalisations[0], Window(0, 0, *cube.shape)
    shape = (len(hidden.dates), *cube.shape)
    value, error = np.full(shape, np.nan), np.full(shape, np.nan)
    draws = np.full((8, *shape), np.nan)
    for place, date in enumerate(hidden.dates):
        blended, _ = estimate(cube, gaps, fit, filler, date, whole, 0)
        assert blended is not None
        value[place] = recipe.inverse(blended.value[0, 0])
        error[place] = recipe.error(value[place], blended.standard_error[0, 0])
        if date in drawn:
            pairs = [
                estimate(cube, gaps, fit, _filler(True, 2), date, whole, seed)[0].members[:, 0, 0]  # type: ignore[union-attr,index]
                for seed in range(4)
            ]
            draws[:, place] = recipe.inverse(np.concatenate(pairs))
    weights = dict(fit.fitted.facts.get("weights", {}))
    cut = [places.cut(layer, hidden.dates) for layer in (value, error, draws)]
    return Answer(cut[0], cut[1], cut[2], weights)


def _drawable(hidden: Hidden) -> list[int]:
    """A few dates, lost ones among them; the others from the first to the last."""
    from geodiff.lattice import Lattice

    each = len(list(Lattice(hidden.seen.shape[1:]).windows()))
    lost = sorted(hidden.whole)[:DRAWN_LOST]
    others = [date for date in hidden.dates if date not in hidden.whole]
    count = min(max(DRAWN_OTHERS, DRAWN_WINDOWS // each - len(lost)), len(others))
    return sorted([*lost, *(others[place * len(others) // count] for place in range(count))])


# -- peers


def peer_answer(
    peer: time_peers.Peer, hidden: Hidden, working: Numbers, places: Places, seed: int
) -> tuple[Numbers, Any]:
    """The peer's value at the scored pixels, with the setting that is best on pixels hidden inside the stack."""
    setting: Mapping[str, Any] = peer.settings[0]
    if len(peer.settings) > 1:
        inner = stacks.hide(replace(hidden.stack, values=working.astype(np.float32)), seed + 1000)
        spots = Places.of(inner.hidden, 600)
        losses = [_loss(peer, candidate, inner, working, spots) for candidate in peer.settings]
        setting = peer.settings[int(np.argmin(losses))]
    planes = peer.fill(working, hidden.stack.days, hidden.dates, places.wanted(working.shape[1:]), setting)
    return places.cut(planes, hidden.dates), setting


def _loss(peer: time_peers.Peer, setting: Any, inner: Hidden, working: Numbers, spots: Places) -> float:
    seen = np.where(inner.hidden, np.nan, working)
    planes = peer.fill(seen, inner.stack.days, inner.dates, spots.wanted(seen.shape[1:]), setting)
    return float(np.mean((spots.cut(planes, inner.dates) - spots.cut(working[inner.dates], inner.dates)) ** 2))


# -- figures


def _interval(figure: Any, block: NDArray[np.intp]) -> list[float]:
    """A figure of sums over pixels, with its 95 % interval over blocks drawn anew; `figure(weight of each pixel)`."""
    rng = np.random.default_rng(0)
    count = int(block.max()) + 1
    drawn = [figure(np.bincount(rng.integers(count, size=count), minlength=count)[block]) for _ in range(REPEATS)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return [round(float(x), 4) for x in (figure(np.ones(len(block))), low, high)]


def _ratio(a: Numbers, b: Numbers, block: NDArray[np.intp], power: float = 0.5) -> list[float]:
    """sqrt(mean a / mean b) for squared errors; power 1 for absolute ones."""
    return _interval(lambda w: float(((w * a).sum() / max((w * b).sum(), 1e-30)) ** power), block)


def strata_of(hidden: Hidden, places: Places) -> dict[str, NDArray[np.intp]]:
    """Class of each scored pixel by nearest date, distance to data and missing share of its date."""
    from scipy.ndimage import distance_transform_edt

    seen = np.isfinite(hidden.seen)
    ever = np.isfinite(hidden.stack.values).any(axis=0)
    days, distance, share = (np.empty(len(places.date)) for _ in range(3))
    for date in hidden.dates:
        here = places.date == date
        rows, columns = places.row[here], places.column[here]
        apart = np.where(seen[:, rows, columns], np.abs(hidden.stack.days - hidden.stack.days[date])[:, None], np.inf)
        days[here] = apart.min(axis=0)
        away = distance_transform_edt(~seen[date]) if seen[date].any() else np.full(seen.shape[1:], 999.0)
        distance[here] = away[rows, columns]
        share[here] = 1 - seen[date][ever].mean()
    edges = {
        "nearest date, days": (days, DAY_EDGES),
        "distance, px": (distance, DISTANCE_EDGES),
        "missing share": (share, SHARE_EDGES),
    }
    return {name: np.searchsorted(bounds, values) for name, (values, bounds) in edges.items()}


def _labels(edges: Sequence[float]) -> list[str]:
    return [f"<= {edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(edges)), f"> {edges[-1]:g}"]


LABELS = {
    "nearest date, days": _labels(DAY_EDGES), "distance, px": _labels(DISTANCE_EDGES),
    "missing share": _labels(SHARE_EDGES),
}  # fmt: skip


def swings(found: Sequence[Draw]) -> dict[str, list[float]]:
    """Mean |second difference in time|, draws over the observed series, with intervals over dates; by kind of gap.

    At hidden pixels that the dates before and after know: there a draw swings by what the value departs from these two
    and by the draw's own width, and noise that dates share has no say. All errors of a lost date are large or small
    together, and the value lies between its neighbours, so that there the figure is how wide members are over how far
    those few dates happened to be off: it is given apart, and dates are drawn anew, not blocks of pixels.
    """
    drawn, observed, date, lost = [], [], [], []
    for number, draw in enumerate(found):
        places, working, draws = draw.places, draw.working, draw.auto.draws
        assert draws is not None
        last = len(working) - 1
        before, after = (working[np.clip(places.date + s, 0, last), places.row, places.column] for s in (-1, 1))
        inner = (places.date > 0) & (places.date < last) & np.isfinite(before + after + draws.sum(axis=0))
        around = (before + after)[inner]
        drawn.append(np.abs(around - 2 * draws[:, inner]).mean(axis=0))
        observed.append(np.abs(around - 2 * draw.truth[inner]))
        date.append(number * len(working) + places.date[inner])
        lost.append(np.isin(places.date[inner], list(draw.hidden.whole)))
    own, truth, dates, whole = (np.concatenate(parts) for parts in (drawn, observed, date, lost))
    kinds = {"swing": np.ones_like(whole), "swing under clouds": ~whole, "swing of lost dates": whole}
    return {
        name: _ratio(own[kept], truth[kept], np.unique(dates[kept], return_inverse=True)[1], 1.0)
        for name, kept in kinds.items()
        if kept.sum() >= 100
    }


@dataclass(frozen=True)
class Draw:
    """One draw of gaps and what every method says under them."""

    hidden: Hidden
    working: Numbers
    places: Places
    truth: Numbers
    auto: Answer
    answers: Mapping[str, Numbers]
    """(pixel,) by method."""
    settings: Mapping[str, Any]
    absent: Mapping[str, str]
    seconds: float


def drawn(stack: Stack, seed: int, *, draws: bool, peers: bool, keep: Path | None) -> Draw:
    """Hide, and ask every method."""
    hidden = stacks.hide(stack, seed)
    working = (np.log10(hidden.seen) if stack.log else hidden.seen).astype(np.float64)
    places = Places.of(hidden.hidden)
    full = np.log10(stack.values) if stack.log else stack.values
    truth = places.cut(full[hidden.dates].astype(np.float64), hidden.dates)
    began = time.time()
    auto = geodiff_answer(hidden, working, places, network=True, drawn=_drawable(hidden) if draws else ())
    spent = time.time() - began
    prior = geodiff_answer(hidden, working, places, network=False)
    answers, chosen, absent = {"geodiff": auto.value, "stacked prior": prior.value}, {}, {}
    for peer in time_peers.PEERS if peers else time_peers.PEERS[:1]:
        try:
            answers[peer.name], chosen[peer.name] = _kept(peer, hidden, working, places, seed, keep)
        except (ImportError, ValueError) as error:
            absent[peer.name] = str(error)
    return Draw(hidden, working, places, truth, auto, answers, chosen, absent, spent)


def _kept(
    peer: time_peers.Peer, hidden: Hidden, working: Numbers, places: Places, seed: int, keep: Path | None
) -> tuple[Numbers, Any]:
    """What a peer said before of the same pixels, or says now."""
    path = keep / f"{hidden.stack.name}-{hidden.digest}-{seed}-{peer.name.replace(' ', '_')}.npz" if keep else None
    if path is not None and path.exists():
        with np.load(path) as held:
            return held["value"], json.loads(str(held["setting"]))
    importlib.import_module(peer.module)
    value, setting = peer_answer(peer, hidden, working, places, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, value=value, setting=json.dumps(setting))
    return value, setting


def measure(stack: Stack, seeds: Sequence[int], *, draws: bool, peers: bool, keep: Path | None) -> dict[str, Any]:
    """Every figure of one set, over all draws of gaps."""
    found = [drawn(stack, seed, draws=draws, peers=peers, keep=keep) for seed in seeds]
    truth = np.concatenate([d.truth for d in found])
    block = _blocks([d.places for d in found])
    names = [n for n in found[0].answers if all(n in d.answers for d in found)]
    errors = {n: np.concatenate([d.answers[n] for d in found]) - truth for n in names}
    squares = {n: e**2 for n, e in errors.items()}
    auto = _together([d.auto for d in found])
    others = [name for name in names if name not in ("geodiff", "stacked prior")]
    best = min(others, key=lambda name: squares[name].mean())
    calmest = min(others, key=lambda name: np.abs(errors[name]).mean())
    whole = np.concatenate([np.isin(d.places.date, list(d.hidden.whole)) for d in found])
    facts: dict[str, Any] = {
        "set": stack.name, "digest": " ".join(d.hidden.digest for d in found), "seeds": list(seeds),
        "dates": len(stack.days), "pixels": len(truth),
        "rmse": {name: round(float(np.sqrt(s.mean())), 5) for name, s in squares.items()},
        "best peer": best, "settings": [d.settings for d in found], "left out": found[0].absent,
        "weights": [d.auto.weights for d in found], "seconds": round(sum(d.seconds for d in found), 1),
        "value / linear": _ratio(squares["geodiff"], squares["linear-in-time"], block),
        "value / best peer": _ratio(squares["geodiff"], squares[best], block),
        "value / peers": {n: round(float((squares["geodiff"].mean() / squares[n].mean()) ** 0.5), 3) for n in others},
        "value / stacked prior": _ratio(squares["geodiff"], squares["stacked prior"], block),
        "coverage of 90 %": _coverage(auto, truth, block),
    }  # fmt: skip
    for name, kept in (("clouds", ~whole), ("whole date", whole)):
        if kept.any():
            own = np.unique(block[kept], return_inverse=True)[1]
            facts[f"{name}: value / linear"] = _ratio(squares["geodiff"][kept], squares["linear-in-time"][kept], own)
            facts[f"{name}: prior / linear"] = _ratio(
                squares["stacked prior"][kept], squares["linear-in-time"][kept], own
            )
            facts[f"{name}: coverage"] = _coverage(auto, truth, own, kept)
    if draws and auto.draws is not None:
        kept = np.isfinite(auto.draws).all(axis=0)
        own = np.unique(block[kept], return_inverse=True)[1]
        crps, mae = crps_ensemble_field(auto.draws[:, kept], truth[kept]), np.abs(errors[calmest])[kept]
        facts["CRPS of 8 draws / best peer's MAE"] = _ratio(crps, mae, own, 1.0)
        facts |= swings(found)
    facts["strata"] = _by_stratum(found, squares, others, auto, truth)
    return facts


def _blocks(places: Sequence[Places]) -> NDArray[np.intp]:
    """Blocks of all draws, those of different draws apart."""
    parts, first = [], 0
    for one in places:
        parts.append(one.block + first)
        first = int(parts[-1].max()) + 1
    return np.concatenate(parts)


def _together(answers: Sequence[Answer]) -> Answer:
    """Answers of all draws as one."""
    drawn = [a.draws for a in answers if a.draws is not None]
    return Answer(
        np.concatenate([a.value for a in answers]),
        np.concatenate([a.error for a in answers]),
        np.concatenate(drawn, axis=1) if len(drawn) == len(answers) else None,
    )


def _coverage(answer: Answer, truth: Numbers, block: NDArray[np.intp], kept: Any = slice(None)) -> list[float]:
    inside = (np.abs(answer.value - truth) <= Z90 * answer.error)[kept].astype(float)
    return _interval(lambda w: float((w * inside).sum() / max(w.sum(), 1)), block)


def _by_stratum(
    found: Sequence[Draw], squares: Mapping[str, Numbers], others: Sequence[str], auto: Answer, truth: Numbers
) -> list[dict[str, Any]]:
    """RMSE of the value over linear-in-time, the stratum's best peer and the prior, and coverage."""
    rows = []
    each = [strata_of(draw.hidden, draw.places) for draw in found]
    for name in each[0]:
        classes = np.concatenate([one[name] for one in each])
        for number, label in enumerate(LABELS[name]):
            here = classes == number
            if here.sum() < 50:
                continue
            rmse = {method: float(np.sqrt(s[here].mean())) for method, s in squares.items()}
            best = min(others, key=rmse.__getitem__)
            inside = np.abs(auto.value - truth)[here] <= Z90 * auto.error[here]
            rows.append(
                {
                    "stratum": f"{name} {label}", "pixels": int(here.sum()),
                    "value / linear": round(rmse["geodiff"] / rmse["linear-in-time"], 3),
                    "value / best peer": round(rmse["geodiff"] / rmse[best], 3), "best peer": best,
                    "value / prior": round(rmse["geodiff"] / rmse["stacked prior"], 3),
                    "coverage": round(float(inside.mean()), 3),
                }
            )  # fmt: skip
    return rows


# -- the tables

_COLUMNS = (
    "value / linear", "value / best peer", "value / stacked prior", "clouds: value / linear",
    "whole date: value / linear", "coverage of 90 %", "CRPS of 8 draws / best peer's MAE", "swing under clouds",
    "swing of lost dates",
)  # fmt: skip


def as_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a set, then one table of strata a set."""
    lines = ["| set | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for facts in found:
        cells = [_cell(facts.get(name)) for name in _COLUMNS]
        lines.append(
            f"| {facts['set']} ({facts['digest']}; best peer {facts['best peer']}) | " + " | ".join(cells) + " |"
        )
    for facts in found:
        lines += ["", f"{facts['set']}: RMSE " + ", ".join(f"{n} {r:g}" for n, r in facts["rmse"].items()), ""]
        names = list(facts["strata"][0])
        lines += ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(str(row[n]) for n in names) + " |" for row in facts["strata"]]
    return "\n".join(lines)


def _cell(figure: Any) -> str:
    if figure is None:
        return "-"
    return f"{figure:.3f}" if isinstance(figure, float) else f"{figure[0]:.3f} ({figure[1]:.3f} to {figure[2]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=tuple(stacks.PARTS), default="validation")
    parser.add_argument("--sets", help="names, with commas; default all of the part")
    parser.add_argument("--seeds", default="1", help="draws of gaps to judge together, with commas (default 1)")
    parser.add_argument("--no-draws", action="store_true", help="leave out members, which take most of the time")
    parser.add_argument("--no-peers", action="store_true", help="only linear-in-time beside geodiff")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--keep", type=Path, help="folder for what the peers said, which is slow and stays the same")
    given = parser.parse_args()
    root, found = Path(os.environ["GEODIFF_DATA"]), []
    for name in given.sets.split(",") if given.sets else stacks.PARTS[given.part]:
        stack, seeds = stacks.PARTS[given.part][name](root), [int(seed) for seed in given.seeds.split(",")]
        options = {"draws": not given.no_draws, "peers": not given.no_peers, "keep": given.keep}
        found.append(measure(stack, seeds, **options))
        if given.out:
            given.out.write_text(json.dumps(found, indent=1))
        print(as_markdown(found[-1:]), flush=True)
    print("\n", as_markdown(found), sep="")


if __name__ == "__main__":
    main()
