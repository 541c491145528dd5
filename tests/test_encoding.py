"""Stored numbers and physical values, both ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.encoding import Encoding, Normalisation, is_nodata, pack, piles_up, unpack
from geodiff.errors import EncodingError

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


@given(
    dtype=st.sampled_from(INTEGERS),
    scale=st.sampled_from([1.0, 1e-4, 0.01, -0.5, 2.75e-5]),
    offset=st.sampled_from([0.0, -0.2, 273.15]),
    data=st.data(),
)
def test_packing_what_was_unpacked_gives_it_back(dtype: str, scale: float, offset: float, data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    stored = np.array(data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1)), dtype)
    encoding = Encoding(np.dtype(dtype), None, scale, offset)
    physical, valid = unpack(stored, encoding)
    assert valid.all()
    assert np.array_equal(pack(physical, encoding), stored)


@given(st.floats(-1e4, 1e4), st.sampled_from([1.0, 0.01, 3.5]), st.sampled_from([0.0, -7.25]))
def test_unpacking_what_was_packed_is_within_half_a_step(value: float, scale: float, offset: float) -> None:
    encoding = Encoding(np.dtype("int32"), None, scale, offset)
    physical, _ = unpack(pack(np.array([value]), encoding), encoding)
    assert abs(physical[0] - value) <= scale / 2 + 1e-9


@given(
    st.sampled_from([*INTEGERS, "float32", "float64"]),
    st.floats(-1e12, 1e12) | st.sampled_from([0.0, 255.0, -1.0, 65535.0]),
    st.sampled_from([0, 1, 100, 127]),
)
def test_a_filled_value_is_never_nodata(dtype: str, value: float, nodata: int) -> None:
    encoding = Encoding(np.dtype(dtype), nodata, extra_nodata=(float(nodata + 0), 5.0))
    assert not is_nodata(pack(np.array([value]), encoding), encoding).any()


@given(
    st.sampled_from(INTEGERS),
    st.lists(st.integers(0, 6), min_size=2, max_size=5, unique=True),
    st.booleans(),
    st.floats(-3, 10),
)
def test_markers_side_by_side_are_all_kept_clear_of(dtype: str, markers: list[int], at_end: bool, value: float) -> None:
    top = np.iinfo(dtype).max
    places = [float(top - m) if at_end else float(m) for m in markers]
    if any(int(p) > 2**53 for p in places):
        return
    encoding = Encoding(np.dtype(dtype), places[0], extra_nodata=tuple(places[1:]))
    wanted = float(top) - value if at_end else value
    stored = pack(np.array([wanted]), encoding)
    assert not is_nodata(stored, encoding).any()
    free = [n for n in range(12) if (top - n if at_end else n) not in places]
    nearest = min(abs((top - n if at_end else n) - np.clip(wanted, np.iinfo(dtype).min, top)) for n in free)
    assert abs(float(stored[0]) - np.clip(wanted, np.iinfo(dtype).min, top)) <= nearest + 0.5


@given(
    st.sampled_from([*INTEGERS, "float32", "float64"]),
    st.sampled_from([1.0, 0.1, -0.1, 2.5, 1e-4]),
    st.sampled_from([0.0, -3.0, 273.15]),
    st.floats(-40, 40),
    st.floats(4, 60),
    st.floats(-100, 100),
)
def test_a_filled_value_is_valid_when_it_is_read(
    dtype: str, scale: float, offset: float, low: float, width: float, value: float
) -> None:
    step, least = abs(scale), max(low, 0.0) if dtype.startswith("u") and scale > 0 else low
    if dtype.startswith("u") and scale < 0:
        least = -abs(low) - width
    bounds = (least * step + offset, (least + width) * step + offset)
    encoding = Encoding(np.dtype(dtype), 10, scale, offset, bounds, (11.0,))
    assert unpack(pack(np.array([value * step + offset]), encoding), encoding)[1].all()


@pytest.mark.parametrize(
    ("dtype", "spelt"), [("float32", -3.40282306073709653e38), ("float32", 3.40282e38), ("float64", -1.79769e308)]
)
def test_the_end_of_a_floating_dtype_is_nodata_however_short_it_is_spelt(dtype: str, spelt: float) -> None:
    """Desktop GIS fill with the lowest number there is, and tags say it with fewer digits."""
    end = np.copysign(np.finfo(dtype).max, spelt)
    stored = np.array([end, -end, end / 1.001, 1.0], dtype)
    assert is_nodata(stored, Encoding(np.dtype(dtype), spelt)).tolist() == [True, False, False, False]


def test_where_no_number_lies_in_the_range_it_is_nodata_alone_that_is_avoided() -> None:
    encoding = Encoding(np.dtype("uint8"), 3, valid_range=(3.2, 3.4))
    assert pack(np.array([3.3]), encoding).tolist() == [4]


def test_a_value_near_nodata_moves_to_its_own_side() -> None:
    encoding = Encoding(np.dtype("uint8"), 10)
    assert pack(np.array([9.8, 10.4, 10.0]), encoding).tolist() == [9, 11, 11]
    assert pack(np.array([-3.0, 0.4]), Encoding(np.dtype("uint8"), 0)).tolist() == [1, 1]
    assert pack(np.array([300.0]), Encoding(np.dtype("uint8"), 255)).tolist() == [254]


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", -1), ("uint8", 256), ("int16", 0.5), ("uint16", np.nan), ("float32", 1e300)]
)
def test_nodata_the_dtype_cannot_hold_is_refused(dtype: str, nodata: float) -> None:
    with pytest.raises(EncodingError, match="cannot be stored"):
        Encoding(np.dtype(dtype), nodata)


def test_nan_and_infinities_are_missing_in_floats() -> None:
    stored = np.array([1.0, np.nan, np.inf, -9999.0], "float32")
    physical, valid = unpack(stored, Encoding(np.dtype("float32"), -9999))
    assert valid.tolist() == [True, False, False, False]
    assert np.isfinite(physical).all()


def test_the_valid_range_is_physical_and_bounds_what_is_filled() -> None:
    encoding = Encoding(np.dtype("int16"), None, 0.01, 0.0, valid_range=(0.0, 1.0))
    _, valid = unpack(np.array([-1, 0, 100, 101], "int16"), encoding)
    assert valid.tolist() == [False, True, True, False]
    assert pack(np.array([-5.0, 7.0]), encoding).tolist() == [0, 100]


def test_the_largest_integers_survive() -> None:
    big = np.array([0.0, 1e30, -1e30])
    assert pack(big, Encoding(np.dtype("int64"))).tolist() == [0, 2**63 - 1, -(2**63)]
    assert pack(big, Encoding(np.dtype("uint64"))).tolist() == [0, 2**64 - 1, 0]


@given(st.floats(-1e3, 1e3), st.floats(0.1, 50))
def test_normalisation_goes_both_ways(centre: float, scale: float) -> None:
    recipe = Normalisation(centre, scale)
    values = np.linspace(centre - 3 * scale, centre + 3 * scale, 7)
    assert np.allclose(recipe.inverse(recipe.forward(values)), values, atol=1e-5 * scale + 1e-6 * abs(centre))


def test_the_cube_root_keeps_dry_places_dry_and_its_error_is_never_none() -> None:
    recipe = Normalisation(0.8, 0.5, "cbrt")
    rain = np.array([0.0, 0.2, 5.0, 90.0])
    assert np.allclose(recipe.inverse(recipe.forward(rain)), rain, atol=1e-4)
    assert (recipe.inverse(np.float32([-9.0, -3.0])) == 0).all()
    error = recipe.error(rain, np.full(4, 0.3, np.float32))
    assert error[0] == pytest.approx((1.645 * 0.15) ** 3 / 2 / 1.645, rel=1e-5)
    assert (np.diff(error) > 0).all()
    z, step = recipe.forward(rain[2:]), np.float32(1.645 * 0.3)
    assert np.allclose(error[2:], (recipe.inverse(z + step) - recipe.inverse(z - step)) / 2 / 1.645, rtol=1e-3)


@pytest.mark.parametrize(("transform", "spread"), [("cbrt", 0.1), ("cbrt", 0.4), ("log10", 0.05), ("log10", 0.6)])
def test_errors_of_transformed_values_hold_nine_of_ten_truths(
    rng: np.random.Generator, transform: str, spread: float
) -> None:
    """Half of the places dry, or values over decades: as wide as it should be where the value is little, too."""
    recipe = Normalisation(0.0, 1.0, transform)
    expected = rng.normal(size=200_000).astype(np.float32)
    truth = recipe.inverse((expected + spread * rng.normal(size=expected.size)).astype(np.float32))
    value = recipe.inverse(expected)
    inside = np.abs(truth - value) <= 1.645 * recipe.error(value, np.full(expected.size, spread, np.float32))
    assert 0.87 < inside[truth > 0].mean() < 0.92
    least = (truth > 0) & (value <= np.quantile(value, 0.4))
    assert 0.87 < inside[least].mean() < 0.92


def test_the_error_of_a_logarithm_is_that_of_the_delta_method_where_it_is_small() -> None:
    recipe = Normalisation(-0.5, 0.4, "log10")
    physical = np.array([0.02, 1.0, 30.0])
    z = recipe.forward(physical)
    step = np.float32(1e-2)
    slope = (recipe.inverse(z + step) - recipe.inverse(z - step)) / (2 * step)
    assert np.allclose(100 * recipe.error(physical, np.full(3, 0.01, "float32")), slope, rtol=1e-3)


def test_bounds_are_what_can_be_stored() -> None:
    assert Encoding("uint8").bounds == (0, 255)
    assert Encoding("int16", scale=-0.5, offset=1).bounds == (-16382.5, 16385)
    assert Encoding("uint16", valid_range=(-5, 4095)).bounds == (0, 4095)
    assert Encoding("float32").bounds == (-np.inf, np.inf)


def test_a_bound_holds_what_comes_back():
    recipe = Normalisation(2.0, 4.0, "linear", 0.0, 5.0)
    np.testing.assert_array_equal(recipe.inverse(np.array([-3.0, 0.0, 9.0], np.float32)), [0.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("values", "end", "bound"),
    [
        ([0] * 50 + [1] * 10 + [2] * 40, 0, True),
        ([0] * 50 + [1] * 40 + [2] * 10, 0, False),
        ([100] * 30 + [200] * 70, 100, True),
        ([100] * 30 + [200] * 70, 200, True),
        ([7] * 100, 7, True),
        ([100] * 99 + [200], 200, False),
    ],
)
def test_where_values_pile_up_is_an_end(values: list[int], end: int, *, bound: bool) -> None:
    assert piles_up(np.array(values, float), end, 2) is bound
