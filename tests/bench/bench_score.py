"""What the model must show, on the validation observations, every filler and peer on the same gaps: `make league`.

    python tests/bench/bench_score.py [--gaps 4] [--draws 8] [--kinds optical,hirise] [--json OUT] [--published]

Gaps are real masks and faults drawn with a fixed seed over planes that no training saw (geodiff/diffusion/splits.toml,
in GEODIFF_DATA/train), `--gaps` of each kind, two a plane. Peers are tuned on other places of the same plane. Figures
come with 95 % intervals, gaps drawn with replacement within kinds; the best peer of a kind is chosen on the same gaps,
which favours the peer. Nothing is tuned on the outcome. `--published` gives RePaint and DPS the settings of their
papers, which takes hours. Prints figures, asserts none.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geodiff.diffusion.guided import RePaint
from geodiff.diffusion.shapes import draw_gap, real_masks
from geodiff.diffusion.sources import Source, Stack, catalogue, load, training_folder
from geodiff.encoding import Encoding
from geodiff.fillers import Filler, FillerSettings, load_filler
from geodiff.fillers.stacked import Stacked, priors_around
from geodiff.io import Band, Variable
from geodiff.metrics import log_spectral_distance
from geodiff.peers.null import NAME as NULL
from geodiff.scene import Cube, Rules
from geodiff.score import PEER_NAMES, Budget, league, score_cube
from geodiff.score.moments import FIELDS, STRATA, Outcome
from geodiff.score.table import as_csv, as_text

KINDS = ("optical", "hirise", "msl", "elevation", "thermal")
CLASSICAL = ("gdal", "opencv-ns", "opencv-telea", "skimage-biharmonic", "pykrige", "verde")
PROBABILISTIC = ("pykrige", NULL)
FILLERS = ("prior", "diffusion", "auto")
PRIOR = "prior"
"""The default stack without the network."""
NEAR = STRATA.index("<=4 px")

Groups = Mapping[str, Sequence[Outcome]]


class Planes:
    """Reads what is in memory as a source is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def read(self, date: int, window: Any) -> np.ndarray:
        return self.values[(date, slice(None), *window.slices)]

    def valid(self, date: int, window: Any) -> None:
        return None


def cube_of(stack: Stack, date: int, band: int, name: str) -> Cube:
    """One plane; what was never observed may not be filled."""
    known = stack.known[date, band]
    values = np.where(known, stack.values[date, band], np.nan).astype(np.float32)
    grid = GeoBox(values.shape, Affine.identity(), None)
    bands = (Band("1", Encoding(np.dtype(np.float32))),)
    rules = Rules(fillable=lambda window: known[window.slices])
    return Cube(Variable(name, bands, grid, Planes(values[None, None])), (0,), (0,), rules)


def planes(root: Path, kind: str, count: int) -> Iterator[tuple[str, Cube]]:
    """`count` planes of the validation part, spread evenly over its sources, dates and bands."""
    sources = [s for s in catalogue(root) if s.kind == kind and s.part == "validation"]
    for index in range(count):
        source: Source = sources[int((index + 0.5) * len(sources) / count) % len(sources)]
        stack = load(root, source)
        date, band = index % stack.values.shape[0], (2 * index + 1) % stack.values.shape[1]
        yield source.name.rpartition("/")[2], cube_of(stack, date, band, source.name)


def filler_called(name: str, settings: FillerSettings) -> Filler:
    """The stack without its network, or what geodiff knows by that name."""
    if name != PRIOR:
        return load_filler(name, settings)
    network = load_filler("diffusion", settings)
    return Stacked(tuple(part for part in priors_around(network) if part is not network), name=PRIOR)


def outcomes_of(given: argparse.Namespace) -> dict[str, list[Outcome]]:
    """Every kind's gaps, filled by everyone."""
    root = training_folder()
    masks = real_masks(root)
    budget = Budget(trials=2, draws=given.draws, tuning=6, guided_cases=0)
    if given.published:
        budget = replace(budget, guided={"repaint": {}, "dps": {}})
    groups: dict[str, list[Outcome]] = {}
    for kind in given.kinds.split(","):
        for index, (name, cube) in enumerate(planes(root, kind, -(-given.gaps // 2))):
            began = time.perf_counter()
            own = replace(budget, guided_cases=1 if index == 0 and kind in given.guided.split(",") else 0)
            scored = score_cube(
                cube,
                own,
                fillers=FILLERS,
                peers=PEER_NAMES,
                settings=FillerSettings(model=given.model),
                seed=given.seed + index,
                kind=kind,
                drawer=lambda size, rng: draw_gap(size, rng, masks),
                load=filler_called,
            )
            groups.setdefault(kind, []).extend(scored.outcomes)
            spent = time.perf_counter() - began
            print(f"{kind}: {name}, {len(scored.outcomes)} gaps, masks {scored.masks}, {spent:.0f} s", file=sys.stderr)
    return groups


# figures


def total(outcomes: Sequence[Outcome], name: str, field: str, stratum: int = 0) -> float:
    return float(sum(o.methods[name].sums[stratum, FIELDS.index(field)] for o in outcomes))


def best(outcomes: Sequence[Outcome], names: Sequence[str], field: Callable[[str], str], stratum: int = 0) -> str:
    there = [n for n in names if all(n in o.methods for o in outcomes)]
    return min(there, key=lambda n: total(outcomes, n, field(n), stratum))


def quotient(
    outcomes: Sequence[Outcome], first: tuple[str, str], second: tuple[str, str], power: float = 1.0, stratum: int = 0
) -> float:
    below = total(outcomes, *second, stratum)
    return (total(outcomes, *first, stratum) / below) ** power if below > 0 else math.nan


def crps_of(name: str) -> str:
    return "gaussian" if name == "pykrige" else "ensemble"


Figure = Callable[[Sequence[Outcome]], float]


def rmse_against(peer: str, stratum: int = 0) -> Figure:
    return lambda o: quotient(o, ("auto", "square"), (peer, "square"), 0.5, stratum)


def gaps_against(peer: str) -> Figure:
    """Geometric mean over the gaps: each counts alike, where squares make one large gap most of the sum."""
    ratio = rmse_against(peer)
    return lambda o: math.exp(np.mean([math.log(ratio([one])) for one in o]))


def crps_against(peer: str, field: str) -> Figure:
    return lambda o: quotient(o, ("auto", "ensemble"), (peer, field))


def share_inside(stratum: int) -> Figure:
    return lambda o: quotient(o, ("auto", "inside90"), ("auto", "count"), 1.0, stratum)


def texture(name: str, member: bool) -> Figure:
    def decibels(outcomes: Sequence[Outcome]) -> float:
        own = [(o.methods[name], o.truth_power) for o in outcomes]
        power = [m.member_power if member else m.value_power for m, _ in own]
        return log_spectral_distance(np.sum(power, axis=0), np.sum([t for _, t in own], axis=0))

    return decibels


def steeper(sums: Sequence[np.ndarray]) -> float:
    across, lines, elsewhere, others = np.sum(sums, axis=0)
    return float(across / lines / (elsewhere / others)) if lines and elsewhere else math.nan


def seam(outcomes: Sequence[Outcome]) -> float:
    return steeper([o.methods["auto"].seam for o in outcomes]) / seam_of_truth(outcomes)


def seam_of_truth(outcomes: Sequence[Outcome]) -> float:
    return steeper([o.truth_seam for o in outcomes])


def interval(groups: Groups, figures: Mapping[str, Figure], draws: int = 400) -> tuple[float, float, float]:
    """Mean over kinds of each kind's own figure, gaps drawn with replacement within kinds."""
    rng = np.random.default_rng(0)

    def mean(pick: Callable[[Sequence[Outcome]], Sequence[Outcome]]) -> float:
        found = [figures[kind](pick(own)) for kind, own in groups.items()]
        return float(np.mean([x for x in found if math.isfinite(x)] or [math.nan]))

    def again(own: Sequence[Outcome]) -> Sequence[Outcome]:
        return [own[i] for i in rng.integers(len(own), size=len(own))]

    drawn = [mean(again) for _ in range(draws)]
    low, high = np.nanquantile(drawn, (0.025, 0.975)) if np.isfinite(drawn).any() else (math.nan, math.nan)
    return mean(lambda own: own), float(low), float(high)


def pooled(groups: Groups, figure: Figure) -> tuple[float, float, float]:
    everything = {"all": [o for own in groups.values() for o in own]}
    return interval(everything, {"all": figure})


def must_show(groups: Groups) -> list[tuple[str, str, tuple[float, float, float]]]:
    """Figure, what is asked for, and the measured estimate with its interval."""
    rows: list[tuple[str, str, tuple[float, float, float]]] = []

    def each(label: str, asked: str, figures: Mapping[str, Figure], names: Mapping[str, str]) -> None:
        rows.append((f"{label}, mean over kinds", asked, interval(groups, figures)))
        for kind, own in groups.items():
            rows.append((f"  {kind} ({names[kind]})", "", interval({kind: own}, figures)))

    for stratum, label, asked in ((0, "RMSE value / best classical peer", "<= .95"), (NEAR, "within 4 px", "<= .95")):
        near = {k: [o for o in own if o.methods["auto"].sums[stratum, 0] > 0] for k, own in groups.items()}
        peer = {k: best(own, CLASSICAL, lambda _: "square", stratum) for k, own in near.items()}
        each(label, asked, {k: rmse_against(p, stratum) for k, p in peer.items()}, peer)
    alike = {k: max(CLASSICAL, key=lambda n: gaps_against(n)(own)) for k, own in groups.items()}
    ratios = {k: gaps_against(p) for k, p in alike.items()}
    each("RMSE value / best classical peer, each gap alike", "<= .95", ratios, alike)
    prior = dict.fromkeys(groups, PRIOR)
    each("RMSE value / stacked prior alone", "<= 1.00 each", dict.fromkeys(groups, rmse_against(PRIOR)), prior)
    sure = {k: best(own, CLASSICAL, lambda _: "absolute") for k, own in groups.items()}
    each(
        "CRPS of draws / MAE of best deterministic peer",
        "<= .73",
        {k: crps_against(p, "absolute") for k, p in sure.items()},
        sure,
    )
    unsure = {k: best(own, PROBABILISTIC, crps_of) for k, own in groups.items()}
    each(
        "CRPS of draws / best probabilistic peer",
        "<= .97",
        {k: crps_against(p, crps_of(p)) for k, p in unsure.items()},
        unsure,
    )
    for index, name in enumerate(STRATA[1:8], 1):
        if any(o.methods["auto"].sums[index, 0] for own in groups.values() for o in own):
            rows.append((f"coverage of 90 %, {name}", ".86-.94", pooled(groups, share_inside(index))))
    one = lambda o: quotient(o, ("auto", "member_square"), ("auto", "square"), 0.5)  # noqa: E731
    rows.append(("RMSE of one member / of the value", "1.2-1.5", pooled(groups, one)))
    rows += [
        (f"worst octave of one draw, dB: {name}", "<= 1.5", pooled(groups, texture(name, member=True)))
        for name in ("auto", "diffusion", NULL)
    ]
    rows += [
        (f"worst octave of the value, dB: {name}", "", pooled(groups, texture(name, member=False)))
        for name in ("auto", PRIOR, *CLASSICAL)
    ]
    rows.append(("gradient across window edges / elsewhere, over the truth's", ".98-1.02", pooled(groups, seam)))
    rows.append(("the truth's", "", pooled(groups, seam_of_truth)))
    asked = [o for own in groups.values() for o in own if "repaint" in o.methods]
    for name in ("repaint", "dps"):
        if asked:
            figure: Figure = lambda o, n=name: quotient(o, ("auto", "ensemble"), (n, "ensemble"))  # type: ignore[misc]  # noqa: E731
            calls = max(o.methods[name].calls for o in asked)
            rows.append(
                (f"CRPS of draws / {name} at {calls} calls ({len(asked)} gaps)", "<= 1", pooled({"": asked}, figure))
            )
    return rows


def main() -> None:
    """Run everyone and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaps", type=int, default=4, help="of each kind, two a plane")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--guided", default="optical,msl", help="kinds on one gap of which RePaint and DPS answer")
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--model", default="default")
    parser.add_argument("--published", action="store_true", help="RePaint and DPS with the settings of their papers")
    parser.add_argument("--json", type=Path, help="where figures and rows go")
    given = parser.parse_args()
    began = time.perf_counter()
    groups = outcomes_of(given)
    everything = [o for own in groups.values() for o in own]
    rows, figures = league(everything), must_show(groups)
    pixels = sum(o.pixels for o in everything)
    print(as_text(f"validation part: {len(everything)} gaps, {pixels:,} hidden values, units: robust sd", rows))
    print(f"\n{'figure':78s} {'asked':>13s}  measured (95 %)")
    for label, asked, (estimate, low, high) in figures:
        print(f"{label:78s} {asked:>13s}  {estimate:.3f} ({low:.3f} to {high:.3f})")
    calls, theirs = everything[0].methods["auto"].calls, RePaint().calls
    label = "network calls of RePaint at its defaults / of a member"
    print(f"{label:78s} {'>= 100':>13s}  {theirs} / {calls} = {theirs / calls:.0f}")
    print(f"{len(everything)} gaps, {given.draws} draws, {time.perf_counter() - began:.0f} s; model {given.model}")
    if given.json:
        facts = {"figures": figures, "rows": [row.facts() for row in rows], "csv": as_csv(rows)}
        given.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
