"""Dates of CF datasets: units, calendars, forecasts, what is no date."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.io.cubes import a_dataset, an_axis, only


def _dates(values, units="days since 2000-01-01", **attrs):
    values = np.asarray(values)
    dataset = a_dataset(shape=(len(values), 3, 4), time=an_axis("time", values, units=units, **attrs))
    return [None if d is None else str(d.astype("M8[s]")) for d in only(dataset).dates]


def test_irregular_duplicate_and_descending_dates_stay_as_found():
    assert _dates([9, 2.5, 2.5, 0]) == ["2000-01-10T00:00:00", *["2000-01-03T12:00:00"] * 2, "2000-01-01T00:00:00"]


@pytest.mark.parametrize(
    ("values", "units", "calendar", "expected"),
    [
        ([0, 59], "days since 2001-01-01", "noleap", ["2001-01-01T00:00:00", "2001-03-01T00:00:00"]),
        ([59], "days since 2000-01-01", "365_day", ["2000-03-01T00:00:00"]),
        ([0, 180], "days since 2001-01-01", "360_day", ["2001-01-01T00:00:00", "2001-07-01T00:00:00"]),
        ([59, 180], "days since 2001-01-01", "360_day", ["2001-02-28T16:00:00", "2001-07-01T00:00:00"]),
        ([57, 58], "days since 2001-01-01", "360_day", ["2001-02-28T00:00:00", "2001-02-28T08:00:00"]),
        ([58, 59], "days since 2004-01-01", "360_day", ["2004-02-28T16:00:00", "2004-02-29T08:00:00"]),
        ([58.5, 59.5], "days since 2001-01-01", "all_leap", ["2001-02-28T06:00:00", "2001-02-28T18:00:00"]),
        ([58.5, 59.5], "days since 2000-01-01", "all_leap", ["2000-02-28T12:00:00", "2000-02-29T12:00:00"]),
        ([58.5], "days since 2000-01-01", "noleap", ["2000-02-28T12:00:00"]),
        ([1.0, 2.5], "months since 2000-01-15", "standard", ["2000-02-15T00:00:00", "2000-03-30T12:00:00"]),
        ([1], "years since 1999-02-03 06:00", "standard", ["2000-02-03T06:00:00"]),
        ([1], "hours since 1900-01-01 00:00:0.0", "gregorian", ["1900-01-01T01:00:00"]),
        ([20200229.25], "day as %Y%m%d.%f", "standard", ["2020-02-29T06:00:00"]),
        ([20200229], "", "standard", ["2020-02-29T00:00:00"]),
        ([20200229.0, np.nan], "day as %Y%m%d.%f", "standard", ["2020-02-29T00:00:00", None]),
        ([201702.5], "month as %Y%m.%f", "standard", ["2017-02-15T00:00:00"]),
        ([2019.5], "year as %Y.%f", "standard", ["2019-07-02T12:00:00"]),
        ([201612, 201701], "", "standard", ["2016-12-01T00:00:00", "2017-01-01T00:00:00"]),
        ([1999, 2001], "year", "standard", ["1999-01-01T00:00:00", "2001-01-01T00:00:00"]),
        ([201712, 201713], "", "standard", [None, None]),
        ([20170131, 20170132], "", "standard", [None, None]),
        ([2001, 1999], "", "standard", [None, None]),
        ([2001], "", "standard", [None]),
        ([1, 2], "", "standard", [None, None]),
        ([366], "hour since 0000-01-01 00:00:00", "standard", ["0000-01-16T06:00:00"]),
        ([1.5], "months since 0000-01-01", "standard", ["0000-02-15T12:00:00"]),
        ([1 / 3], "days since 2000-01-01", "standard", ["2000-01-01T08:00:00"]),
        ([5], "hours", "standard", [None]),
        ([5], "days since the flood", "standard", [None]),
        ([5], "days since 2000-01-01", "martian", [None]),
    ],
)
def test_calendars_and_units(values, units, calendar, expected):
    assert _dates(values, units, calendar=calendar) == expected


def test_missing_dates_are_none_and_decoded_ones_are_taken():
    assert _dates([1.0, np.nan, -99.0], _FillValue=-99.0) == ["2000-01-02T00:00:00", None, None]
    decoded = a_dataset(time=("time", np.array(["2020-01-01", "NaT"], "M8[ns]")))
    assert [d is None for d in only(decoded).dates] == [False, True]
    text = a_dataset(time=("time", np.array(["2020-01-01T03:00:00Z", "?"], object)))
    assert [str(d)[:16] for d in only(text).dates] == ["2020-01-01T03:00", "None"]
    cf = xr.Dataset(
        {"v": (("time", "y", "x"), np.zeros((2, 2, 2)))},
        {"time": xr.date_range("2001-02-28", periods=2, calendar="noleap", use_cftime=True)},
    )
    assert [str(d)[:10] for d in only(cf).dates] == ["2001-02-28", "2001-03-01"]


def test_a_scalar_time_is_the_one_date():
    dataset = a_dataset(("y", "x"), (3, 4), time=xr.Variable((), 3, {"units": "days since 2000-01-01"}))
    assert [str(d)[:10] for d in only(dataset).dates] == ["2000-01-04"]
    assert only(a_dataset(("y", "x"), (3, 4))).dates == (None,)


@pytest.mark.parametrize("dims", [("step", "lat", "lon"), ("time", "step", "lat", "lon")])
def test_steps_of_a_forecast_are_the_times_they_are_valid_for(dims):
    shape = (1, 3, 3, 4)[-len(dims) :]
    began = xr.Variable(dims[:-3], np.zeros(shape[:-3], int), {"units": "days since 2000-01-01"})
    ahead = an_axis("step", [0, 6, 12], standard_name="forecast_period", units="hours")
    valid = xr.Variable(dims[:-2], np.reshape([0, 6, 12], shape[:-2]), {"units": "hours since 2000-01-01"})
    opened = only(a_dataset(dims, shape, step=ahead, time=began, valid_time=valid))
    assert opened.shape == (3, 1, 3, 4)
    assert [str(date)[:13] for date in opened.dates] == ["2000-01-01T00", "2000-01-01T06", "2000-01-01T12"]


@pytest.mark.parametrize("dim", ["step", "lead", "timestep", "frtime", "forecast_time0", "hour", "dayofyear"])
def test_steps_that_nothing_dates_follow_each_other_all_the_same(dim):
    """As bands, of 64 steps of a storm the intervals held .71 under clouds, and lost steps stayed unfilled."""
    undated = a_dataset((dim, "lat", "lon"), (3, 3, 4), **{dim: an_axis(dim, [0, 6, 12], units="hours")})
    assert (only(undated).shape, only(undated).dates) == ((3, 1, 3, 4), (None,) * 3)
    times = an_axis("time", [0, 1], units="days since 2000-01-01")
    dated = a_dataset((dim, "time", "lat", "lon"), (3, 2, 3, 4), time=times)
    assert only(dated).shape == (2, 3, 3, 4)
    begun = a_dataset((dim, "time", "lat", "lon"), (3, 1, 3, 4), **undated.coords, time=times[:1])
    assert [str(date)[:13] for date in only(begun).dates] == ["2000-01-01T00", "2000-01-01T06", "2000-01-01T12"]
    begun[dim] = (dim, np.array([0, 6, 30], "m8[h]").astype("m8[ns]"))
    assert (only(begun).shape, str(only(begun).dates[2])[:13]) == ((3, 1, 3, 4), "2000-01-02T06")
    begun[dim] = (dim, np.arange(3), {"units": "months"})
    assert only(begun).dates == (None,) * 3
    one = undated.isel({dim: [0]}).assign_coords(time=np.datetime64("2000-01-01", "ns"))
    assert str(only(one).dates[0])[:10] == "2000-01-01"


def test_steps_of_several_forecasts_are_bands():
    began = an_axis("time", [0, 1], units="days since 2000-01-01")
    valid = xr.Variable(("time", "step"), [[0, 6, 12], [24, 30, 36]], {"units": "hours since 2000-01-01"})
    several = a_dataset(("time", "step", "lat", "lon"), (2, 3, 3, 4), time=began, valid_time=valid)
    assert only(several).shape == (2, 3, 3, 4)
