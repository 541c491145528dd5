"""Bands that are alike are seen together: the turn loses nothing, and noise stands where it is shared."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from geodiff.diffusion.restoration import Restored
from geodiff.restoring.components import Components, alike, noise_of

FRAME = np.moveaxis(data.astronaut()[:96, 100:196], -1, 0).astype(np.float64)
EVERYWHERE = np.ones(FRAME.shape[1:], bool)


def test_the_turn_goes_both_ways_without_loss() -> None:
    components = Components.of(FRAME, EVERYWHERE, (2.0, 5.0, 0.5))
    planes = components.of_bands(FRAME, EVERYWHERE)
    assert planes[0].var() > planes[1].var() > planes[2].var()
    error = np.full(EVERYWHERE.shape, 1.0, np.float32)
    made = [Restored(plane.astype(np.float32), error, plane[None].astype(np.float32), 1.0, 1) for plane in planes]
    for number, noise in enumerate((2.0, 5.0, 0.5)):
        band = components.band(number, made)
        np.testing.assert_allclose(band.value, FRAME[number], atol=2e-3)
        np.testing.assert_allclose(band.members[0], FRAME[number], atol=2e-3)
        np.testing.assert_allclose(band.standard_error, noise, rtol=1e-5)  # even noise stays the band's own


def test_noise_that_bands_share_stands_in_what_they_share() -> None:
    grey = FRAME[0] + np.random.default_rng(0).normal(0, 8, FRAME[0].shape)
    copies = np.stack([grey, grey, grey])
    planes = Components.of(copies, EVERYWHERE, (8.0, 8.0, 8.0)).of_bands(copies, EVERYWHERE)
    assert noise_of(planes, EVERYWHERE) == [pytest.approx(np.sqrt(3)), 0, 0]


def test_bands_that_show_something_else_stay_apart() -> None:
    still = (0.0, 0.0)
    other = data.moon()[:96, :96].astype(np.float64)
    assert alike(FRAME, EVERYWHERE, (0.0, 0.0, 0.0))
    assert alike(np.stack([FRAME[0], 255 - FRAME[0]]), EVERYWHERE, still)  # the other way round is the same
    assert not alike(FRAME[:1], EVERYWHERE, (0.0,))
    assert not alike(np.stack([FRAME[0], other]), EVERYWHERE, still)
    assert not alike(np.stack([FRAME[0], FRAME[1], other]), EVERYWHERE, (0.0, 0.0, 0.0))
    assert not alike(np.stack([FRAME[0], np.full_like(FRAME[0], 7)]), EVERYWHERE, still)
    assert not alike(FRAME, np.zeros_like(EVERYWHERE), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("noise", [10.0, 60.0])
def test_grain_hides_from_no_band_that_it_is_like_the_others(noise: float) -> None:
    grainy = FRAME + np.random.default_rng(1).normal(0, noise, FRAME.shape)
    assert alike(grainy, EVERYWHERE, (noise,) * 3)
    alone = np.random.default_rng(2).normal(0, noise, FRAME.shape)
    assert not alike(alone, EVERYWHERE, (noise,) * 3)
