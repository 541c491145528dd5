"""Optimal interpolation of stacks of which little is known, and where it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from geodiff.fillers import CODES, Fitted, SceneSample, Trial, optimal
from geodiff.fillers.optimal import Coupled, Points, filled_between, likeliest
from geodiff.fillers.spatial import Laplace
from geodiff.fillers.stacked import Stacked
from geodiff.fillers.temporal import SpaceTime
from geodiff.fillers.weights import sole_or_mixed
from tests.fillers.patches import DAY, HALO, SIDE, a_patch

DATES = 9
DAYS = np.arange(DATES, dtype=np.int64) * DAY


def moving(seed: int) -> np.ndarray:
    """(date, row, column) eddies that drift by a pixel and a half a day."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(90, 110)), 4)
    size = SIDE + 2 * HALO
    return np.stack([shift(field / field.std(), (0, -1.5 * day), order=1)[13 : 13 + size, 20 : 20 + size]
                     for day in range(DATES)]).astype(np.float32)  # fmt: skip


def tracks(seed: int, spacing: int = 24) -> np.ndarray:
    """(date, row, column) two slanting lines or three a date, elsewhere on each."""
    random, size = np.random.default_rng(seed), SIDE + 2 * HALO
    row, column = np.mgrid[:size, :size]
    first = random.integers(0, spacing, DATES)
    slope = random.choice([-1, 1], DATES)
    return (column - first[:, None, None] + slope[:, None, None] * row // 3) % spacing == 0


def a_trial(seed: int, target: int, known: np.ndarray | None = None) -> Trial:
    values, known = moving(seed), tracks(seed) if known is None else known
    hidden = np.zeros_like(known[0])
    hidden[HALO + 12 : HALO + 36, HALO : HALO + SIDE] = known[target][HALO + 12 : HALO + 36, HALO : HALO + SIDE]
    left = known.copy()
    left[target] &= ~hidden
    patch = a_patch(values, left, DAYS, target)
    return Trial(patch, values[target][patch.core][None, None], hidden[patch.core][None, None], worth=5)


@pytest.fixture(scope="module")
def sample() -> SceneSample:
    return SceneSample(tuple(a_trial(seed, 2 + seed % 5) for seed in range(6)), 1, (True,) * DATES)


@pytest.fixture(scope="module")
def fitted(sample: SceneSample) -> Fitted:
    return SpaceTime().fit(sample)


def test_between_tracks_it_beats_the_relaxation_and_its_intervals_hold(fitted: Fitted) -> None:
    relaxed, error, before, inside = Fitted("spacetime", {"coupling": 0.1}), [], [], []
    assert fitted.facts["around"]
    for seed in (20, 21, 22):
        values, known = moving(seed), tracks(seed)
        patch = a_patch(values, known, DAYS)
        truth, gap, filler = values[4][patch.core], ~known[4][patch.core], SpaceTime()
        found = filler.fill([patch], fitted, seed=0)[0]
        error.append((found.value[0, 0] - truth)[gap])
        before.append((filler.estimate(replace(patch), relaxed)[0, 0] - truth)[gap])
        inside.append(np.abs(error[-1]) <= 1.645 * found.standard_error[0, 0][gap])
        assert (found.source == CODES["spacetime"]).all(), "it looks around what no date knows"
    assert np.square(error).mean() < 0.5 * np.square(before).mean()
    assert 0.82 < np.mean(inside) < 0.98


def test_a_stack_that_shows_much_is_relaxed(sample: SceneSample) -> None:
    dense = np.random.default_rng(1).random((DATES, SIDE + 2 * HALO, SIDE + 2 * HALO)) < 0.5
    some = SceneSample((a_trial(0, 3, dense), a_trial(1, 4, dense)), 1, sample.seen)
    assert set(SpaceTime().learnt(some).facts) == {"coupling"}


def test_one_date_tells_of_no_covariance_in_time_and_is_filled_harmonically() -> None:
    values, known = moving(0)[:1], np.random.default_rng(0).random((1, SIDE + 2 * HALO, SIDE + 2 * HALO)) < 0.1
    trial = Trial(
        a_patch(values, known, DAYS[:1], 0),
        values[None, :, HALO:-HALO, HALO:-HALO],
        ~known[:, None][..., HALO:-HALO, HALO:-HALO],
    )
    fit = SpaceTime().fit(SceneSample((trial,), 1, (True,)))
    assert "around" not in fit.facts, "dates appended later would be told by it"
    assert (SpaceTime().source(trial.patch, fit) == CODES["laplace"]).all()


def test_the_likeliest_covariance_tells_eddies_from_noise() -> None:
    random = np.random.default_rng(5)
    clear = likeliest(Points.of(a_patch(moving(seed), tracks(seed), DAYS), 0) for seed in range(4))
    noisy = likeliest(
        Points.of(a_patch(moving(seed) + 0.5 * random.normal(size=(DATES, 64, 64)), tracks(seed), DAYS), 0)
        for seed in range(4)
    )
    assert clear is not None
    assert noisy is not None
    assert clear.nugget < 0.02
    assert 0.1 < noisy.nugget * noisy.variance < 0.5, "a quarter"
    assert 3 < clear.length < 20
    assert likeliest([]) is None


def test_of_few_points_it_is_the_best_linear_prediction() -> None:
    values, known = moving(3), np.zeros((DATES, SIDE + 2 * HALO, SIDE + 2 * HALO), bool)
    known[2:6, ::16, ::16] = True
    patch, model = a_patch(values, known, DAYS), Coupled(1.5, 0.5, 8.0, 3.0, 0.2, 0.01, 2.0)
    value, error = filled_between(patch, 4, 0, model)
    date, row, column = np.nonzero(known)
    own = np.array([4.0, 30.0, 27.0])
    apart = np.hypot(row[:, None] - np.append(row, own[1]), column[:, None] - np.append(column, own[2]))
    both = model.correlation(apart, np.abs(date[:, None] - np.append(date, own[0])).astype(float)) + 10.0
    system, asked, shown = both[:, :-1] + 0.01 * np.eye(len(row)), both[:, -1], values[known]
    weights = np.linalg.solve(system, asked)
    assert value[30, 27] == pytest.approx(weights @ (shown - shown.mean()) + shown.mean(), abs=1e-4)
    assert error[30, 27] == pytest.approx(np.sqrt(2.0 * (11.0 - weights @ asked + 0.01)), abs=1e-4)


def test_appended_dates_farther_apart_are_told_by_what_changes_in_a_day(fitted: Fitted) -> None:
    model, patch = Coupled(1.5, 0.5, 8.0, 10.0, 0.2, 0.01, 2.0, step=1.0), a_patch(moving(3), tracks(3), DAYS * 5)
    found, error = filled_between(patch, 4, 0, model)
    other, wider = filled_between(patch, 4, 0, replace(model, lasting=2.0, step=None))
    np.testing.assert_allclose(found, other, atol=1e-5)
    np.testing.assert_allclose(error, wider, atol=1e-5)
    kept_before = replace(fitted, facts={name: fact for name, fact in fitted.facts.items() if name != "step"})
    daily = a_patch(moving(3), tracks(3), DAYS)
    assert np.array_equal(SpaceTime().estimate(daily, fitted), SpaceTime().estimate(daily, kept_before))


def test_patches_of_dates_near_and_far_apart_are_looked_at_by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []

    def spied(groups: list[Any], shapes: tuple[float, float], start: np.ndarray, step: float) -> tuple[Any, ...]:
        steps.extend([step, *(group.later.max() for group in groups)])
        return 0.0, start, Coupled(*shapes, 8.0, 3.0, 0.2, 0.01, 2.0, step)

    monkeypatch.setattr(optimal, "_fitted", spied)
    likeliest(Points.of(a_patch(moving(seed), tracks(seed), DAYS * apart), 0) for seed, apart in enumerate((1, 1, 5)))
    assert steps[:4] == [1.0, 8.0, 8.0, 40.0]


def test_beside_what_nobody_asks_for_it_is_as_unbiased_as_elsewhere() -> None:
    random, shape = np.random.default_rng(0), (3, SIDE + 2 * HALO, SIDE + 2 * HALO)
    known = random.random(shape) < 0.05
    patch = a_patch(np.full(shape, 5, np.float32), known, DAYS[:3], 1)
    everywhere = filled_between(patch, 1, 0, Coupled(1.5, 0.5, 8.0, 3.0, 0.2, 0.01, 2.0))
    fillable = np.zeros_like(patch.fillable)
    fillable[..., 16:26, 32:40] = True  # its edges lie in tiles of which nothing else is asked for
    value, error = filled_between(replace(patch, fillable=fillable), 1, 0, Coupled(1.5, 0.5, 8.0, 3.0, 0.2, 0.01, 2.0))
    asked = ~known[1] & fillable[1, 0]
    np.testing.assert_allclose(value[asked], 5.0, rtol=1e-3)
    np.testing.assert_allclose(error[asked], everywhere[1][asked], rtol=0.1)


def test_what_is_mirrored_beyond_the_raster_is_not_seen_twice() -> None:
    values, known = moving(3), tracks(3)
    real = (slice(HALO, HALO + 6), slice(HALO, None))
    alone = np.zeros_like(known)
    alone[:, *real] = known[:, *real]
    mirrored, model = replace(a_patch(values, known, DAYS), real=real), Coupled(1.5, 0.5, 8.0, 3.0, 0.2, 0.01, 2.0)
    found, error = (plane[real] for plane in filled_between(mirrored, 4, 0, model))
    value, wider = (plane[real] for plane in filled_between(a_patch(values, alone, DAYS), 4, 0, model))
    asked = ~known[4][real]
    np.testing.assert_allclose(found[asked], value[asked], atol=0.05)
    np.testing.assert_allclose(error[asked], wider[asked], atol=0.05)


def test_a_stack_listens_to_it_where_no_date_knows_a_pixel(sample: SceneSample) -> None:
    fit = Stacked((Laplace(), SpaceTime())).fit(sample)
    assert (fit.arrays["weights"][15:20, 1] > 0.5).all()


def test_a_mixture_has_to_be_worth_it_on_other_trials() -> None:
    random = np.random.default_rng(0)
    table, classes = np.full((20, 2), 0.5), [np.full(200, 7)] * 8
    own = [random.normal(size=200) for _ in classes]
    worse = [np.stack([2 * one + random.normal(size=200), one]) for one in own]
    assert (sole_or_mixed(["laplace", "spacetime"], [], worse, classes, table, 1)[:, 1] == 1).all()
    apart = [np.stack([random.normal(size=200), one]) for one in own]
    assert sole_or_mixed(["laplace", "spacetime"], [], apart, classes, table, 1) is table


@pytest.mark.parametrize("temporal", [[], [1]])
def test_of_one_trial_no_other_tells_whether_a_mixture_is_worth_it(temporal: list[int]) -> None:
    table, errors = np.full((20, 3), 1 / 3), [np.random.default_rng(0).normal(size=(3, 200))]
    names = ["laplace", "linear-time", "spacetime"]
    assert (sole_or_mixed(names, temporal, errors, [np.full(200, 7)], table, 2)[:, 2] == 1).all()


def test_where_other_trials_show_nothing_far_in_time_what_is_far_is_looked_at_as_what_is_known_last() -> None:
    random, table = np.random.default_rng(0), np.full((30, 3), 1 / 3)
    near, both = np.full(400, 2), np.repeat([2, 22], 200)
    errors = [random.normal(size=(3, 400)) * [[10.0], [0.1], [1.0]] for _ in range(8)]
    names = ["laplace", "linear-time", "around"]
    assert sole_or_mixed(names, [1], errors, [both, near] * 4, table, 2) is table
