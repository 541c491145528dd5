"""Conformal factors: right in the large, the defaults in the small, nothing to do with the pixels' order."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff import fillers
from geodiff.errors import GeodiffError, JobError
from geodiff.fillers import Filled, Filler, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.calibration import (
    DISTANCES,
    FAR,
    NEAR,
    ONE_SIDE,
    STRATA,
    Z90,
    Calibrated,
    around_in_time,
    conformal_factors,
    factor_field,
    informative_errors,
    lost_factor,
    lost_planes,
    strata,
)
from geodiff.lattice import Window

DAY = 86_400
DEFAULTS = (1.0, 1.1, 1.2, 1.3, 1.4)


def patch_of(known: np.ndarray, dates: np.ndarray | None = None, targets: tuple[int, ...] = (0,)) -> Patch:
    zeros = np.zeros(known.shape, np.float32)
    side = known.shape[-1] - 8
    dates = np.zeros(len(known), np.int64) if dates is None else dates
    return Patch(zeros, known, np.ones_like(known), zeros, Window(0, 0, side, side), 4, (0, 0), dates, targets)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 1.0, 7.0]))
def test_with_many_pixels_the_factor_is_the_quantile_whatever_the_defaults(seed, width):
    ratio = np.abs(width * np.random.default_rng(seed).normal(size=60_000))
    factors = conformal_factors(ratio, np.zeros(ratio.size, np.int8), DEFAULTS)
    assert factors[0] == pytest.approx(width, rel=0.05)
    assert np.mean(ratio <= Z90 * factors[0]) == pytest.approx(0.9, abs=0.01)


def test_without_pixels_the_defaults_stand():
    factors = conformal_factors(np.empty(0), np.empty(0, np.int8), DEFAULTS)
    np.testing.assert_allclose(factors, np.tile(DEFAULTS, STRATA // DISTANCES))


def test_few_pixels_move_the_defaults_a_little(rng):
    ratio = np.abs(4 * rng.normal(size=50))
    factor = conformal_factors(ratio, np.zeros(50, np.int8), DEFAULTS)[0]
    assert 1.0 < factor < 2.5


def test_what_one_stratum_learns_the_others_hear(rng):
    ratio = np.abs(3 * rng.normal(size=20_000))
    factors = conformal_factors(ratio, np.full(ratio.size, 16, np.int8), DEFAULTS)
    np.testing.assert_allclose(factors[16] / 1.1, factors[19] / 1.4, rtol=0.02)
    assert factors[19] > 2.5 * 1.4


def test_a_class_deep_in_gaps_of_which_few_pixels_are_hidden_follows_the_class_before(rng):
    """All pixels together are mostly those near data, which say least of it."""
    stratum = np.append(np.repeat([15, 17], [38_000, 2001]), 0)[:40_001]
    ratio = np.abs(rng.normal(size=stratum.size)) * np.where(stratum == 17, 3.0, 0.5)
    factors = conformal_factors(ratio, stratum, DEFAULTS)
    expected = factors[17] * np.array(DEFAULTS[3:]) / DEFAULTS[2]
    np.testing.assert_allclose(factors[18:20], expected, rtol=1e-5)
    assert factors[17] > 2.5


def test_the_order_of_pixels_does_not_matter(rng):
    ratio, stratum = rng.exponential(size=3000), rng.integers(0, STRATA, 3000)
    order = rng.permutation(3000)
    np.testing.assert_array_equal(
        conformal_factors(ratio, stratum, DEFAULTS), conformal_factors(ratio[order], stratum[order], DEFAULTS)
    )


def test_strata_are_distance_and_nearest_date():
    known = np.ones((3, 1, 48, 48), bool)
    known[1, :, :, 4:] = False
    known[0, :, :, :30] = False
    known[2, :, :, :36] = False
    dates = np.array([0, 10, 30]) * DAY
    found = strata(patch_of(known, dates, (1,)))[0, 0]
    columns = np.arange(4, 44)
    distance = np.clip(columns - 3, 0, None)
    classes = np.searchsorted([2, 4, 8, 16], distance)
    days = np.where(columns >= 30, 1, 3)
    np.testing.assert_array_equal(found[20], classes + DISTANCES * days)


@pytest.mark.parametrize("step", [1 / 24, 1, 16])
def test_which_dates_around_know_a_pixel_goes_by_the_steps_between_them(step):
    known = np.ones((9, 6), bool)
    known[4] = False
    known[3:6, 1] = False
    known[2:8, 2] = False
    known[:, 3] = False
    known[4:8, 4] = False
    known[:4, 5] = False
    dates = (np.arange(9) * step * DAY).astype(np.int64)
    sides = [NEAR, NEAR, FAR, NEAR, ONE_SIDE, ONE_SIDE]
    np.testing.assert_array_equal(around_in_time(known, dates, 4), sides)
    np.testing.assert_array_equal(around_in_time(known, np.zeros(9, np.int64), 4), sides)
    for pixel, row in ((2, STRATA), (4, STRATA + DISTANCES)):
        patch = patch_of(np.broadcast_to(known[:, pixel, None, None, None], (9, 1, 24, 24)), dates, (4,))
        assert (strata(patch) < STRATA - DISTANCES).all()
        assert (strata(patch, table=np.ones(STRATA)) < STRATA - DISTANCES).all()
        found = strata(patch, table=np.ones(STRATA + 2 * DISTANCES))
        assert ((found >= row) & (found < row + DISTANCES)).all()


def test_another_date_of_the_same_time_is_the_nearest_there_is():
    known, dates = np.zeros((5, 1), bool), np.array([0, 1, 1, 2, 3]) * DAY
    known[[2, 4]] = True
    assert around_in_time(known, dates, 1) == NEAR


def test_the_first_and_the_last_date_have_one_side_alone():
    known, dates = np.ones((5, 1), bool), np.arange(5) * DAY
    known[[0, 4]] = False
    assert around_in_time(known, dates, 0) == around_in_time(known, dates, 4) == NEAR
    known[1:4] = False
    known[4] = True
    assert around_in_time(known, dates, 0) == FAR
    assert around_in_time(np.zeros((1, 3), bool), np.zeros(1, np.int64), 0).tolist() == [NEAR] * 3


def test_single_dates_have_no_nearest_date():
    known = np.zeros((1, 2, 24, 24), bool)
    known[..., 0, 0] = True
    assert (strata(patch_of(known)) >= STRATA - DISTANCES).all()


def test_a_field_of_factors_holds_them_within_a_class_and_has_no_steps_between():
    table = np.arange(1, STRATA + 1, dtype=np.float32)
    within = np.array([1.0, 3.0, 6.0, 12.0, 24.0], np.float32)
    for day in range(STRATA // DISTANCES):
        stratum = (np.arange(DISTANCES) + DISTANCES * day).astype(np.int8)
        np.testing.assert_allclose(factor_field(table, stratum, within), table[stratum], rtol=1e-5)
    distance = np.linspace(0, 60, 4000, dtype=np.float32)
    stratum = np.searchsorted([2.0, 4.0, 8.0, 16.0], distance).astype(np.int8)
    field = factor_field(table, stratum, distance)
    assert np.abs(np.diff(field)).max() < 0.05
    assert (np.diff(field) >= 0).all()


@dataclass(frozen=True)
class Overconfident:
    """Says 0 everywhere and is sure of it; the truth has a standard deviation of 2."""

    name: str = "overconfident"
    halo: int = 4

    def fit(self, sample: SceneSample) -> Fitted:
        return Fitted(self.name)

    def fill(self, patches, fitted, *, seed):
        zero = [np.zeros(p.missing.shape, np.float32) for p in patches]
        return [Filled(z, z + np.float32(0.1), None, z.astype(np.uint8)) for z in zero]


def test_calibrated_wraps_any_filler_and_makes_its_errors_honest(rng):
    known = np.ones((1, 1, 48, 48), bool)
    known[..., 14:34, 14:34] = False
    patch = patch_of(known)
    hidden = patch.missing
    trials = tuple(Trial(patch, (2 * rng.normal(size=hidden.shape)).astype(np.float32), hidden) for _ in range(30))
    filler = Calibrated(Overconfident())
    assert isinstance(filler, Filler)
    assert (filler.name, filler.halo) == ("overconfident", 4)
    fitted = filler.fit(SceneSample(trials))
    (filled,) = filler.fill([patch], fitted, seed=0)
    np.testing.assert_allclose(filled.standard_error[hidden], 2.0, rtol=0.1)
    (again,) = filler.fill([replace(patch)], filler.fit(SceneSample()), seed=0)
    np.testing.assert_allclose(again.standard_error, 0.1)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda z: [], "'overconfident' gave 0 answers for 1 patches"),
        (lambda z: [Filled(z[0, 0], z, None, z)], r"a value of shape \(20, 20\).* of the window: \(1, 1, 20, 20\)"),
        (lambda z: [Filled(z, z[0], None, z)], r"a standard_error of shape \(1, 20, 20\)"),
    ],
)
def test_answers_that_do_not_fit_the_patch_are_told(answers, said, monkeypatch):
    known = np.ones((1, 1, 28, 28), bool)
    known[..., 8:12, 8:12] = False
    monkeypatch.setattr(
        Overconfident, "fill", lambda self, patches, fitted, *, seed: answers(np.zeros(patches[0].missing.shape))
    )
    fitted = Fitted("overconfident", {}, {}, {"overconfident": Fitted("overconfident")})
    with pytest.raises(GeodiffError, match=said):
        Calibrated(Overconfident()).fill([patch_of(known)], fitted, seed=0)


@pytest.mark.parametrize(("drawn", "said"), [(None, "gave no members where --members 2"), (1, r"shape \(1, 1, 1, 20")])
def test_members_that_were_asked_for_and_not_given_are_told(drawn, said, monkeypatch):
    known = np.ones((1, 1, 28, 28), bool)
    known[..., 8:12, 8:12] = False
    zeros = np.zeros((1, 1, 20, 20), np.float32)
    answer = Filled(zeros, zeros, None if drawn is None else np.stack([zeros] * drawn), zeros.astype(np.uint8))
    monkeypatch.setattr(Overconfident, "fill", lambda self, patches, fitted, *, seed: [answer])
    monkeypatch.setattr(fillers, "_registered", lambda: {"over": SimpleNamespace(load=lambda: Overconfident)})
    fitted = Fitted("overconfident", {}, {"factors": np.ones(STRATA)}, {"overconfident": Fitted("overconfident")})
    with pytest.raises(JobError, match=said):
        fillers.load_filler("over", fillers.FillerSettings(members=2)).fill([patch_of(known)], fitted, seed=0)
    fillers.load_filler("over").fill([patch_of(known)], fitted, seed=0)


def test_the_filler_of_a_third_party_is_calibrated_and_keeps_what_it_says_of_itself(monkeypatch):
    class Around(Overconfident):
        context_dates, needs_dates = 2, True

    def broken():
        raise ModuleNotFoundError("No module named 'gone'")

    points = {"overconfident": SimpleNamespace(load=lambda: Around), "gone": SimpleNamespace(load=broken)}
    monkeypatch.setattr(fillers, "_registered", lambda: points)
    filler = fillers.load_filler("overconfident")
    assert isinstance(filler, Calibrated)
    assert (filler.context_dates, filler.needs_dates, filler.halo) == (2, True, 4)
    filler.warm_up()
    with pytest.raises(JobError, match="'gone' cannot be imported"):
        fillers.load_filler("gone")


def test_factors_by_date_hold_on_dates_not_seen_where_easy_dates_show_most():
    rng = np.random.default_rng(3)
    by_date, by_pixel = [], []
    for _ in range(60):
        hardness = np.exp(0.6 * rng.normal(size=25 + 40))
        pixels = np.where(hardness[:25] < 1, 4000, 200)  # clear dates have more to hide than cloudy ones
        date = np.repeat(np.arange(25), pixels)
        ratio = np.abs(hardness[date] * rng.normal(size=date.size))
        new = np.abs(hardness[25:, None] * rng.normal(size=(40, 200)))
        none = np.zeros(date.size, np.int8)
        by_date.append(np.mean(new <= Z90 * conformal_factors(ratio, none, (1.0,) * 5, date)[0]))
        by_pixel.append(np.mean(new <= Z90 * conformal_factors(ratio, none, (1.0,) * 5)[0]))
    assert 0.87 < np.mean(by_date) < 0.93
    assert np.mean(by_pixel) < 0.8


def test_a_date_counts_the_same_however_many_of_its_pixels_are_hidden(rng):
    date = np.repeat(np.arange(12), 500)
    ratio, none = np.abs(rng.normal(size=date.size)) * (1 + (date == 3)), np.zeros(date.size, np.int8)
    more = np.concatenate([np.arange(date.size), np.tile(np.flatnonzero(date == 3), 9)])
    np.testing.assert_allclose(
        conformal_factors(ratio, none, DEFAULTS, date),
        conformal_factors(ratio[more], none[more], DEFAULTS, date[more]),
        rtol=0.005,
    )


def test_one_date_is_as_none(rng):
    ratio, stratum = rng.exponential(size=3000), rng.integers(0, STRATA, 3000)
    np.testing.assert_array_equal(
        conformal_factors(ratio, stratum, DEFAULTS, np.full(3000, 7)), conformal_factors(ratio, stratum, DEFAULTS)
    )


@pytest.mark.parametrize("dates", [2, 3, 6])
def test_the_factor_of_lost_dates_holds_on_a_new_date_however_few_were_tried(dates, monkeypatch):
    def coverage(seed: int) -> float:
        rng = np.random.default_rng(seed)
        level = np.exp(0.35 * rng.normal(size=dates + 20))
        date = np.repeat(np.arange(dates), 400)
        ratio = np.abs(level[date] * rng.normal(size=date.size))
        new = np.abs(level[dates:, None] * rng.normal(size=(20, 200)))
        factor = lost_factor(ratio, date)
        return float(np.mean(new <= Z90 * factor))

    assert np.mean([coverage(seed) for seed in range(80)]) == pytest.approx(0.9, abs=0.015)
    monkeypatch.setattr("geodiff.fillers.calibration._FEW_DATES", 0.0)
    assert np.mean([coverage(seed) for seed in range(80)]) < (0.89 if dates < 6 else 0.9)


def test_the_factor_of_lost_dates_is_drawn_to_one_by_one_date(rng):
    date = np.repeat(np.arange(8), 300)
    ratio = 3.0 * np.abs(rng.normal(size=date.size))
    assert lost_factor(ratio, date) == pytest.approx(3.0 ** (8 / 9), rel=0.1)
    assert lost_factor(ratio[:300], date[:300]) == pytest.approx(3.0 ** (1 / 2), rel=0.25)
    assert lost_factor(np.empty(0), np.empty(0, np.int64)) is None


def test_a_plane_is_lost_where_nothing_is_known_of_it_margin_included():
    known = np.zeros((2, 2, 24, 24), bool)
    known[1] = True
    known[0, 1, 0, 0] = True
    np.testing.assert_array_equal(lost_planes(patch_of(known)), [[True, False]])


def test_common_numbers_that_were_guessed_teach_nothing(rng):
    truth = np.where(rng.random(4000) < 0.95, -0.3, rng.normal(size=4000)).astype(np.float32)
    error = np.where(truth == np.float32(-0.3), 0, rng.normal(size=4000)).astype(np.float32)
    error[:20] = 1.5  # rain where none was, and none where some was
    band, none = np.zeros(4000, np.int64), np.zeros(4000, np.int8)
    kept = informative_errors(error, truth, band)
    assert np.isnan(kept[20:]).sum() == (truth[20:] == np.float32(-0.3)).sum()
    assert not np.isnan(kept[:20]).any()
    assert conformal_factors(np.abs(error), none, (1.0,) * 5)[0] < 1e-4  # of no use where it rains
    assert 0.8 < conformal_factors(kept, none, (1.0,) * 5)[0] < 1.4
    date = np.arange(4000) % 8
    alone = lost_factor(kept, date)
    assert alone is not None
    assert 0.8 < alone < 1.6
    blank = np.where(np.isnan(kept), kept, np.nan)
    assert lost_factor(blank, date) is None
    np.testing.assert_allclose(conformal_factors(blank, none, DEFAULTS, date), np.tile(DEFAULTS, STRATA // DISTANCES))


def test_numbers_that_are_not_common_all_count(rng):
    truth, error = rng.normal(size=500).astype(np.float32), np.zeros(500, np.float32)
    np.testing.assert_array_equal(informative_errors(error, truth, np.zeros(500, np.int64)), error)
    band = np.arange(500) % 3  # a number common in one of three bands
    truth[band == 1] = 0.0
    np.testing.assert_array_equal(np.isnan(informative_errors(error, truth, band)), band == 1)
