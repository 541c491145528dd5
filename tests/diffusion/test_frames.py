"""Degraded frames: the closed-form restoration, and what the network is told of it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.diffusion.fields import CHANNELS, channel
from geodiff.diffusion.frames import Frame, coarsened, enlarged, prepared, shrunk
from geodiff.diffusion.unet import SCALARS

RNG = np.random.default_rng(0)
SMOOTH = (gaussian_filter(RNG.normal(size=(96, 96)), 4) * 12).astype(np.float32)
EVERYWHERE = np.ones(SMOOTH.shape, bool)


def test_shrinkage_takes_most_of_the_noise_and_says_how_much_it_left() -> None:
    noise = 0.5
    noisy = (SMOOTH + noise * RNG.normal(size=SMOOTH.shape)).astype(np.float32)
    estimate, left = shrunk(noisy, noise)
    assert ((estimate - SMOOTH) ** 2).mean() < 0.15 * noise**2
    assert left.min() > 0
    assert left.max() <= 1
    assert left.mean() < 0.2


def test_shrinkage_leaves_what_is_far_above_the_noise() -> None:
    estimate, _ = shrunk(SMOOTH, 1e-4)
    np.testing.assert_allclose(estimate, SMOOTH, atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (17, 23), (41, 8)])
def test_shrinkage_keeps_any_shape_and_a_constant(shape) -> None:
    estimate, _ = shrunk(np.full(shape, 3, np.float32), 0.05)
    assert estimate.shape == shape
    np.testing.assert_allclose(estimate, 3, rtol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_keeps_the_cells_in_place(factor) -> None:
    columns = np.broadcast_to(np.arange(96, dtype=np.float32), (96, 96))
    again = enlarged(coarsened(columns, factor), factor)
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(again[inner], columns[inner], atol=1e-2)  # a shift of half a cell would be 0.5 or more


def test_means_of_cells_are_exact() -> None:
    assert coarsened(np.arange(16, dtype=np.float32).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]


@pytest.mark.parametrize(
    ("noise", "factor", "holes"), [(0.4, 1, False), (0.0, 2, False), (0.0, 4, True), (0.3, 1, True)]
)
def test_what_the_network_is_told_is_finite_and_says_the_task(noise, factor, holes) -> None:
    known = EVERYWHERE.copy()
    known[20:40, 30:50] = not holes
    values = np.where(known, SMOOTH + noise * RNG.normal(size=SMOOTH.shape), 0).astype(np.float32)
    view = prepared(Frame(values, known, noise, factor))
    assert view.context.shape == (len(CHANNELS), *SMOOTH.shape)
    assert np.isfinite(view.context).all()
    assert (view.error > 0).all()
    told = dict(zip(SCALARS, view.scalars.tolist(), strict=True))
    assert (told["inpaint"], told["denoise"], told["superres"]) == (holes, noise > 0, factor > 1)
    assert (view.context[channel("known")] == known).all()
    assert not view.context[channel("degraded")][~known].any()


def test_the_error_in_a_hole_is_that_of_a_fill() -> None:
    known = EVERYWHERE.copy()
    known[20:60, 20:60] = False
    view = prepared(Frame(np.where(known, SMOOTH, 0).astype(np.float32), known, 0.05))
    assert view.error[40, 40] > 4 * view.error[80, 80]
