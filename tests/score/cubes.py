"""Cubes of arrays at hand, to be scored."""

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geodiff.encoding import Encoding
from geodiff.io import Band, Variable
from geodiff.scene import Cube, Rules


class Planes:
    def __init__(self, values):
        self.values = values

    def read(self, date, window):
        return self.values[(date, slice(None), *window.slices)]

    def valid(self, date, window):
        return None


def cube_of(values, dates=None, affine=None):
    """NaN is missing; (date, band, row, column)."""
    bands = tuple(Band(str(i + 1), Encoding(np.dtype(np.float32))) for i in range(values.shape[1]))
    grid = GeoBox(values.shape[-2:], affine or Affine.identity(), None)
    when = (None,) if dates is None else tuple(np.datetime64(d) for d in dates)
    variable = Variable("field", bands, grid, Planes(values.astype(np.float32)), when)
    return Cube(variable, tuple(range(values.shape[1])), tuple(range(len(when))), Rules())
