"""What every temporal filler promises, and what each is exact for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from geodiff.fillers import CODES, Filled, Fitted, Patch, SceneSample, Trial, load_filler, temporal
from geodiff.fillers.regression import one_date_regressions, regressors
from geodiff.fillers.series import (
    YEAR,
    Series,
    _pentadiagonal,
    _second_differences,
    by_nearness,
    climatology,
    harmonic,
    has_hours,
    interpolated,
    linear,
    screened,
    seasonal,
    spread,
    time_apart,
    whittaker,
)
from geodiff.fillers.spacetime import relaxed_in_time
from geodiff.fillers.temporal import _one_a_date
from geodiff.lattice import Window

DAY = 86_400
HALO, SIDE = 8, 48
NAMES = ["linear-time", "harmonic", "whittaker", "climatology", "spacetime", "regression", "dineof"]
SMOOTH = ["linear-time", "whittaker", "spacetime", "regression"]


def a_stack(dates: int = 9, seed: int = 0, share: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and known (date, row, column) with blobs missing, and days: a pattern that waxes and wanes, and noise."""
    random = np.random.default_rng(seed)
    size = SIDE + 2 * HALO
    days = np.arange(dates) * 8 + random.integers(0, 3, dates)
    patterns = 8 * gaussian_filter(random.standard_normal((2, size, size)), (0, 4, 4))
    time = np.stack([np.sin(days / 40), np.cos(days / 25)])
    noise = 0.6 * gaussian_filter(random.standard_normal((dates, size, size)), (0, 2, 2))
    values = np.tensordot(time.T, patterns, 1) + time[0][:, None, None] + noise
    blobs = gaussian_filter(random.standard_normal((dates, size, size)), (0, 5, 5))
    known = blobs > np.quantile(blobs, share)
    return values.astype(np.float32), known, days.astype(np.int64) * DAY


def a_patch(values: np.ndarray, known: np.ndarray, dates: np.ndarray, target: int = 4) -> Patch:
    held = known[:, None]
    return Patch(
        values=np.where(held, values[:, None], np.float32(0)),
        known=held,
        fillable=np.ones_like(held),
        coarse=np.zeros(held.shape, np.float32),
        window=Window(0, 0, SIDE, SIDE),
        halo=HALO,
        absolute=(0, 0),
        dates=dates,
        targets=(target,),
    )


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


def as_series(values: np.ndarray, known: np.ndarray, days: np.ndarray, target: int) -> Series:
    return Series(np.asarray(values, np.float32), np.asarray(known, bool), np.asarray(days, np.float64), target)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_linear_series_are_interpolated_exactly(seed: int) -> None:
    random = np.random.default_rng(seed)
    days = np.sort(random.choice(100, 7, replace=False)).astype(float)
    slope, level = random.normal(size=(2, 5, 6))
    values = level + slope * days[:, None, None] / 50
    known = random.random(values.shape) < 0.7
    known[[0, 6]] = True
    series = as_series(values, known, days, 3)
    np.testing.assert_allclose(linear(series), values[3], atol=1e-5)
    # The smoother keeps a ridge of a thousandth, which draws a slope to the mean by its share of the range.
    assert (np.abs(whittaker(series, 1e3) - values[3]) <= 0.02 * np.ptp(values, axis=0) + 1e-3).all()


def test_a_date_never_predicts_itself() -> None:
    values, known, seconds = a_stack()
    series = as_series(values, known, seconds / DAY, 4)
    before = interpolated(series, [2, 4])
    changed = values.copy()
    changed[4] += 5
    np.testing.assert_array_equal(interpolated(as_series(changed, known, seconds / DAY, 4), [2, 4]), before)
    changed[2] += 5
    np.testing.assert_array_equal(interpolated(as_series(changed, known, seconds / DAY, 4), [2])[0], before[0])


def months(count: int, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(month, row, column) that come and go with the year, each place in its own way, and days."""
    rng, days = np.random.default_rng(2), 30.4375 * np.arange(count) + 7_000
    phase, height = rng.uniform(0, 1, (16, 16)), rng.uniform(0.5, 2, (16, 16))
    wave = height * np.cos(2 * np.pi * (days[:, None, None] / YEAR - phase))
    return (wave + noise * rng.normal(size=wave.shape)).astype(np.float32), days


@pytest.mark.parametrize("lost", [(12,), (11, 12, 13), (22, 23, 24), (0,)])
def test_a_line_in_time_does_not_cut_the_top_off_a_year(lost: tuple[int, ...]) -> None:
    values, days = months(25, noise=0.05)
    known = np.ones(values.shape, bool)
    known[list(lost)] = False
    series = as_series(values, known, days, lost[len(lost) // 2])
    missed = [np.sqrt(np.mean((told - values[series.target]) ** 2)) for told in (seasonal(series), linear(series))]
    assert missed[0] < 0.65 * missed[1]


def test_less_than_a_year_and_a_half_is_no_season() -> None:
    values, days = months(18)
    known = np.random.default_rng(3).random(values.shape) > 0.3
    series = as_series(values, known, days, 9)
    np.testing.assert_array_equal(seasonal(series), linear(series))
    nothing = as_series(values, np.zeros_like(known), days, 9)
    assert np.isnan(seasonal(nothing)).all()
    values, days = months(30)
    known = np.random.default_rng(3).random(values.shape) > 0.3
    known[:, 0, 0] = False
    told = seasonal(as_series(values, known, days, 9))
    assert np.isnan(told[0, 0])
    assert np.isfinite(told.ravel()[1:]).all()


def test_a_lost_month_is_told_by_the_season_where_that_is_better() -> None:
    (wave, days), known = months(25), np.ones((25, SIDE + 2 * HALO, SIDE + 2 * HALO), bool)
    values = np.tile(wave, (1, 4, 4))
    lost = []
    for target in (5, 9, 14, 18):
        shown = known.copy()
        shown[target] = False
        patch = a_patch(values, shown, (DAY * days).astype(np.int64), target)
        lost.append(Trial(patch, values[target][patch.core][None, None], np.ones((1, 1, SIDE, SIDE), bool)))
    weights = load_filler("regression").fit(SceneSample(tuple(lost), 1)).facts["alone"]
    assert weights["seasonal"] > 0.4


def hours(count: int, step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(hour, row, column) that rise by day and fall by night, each place by its own height, and days."""
    rng, days = np.random.default_rng(5), 19_540 + step * np.arange(count) / 24
    height, level = rng.uniform(2, 9, (16, 16)), rng.normal(size=(16, 16))
    course = np.maximum(np.sin(2 * np.pi * (days % 1 - 0.25)), -0.3)
    wave = level + height * course[:, None, None] + np.cumsum(rng.normal(size=count) * 0.1)[:, None, None]
    return (wave + 0.1 * rng.normal(size=wave.shape)).astype(np.float32), days


@pytest.mark.parametrize("curve", [seasonal, lambda s: harmonic(s, 2, 0.1), lambda s: climatology(s, 20.0)])
@pytest.mark.parametrize("step", [1.0, 3.0])
def test_a_day_under_cloud_has_its_noon_from_the_days_around(
    curve: Callable[[Series], np.ndarray], step: float
) -> None:
    """Linear in time, a whole morning and afternoon lost, is as warm at noon as at sunrise and sunset."""
    values, days = hours(int(96 / step), step)
    hour = 24 * (days - days[0])
    known = np.ones(values.shape, bool)
    known[(hour > 54) & (hour < 66)] = False
    series = as_series(values, known, days, int(np.flatnonzero(hour == 60)[0]))
    missed = [np.sqrt(np.mean((told - values[series.target]) ** 2)) for told in (curve(series), linear(series))]
    assert missed[0] < 0.3 * missed[1]


def test_the_nearest_dates_are_those_of_the_same_hour_too() -> None:
    values, days = hours(96)
    patch = a_patch(np.tile(values, (1, 4, 4)), np.ones((96, 64, 64), bool), np.rint(DAY * days).astype(np.int64), 60)
    chosen = Series.of(patch, 60, 0, 24)
    apart = np.rint(24 * (chosen.days - chosen.days[chosen.target])).astype(int)
    assert {-48, -24, -1, 1, 24} <= set(apart.tolist())
    assert not {-12, 12} & set(apart.tolist())


def test_of_dates_by_the_minute_those_looked_at_reach_beyond_a_cloud_and_around_the_day() -> None:
    times, every = 600 * np.arange(432), np.arange(432)
    near = by_nearness(times, 200, np.delete(every, 200), 30, day=DAY)
    assert sorted(near.tolist()) == np.delete(every, 200).tolist(), "none is lost, and the target is none of them"
    steps = set((near[:30] - 200).tolist())
    assert {-144, -3, -2, -1, 1, 2, 3, 144} <= steps
    assert {-24, -25} & steps
    assert {24, 25} & steps
    fewer = by_nearness(times, 200, np.sort(near[:30]), 24, day=DAY)
    np.testing.assert_array_equal(fewer[:24], near[:24], "who looks at fewer of them takes the first")


@pytest.mark.parametrize("step", [3600, 3 * 3600, DAY])
def test_dates_by_the_hour_are_looked_at_as_they_lie(step: int) -> None:
    times, others = step * np.arange(90), np.delete(np.arange(90), 40)
    apart = time_apart(times, 40, DAY)[others]
    near = by_nearness(times, 40, others, 30, day=DAY)
    np.testing.assert_array_equal(near, others[np.argsort(apart, kind="stable")])


@pytest.mark.parametrize(
    "days",
    [
        np.arange(40.0) / 2,  # day and night
        np.arange(40.0),
        np.repeat(8.0 * np.arange(20), 2) + np.tile([0, 24 / DAY], 20),  # two scenes of one pass
        np.r_[np.arange(39.0), 38.1],  # one date more
    ],
)
def test_where_dates_show_no_course_of_the_day_they_are_as_near_as_the_days_between(days: np.ndarray) -> None:
    np.testing.assert_array_equal(time_apart(days, 9, 1), np.abs(days - days[9]))
    assert not has_hours(days, 1)


def clouded(dates: int = 15) -> tuple[Series, np.ndarray]:
    """A calm series with a spot on each of two dates in a row, beside each other, and where they are."""
    random = np.random.default_rng(2)
    values = np.cumsum(0.1 * random.standard_normal((dates, 40, 40)), axis=0).astype(np.float32)
    spot = np.zeros(values.shape, bool)
    spot[5, 8:20, 8:20] = spot[6, 15:26, 20:31] = True
    known = random.random(values.shape) > 0.1
    known[3] = False
    seen = np.where(spot, values - 4, values)
    return Series(np.where(known, seen, np.float32(0)), known, np.arange(dates) * 5.0, 3), spot & known


def test_clouds_that_no_mask_names_are_screened_out() -> None:
    series, spot = clouded()
    left = screened(series)
    gone = series.known & ~left.known
    assert gone[spot].mean() > 0.99
    assert gone[~spot].sum() < 0.002 * series.known.sum()
    assert (left.values[~left.known] == 0).all()
    np.testing.assert_array_equal(left.values[left.known], series.values[left.known])


def test_what_is_asked_for_is_never_screened() -> None:
    series, _ = clouded()
    own = replace(series, target=5)
    np.testing.assert_array_equal(screened(own).known[5], series.known[5])


@pytest.mark.parametrize("dates", [1, 2, 3])
def test_a_short_series_can_be_screened(dates: int) -> None:
    values = np.ones((dates, 4, 4), np.float32)
    series = Series(values, np.ones(values.shape, bool), np.arange(dates) * 1.0, 0)
    np.testing.assert_array_equal(screened(series).known, series.known)


def test_the_pentadiagonal_solver_agrees_with_a_dense_one() -> None:
    random = np.random.default_rng(0)
    diagonals = _second_differences(np.array([1.0, 0.5, 2.0, 1.0, 0.3]), 3.0)
    weight, right = (random.random((6, 4)) > 0.4).astype(float), random.normal(size=(6, 4))
    full = np.diag(diagonals[0])
    for k in (1, 2):
        full += np.diag(diagonals[k][:-k], k) + np.diag(diagonals[k][:-k], -k)
    dense = [np.linalg.solve(full + np.diag(w), r) for w, r in zip(weight.T, right.T, strict=True)]
    np.testing.assert_allclose(_pentadiagonal(diagonals, weight, right), np.stack(dense, axis=1), rtol=1e-8)


def test_a_sum_of_other_dates_is_found_by_regression() -> None:
    random = np.random.default_rng(0)
    others = gaussian_filter(random.standard_normal((6, 40, 40)), (0, 3, 3)) * 10
    values = np.insert(others, 3, 0.7 * others[1] - 0.4 * others[4] + 0.2, axis=0)
    known = np.ones(values.shape, bool)
    known[3, 10:25, 10:30] = False
    series = as_series(values, known, np.arange(7) * 10.0, 3)
    trend = regressors(series).trend(1e-6).reshape(40, 40)
    assert np.abs(trend - values[3]).max() < 0.1 * values[3].std()


def test_one_date_regressions_use_a_date_only_where_it_is_known() -> None:
    values, known, seconds = a_stack(3, share=0.5)
    estimate = one_date_regressions(as_series(values, known, seconds / DAY, 1))
    np.testing.assert_array_equal(np.isnan(estimate), ~(known[0] | known[2]))


def test_the_space_time_relaxation_keeps_known_pixels_and_constants() -> None:
    values, known, seconds = a_stack()
    series = as_series(values, known, seconds / DAY, 4)
    np.testing.assert_array_equal(relaxed_in_time(series, 0.1)[known[4]], values[4][known[4]])
    flat = as_series(np.full_like(values, 2.5), known, seconds / DAY, 4)
    np.testing.assert_allclose(relaxed_in_time(flat, 0.1), 2.5, atol=1e-4)


@given(st.integers(3, 21), st.integers(3, 21), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_spreading_keeps_constants_and_knows_nothing_from_nothing(rows: int, columns: int, seed: int) -> None:
    known = np.random.default_rng(seed).random((3, rows, columns)) < 0.3
    known[0] = False
    known[1, 1, 1] = True
    planes = np.where(known, np.float32(4), np.float32(0))
    result = spread(planes, known)
    np.testing.assert_array_equal(result[0], 0)
    np.testing.assert_allclose(result[1], 4, rtol=1e-5)
    np.testing.assert_array_equal(spread(planes[1:2], known[1:2])[0], result[1])


def test_neighbours_with_gaps_are_told_by_one_another_where_light_changes(rng):
    """Gain and offset of each date are its own: interpolation in time is far off in the gaps of the neighbours."""
    scene = gaussian_filter(rng.normal(size=(64, 64)), 1) * 6
    gain, offset = rng.uniform(0.5, 1.5, (16, 1, 1)), rng.normal(0, 1, (16, 1, 1))
    truth = (gain * scene + offset + 0.05 * rng.normal(size=(16, 64, 64))).astype(np.float32)
    known = np.stack([gaussian_filter(rng.normal(size=(64, 64)), 6) for _ in truth]) > 0
    series = Series(np.where(known, truth, np.float32(0)), known, 8.0 * np.arange(16), 7)
    value = regressors(series).trend(0.01).reshape(64, 64)
    lost = ~known[7] & series.seen
    assert np.sqrt(np.mean((value - truth[7])[lost] ** 2)) < 0.09, "0.13 after one regression, 0.05 is noise"
