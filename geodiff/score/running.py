"""Everyone fills the same hidden pixels: geodiff's fillers as a fill would run them, peers plane by plane."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import Channels, in_channels
from geodiff.encoding import unpack
from geodiff.errors import InputError, NothingKnownError
from geodiff.estimate import estimate
from geodiff.fillers import Filled, Filler, FillerSettings, load_filler
from geodiff.fillers.whitening import distance_to_known
from geodiff.fitting import CubeFit, fit_cube, normalised_rounding
from geodiff.peers import Plane, Trial, Tuned, load_peers, tune
from geodiff.peers.null import NAME as NULL
from geodiff.score.drawing import Remembered
from geodiff.score.hiding import Case, Drawer, Part, Round, bounded, hide, plan_rounds, scan_part, signature
from geodiff.score.moments import Answer, Ground, Outcome, squares
from geodiff.score.pictures import judged, pictures_of
from geodiff.score.places import Place, Units, outcome_of, with_null

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.encoders import Encoder
    from geodiff.lattice import Window
    from geodiff.realism import Realism
    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["DRAWING", "GUIDED", "Budget", "Scored", "score_cube"]

logger = logging.getLogger(__name__)

Load = Callable[[str, FillerSettings], Filler]

DRAWING = ("auto", "diffusion")
"""Fillers whose draws are scored."""
GUIDED = ("repaint", "dps")
"""Peers of hundreds of network calls a draw."""
_MARGIN = 32
"""Pixels around a case that peers see; fillers have as many as their halo."""
_GROUP = 3
"""Draws asked for at once: from four on members are re-centred, and no longer independent."""
_SIDES = (32, 16)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is spent."""

    trials: int = 12
    draws: int = 8
    tuning: int = 8
    """Places on which peers are tuned."""
    guided_cases: int = 2
    guided_draws: int = 2
    guided: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"repaint": {"steps": 50, "jump": 5, "resamplings": 4}, "dps": {"steps": 100}}
    )
    """Settings of the guided peers below those of their papers, which cost thousands of calls; the table says which."""
    rounds: int = 3
    encoder: str = ""
    """Of the realism figures: texture or inception; none where it is empty."""

    @classmethod
    def quick(cls) -> Budget:
        """For a first look."""
        guided = {"repaint": {"steps": 20, "jump": 5, "resamplings": 2}, "dps": {"steps": 30}}
        return cls(trials=4, draws=3, tuning=3, guided_cases=1, guided_draws=2, guided=guided, rounds=2)


@dataclass(frozen=True)
class Scored:
    """One cube, scored."""

    name: str
    units: str
    outcomes: tuple[Outcome, ...]
    masks: str
    """Hash of what was hidden."""
    gaps: str
    """Where the gaps came from."""
    settings: Mapping[str, Any]
    """What each peer was tuned to, by round."""
    fit_seconds: Mapping[str, float]
    area: str
    """Which part of the scene was scored, in words."""
    realism: tuple[Realism, ...] = ()
    """Where it was asked for: how far each method's fills are from the truth in texture."""


def score_cube(
    cube: Cube,
    budget: Budget,
    *,
    fillers: Sequence[str],
    peers: Sequence[str],
    settings: FillerSettings | None = None,
    seed: int = 0,
    kind: str = "",
    drawer: Drawer | None = None,
    load: Load = load_filler,
    tick: Callable[[], None] = lambda: None,
) -> Scored:
    """Hide known pixels of a cube, let everyone fill them, and add the errors up.

    Parameters
    ----------
    drawer : draws the gaps, in place of the scene's own or the usual shapes.
    load : from a filler's name to the filler, where a bench wants one that has no name.
    tick : called after every fill.

    Raises
    ------
    NothingKnownError : not one pixel is known.
    InputError : too little is known to hide anything; or a peer is not installed.
    """
    loaded = load_peers([name for name in peers if name != NULL])
    encoder = _encoder(budget.encoder)
    part = bounded(cube)
    scan, gaps = scan_part(part)
    if scan.turns:  # of directions, their cosine and sine are hidden, filled and judged
        cube = in_channels(cube, scan.turns)
        part = bounded(cube)
        scan, gaps = scan_part(part)
    rounds = _rounds(part, scan, gaps, budget, seed, drawer)
    heard = _Heard(kind, next((n for n in (*DRAWING, *fillers) if n in fillers), None), encoder is not None)
    tuned: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for number, own in enumerate(rounds):
        runner = _Runner(part, scan, gaps, own, budget, settings or FillerSettings(), seed + 1000 * number, load)
        answers: list[dict[str, Answer]] = [{} for _ in own.cases]
        for name in fillers:
            spent = runner.filler(name, answers, tick)
            seconds[name] = seconds.get(name, 0.0) + spent
        chosen = {peer.name: runner.peer(peer, answers, len(heard.outcomes), tick) for peer in loaded}
        tuned[str(number)] = {n: {**t.setting, "spread": round(t.spread, 3)} for n, t in chosen.items()}
        heard.add(runner.places, answers)
    outcomes = heard.outcomes
    if NULL in peers:
        outcomes = with_null(outcomes, heard.bases, budget.draws, seed, tick)
    return Scored(
        cube.name,
        _unit_words(cube, scan.normalisations[0].transform),
        tuple(outcomes),
        signature([r.cases for r in rounds]),
        ", ".join(sorted({case.shape for r in rounds for case in r.cases})),
        tuned,
        seconds,
        _area(part),
        tuple(judged(heard.pictures, encoder)) if encoder is not None else (),
    )


def _rounds(
    part: Part, scan: Scan, gaps: GapReader, budget: Budget, seed: int, drawer: Drawer | None
) -> Sequence[Round]:
    """What is hidden, round by round; raises as `score_cube` does."""
    name = part.whole.name
    if not scan.known:
        raise NothingKnownError(f"{name}: none of its {scan.total:,} values is known, so nothing can be hidden")
    rounds = plan_rounds(
        part, gaps, trials=budget.trials, tuning=budget.tuning, seed=seed, most_rounds=budget.rounds, drawer=drawer
    )
    if not rounds:
        raise InputError(
            f"{name}: no place of its {part.shape[0]} x {part.shape[1]} pixels has enough known pixels (a fifth) "
            "to hide some and keep others; score a raster with more of them"
        )
    return rounds


@dataclass
class _Heard:
    """What is kept of the answers: sums, and of each case no more than what is asked of all cases together."""

    kind: str
    base: str | None
    """The filler whose values the null model begins from."""
    looks: bool
    """Whether the fills are looked at as pictures too."""
    outcomes: list[Outcome] = field(default_factory=list)
    bases: list[tuple[Place, NDArray[np.float32]]] = field(default_factory=list)
    pictures: list[Mapping[str, NDArray[np.float32]]] = field(default_factory=list)

    def add(self, places: Sequence[Place], answers: Sequence[Mapping[str, Answer]]) -> None:
        """The cases of one round."""
        for place, said in zip(places, answers, strict=True):
            self.outcomes.append(outcome_of(place, said, self.kind))
            if self.looks:
                self.pictures.append(pictures_of(place.ground, said))
            if self.base is not None:
                self.bases.append((place, said[self.base].value))


def _encoder(name: str) -> Encoder | None:
    """Opened before anything is filled: one that is not at hand is told at once."""
    if not name:
        return None
    from geodiff.diffusion.encoders import encoder_of

    return encoder_of(name)


def _unit_words(cube: Cube, transform: str) -> str:
    if len(cube.bands) > 1:
        of = "the cosine and sine of what goes round" if isinstance(cube, Channels) else "each band"
        return f"robust standard deviations of {of}"
    plain = cube.variable.bands[cube.bands[0]].units or str(cube.variable.attributes.get("units", ""))
    if transform == "linear":
        return plain or "those of the raster"
    return f"{'cube roots' if transform == 'cbrt' else 'log10'} of {plain or 'the raster'}"


def _area(part: Part) -> str:
    if part.shape == part.whole.shape:
        return "the whole raster"
    row, column = part.area.row, part.area.column
    return f"rows {row}:{row + part.shape[0]}, columns {column}:{column + part.shape[1]} (the raster is larger)"


class _Runner:
    """One round: the cube with its pixels hidden, and what is to be judged."""

    def __init__(
        self,
        part: Part,
        common: Scan,
        before: GapReader,
        own: Round,
        budget: Budget,
        settings: FillerSettings,
        seed: int,
        load: Load,
    ) -> None:
        self._load = load
        self._budget, self._settings, self._seed = budget, settings, seed
        self._cube = hide(part, np.asarray(before.outside), own.cases)
        self._scan, self._gaps = scan_part(self._cube)
        self._units = Units.of(self._scan.normalisations, common.normalisations)
        self._before = before
        self.places = [self._place(case) for case in own.cases]
        self._tuning = [trial for case in own.tuning for trial in self._trials(case)]
        self._memo: dict[bytes, Filled] = {}

    # -- what is there

    def _truth(self, date: int, window: Window) -> NDArray[np.float32]:
        """(band, row, column), normalised; 0 where nothing is stored."""
        planes = []
        stored = self._cube.read(date, window)
        for band, numbers, recipe in zip(self._cube.bands, stored, self._scan.normalisations, strict=True):
            physical, valid = unpack(numbers, self._cube.variable.bands[band].encoding)
            planes.append(np.where(valid, recipe.forward(np.where(valid, physical, recipe.centre)), 0))
        return np.asarray(np.nan_to_num(np.stack(planes)), np.float32)

    def _outer(self, window: Window) -> Window:
        outer = window.expand(_MARGIN).intersect(self._cube.lattice.extent)
        assert outer is not None
        return outer

    def _place(self, case: Case) -> Place:
        outer = self._outer(case.window)
        inner = case.window.within(outer)
        found = self._gaps.read(case.date, outer)
        truth, known = self._truth(case.date, outer), ~found.missing
        seen = ~self._before.read(case.date, case.window).missing
        hidden = seen & found.wanted[:, *inner] & case.hidden
        wanted = np.zeros(known.shape, bool)
        wanted[:, *inner] = hidden
        planes = tuple(Plane(np.where(k, t, np.float32(0)), k, w) for t, k, w in zip(truth, known, wanted, strict=True))
        side = next((s for s in _SIDES if squares(hidden, s)), _SIDES[-1])
        ground = Ground(
            self._units.value(truth[:, *inner]),
            hidden,
            distance_to_known(known)[:, *inner],
            self._days(case),
            float(1 - known[:, *inner].mean()),
            squares(hidden, side),
            side,
            self._cube.lattice.absolute(case.window),
        )
        when = self._cube.variable.dates[case.date]
        row, column = case.window.row, case.window.column
        day = "" if when is None else f"{str(when)[:10]}, "
        return Place(case, inner, planes, ground, f"{day}row {row}, column {column}", self._units)

    def _days(self, case: Case) -> NDArray[np.float64]:
        """(band, row, column): days to the nearest other date that shows the pixel."""
        seconds = self._cube.seconds
        days = np.full((len(self._cube.bands), *case.window.shape), np.inf)
        for date in range(len(seconds)):
            if date != case.date:
                apart = abs(int(seconds[date]) - int(seconds[case.date])) / 86400.0
                missing = self._gaps.read(date, case.window).missing
                np.minimum(days, np.where(missing, np.inf, apart), out=days)
        return days

    def _trials(self, case: Case) -> list[Trial]:
        """A tuning case: hidden from peers on top of what is hidden already."""
        outer = self._outer(case.window)
        inner = case.window.within(outer)
        truth, known = self._truth(case.date, outer), ~self._gaps.read(case.date, outer).missing
        trials = []
        for t, k in zip(truth, known, strict=True):
            wanted = np.zeros_like(k)
            wanted[inner] = case.hidden & k[inner]
            left = k & ~wanted
            if wanted.any() and left.any():
                trials.append(Trial(Plane(np.where(left, t, np.float32(0)), left, wanted), t))
        return trials

    # -- who answers

    def filler(self, name: str, answers: list[dict[str, Answer]], tick: Callable[[], None]) -> float:
        """Fit a filler on the hidden scene and fill every case; returns the seconds of the fit."""
        filler = self._load(name, replace(self._settings, members=0))
        began = time.perf_counter()
        fit = fit_cube(self._cube, self._scan, self._gaps, filler)
        spent = time.perf_counter() - began
        logger.debug("fitted %s in %.1f s", name, spent)
        for place, said in zip(self.places, answers, strict=True):
            began = time.perf_counter()
            value, error, _ = self._estimated(filler, fit, place.case, self._seed)
            seconds = time.perf_counter() - began
            drawing = name in DRAWING and self._budget.draws > 0
            draws = self._draws(filler, fit, place.case) if drawing else None
            calls = self._settings.steps if drawing else 0
            told, width = self._units.answer(value), self._units.error(error)
            said[name] = Answer(told, width, None if draws is None else self._units.answer(draws), seconds, calls)
            tick()
        return spent

    def _estimated(
        self, filler: Filler, fit: CubeFit, case: Case, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """Value and standard error (band, row, column), and members with one axis more."""
        blended, _ = estimate(self._cube, self._gaps, fit, filler, case.date, case.window, seed)
        assert blended is not None
        rounding = normalised_rounding(fit.rounding, fit.normalisations)
        error = np.hypot(blended.standard_error[0], rounding).astype(np.float32)
        return blended.value[0], error, None if blended.members is None else blended.members[:, 0]

    def _draws(self, filler: Filler, fit: CubeFit, case: Case) -> NDArray[np.float32]:
        """Independent draws as they are delivered: few members of several seeds."""
        from geodiff.fillers.diffusion import Diffusion
        from geodiff.fillers.stacked import Auto

        source = Remembered(Diffusion.configured(replace(self._settings, members=_GROUP)), self._memo)
        drawing: Filler = replace(filler, diffusion=source) if isinstance(filler, Auto) else source
        groups = -(-self._budget.draws // _GROUP)
        drawn = [self._estimated(drawing, fit, case, self._seed + 7 * g)[2] for g in range(groups)]
        return np.concatenate([d for d in drawn if d is not None])[: self._budget.draws]

    def peer(self, peer: Any, answers: list[dict[str, Answer]], first: int, tick: Callable[[], None]) -> Tuned:
        """Tune a peer and fill every case; the guided ones only the first few of all cases, in short versions."""
        guided = peer.name in GUIDED
        tuned = (
            Tuned(peer, {**peer.settings[0], **self._budget.guided[peer.name]}) if guided else tune(peer, self._tuning)
        )
        for index, (place, said) in enumerate(zip(self.places, answers, strict=True)):
            if not guided or first + index < self._budget.guided_cases:
                said[peer.name] = self._asked(tuned, place, self._budget.guided_draws)
            tick()
        return tuned

    def _asked(self, tuned: Tuned, place: Place, draws: int) -> Answer:
        began = time.perf_counter()
        guesses = [
            tuned.fill(p, draws=draws, seed=self._seed + i) if p.wanted.any() else None
            for i, p in enumerate(place.planes)
        ]
        seconds = time.perf_counter() - began
        some = next(g for g in guesses if g is not None)
        blank = np.zeros(place.planes[0].known.shape, np.float32)

        def stacked(get: Callable[[Any], Any], empty: NDArray[np.float32]) -> NDArray[np.float32] | None:
            if get(some) is None:
                return None
            return np.stack([empty if g is None else get(g) for g in guesses], axis=-3)[..., *place.inner]

        value = stacked(lambda g: g.value, blank)
        assert value is not None
        drawn = stacked(lambda g: g.draws, np.zeros((draws, *blank.shape), np.float32))
        error = stacked(lambda g: g.standard_error, blank)
        per_value = seconds / draws if some.draws is not None and draws else seconds
        return Answer(
            self._units.answer(value), self._units.error(error), None if drawn is None else self._units.answer(drawn),
            per_value, some.calls,
        )  # fmt: skip
