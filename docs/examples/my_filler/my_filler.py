"""A filler of one's own: the plane through what is known around a window, band by band."""

import numpy as np

from geodiff.fillers import Filled, Fitted, source_codes


class Plane:
    """The least-squares plane through the known pixels around a window."""

    name = "plane"
    halo = 32  # pixels of context that it wants around a window

    def fit(self, sample):
        return Fitted(self.name)  # nothing to learn from the whole scene

    def fill(self, patches, fitted, *, seed):
        return [self._fill(patch) for patch in patches]

    def _fill(self, patch):
        value = np.empty(patch.missing.shape, np.float32)  # (target, band, row, column) of the window
        error = np.empty_like(value)
        for (target, band), _ in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            place = patch.targets[target], band
            plane, off = _plane(patch.values[place], patch.known[place])
            value[target, band], error[target, band] = plane[patch.core], off
        source = np.full(value.shape, source_codes()[self.name], np.uint8)
        return Filled(value, error, None, source)


def _plane(values, known):
    """The plane over all pixels, and how far the known ones lie from it."""
    rows, columns = np.indices(values.shape) / 100
    terms = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    weights, *_ = np.linalg.lstsq(terms[known], values[known], rcond=None)
    plane = terms @ weights
    return plane, max(float(np.std(values[known] - plane[known])) if known.any() else 1.0, 1e-3)
