"""The Python functions say by type which options they take, and they are those of the jobs."""

import inspect

import xarray as xr

import geodiff
from geodiff.job import FillJob
from geodiff.lazy import OPTIONS
from geodiff.options import ArrayOptions, FillOptions, RestoreOptions
from geodiff.restoring import RestoreJob


def test_options_are_the_fields_of_the_jobs() -> None:
    assert set(FillOptions.__annotations__) == set(FillJob.model_fields) - {"source", "target"}
    assert set(RestoreOptions.__annotations__) == set(RestoreJob.model_fields) - {"source", "target", "task"}
    assert set(ArrayOptions.__annotations__) == set(OPTIONS)


def test_functions_and_their_docstrings_name_them() -> None:
    told = {geodiff.fill: FillOptions, geodiff.restore: RestoreOptions, xr.Dataset.geodiff.fill: ArrayOptions}
    for function, options in told.items():
        assert options.__name__ in inspect.signature(function).parameters["options"].annotation
        assert not [name for name in options.__annotations__ if f"`{name}`" not in inspect.getdoc(function)]
    assert "FillOptions" in inspect.signature(geodiff.plan_fill).parameters["options"].annotation
