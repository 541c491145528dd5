"""Lost dates of stacks that show two or one: farther in time is less certain, and nothing is ever certain."""

from dataclasses import replace

import numpy as np
import pytest

from geodiff.fillers import Patch, SceneSample, Trial
from geodiff.fillers.lost import beyond_corner, lost_dates, lost_error, lost_errors, lost_share
from geodiff.lattice import Window

DAY = 86_400


def patch_of(known: np.ndarray, dates: np.ndarray | None = None, targets: tuple[int, ...] = (0,)) -> Patch:
    zeros = np.zeros(known.shape, np.float32)
    side = known.shape[-1] - 8
    dates = np.zeros(len(known), np.int64) if dates is None else dates
    return Patch(zeros, known, np.ones_like(known), zeros, Window(0, 0, side, side), 4, (0, 0), dates, targets)


@pytest.mark.parametrize("size", [0.1, 0.7, 3.0])
def test_one_pair_of_dates_tells_what_a_lost_one_may_miss(rng, size):
    error = np.abs(size * rng.normal(size=4000)).astype(np.float32)
    told_of = lost_error(error)
    assert min(size, 0.7) * 1.2 < told_of < max(size, 0.7) * 1.4, "wider, for it is one date, and drawn to the usual"
    assert abs(np.log(told_of / size)) < 1.0
    assert lost_error(np.append(error, np.full(9000, np.nan))) == pytest.approx(told_of)
    assert lost_error(np.full(9, np.nan)) == lost_error(np.empty(0)) > 1


def _error_of(days, lost, seen, step=10.0, error=0.4):
    """What is said of a lost date."""
    known = np.zeros((len(days), 1, 20, 20), bool)
    known[seen] = True
    errors = lost_errors(patch_of(known, DAY * np.array(days), (lost,)), error, step)
    assert np.ptp(errors) == 0
    return float(errors[0, 0, 0, 0])


def test_errors_of_lost_dates_grow_with_the_time_to_what_is_seen():
    assert _error_of([0, 10, 20], 2, [0, 1]) == pytest.approx(0.4), "as far as the two were apart"
    assert _error_of([0, 10, 30], 2, [0, 1]) == pytest.approx(0.4 * np.sqrt(1.8))
    assert _error_of([0, 10, 12], 2, [0, 1]) == pytest.approx(0.4 * np.sqrt(0.36))
    assert _error_of([0, 30, 40], 0, [1, 2]) == _error_of([0, 10, 40], 2, [0, 1])
    assert _error_of([0, 10, 10_000], 2, [0, 1]) == pytest.approx(1.5), "no farther than strangers"
    assert _error_of([0, 10, 10_000], 2, [0, 1], error=2.0) == pytest.approx(2.0)


def test_between_two_dates_errors_are_least_and_never_nothing():
    middle, aside = _error_of([0, 5, 10], 1, [0, 2]), _error_of([0, 1, 10], 1, [0, 2])
    assert middle == pytest.approx(0.4 * np.sqrt(0.8 * 0.25 + 0.2 * 0.75))
    assert middle < 0.4
    assert 0.15 < aside < middle
    assert _error_of([0, 0, 10], 1, [0, 2]) > 0.1, "of the same time is not the same date"


def test_a_pixel_that_one_date_knows_is_told_by_that_alone():
    known = np.zeros((3, 1, 20, 20), bool)
    known[0, 0, :10], known[2, 0, :, :10] = True, True
    errors = lost_errors(patch_of(known, DAY * np.array([0, 6, 10]), (1,)), 0.4, 10.0)[0, 0]
    assert errors[0, 0] < errors[-1, 0] < errors[0, -1], "both, the nearer one, the farther one"
    assert errors[-1, -1] == errors[-1, 0]


def test_where_no_step_was_tried_all_lost_dates_are_told_alike_and_without_a_seen_one_nothing_is():
    assert _error_of([0, 10, 99], 2, [0], np.nan) == _error_of([0, 10, 99], 1, [0], np.nan) == pytest.approx(0.4)
    assert _error_of([0, 10], 1, [], np.nan) == _error_of([0, 10], 1, [1]) == 0


def share_of(known: np.ndarray) -> np.ndarray:
    """(row, column) of the window: how far it is of a lost date."""
    return lost_share(patch_of(known[None, None]))[0, 0]


def corner(side: int, size: int = 192) -> np.ndarray:
    known = np.zeros((size, size), bool)
    known[:side, :side] = True
    return known


def test_a_pixel_is_of_a_lost_date_where_its_date_shows_next_to_nothing_and_that_is_far():
    assert (share_of(np.zeros((88, 88), bool)) == 1).all()
    share = share_of(corner(20, 88))
    assert share[17, 17] == 0
    assert share[-1, -1] == 1
    assert (np.diff(share.diagonal()) >= 0).all()
    assert np.abs(np.diff(share.diagonal())).max() < 0.2, "no step"
    free = replace(patch_of(corner(20, 88)[None, None]), fillable=corner(20, 88)[None, None])
    assert (lost_share(free) == 0).all(), "all there is of it is known"


def test_the_more_of_a_date_is_known_the_less_it_is_lost_without_a_step():
    shares = [float(share_of(corner(side))[-1, -1]) for side in range(40, 130)]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert (np.diff(shares) <= 0).all()
    assert np.diff(shares).min() > -0.05


def level_of(known: np.ndarray, level: float = 1.0, lost: float = 0.8) -> np.ndarray:
    """(row, column) of the window: standard error where 0.1 is claimed, and so much of lost dates and of this one."""
    side = known.shape[0] - 8
    claimed, if_lost = (np.full((1, 1, side, side), size, np.float32) for size in (0.1, lost))
    return beyond_corner(patch_of(known[None, None]), claimed, level, lambda: if_lost)[0, 0]


@pytest.mark.parametrize("side", [20, 40, 60, 90, 120])
def test_beyond_a_corner_of_any_size_errors_are_nearer_to_those_of_lost_dates(side):
    error = level_of(corner(side))[side - 4 :, side - 4 :].diagonal()
    assert error[1] == pytest.approx(0.1)
    assert error[8:].min() > 0.2
    assert error[20:].min() > 0.3
    assert error[:32].max() == pytest.approx(10**-0.3, rel=1e-1)
    assert error.max() <= np.float32(0.8)
    assert (error[1:] / error[:-1]).max() < 1.4, "no step"
    assert (error[1:] / error[:-1]).min() > 0.9


def test_inside_a_gap_however_deep_errors_are_as_claimed():
    known = np.ones((192, 192), bool)
    known[40:140, 50:140] = False
    assert level_of(known)[86, 91] == pytest.approx(0.1)
    known = np.ones((192, 192), bool)
    known[:, 80:110] = False
    assert level_of(known)[:, 91].max() < 0.12, "nor in a long one"
    known[:, 110:] = False
    assert level_of(known)[86, 106] > 0.3, "known on one side"


def test_errors_beyond_a_corner_are_no_matter_of_where_windows_lie():
    known = np.zeros((400, 400), bool)
    known[100:170, 100:170] = True
    errors = [level_of(known[at : at + 192, at : at + 192])[200 - at - 4, 135 - at - 4] for at in (20, 52, 84)]
    assert min(errors) > 0.3
    assert np.ptp(np.log(errors)) < 0.1


def test_less_is_claimed_of_lost_dates_only_where_values_are_theirs():
    np.testing.assert_allclose(level_of(corner(120), 0.02, 0.1), 0.1, rtol=1e-6)
    assert level_of(corner(40), 0.02)[66, 66] == pytest.approx(0.1 * 0.2**0.7, rel=1e-4)


def test_where_a_window_may_see_nothing_of_a_corner_errors_are_those_of_a_lost_date():
    error = level_of(corner(20), level=1.0, lost=0.3)
    assert error[-1, -1] == pytest.approx(0.3, rel=1e-5)
    assert level_of(np.zeros((192, 192), bool)).max() == np.float32(0.1), "which has a factor of its own"


def test_a_wholly_lost_date_has_a_factor_of_its_own():
    np.testing.assert_allclose(level_of(np.zeros((88, 88), bool)), 0.1, rtol=1e-6)


def test_few_seen_dates_claim_more_of_lost_ones_the_fewer_they_are(rng):
    """What three dates said of each other when each was hidden may be less than what a fourth one asks for."""
    trials, errors = [], []
    for target in range(3):
        known = np.ones((3, 1, 40, 40), bool)
        known[target] = False
        patch = patch_of(known, DAY * np.array([0, 5, 10]), (target,))
        patch = replace(patch, values=np.where(known, rng.normal(size=known.shape), 0).astype(np.float32))
        hidden = np.ones((1, 1, 32, 32), bool)
        errors.append(rng.normal(size=hidden.shape).astype(np.float32))
        trials.append(Trial(patch, -errors[-1], hidden))
    of = {
        seen: float(lost_dates(SceneSample(tuple(trials), 1, (True,) * seen), errors)["lost_factor"])
        for seen in (3, 5, 6, 30)
    }
    assert of[3] > 1.03 * of[5] > 1.05 * of[30]
    assert of[6] == of[30], "of many dates nothing is added"
