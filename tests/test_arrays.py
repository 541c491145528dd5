"""`fill_array`: what is known nowhere stays unknown, and one wild number spoils nothing."""

import numpy as np
import pytest

import geodiff
from geodiff.errors import InputError, NothingKnownError


def _ground(rng: np.random.Generator) -> np.ndarray:
    return (300 + rng.normal(size=(60, 60)).cumsum(0)).astype("f4")


def test_a_band_that_is_known_nowhere_is_not_invented(rng: np.random.Generator) -> None:
    first = _ground(rng)
    first[20:30, 20:30] = np.nan
    value, error = geodiff.fill_array(np.stack([first, np.full_like(first, np.nan)]), filler="laplace")
    assert np.isfinite(value[0]).all()
    assert (error[0][20:30, 20:30] > 0).all()
    assert np.isnan(value[1]).all()
    assert np.isnan(error[1]).all()


def test_an_image_that_is_known_nowhere_is_refused() -> None:
    with pytest.raises(NothingKnownError, match="none of its 64 values"):
        geodiff.fill_array(np.full((8, 8), np.nan))


def test_what_a_masked_array_hides_is_unknown(rng: np.random.Generator) -> None:
    truth = np.round(_ground(rng))
    hidden = np.zeros(truth.shape, bool)
    hidden[20:30, 20:30] = True
    expected, _ = geodiff.fill_array(truth, ~hidden, filler="laplace")
    masked = np.ma.masked_array(np.where(hidden, -9999, truth).astype("i2"), hidden)
    value, error = geodiff.fill_array(masked, filler="laplace")
    told = np.ma.masked_array(np.ones(hidden.shape, bool), hidden)
    np.testing.assert_array_equal(geodiff.fill_array(masked.data, told, filler="laplace")[0], value)
    np.testing.assert_array_equal(value, expected)
    assert (error[hidden] > 0).all()


def test_complex_numbers_and_a_mask_upside_down_are_refused(rng: np.random.Generator) -> None:
    image = _ground(rng)
    with pytest.raises(InputError, match="complex"):
        geodiff.fill_array(image + 1j)
    image[20:30, 20:30] = np.nan
    with pytest.raises(NothingKnownError, match="~known"):
        geodiff.fill_array(image, np.isnan(image))


@pytest.mark.parametrize("wild", [-3.4028235e38, 9.96921e36])
def test_a_number_that_no_sensor_measured_does_not_spread(rng: np.random.Generator, wild: float) -> None:
    """Nodata that lost its tag on a pixel."""
    image = _ground(rng)
    image[20:30, 20:30] = np.nan
    plain, _ = geodiff.fill_array(image, filler="laplace")
    image[40, 40] = wild
    value, error = geodiff.fill_array(image, filler="laplace")
    assert value[40, 40] == np.float32(wild)
    assert np.isfinite(value).all()
    assert np.isfinite(error).all()
    np.testing.assert_allclose(value[20:30, 20:30], plain[20:30, 20:30], atol=3)


@pytest.mark.parametrize("wild", [np.finfo(np.float32).min, np.finfo(np.float64).min, 1e30])
def test_nor_do_many_of_them(rng: np.random.Generator, wild: float) -> None:
    """Nodata that lost its tag in a corner, far more often than a fire is hot."""
    image = _ground(rng).astype(np.float64)
    image[20:30, 20:30] = np.nan
    plain, _ = geodiff.fill_array(image, filler="kriging")
    image[:8, -8:] = wild
    value, error = geodiff.fill_array(image, filler="kriging")
    assert (value[:8, -8:] == wild).all()
    np.testing.assert_allclose(value[20:30, 20:30], plain[20:30, 20:30], atol=3)
    assert (error < 100).all()


@pytest.mark.parametrize("unit", [2.0**700, 2.0**-700])
def test_numbers_beyond_float32_are_filled_as_others(rng: np.random.Generator, unit: float) -> None:
    image = _ground(rng).astype(np.float64)
    image[20:30, 20:30] = np.nan
    plain = geodiff.fill_array(image)
    large = geodiff.fill_array(image * unit)
    for one, other in zip(plain, large, strict=True):
        np.testing.assert_allclose(other / unit, one, rtol=1e-4)


@pytest.mark.parametrize("value", [7.5, 3e-4, -2e5])
def test_one_number_in_an_image_says_little_of_the_others(value: float) -> None:
    values = np.full((80, 70), np.nan)
    values[40, 30] = value
    filled, error = geodiff.fill_array(values, filler="laplace")
    np.testing.assert_allclose(filled, value, rtol=1e-6)
    assert (error[np.isnan(values)] > abs(value) / 2).all()


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_nothing_goes_below_zeros_that_pile_up(rng: np.random.Generator, share: float) -> None:
    """No rain, no ice, no instability: the network's residual drew negative amounts, in a field of zeros too."""
    rows, columns = np.mgrid[:60, :70]
    amounts = np.maximum(np.sin(rows / 9) * np.cos(columns / 11) + 0.1 * rng.normal(size=rows.shape), 0)
    amounts[:, : int(70 * share)] = 0
    known = np.hypot(rows - 30, columns - 40) > 12
    value, _ = geodiff.fill_array(amounts, known)
    assert value.min() == 0
    if share == 1:
        assert not value.any()


@pytest.mark.parametrize(
    ("dtype", "level", "returned"), [("f8", 1e6, "f8"), ("i4", 2_147_000_000, "f8"), ("u2", 300, "f4")]
)
def test_known_numbers_come_back_as_they_were_given(
    rng: np.random.Generator, dtype: str, level: float, returned: str
) -> None:
    """A hundredth of a metre on northings, counts near the end of 32 bits: float32 holds neither."""
    steps = rng.normal(size=(60, 60)).cumsum(0)
    given = (level + (0.01 * steps if dtype == "f8" else np.round(10 * steps))).astype(dtype)
    known = np.ones(given.shape, bool)
    known[20:30, 20:30] = False
    value, error = geodiff.fill_array(given, known, filler="laplace")
    assert value.dtype == error.dtype == np.dtype(returned)
    np.testing.assert_array_equal(value[known], given[known])
    assert np.abs(value - given.astype("f8"))[~known].max() < np.ptp(given[known].astype("f8"))
