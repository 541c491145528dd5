"""Covariances of smooth fields: fitted to what neighbours differ by, and those of some field."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.fillers import Fitted
from geodiff.fillers.kriging import Kriging, predicted
from geodiff.fillers.spatial import Laplace
from geodiff.fillers.variogram import covariances, variogram
from geodiff.fillers.variogram_models import likeliest_covariance

SIDE = 96


def smooth(rng: np.random.Generator, scale: float | tuple[float, float] = 10.0) -> np.ndarray:
    """A field of unit variance whose neighbours differ by little."""
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), scale, mode="reflect")
    return (field / field.std()).astype(np.float32)


AT = [0, 1, 1, 0, 2], [1, 0, 1, 2, 0]
"""Rows and columns of the shortest lags."""


def test_differences_grow_with_the_lag_as_they_were_measured(rng):
    values, everything = smooth(rng), np.ones((SIDE, SIDE), bool)
    measured, _ = variogram(values, everything)
    table = likeliest_covariance(values, everything, 64)
    ratio = (table[0, 0] - table[AT]) / measured[AT]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.3)


def test_directions_count_in_full(rng):
    values, everything = smooth(rng, (5.0, 10.0)), np.ones((SIDE, SIDE), bool)
    measured, _ = variogram(values, everything)
    table = likeliest_covariance(values, everything, 64)
    along, across = table[0, 0] - table[0, 1], table[0, 0] - table[1, 0]
    assert across / along == pytest.approx(measured[1, 0] / measured[0, 1], rel=0.35)


def test_it_is_the_covariance_of_some_field(rng):
    table = likeliest_covariance(smooth(rng), rng.random((SIDE, SIDE)) < 0.3, 64)
    rows, columns = rng.integers(0, 60, (2, 120))
    between = table[rows[:, None] - rows, columns[:, None] - columns]
    assert np.linalg.eigvalsh(between).min() > -1e-9 * table[0, 0]


def test_what_is_not_known_has_no_say(rng):
    values, known = smooth(rng), rng.random((SIDE, SIDE)) < 0.4
    spoiled = np.where(known, values, np.float32(1e3))
    np.testing.assert_array_equal(likeliest_covariance(values, known, 64), likeliest_covariance(spoiled, known, 64))


def test_a_field_that_differs_along_one_axis_alone_has_a_covariance(rng):
    field = np.repeat(smooth(rng)[:, :1], SIDE, axis=1)
    assert np.isfinite(likeliest_covariance(field, np.ones(field.shape, bool), 64)).all()


def test_one_number_and_few_pixels_have_none(rng):
    few = np.zeros((SIDE, SIDE), bool)
    few[::13, ::13] = True
    few[0] = False
    assert np.count_nonzero(few) < 64
    assert likeliest_covariance(smooth(rng), few, 64) is None
    assert likeliest_covariance(np.ones((SIDE, SIDE)), ~few, 64) is None


def test_pixels_strewn_over_more_than_a_groups_reach_are_enough(rng):
    known = np.zeros((SIDE, SIDE), bool)
    known[5::11, 5::11] = True
    assert np.isfinite(likeliest_covariance(smooth(rng, 20.0), known, 64)).all()


def test_a_large_gap_in_a_field_stretched_along_its_rows_is_filled_from_its_sides(rng):
    values, known = smooth(rng, (6.0, 20.0)), np.ones((SIDE, SIDE), bool)
    known[32:64, 32:64] = False
    seen = np.where(known, values, np.float32(0))
    found = Kriging().plane(seen, known, np.zeros_like(values), Fitted("kriging"))
    assert np.sqrt(np.mean((found - values)[~known] ** 2)) < 0.06


def test_only_smooth_fields_are_given_a_model(rng):
    everything = np.ones((SIDE, SIDE), bool)
    rough, flat = (covariances(plane, everything).table for plane in (rng.normal(size=(SIDE, SIDE)), smooth(rng)))
    assert len(rough) < len(flat)


def test_a_smooth_field_with_most_pixels_lost_is_filled_as_smooth_as_it_is(rng):
    values, known = smooth(rng), rng.random((SIDE, SIDE)) < 0.3
    seen, coarse = np.where(known, values, np.float32(0)), np.zeros_like(values)
    error = {
        filler.name: np.sqrt(np.mean((filler.plane(seen, known, coarse, Fitted(filler.name)) - values)[~known] ** 2))
        for filler in (Kriging(), Laplace())
    }
    assert error["kriging"] < 0.25 * error["laplace"], "with a table of clipped spectrum it would be worse than it"


def test_lines_of_an_image_that_is_sharp_but_oversampled_are_filled_by_its_smoothness(rng):
    """Rough over some pixels, smooth from one to the next: the table measured for both is too rough for the second."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    power = 1 / np.maximum(np.hypot(rows, columns), 1 / SIDE) ** 1.5 * np.exp(-8 * (rows**2 + columns**2))
    values = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * power).astype(np.float32)
    values /= values.std()
    known = np.ones((SIDE, SIDE), bool)
    known[3::8] = False
    kinds = covariances(values, known)
    assert kinds.close is not None
    seen, coarse = np.where(known, values, np.float32(0)), np.zeros_like(values)
    found = Kriging().plane(seen, known, coarse, Fitted("kriging"))
    by_table = predicted(Laplace().plane(seen, known, coarse, Fitted("laplace")), known, ~known, kinds.table)
    error, before = (np.sqrt(np.mean((plane - values)[~known] ** 2)) for plane in (found, by_table))
    assert error < 0.8 * before


def test_an_image_that_is_rough_from_pixel_to_pixel_has_one_covariance(rng):
    noisy = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 3) + 0.02 * rng.normal(size=(SIDE, SIDE))
    assert covariances(noisy.astype(np.float32), np.ones((SIDE, SIDE), bool)).close is None
