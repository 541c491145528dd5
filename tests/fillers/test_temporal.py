"""What every temporal filler promises, and what each is exact for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geodiff.fillers import CODES, Filled, Fitted, Patch, SceneSample, Trial, load_filler, temporal
from geodiff.fillers.temporal import _one_a_date
from tests.fillers.patches import DAY, HALO, SIDE, a_patch, a_stack, months

NAMES = ["linear-time", "harmonic", "whittaker", "climatology", "spacetime", "regression", "dineof"]
SMOOTH = ["linear-time", "whittaker", "spacetime", "regression"]


def a_trial(seed: int, target: int) -> Trial:
    values, known, dates = a_stack(seed=seed)
    hole = np.zeros_like(known[0])
    hole[HALO + 10 : HALO + 30, HALO + 12 : HALO + 34] = True
    hidden = hole & known[target]
    left = known.copy()
    left[target] &= ~hidden
    patch = a_patch(values, left, dates, target)
    return Trial(patch, values[target][patch.core][None, None], hidden[patch.core][None, None])


def filled(name: str, patch: Patch) -> Filled:
    filler = load_filler(name)
    return filler.fill([patch], filler.fit(SceneSample()), seed=0)[0]


@pytest.fixture(scope="module")
def fits() -> dict[str, Fitted]:
    sample = SceneSample(tuple(a_trial(seed, 2 + seed % 5) for seed in range(4)), 1)
    return {name: load_filler(name).fit(sample) for name in NAMES}


# every one of them


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_finite_and_say_who_gave_them(name: str) -> None:
    answer = filled(name, a_patch(*a_stack()))
    assert answer.value.shape == (1, 1, SIDE, SIDE)
    assert answer.members is None
    assert np.isfinite(answer.value).all()
    assert (answer.standard_error > 0).all()
    assert set(np.unique(answer.source)) <= {CODES[name], CODES["laplace"]}
    assert (answer.source == CODES[name]).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_only_known_pixels_count(name: str) -> None:
    """What stands where nothing is known has no influence."""
    values, known, dates = a_stack()
    patch = a_patch(values, known, dates)
    spoiled = replace(patch, values=np.where(patch.known, patch.values, np.float32(7)))
    np.testing.assert_array_equal(filled(name, patch).value, filled(name, spoiled).value)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_dates_does_not_matter(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack()
    order = np.random.default_rng(3).permutation(len(dates))
    shuffled = a_patch(values[order], known[order], dates[order], int(np.flatnonzero(order == 4)[0]))
    filler = load_filler(name)
    one, other = filler.fill([a_patch(values, known, dates), shuffled], fits[name], seed=0)
    np.testing.assert_array_equal(one.value, other.value)


@pytest.mark.parametrize("name", NAMES)
def test_patches_in_one_call_do_not_meet(name: str, fits: dict[str, Fitted]) -> None:
    first, second = a_patch(*a_stack(seed=1)), a_patch(*a_stack(seed=2), target=0)
    filler = load_filler(name)
    together = filler.fill([first, second], fits[name], seed=0)[1]
    alone = filler.fill([second], fits[name], seed=5)[0]
    np.testing.assert_array_equal(together.value, alone.value)
    np.testing.assert_array_equal(together.standard_error, alone.standard_error)


@pytest.mark.parametrize("name", NAMES)
def test_a_date_that_shows_nothing_changes_nothing(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack()
    with_empty = a_patch(
        np.insert(values, 2, 0, axis=0), np.insert(known, 2, False, axis=0), np.insert(dates, 2, dates[2] - DAY), 5
    )
    filler = load_filler(name)
    np.testing.assert_array_equal(
        filler.fill([a_patch(values, known, dates)], fits[name], seed=0)[0].value,
        filler.fill([with_empty], fits[name], seed=0)[0].value,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dates", [1, 2, 3])
def test_few_dates_are_enough(name: str, dates: int) -> None:
    values, known, days = a_stack(dates)
    answer = filled(name, a_patch(values, known, days, dates - 1))
    assert np.isfinite(answer.value).all()
    assert np.isfinite(answer.standard_error).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_single_date_is_filled_harmonically_and_says_so(name: str) -> None:
    patch = a_patch(*a_stack(1), target=0)
    answer, harmonic = filled(name, patch), filled("laplace", patch)
    assert (answer.source == CODES["laplace"]).all()
    np.testing.assert_array_equal(answer.value, harmonic.value)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_known_anywhere_gives_the_coarse_fill(name: str) -> None:
    values, known, dates = a_stack()
    patch = replace(a_patch(values, np.zeros_like(known), dates), coarse=np.full(values[:, None].shape, 3, np.float32))
    np.testing.assert_array_equal(filled(name, patch).value, np.float32(3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dates", ["duplicate", "all the same"])
def test_dates_may_repeat(name: str, dates: str) -> None:
    values, known, days = a_stack()
    days[5] = days[4]
    answer = filled(name, a_patch(values, known, days if dates == "duplicate" else np.zeros_like(days)))
    assert np.isfinite(answer.value).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_wholly_missing_date_is_better_than_the_mean(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack(seed=1)
    known[4] = False
    patch = a_patch(values, known, dates)
    answer = load_filler(name).fill([patch], fits[name], seed=0)[0]
    truth = values[4][patch.core]
    assert np.sqrt(np.mean((answer.value[0, 0] - truth) ** 2)) < 0.8 * truth.std()
    assert (answer.standard_error > 0).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dineof"])  # whose modes belong to a band
def test_several_bands_are_filled_each_by_itself(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack()
    one = a_patch(values, known, dates)
    two = replace(
        one,
        **{f: np.concatenate([getattr(one, f)] * 2, axis=1) for f in ("values", "known", "fillable", "coarse")},
    )
    filler = load_filler(name)
    both, alone = (filler.fill([p], fits[name], seed=0)[0].value for p in (two, one))
    np.testing.assert_array_equal(both, np.concatenate([alone] * 2, axis=1))


@pytest.mark.parametrize("name", SMOOTH)
def test_values_and_days_have_no_zero(name: str, fits: dict[str, Fitted]) -> None:
    """Adding a constant to all values adds it to the fill; moving all dates changes nothing."""
    values, known, dates = a_stack()
    filler = load_filler(name)
    here = a_patch(values, known, dates)
    moved = a_patch(values + np.float32(2), known, dates + 400 * DAY)
    first, second = (filler.fill([p], fits[name], seed=0)[0].value for p in (here, moved))
    np.testing.assert_allclose(second, first + 2, atol=5e-3)


@pytest.mark.parametrize("name", ["linear-time", "whittaker", "spacetime", "regression"])
def test_far_dates_beyond_the_context_do_not_count(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack(40)
    filler = load_filler(name)
    near = slice(0, filler.context_dates + 1)
    whole = filler.fill([a_patch(values, known, dates, 0)], fits[name], seed=0)[0]
    part = filler.fill([a_patch(values[near], known[near], dates[near], 0)], fits[name], seed=0)[0]
    np.testing.assert_array_equal(whole.value, part.value)


@pytest.mark.parametrize("name", NAMES)
def test_values_asked_for_alone_are_those_with_errors(name: str, fits: dict[str, Fitted]) -> None:
    values, known, dates = a_stack()
    known[:, :40, :40] = False
    patch, filler = a_patch(values, known, dates), load_filler(name)
    whole = filler.fill([patch], fits[name], seed=0)[0]
    again = replace(patch)  # nothing kept of the first
    assert np.array_equal(filler.estimate(again, fits[name])[again.missing], whole.value[patch.missing])
    assert np.array_equal(filler.source(again, fits[name])[again.missing], whole.source[patch.missing])


def test_where_no_other_date_knows_a_pixel_linear_in_time_is_the_harmonic_fill() -> None:
    """A date that shows one corner only is no reason to fill the opposite one from there."""
    values, known, dates = a_stack(2)
    known[0] = False
    known[0, :20, :20] = True
    values[0] += 50  # so that what is spread from its corner would be seen
    filled_in = filled("linear-time", a_patch(values, known, dates, 1))
    plain = filled("laplace", a_patch(values[1:], known[1:], dates[1:], 0))
    unseen = ~known[0][HALO:-HALO, HALO:-HALO]
    missing = ~known[1][HALO:-HALO, HALO:-HALO]
    assert (unseen & missing).sum() > 100
    far = unseen & missing
    assert np.abs(filled_in.value - plain.value)[0, 0][far].max() < 3.0
    assert (filled_in.source[0, 0][far] == CODES["laplace"]).all()
    seen = missing & ~unseen
    assert np.abs(filled_in.value[0, 0] - values[0][HALO:-HALO, HALO:-HALO])[seen].max() == 0


def test_regression_beats_linear_in_time_on_trials_it_never_saw(fits: dict[str, Fitted]) -> None:
    errors = {}
    for name in ("linear-time", "regression"):
        trials = [a_trial(seed, 4) for seed in (11, 12, 13)]
        answers = load_filler(name).fill([t.patch for t in trials], fits[name], seed=0)
        errors[name] = np.concatenate([(a.value - t.truth)[t.hidden] for a, t in zip(answers, trials, strict=True)])
    assert np.mean(errors["regression"] ** 2) < 0.8 * np.mean(errors["linear-time"] ** 2)


@pytest.mark.parametrize("name", NAMES)
def test_standard_errors_hold_what_they_promise(name: str) -> None:
    sample = SceneSample(tuple(a_trial(seed, 1 + seed % 7) for seed in range(8)), 1)
    filler = load_filler(name)
    fitted = filler.fit(sample)
    trials = [a_trial(seed, 1 + seed % 7) for seed in range(20, 25)]
    inside = [
        np.abs(a.value - t.truth)[t.hidden] <= 1.645 * a.standard_error[t.hidden]
        for a, t in zip(filler.fill([t.patch for t in trials], fitted, seed=0), trials, strict=True)
    ]
    assert 0.8 <= np.concatenate(inside).mean() <= 0.98


# what each is exact for


def test_a_lost_date_is_judged_by_one_trial_of_each_date() -> None:
    trials = [a_trial(seed, target) for seed, target in ((0, 2), (0, 2), (0, 5), (0, 5), (0, 5))]
    small = replace(trials[0], hidden=trials[0].hidden & (np.arange(SIDE) < 20))
    apart = _one_a_date([small, *trials[1:]])
    assert [t.patch.targets[0] for t in apart] == [2, 5]
    assert apart[0] is trials[1], "the one that judges more"
    undated = [replace(t, patch=replace(t.patch, dates=np.zeros_like(t.patch.dates))) for t in trials]
    assert _one_a_date(undated) == undated


def test_trials_of_one_date_do_not_outweigh_another() -> None:
    regression, first, other = load_filler("regression"), a_trial(0, 2), a_trial(0, 5)
    once = regression.fit(SceneSample((first, other), 1)).facts["alone"]
    many = regression.fit(SceneSample((*(first,) * 5, other), 1)).facts["alone"]
    assert once == pytest.approx(many)


def test_a_lost_date_is_judged_by_every_date_that_has_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts one in units of what interpolation in time misses: few dates tell little of how others are told."""
    asked = []
    monkeypatch.setattr(temporal, "_alone_weights", lambda products, _: asked.append(products[0, 0]) or {"linear": 1.0})
    load_filler("regression").fit(SceneSample(tuple(a_trial(seed, seed % 8) for seed in range(8)), 1))
    assert asked == pytest.approx([8.0])


def test_a_date_that_shows_nothing_is_told_by_all_dates_of_its_patch() -> None:
    """Those of the same season in other years among them, which are no neighbours."""
    values, days = months(31)
    known = np.ones((31, SIDE + 2 * HALO, SIDE + 2 * HALO), bool)
    known[14] = False
    patch = a_patch(np.tile(values, (1, 4, 4)), known, (DAY * days).astype(np.int64), 14)
    regression = load_filler("regression")
    lost, shown = (len(regression._series(patch, target, 0).days) for target in (14, 15))
    assert (lost, shown) == (31, 25)


def test_of_two_dates_a_third_keeps_what_they_share(rng: np.random.Generator) -> None:
    """Where two dates have nothing in common but their level, fine detail of either is no news of a third one."""
    planes = rng.normal(size=(3, SIDE + 2 * HALO, SIDE + 2 * HALO)) + np.array([0.0, 0.0, 0.2])[:, None, None]
    dates, trials = np.array([0, 10, 20]) * DAY, []
    for target, other in ((0, 1), (1, 0)):
        known = np.zeros((2, *planes.shape[1:]), bool)
        known[1] = True
        patch = a_patch(planes[[target, other]].astype(np.float32), known, dates[[target, other]], 0)
        trials.append(Trial(patch, planes[target][patch.core][None, None].astype(np.float32), patch.missing))
    regression = load_filler("regression")
    pair, more = (regression.fit(SceneSample(tuple(trials), 1, seen)) for seen in ((True, True, False), (True,) * 3))
    assert "broad" not in more.facts["alone"]
    known = np.ones(planes.shape, bool)
    known[2] = False
    lost = a_patch(planes.astype(np.float32), known, dates, 2)
    off = [regression.estimate(lost, fit)[0, 0] - planes[2][lost.core] for fit in (pair, more)]
    assert np.mean(off[0] ** 2) < 0.9 * np.mean(off[1] ** 2)
