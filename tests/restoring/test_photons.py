"""The Anscombe transform makes photon noise even, and its inverse has no bias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.restoring.photons import flattened, raised, slope


@pytest.mark.parametrize(("gain", "read"), [(1.0, 0.0), (2.5, 4.0), (0.02, 0.03)])
def test_noise_is_even_and_the_mean_comes_back(gain: float, read: float) -> None:
    rng = np.random.default_rng(0)
    for photons in (5, 20, 200):
        seen = gain * rng.poisson(photons, 200_000) + rng.normal(0, read, 200_000)
        flat = flattened(seen, gain, read)
        assert flat.std() == pytest.approx(1, abs=0.08)
        assert raised(flat.mean(keepdims=True), gain, read)[0] == pytest.approx(gain * photons, rel=0.02)


@given(st.floats(0.01, 50), st.floats(0, 100))
def test_the_inverse_rises_and_is_never_dark_light(gain: float, read: float) -> None:
    flat = np.linspace(0, 100, 500)
    light = raised(flat, gain, read)
    assert (light >= 0).all()
    assert (np.diff(light) >= -1e-9 * gain).all()
    assert (slope(flat, gain) > 0).all()
