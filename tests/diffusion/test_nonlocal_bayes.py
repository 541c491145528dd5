"""Non-local Bayes: the formula, what repeats is cleared, and the answer does not depend on cores or sizes."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.diffusion import nonlocal_bayes as module
from geodiff.diffusion.nonlocal_bayes import nonlocal_bayes

RNG = np.random.default_rng(3)
ROWS, COLUMNS = np.mgrid[:90, :75]
STRIPES = np.sin(ROWS / 3 + COLUMNS / 5).astype(np.float32)
NOISY = (STRIPES + 0.5 * RNG.normal(size=STRIPES.shape)).astype(np.float32)


def test_a_patch_becomes_its_posterior_mean() -> None:
    pilot = RNG.normal(size=(1, 48, 64)).astype(np.float32) @ RNG.normal(size=(64, 64)).astype(np.float32)
    noisy = (pilot + 0.3 * RNG.normal(size=pilot.shape)).astype(np.float32)
    mean, covariance = pilot[0].mean(axis=0), np.cov(pilot[0], rowvar=False)
    gain = np.linalg.solve(covariance + 0.09 * np.eye(64), covariance)
    expected = mean + (noisy[0] - mean) @ gain
    np.testing.assert_allclose(module._cleared(noisy, pilot, 0.3)[0], expected, atol=0.02)


def test_what_repeats_is_cleared_further_than_its_pilot() -> None:
    pilot = gaussian_filter(NOISY, 1.5)
    made = nonlocal_bayes(NOISY, pilot, 0.5)
    assert ((made - STRIPES) ** 2).mean() < 0.7 * ((pilot - STRIPES) ** 2).mean()


def test_the_patches_taken_are_those_most_alike() -> None:
    rows, columns = (-(-n // 4) + 1 for n in STRIPES.shape)
    strip = module._padded(STRIPES, rows, columns)[: 2 * 4 + 16]
    places = module._alike(strip, 1, columns)
    every = np.lib.stride_tricks.sliding_window_view(strip, (8, 8))
    reference = every[8, 8 + 4 * 5]
    distance = ((every[:17, 20:37] - reference) ** 2).sum(axis=(2, 3))
    taken = every[np.divmod(places[5], strip.shape[1])]
    np.testing.assert_allclose(
        np.sort(((taken - reference) ** 2).sum(axis=(1, 2))), np.sort(distance, axis=None)[:48], atol=1e-4
    )


def test_patches_over_each_pixel_are_counted(rng) -> None:
    places = rng.integers(0, 3, (5, 9))
    counted = module._over(places)
    expected = np.zeros((12, 16), np.float32)
    for row, column in np.ndindex(*places.shape):
        expected[row : row + 8, column : column + 8] += places[row, column]
    np.testing.assert_array_equal(counted, expected)


def test_the_answer_is_the_same_on_any_number_of_cores(monkeypatch) -> None:
    answers = []
    for cores in (1, 3):
        monkeypatch.setattr(module, "cores", lambda cores=cores: cores)
        answers.append(nonlocal_bayes(NOISY, STRIPES, 0.5))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (9, 3), (64, 65)])
def test_frames_of_any_size(shape) -> None:
    made = nonlocal_bayes(NOISY[: shape[0], : shape[1]], STRIPES[: shape[0], : shape[1]], 0.5)
    assert made.shape == shape
    assert np.isfinite(made).all()


def test_wild_pixels_and_next_to_no_noise_leave_finite_numbers() -> None:
    wild = NOISY.copy()
    wild[40, 40] = 1e5
    assert np.isfinite(nonlocal_bayes(wild, wild, 0.05)).all()
    np.testing.assert_allclose(nonlocal_bayes(NOISY, NOISY, 1e-9), NOISY, atol=1e-3)
    flat = np.full((30, 30), 2, np.float32)
    np.testing.assert_array_equal(nonlocal_bayes(flat, flat, 1e-12), flat)
