"""The expected error: grows with distance, scales with the field, and is the same in any company."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from geodiff.fillers.whitening import FARTHEST, FLOOR, around, distance_to_known, expected_error, local_spread


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_distances_are_euclidean_and_capped(seed, share, shape):
    known = np.random.default_rng(seed).random(shape) < share
    expected = np.minimum(distance_transform_edt(~known), FARTHEST) if known.any() else np.full(shape, FARTHEST)
    np.testing.assert_array_equal(distance_to_known(known), expected.astype(np.float32))


def test_distances_in_a_hole_are_those_of_the_whole_plane():
    known = np.ones((90, 110), bool)
    known[30:61, 50:77] = known[3:5, 4:9] = False
    expected = distance_transform_edt(~known).astype(np.float32)
    np.testing.assert_array_equal(distance_to_known(known[None])[0], expected)


@given(
    rows=st.tuples(st.integers(0, 59), st.integers(0, 59)), columns=st.tuples(st.integers(0, 59), st.integers(0, 59))
)
def test_the_box_around_gaps_has_a_known_margin_or_ends_at_the_frame(rows, columns):
    missing = np.zeros((60, 60), bool)
    missing[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1] = True
    box = around(missing)
    assert box is not None
    assert missing[box].sum() == missing.sum()
    for span, ends in zip(box, (rows, columns), strict=True):
        assert span.start == 0 or span.start < min(ends)
        assert span.stop == 60 or span.stop > max(ends) + 1
        assert span.start % 4 == 0
    assert around(np.zeros((5, 5), bool)) is None


def test_the_error_grows_with_distance_and_scales_with_the_values(rng):
    values = rng.normal(size=(1, 96, 96)).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[:, 24:72, 24:72] = False
    error = expected_error(values, known)
    assert error[0, 25, 48] < error[0, 30, 48] < error[0, 48, 48]
    np.testing.assert_allclose(expected_error(values * 7 + 3, known), 7 * error, rtol=2e-3)
    np.testing.assert_allclose(error[0, 48, 48], 1.3 * local_spread(values, known)[0, 48, 48], rtol=0.01)


def test_the_spread_of_white_noise_is_its_standard_deviation(rng):
    values = (2.5 * rng.normal(size=(1, 128, 128))).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[:, 50:80, 50:80] = False
    spread = local_spread(values, known)
    assert spread.mean() == pytest.approx(2.5, rel=0.03)
    assert spread[0, 60:70, 60:70].mean() == pytest.approx(2.5, rel=0.15)


def test_constant_and_unknown_planes_have_a_positive_error():
    known = np.ones((2, 32, 32), bool)
    known[0, 10:20, 10:20] = False
    known[1] = False
    error = expected_error(np.full(known.shape, 4.0, np.float32), known)
    np.testing.assert_allclose(error[0], FLOOR)
    np.testing.assert_allclose(error[1], 1.3, rtol=1e-5)


def test_a_plane_is_bit_identical_in_any_company(rng):
    values = rng.normal(size=(4, 70, 61)).astype(np.float32)
    known = rng.random(values.shape) < 0.5
    known[2] = False
    together = expected_error(values, known)
    alone = np.concatenate([expected_error(values[i : i + 1], known[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(together, alone)


def test_hidden_values_have_no_influence(rng):
    values = rng.normal(size=(1, 64, 64)).astype(np.float32)
    known = rng.random(values.shape) < 0.7
    spoiled = np.where(known, values, np.float32(1e4))
    np.testing.assert_array_equal(expected_error(values, known), expected_error(spoiled, known))


def test_a_number_and_its_mirror_images_do_not_say_that_a_field_is_constant():
    values, known = np.full((1, 40, 40), 3, np.float32), np.zeros((1, 40, 40), bool)
    known[0, [0, 39, 20], [0, 39, 1]] = True
    np.testing.assert_array_equal(local_spread(values, known), 1)
    known[0, :10, :10] = True
    assert local_spread(values, known)[0, 30, 30] < FLOOR
    values[0, 0, 2], known[0, :10, :10] = 5, False
    known[0, 0, [0, 2]] = True
    assert 0.5 < local_spread(values, known)[0, 0, 2] < 2


@pytest.mark.parametrize("share", [0.03, 0.1, 0.6])
def test_the_spread_of_noise_is_its_own_however_few_pixels_are_known(share):
    rng = np.random.default_rng(3)
    values, known = rng.normal(size=(20, 100, 100)).astype(np.float32), rng.random((20, 100, 100)) < share
    assert local_spread(values, known).mean() == pytest.approx(1, abs=0.05)
