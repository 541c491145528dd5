"""Small CF datasets and what is read of them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geodiff.io import OpenOptions
from geodiff.io.cf import open_dataset_as_raster
from geodiff.lattice import Window


def a_dataset(dims=("time", "lat", "lon"), shape=(2, 3, 4), dtype="f4", attrs=None, **coordinates):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return xr.Dataset({"v": xr.Variable(dims, values, attrs or {})}, coordinates)


def an_axis(dim, values, **attrs):
    return xr.Variable((dim,), np.asarray(values), attrs)


def only(dataset, **options):
    return open_dataset_as_raster(dataset, options=OpenOptions(**options)).variables[0]


def whole(variable, date=0):
    return variable.reader.read(date, Window(0, 0, *variable.shape[2:]))
