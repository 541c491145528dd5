"""The stack: convex, not worse than its best part, calibrated, the same for a patch in any company."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from geodiff.fillers import CODES, Filled, Filler, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.correlated import date_wide
from geodiff.fillers.spatial import InverseDistance, Laplace, Matern, Nearest
from geodiff.fillers.stacked import Auto, Stacked, _active, _columns, priors_around
from geodiff.fillers.temporal import LinearTime, Regression
from geodiff.lattice import Window
from tests.fillers.patches import blobs, covered, rmse, rough

SIDE, HALO = 40, 12
FULL = SIDE + 2 * HALO
PRIORS = (Laplace(), InverseDistance(), Nearest(), Matern())


def trials_of(rng: np.random.Generator, count: int, *, exponent: float = 1.0, dates: int = 1) -> tuple[Trial, ...]:
    found = []
    for _ in range(count):
        truth = rough(rng, (dates, 2, FULL, FULL), exponent)
        known = ~blobs(rng, truth.shape, 0.2)
        zeros = np.zeros(truth.shape, np.float32)
        window = Window(0, 0, SIDE, SIDE)
        patch = Patch(
            np.where(known, truth, 0),
            known,
            np.ones_like(known),
            zeros,
            window,
            HALO,
            (0, 0),
            np.arange(dates) * 86_400,
        )
        rows, columns = patch.core
        found.append(Trial(patch, truth[:1, :, rows, columns], ~known[:1, :, rows, columns]))
    return tuple(found)


def scored(filled: list[Filled], trials: tuple[Trial, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, standard error and truth at the hidden pixels."""
    cut = [
        (f.value[t.hidden], f.standard_error[t.hidden], t.truth[t.hidden]) for f, t in zip(filled, trials, strict=True)
    ]
    value, error, truth = (np.concatenate(side) for side in zip(*cut, strict=True))
    return value, error, truth


@dataclass(frozen=True)
class Constant:
    """A filler of which the stack knows nothing but the Protocol."""

    level: float
    name: str = "constant"
    halo: int = 3
    width: float = 1.0
    needs_dates: bool = False

    def fit(self, sample: SceneSample) -> Fitted:
        return Fitted(self.name)

    def fill(self, patches, fitted, *, seed):
        shapes = [p.missing.shape for p in patches]
        return [
            Filled(
                np.full(s, self.level, np.float32), np.full(s, self.width, np.float32), None, np.full(s, 77, np.uint8)
            )
            for s in shapes
        ]


@dataclass(frozen=True)
class Drawn(Constant):
    """One that draws members around its own value."""

    name: str = "diffusion"

    def fill(self, patches, fitted, *, seed):
        filled = super().fill(patches, fitted, seed=seed)
        step = np.array([-1.0, 1.0], np.float32).reshape(2, 1, 1, 1, 1)
        return [replace(f, members=f.value + step * self.width) for f in filled]


@pytest.mark.parametrize("exponent", [0.8, 2.0])
def test_the_stack_is_not_worse_than_its_best_part(rng, exponent):
    trials, fresh = trials_of(rng, 8, exponent=exponent), trials_of(rng, 8, exponent=exponent)
    stack = Stacked(PRIORS)
    fitted = stack.fit(SceneSample(trials))
    fits = [p.tuned(SceneSample(trials)) for p in PRIORS]
    for some, allowed in ((trials, 1.01), (fresh, 1.03)):
        value, _, truth = scored(stack.fill([t.patch for t in some], fitted, seed=0), some)
        values = [[p.estimate(t.patch, fit) for t in some] for p, fit in zip(PRIORS, fits, strict=True)]
        best = min(rmse(np.concatenate([v[t.hidden] for v, t in zip(own, some, strict=True)]), truth) for own in values)
        assert rmse(value, truth) <= allowed * best


def test_weights_are_convex_and_told(rng):
    fitted = Stacked(PRIORS).fit(SceneSample(trials_of(rng, 4)))
    table = fitted.arrays["weights"]
    assert (table >= 0).all()
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    told = np.array(list(fitted.facts["weights"].values()))
    np.testing.assert_allclose(told.sum(axis=0), 1.0, atol=1e-3)
    assert "hidden pixels" in fitted.facts["weights_from"]
    assert set(fitted.parts) == {p.name for p in PRIORS}


def test_the_standard_error_covers_nine_tenths_of_fields_it_has_not_seen(rng):
    stack = Stacked(PRIORS[:3])
    fitted, fresh = stack.fit(SceneSample(trials_of(rng, 16))), trials_of(rng, 16)
    value, error, truth = scored(stack.fill([t.patch for t in fresh], fitted, seed=0), fresh)
    assert 0.85 <= covered(value, error, truth) <= 0.95


def test_the_answer_for_a_patch_does_not_depend_on_the_others(rng):
    trials = trials_of(rng, 3)
    stack = Stacked((*PRIORS, Constant(0.0)))
    fitted = stack.fit(SceneSample(trials))
    patches = [t.patch for t in trials]
    for patch, one in zip(patches, stack.fill(patches, fitted, seed=0), strict=True):
        (alone,) = stack.fill([patch], fitted, seed=0)
        np.testing.assert_array_equal(alone.value, one.value)
        np.testing.assert_array_equal(alone.standard_error, one.standard_error)
        np.testing.assert_array_equal(alone.source, one.source)


def test_parts_without_weight_are_not_run(rng, monkeypatch):
    trials = trials_of(rng, 12)
    stack = Stacked((Laplace(), Constant(40.0)))
    fitted = stack.fit(SceneSample(trials))
    assert not fitted.arrays["weights"][:, 1].any()
    monkeypatch.setattr(Constant, "fill", lambda *a, **k: pytest.fail("a part without weight was run"))
    (filled,) = stack.fill([trials[0].patch], fitted, seed=0)
    assert (filled.source == CODES["laplace"]).all()


def test_a_part_is_asked_only_where_it_has_a_say(rng, monkeypatch):
    far, near = trials_of(rng, 2)
    for trial, size in ((far, 60), (near, 6)):
        trial.patch.known[:] = True
        trial.patch.known[..., 30 : 30 + size, 30 : 30 + size] = False
    stack = Stacked((Laplace(), Constant(5.0)))
    fitted = stack.fit(SceneSample(trials_of(rng, 4)))
    table = np.zeros_like(fitted.arrays["weights"])
    table[:, 0] = 1.0
    table[4::5] = 0.3, 0.7  # beyond 16 pixels from data
    fitted = replace(fitted, arrays={**fitted.arrays, "weights": table}, facts={**fitted.facts, "scale": "whitening"})
    asked: list[int] = []
    plain = Constant.fill

    def watched(self, patches, *rest, **options):
        asked.append(len(patches))
        return plain(self, patches, *rest, **options)

    monkeypatch.setattr(Constant, "fill", watched)
    both = stack.fill([near.patch, far.patch], fitted, seed=0)
    assert asked == [1]
    assert not (both[0].source[near.patch.missing] == 77).any()
    assert (both[1].source[far.patch.missing] == 77).any()
    (alone,) = stack.fill([near.patch], fitted, seed=0)
    assert asked == [1]
    np.testing.assert_array_equal(alone.value, both[0].value)


def test_the_source_is_the_part_of_the_largest_weight(rng):
    trials = trials_of(rng, 4)
    stack = Stacked((Laplace(), Constant(0.0)))
    fitted = stack.fit(SceneSample(trials))
    table = np.zeros_like(fitted.arrays["weights"])
    table[:, 0], table[:, 1] = 0.4, 0.6
    (filled,) = stack.fill([trials[0].patch], replace(fitted, arrays={**fitted.arrays, "weights": table}), seed=0)
    assert (filled.source == 77).all()
    laplace = Laplace().estimate(trials[0].patch, Fitted("laplace"))
    np.testing.assert_allclose(filled.value, np.float32(0.4) * laplace, atol=1e-6)


def test_without_trials_the_stored_weights_serve_and_the_fit_says_so(rng):
    stack = Stacked(PRIORS)
    fitted = stack.fit(SceneSample())
    assert "stored defaults" in fitted.facts["weights_from"]
    (filled,) = stack.fill([trials_of(rng, 1)[0].patch], fitted, seed=0)
    assert np.isfinite(filled.value).all()
    assert (filled.standard_error > 0).all()


def test_parts_that_need_other_dates_join_where_there_are_some(rng):
    stack = Stacked((Laplace(), Constant(0.0, needs_dates=True)))
    assert stack.fit(SceneSample(trials_of(rng, 3))).facts["parts"] == ["laplace"]
    assert stack.fit(SceneSample(trials_of(rng, 3, dates=2))).facts["parts"] == ["laplace", "constant"]


def test_a_part_that_learns_is_weighed_on_trials_it_did_not_see(rng):
    seen: list[set[int]] = []

    @dataclass(frozen=True)
    class Memory(Constant):
        """Knows the truth of the trials it was fitted on by heart, and nothing else."""

        name: str = "memory"

        def fit(self, sample: SceneSample) -> Fitted:
            seen.append({id(t) for t in sample.trials})
            return Fitted(self.name, {}, {str(t.patch.values.sum()): t.truth for t in sample.trials})

        def fill(self, patches, fitted, *, seed):
            filled = super().fill(patches, fitted, seed=seed)
            known = [fitted.arrays.get(str(p.values.sum())) for p in patches]
            return [f if k is None else replace(f, value=k) for f, k in zip(filled, known, strict=True)]

    trials = trials_of(rng, 12)
    fitted = Stacked((Laplace(), Memory(30.0))).fit(SceneSample(trials))
    assert not fitted.arrays["weights"][:, 1].any()
    assert len(seen) == 3
    assert not seen[1] & seen[2]


def test_the_default_stack_looks_at_other_dates_only_where_there_are_some(rng):
    stack = Stacked(priors_around(Constant(0.0, name="diffusion")))
    assert all(isinstance(part, Filler) and part.name in CODES for part in stack.fillers)
    assert stack.context_dates > 0
    single = stack.fit(SceneSample(trials_of(rng, 2)))
    assert not {"regression", "spacetime"} & set(single.facts["parts"])


def test_a_stack_of_dates_is_filled_from_them(rng):
    trials = trials_of(rng, 8, dates=4)
    steady = tuple(_with_steady_dates(t) for t in trials)
    stack = Stacked(priors_around(Constant(0.0, name="diffusion")))
    fitted = stack.fit(SceneSample(steady))
    value, _, truth = scored(stack.fill([t.patch for t in steady], fitted, seed=0), steady)
    harmonic = [Laplace().estimate(t.patch, Fitted("laplace")) for t in steady]
    alone = np.concatenate([h[t.hidden] for h, t in zip(harmonic, steady, strict=True)])
    assert rmse(value, truth) < 0.5 * rmse(alone, truth)


def _with_steady_dates(trial: Trial) -> Trial:
    """The trial with other dates that show its truth, moved by a constant."""
    patch, full = trial.patch, rough(np.random.default_rng(1), trial.patch.values.shape, 1.0)
    full[:] = full[:1]
    full += np.arange(len(full), dtype=np.float32)[:, None, None, None]
    values = np.where(patch.known, full, 0)
    return replace(trial, patch=replace(patch, values=values), truth=full[:1][..., *patch.core])


def _with_its_date_lost(trial: Trial, day: int) -> Trial:
    """The trial with nothing of its date shown, and the date another one."""
    known = trial.patch.known.copy()
    known[0] = False
    dates = trial.patch.dates + 100 * day * 86_400
    patch = replace(trial.patch, known=known, values=np.where(known, trial.patch.values, 0), dates=dates)
    judged = np.zeros_like(trial.hidden)
    judged[..., 1::3, 1::3] = True
    return replace(trial, patch=patch, hidden=judged)


@dataclass(frozen=True)
class Beside(Constant):
    """A part that a stack takes only where it helps: what `level` says, or the truth where `right`."""

    name: str = "beside"
    must_earn: bool = True
    right: bool = False

    def estimate(self, patch: Patch, fitted: Fitted) -> np.ndarray:
        truth = patch.values[1:2][..., *patch.core] - 1  # as `_with_steady_dates` moves the other dates
        return truth if self.right else np.full_like(truth, self.level)

    def source(self, patch: Patch, fitted: Fitted) -> np.ndarray:
        return np.full(patch.missing.shape, 77, np.uint8)

    def fill(self, patches, fitted, *, seed):
        values = [self.estimate(p, fitted) for p in patches]
        return [Filled(v, np.ones_like(v), None, np.full(v.shape, 77, np.uint8)) for v in values]


@pytest.mark.parametrize("right", [False, True])
def test_a_part_that_must_earn_its_place_leaves_a_stack_as_it_is_where_it_does_not(rng, right):
    steady = [_with_steady_dates(t) for t in trials_of(rng, 8, dates=3)]
    trials = tuple(replace(t, patch=_all_shown(t.patch)) for t in steady)
    parts = (Laplace(), InverseDistance())
    plain = Stacked(parts).fit(SceneSample(trials))
    more = Stacked((*parts, Beside(3.0, right=right)))
    fitted = more.fit(SceneSample(trials))
    assert ("beside" in fitted.facts["parts"]) == right
    value, _, truth = scored(more.fill([t.patch for t in trials], fitted, seed=0), trials)
    before, _, _ = scored(Stacked(parts).fill([t.patch for t in trials], plain, seed=0), trials)
    if right:
        assert rmse(value, truth) < 0.5 * rmse(before, truth)
    else:
        np.testing.assert_array_equal(value, before)
        np.testing.assert_array_equal(fitted.arrays["factors"], plain.arrays["factors"])


def _all_shown(patch: Patch) -> Patch:
    """The patch with all that the second date shows where the first does not."""
    known, values = patch.known.copy(), patch.values.copy()
    full = rough(np.random.default_rng(1), patch.values.shape, 1.0)[:1] + 1
    known[1], values[1] = True, full[0]
    return replace(patch, known=known, values=values)


def test_a_part_that_must_earn_its_place_is_not_taken_on_the_word_of_few_trials(rng):
    trials = [_with_steady_dates(t) for t in trials_of(rng, 4, dates=3)]
    trials = tuple(replace(t, patch=_all_shown(t.patch)) for t in trials)
    fitted = Stacked((Laplace(), Beside(0.0, right=True))).fit(SceneSample(trials))
    assert "beside" not in fitted.facts["parts"]


def test_lost_dates_have_weights_and_a_factor_of_their_own(rng):
    steady = [_with_steady_dates(t) for t in trials_of(rng, 9, dates=4)]
    lost = [_with_its_date_lost(t, day) for day, t in enumerate(steady[:4])]
    stack = Stacked(priors_around(Constant(0.0, name="diffusion")))
    fitted = stack.fit(SceneSample((*steady[4:8], *lost)))
    weights = dict(zip(fitted.facts["parts"], fitted.arrays["lost_weights"], strict=True))
    assert sum(weights.values()) == pytest.approx(1.0)
    assert not weights["laplace"]
    assert not weights["diffusion"], "what looks at no other date knows nothing of a lost one"
    new = _with_its_date_lost(steady[8], 9)
    value, error, truth = scored(stack.fill([new.patch], fitted, seed=0), (new,))
    assert np.mean(np.abs(value - truth) <= 1.645 * error) > 0.85, "the other dates are off by one a day"
    shown = replace(fitted, arrays={**fitted.arrays, "lost_factor": 100.0, "lost_weights": np.eye(len(weights))[0]})
    before, after = (stack.fill([steady[8].patch], fit, seed=0)[0] for fit in (fitted, shown))
    np.testing.assert_array_equal(before.value, after.value, "a date that shows something does not ask them")
    np.testing.assert_array_equal(before.standard_error, after.standard_error)


def test_far_from_the_corner_that_a_date_shows_it_is_told_as_a_lost_one(rng):
    steady = [_with_steady_dates(t) for t in trials_of(rng, 5, dates=4)]
    lost = [_with_its_date_lost(t, day) for day, t in enumerate(steady[:4])]
    fitted = Stacked(priors_around(Constant(0.0, name="diffusion"))).fit(SceneSample((*steady[:4], *lost)))
    of_lost = np.array([float(name == "linear-time") for name in fitted.facts["parts"]])
    fitted = replace(fitted, arrays={**fitted.arrays, "lost_weights": of_lost})
    patch, seen = steady[4].patch, np.zeros((FULL, FULL), bool)
    seen[:20, :20] = True
    fields = {}
    for name, known in {"corner": seen, "nothing": np.zeros_like(seen), "half": np.indices(seen.shape)[0] < 32}.items():
        shown = patch.known.copy()
        shown[0] = known
        fields[name] = _columns(fitted, _active(fitted)).fields(replace(patch, known=shown))[:, 0, 0]
    np.testing.assert_array_equal(fields["corner"][:, -1, -1], fields["nothing"][:, -1, -1])
    np.testing.assert_allclose(fields["corner"].sum(axis=0), 1.0, atol=1e-5)
    assert np.abs(fields["corner"] - fields["nothing"])[:, 10, 10].max() > 0.05, "near it it is not"
    assert np.abs(fields["half"] - fields["nothing"])[:, -1, -1].max() > 0.05, "nor where half is known"


def test_a_fit_without_lost_dates_has_nothing_to_say_of_them(rng):
    trials = trials_of(rng, 4)
    fitted = Stacked((Laplace(), Constant(0.0))).fit(SceneSample(trials))
    assert not {"lost_weights", "lost_factor"} & set(fitted.arrays)


@pytest.fixture
def auto() -> Auto:
    network = Constant(0.0, name="diffusion", width=0.5)
    return Auto(Stacked((Laplace(), network), fixed=frozenset({"diffusion"})), Drawn(0.0, width=0.5))


def test_auto_is_a_filler_that_draws_its_members_around_its_value(rng, auto):
    assert isinstance(auto, Filler)
    trials = trials_of(rng, 10)
    fitted = auto.fit(SceneSample(trials))
    assert fitted.filler == "auto"
    (filled,) = auto.fill([trials[0].patch], fitted, seed=0)
    assert filled.members.shape == (2, *filled.value.shape)
    np.testing.assert_allclose(filled.members.mean(axis=0), filled.value, atol=1e-5)


def test_members_of_a_lost_date_depart_from_the_value_as_a_whole_too(rng, auto):
    trial = trials_of(rng, 1, dates=4)[0]
    fitted = auto.fit(SceneSample(trials_of(rng, 10)))
    parts = {**fitted.parts, "diffusion": Fitted("diffusion", {"memory": 0.0})}
    fit = replace(fitted, parts=parts, arrays={**fitted.arrays, "lost_common": np.float32(0.5)})
    lost = _with_its_date_lost(trial, 1).patch
    before, after = (auto.fill([lost], f, seed=0)[0] for f in (replace(fit, arrays=fitted.arrays), fit))
    np.testing.assert_array_equal(after.value, before.value)
    np.testing.assert_array_equal(after.standard_error, before.standard_error)
    moved = after.members - after.value - np.sqrt(0.5) * (before.members - before.value)
    for band in range(2):
        numbers = date_wide(lost, (0, band), parts["diffusion"], 2, seed=0)[:, None, None]
        np.testing.assert_allclose(
            moved[:, 0, band] / numbers, float(moved[0, 0, band, 0, 0] / numbers[0, 0, 0]), rtol=1e-4
        )
        assert moved[0, 0, band, 0, 0] / numbers[0, 0, 0] > 0.1
    for seen in (trial.patch, replace(lost, targets=(1,))):
        np.testing.assert_array_equal(*(auto.fill([seen], f, seed=0)[0].members for f in (fit, fitted)))


def departures(auto: Auto, trials: tuple[Trial, ...], fitted: Fitted) -> np.ndarray:
    """Half of what lies between two members, at the hidden pixels."""
    made = auto.fill([t.patch for t in trials], fitted, seed=0)
    return np.concatenate([(f.members[1] - f.members[0])[t.hidden] / 2 for f, t in zip(made, trials, strict=True)])


def test_members_are_as_far_from_the_value_as_the_truth_is(rng, auto):
    trials = trials_of(rng, 10)
    fitted = auto.fit(SceneSample(trials))
    value, _, truth = scored(auto.stack.fill([t.patch for t in trials], fitted, seed=0), trials)
    half = np.abs(departures(auto, trials, fitted)).mean()
    assert half == pytest.approx(np.abs(value - truth).mean() / 0.78, rel=0.25)
    untold = auto.fit(SceneSample())
    np.testing.assert_allclose(departures(auto, trials[:1], untold), 0.5, rtol=0.01)


def test_in_a_stack_of_dates_members_follow_its_standard_error(auto):
    """Dates differ in how well the others tell them, and the network, which here says 0.5 throughout, does not know."""
    parts = (*auto.stack.fillers, LinearTime(), Regression())
    dated = replace(auto, stack=replace(auto.stack, fillers=parts))
    trials = trials_of(np.random.default_rng(5), 10, dates=3)
    fitted = dated.fit(SceneSample(trials))
    value, error, truth = scored(dated.stack.fill([t.patch for t in trials], fitted, seed=0), trials)
    half = np.abs(departures(dated, trials, fitted))
    assert error.std() > 0.1 * error.mean()
    assert np.corrcoef(half, error)[0, 1] > 0.9
    assert half.mean() == pytest.approx(np.abs(value - truth).mean() / 0.78, rel=0.3)


def test_autos_value_does_not_depend_on_whether_members_are_drawn(rng, auto):
    trials = trials_of(rng, 6)
    fitted = auto.fit(SceneSample(trials))
    patches = [t.patch for t in trials]
    still = Auto(auto.stack).fill(patches, fitted, seed=0)
    for with_members, without in zip(auto.fill(patches, fitted, seed=0), still, strict=True):
        assert without.members is None
        np.testing.assert_array_equal(with_members.value, without.value)
        np.testing.assert_array_equal(with_members.standard_error, without.standard_error)
