"""Laws of gaps in one band where others are known: they are told of, and everything else is as it was."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff import fill_array
from geodiff.fillers import Fitted, Patch
from geodiff.fillers.crossband import across_bands
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.temporal import LinearTime
from geodiff.lattice import Window

HALO, SIDE = 32, 128
FIT = Fitted("kriging", {}, {"factors": np.ones(20, np.float32)})


def filled(patches):
    return across_bands(patches, lambda some: Kriging().fill(some, FIT, seed=0))


def alone(patches):
    return Kriging().fill(patches, FIT, seed=0)


def patch_of(truth, known, dates=1):
    values = np.where(known, truth, 0).astype(np.float32)[None].repeat(dates, axis=0)
    shown, free = known[None].repeat(dates, axis=0), np.ones((dates, *known.shape), bool)
    return Patch(
        values, shown, free, np.zeros_like(values), Window(0, 0, SIDE, SIDE), HALO, (0, 0), np.arange(dates) * 86_400
    )


@pytest.fixture
def truth(rng):
    """Three bands (band, row, column): the second goes with the first but for a little, the third with neither."""
    side = SIDE + 2 * HALO
    first, other, little = (gaussian_filter(rng.normal(size=(side, side)), s) for s in (1.5, 1.5, 1.5))
    first, other, little = (field / field.std() for field in (first, other, little))
    return np.stack([first, 0.9 * first + 0.1 * little, other])


@pytest.fixture
def gap(truth):
    lost = np.zeros(truth.shape[1:], bool)
    lost[60:100, 70:110] = True
    return lost


def rmse(answer, truth, lost, band):
    core = np.s_[HALO:-HALO, HALO:-HALO]
    return np.sqrt(np.mean((answer.value[0, band] - truth[band][core])[lost[core]] ** 2))


def test_a_gap_of_one_band_is_told_by_the_others(truth, gap):
    known = np.ones(truth.shape, bool)
    known[1, gap] = False
    (with_them,), (without,) = filled([patch_of(truth, known)]), alone([patch_of(truth, known)])
    assert rmse(with_them, truth, gap, 1) < 0.25 * rmse(without, truth, gap, 1)
    core = np.s_[HALO:-HALO, HALO:-HALO]
    miss, error = (with_them.value[0, 1] - truth[1][core])[gap[core]], with_them.standard_error[0, 1][gap[core]]
    assert 0.7 < np.sqrt(np.mean(miss**2)) / np.sqrt(np.mean(error**2)) < 1.4, "its error is of what the bands leave"


def test_what_is_left_is_asked_for_as_one_band_that_keeps_its_number(truth, gap):
    known, asked = np.ones(truth.shape, bool), []
    known[1, gap] = False
    across_bands([patch_of(truth, known)], lambda some: asked.extend(some) or alone(some))
    assert [(rest.values.shape[1], rest.first_band) for rest in asked] == [(3, 0), (1, 1)]


def test_bands_with_gaps_of_their_own_tell_where_they_are_known(truth, gap):
    """None of them shows all of the gap: they were not asked at all."""
    truth[2] = -0.8 * truth[0] + 0.1 * truth[2]
    known = np.ones(truth.shape, bool)
    known[1, gap] = False
    known[0, 85:], known[2, :75] = False, False  # ten rows are known in both, the others in one
    (with_them,), (without,) = filled([patch_of(truth, known)]), alone([patch_of(truth, known)])
    core = np.s_[HALO:-HALO, HALO:-HALO]
    for rows in (slice(60, 75), slice(75, 85), slice(85, 100)):
        part = np.zeros_like(gap)
        part[rows] = gap[rows]
        assert rmse(with_them, truth, part, 1) < 0.5 * rmse(without, truth, part, 1)
    miss, error = (with_them.value[0, 1] - truth[1][core])[gap[core]], with_them.standard_error[0, 1][gap[core]]
    assert 0.6 < np.sqrt(np.mean(miss**2)) / np.sqrt(np.mean(error**2)) < 1.4


@pytest.mark.parametrize("case", ["all bands lost", "nothing in common", "a date that repeats", "a single band"])
def test_where_other_bands_tell_nothing_all_is_as_it_was(truth, gap, case):
    known = np.ones(truth.shape, bool)
    bands = {"all bands lost": [0, 1, 2], "nothing in common": [2], "a date that repeats": [1], "a single band": [0]}
    known[np.ix_(bands[case], *(np.arange(n) for n in gap.shape))] = ~gap
    if case == "a single band":
        truth, known = truth[:1], known[:1]
    patch = patch_of(truth, known, dates=2 if case == "a date that repeats" else 1)
    if len(patch.dates) > 1:  # the second date shows all: bands do not depart from it
        patch = replace(patch, known=np.stack([known, np.ones_like(known)]), values=np.stack([patch.values[0], truth]))
    (ours,), (plain,) = filled([patch]), alone([patch])
    np.testing.assert_array_equal(ours.value, plain.value)
    np.testing.assert_array_equal(ours.standard_error, plain.standard_error)


def test_where_the_others_are_lost_too_space_tells(truth, gap):
    known = np.ones(truth.shape, bool)
    known[1, gap] = False
    lost = np.zeros_like(gap)
    lost[60:80, 70:110] = True  # half of it is lost in all bands
    known[:, lost] = False
    (ours,) = filled([patch_of(truth, known)])
    assert np.isfinite(ours.value).all()
    assert rmse(ours, truth, gap & ~lost, 1) < 0.3
    assert rmse(ours, truth, lost, 1) < 1.0


def test_patches_do_not_see_each_other(truth, gap):
    known = np.ones(truth.shape, bool)
    known[1, gap] = False
    one, other = patch_of(truth, known), replace(patch_of(truth[::-1], known[::-1]), absolute=(0, 96))
    together, apart = filled([one, other]), [*filled([one]), *filled([other])]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_dead_lines_of_one_band_of_an_image(truth):
    image = (1000 + 200 * truth[:, :96, :96]).astype(np.float32)
    known = np.ones(image.shape, bool)
    known[1, ::4] = known[1, 1::4] = False
    value, error = fill_array(image, known)
    single, _ = fill_array(image[1], known[1])
    miss = [np.sqrt(np.mean((v - image[1])[~known[1]] ** 2)) for v in (value[1], single)]
    assert miss[0] < 0.7 * miss[1]
    assert np.mean(np.abs(value[1] - image[1])[~known[1]] <= 1.645 * error[1][~known[1]]) > 0.8
    np.testing.assert_array_equal(value[known], image[known])


# stacks of dates


def stack_of(rng, dates=6, lost_on=2):
    """A patch of two bands that change together over the dates, one of which is lost on one of them; and the truth."""
    side = SIDE + 2 * HALO
    ground = gaussian_filter(rng.normal(size=(2, side, side)), (0, 2, 2)) * 6
    change = gaussian_filter(rng.normal(size=(dates, 1, side, side)), (0, 0, 3, 3)) * 8
    little = gaussian_filter(rng.normal(size=(dates, 2, side, side)), (0, 0, 1.5, 1.5))
    truth = (ground + change * np.array([1.0, -0.7])[:, None, None] + 0.1 * little).astype(np.float32)
    known = np.ones(truth.shape, bool)
    known[lost_on, 1] = False
    values = np.where(known, truth, np.float32(0))
    dated = 86_400 * 8 * np.arange(dates)
    free, coarse = np.ones_like(known), np.zeros_like(values)
    window = Window(0, 0, SIDE, SIDE)
    return Patch(values, known, free, coarse, window, HALO, (0, 0), dated, (lost_on,)), truth[lost_on, 1]


def by_dates(patches):
    return LinearTime().fill(patches, Fitted("linear-time", {}, {"factors": np.ones(20, np.float32)}), seed=0)


def test_a_band_that_a_date_has_lost_is_told_by_dates_and_bands_together(rng):
    patch, truth = stack_of(rng)
    (told,), (dates_alone,) = across_bands([patch], by_dates), by_dates([patch])
    miss = [float(np.sqrt(np.mean((a.value[0, 1] - truth[patch.core]) ** 2))) for a in (told, dates_alone)]
    assert miss[0] < 0.3 * miss[1]
    assert told.standard_error[0, 1].mean() < 0.5 * dates_alone.standard_error[0, 1].mean()


def test_space_is_asked_for_what_dates_and_bands_leave_alone(rng):
    """Parts that look at one date would else fill a level that is farther from smooth than the band itself."""
    patch, truth = stack_of(rng)
    known = patch.known.copy()
    known[2, 1] = True
    known[2, 1, 50:140, 60:130] = False
    values = patch.values.copy()
    values[2, 1] = np.where(known[2, 1], truth, 0)
    patch, lost = replace(patch, known=known, values=values), ~known[2, 1][patch.core]
    (told,), (dates_alone,) = filled([patch]), by_dates([patch])
    miss = [np.sqrt(np.mean((a.value[0, 1] - truth[patch.core])[lost] ** 2)) for a in (told, dates_alone)]
    assert miss[0] < 0.3 * miss[1]


def test_lines_that_a_band_has_lost_on_every_date_are_told_by_the_other(rng):
    """No date ever saw them: what the bands of one date have in common tells them."""
    patch, _ = stack_of(rng)
    side = SIDE + 2 * HALO
    ground = gaussian_filter(rng.normal(size=(side, side)), 1) * 16
    values = patch.values + ground.astype(np.float32)  # in both bands, on every date
    known = np.ones_like(patch.known)
    known[:, 1, ::4] = known[:, 1, 1::4] = known[:, 1, 2::4] = False
    truth = values[3, 1]
    patch = replace(patch, known=known, values=np.where(known, values, np.float32(0)), targets=(3,))
    (told,), (alone_,) = filled([patch]), alone([patch])
    lost = ~known[3, 1][patch.core]
    miss = [np.sqrt(np.mean((a.value[0, 1] - truth[patch.core])[lost] ** 2)) for a in (told, alone_)]
    assert miss[0] < 0.8 * miss[1]


def test_dates_on_which_bands_say_nothing_new_are_asked_as_before(rng):
    """The other band changes in its own way: what it says is left out."""
    patch, _ = stack_of(rng)
    values = patch.values.copy()
    values[:, 0] = gaussian_filter(rng.normal(size=values[:, 0].shape), (0, 3, 3)) * 8
    patch = replace(patch, values=values.astype(np.float32))
    (ours,), (plain,) = across_bands([patch], by_dates), by_dates([patch])
    np.testing.assert_array_equal(ours.value, plain.value)
