"""Lost dates of stacks that show two or one: farther in time is less certain, and nothing is ever certain."""

from dataclasses import replace

import numpy as np
import pytest

from geodiff.fillers import Patch
from geodiff.fillers.lost import beyond_corner, lost_error, lost_errors, lost_share
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


def test_a_pixel_is_of_a_lost_date_where_its_date_shows_next_to_nothing_and_that_is_far():
    known = np.zeros((1, 3, 88, 88), bool)
    known[0, 0, :20, :20] = True
    known[0, 1, :44] = True
    nothing, share = lost_share(patch_of(known))[0, 2], lost_share(patch_of(known))[0]
    assert (nothing == 1).all()
    assert (share[1] == 0).all(), "half of it is known"
    assert share[0, 20, 20] == 0
    assert share[0, -1, -1] == 1
    assert (np.diff(share[0].diagonal()) >= 0).all()
    assert np.abs(np.diff(share[0].diagonal())).max() < 0.2, "no step"
    free = replace(patch_of(known), fillable=known.copy())
    assert (lost_share(free)[0, 0] == 0).all(), "all there is of it is known"


def test_far_from_a_corner_errors_are_nearer_to_those_of_lost_dates():
    known = np.zeros((1, 2, 88, 88), bool)
    known[0, 0, :20, :20] = True
    claimed = np.full((1, 2, 80, 80), 0.1, np.float32)
    error = beyond_corner(patch_of(known), claimed, 1.0)[0]
    assert error[0, 0, 0] == pytest.approx(0.1)
    assert error[0, -1, -1] == pytest.approx(10**-0.4, rel=1e-4)
    assert (np.diff(error[0].diagonal()) >= 0).all()
    np.testing.assert_allclose(error[1], 0.1, rtol=1e-6, err_msg="a lost date has a factor of its own")
