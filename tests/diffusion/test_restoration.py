"""Restoration of a band: what is exact stays, what is coarse agrees, and the answer belongs to the frame."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.frames import coarsened
from geodiff.diffusion.restoration import UNBOUNDED, cut_off, estimate_noise, restore_band
from geodiff.errors import InputError, NothingKnownError

RNG = np.random.default_rng(1)
IMAGE = (1000 + 200 * gaussian_filter(RNG.normal(size=(150, 140)), 3)).astype(np.float32)
EVERYWHERE = np.ones(IMAGE.shape, bool)


@pytest.fixture(scope="module")
def denoiser():
    return open_denoiser("default", dtype="float32", device="cpu")


def test_filling_alone_leaves_known_pixels_exact(denoiser) -> None:
    known = EVERYWHERE.copy()
    known[60:80, 40:90] = False
    made = restore_band(np.where(known, IMAGE, np.nan), known, denoiser, members=2)
    np.testing.assert_allclose(made.value[known], IMAGE[known], rtol=1e-6)
    assert not made.standard_error[known].any()
    assert (made.standard_error[~known] > 0).all()
    assert np.isfinite(made.members).all()
    assert made.members.shape == (2, *IMAGE.shape)
    assert made.noise == 0


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_frame_means_what_was_seen(denoiser, factor) -> None:
    low = coarsened(IMAGE[:148, :136], factor)
    made = restore_band(low, np.ones(low.shape, bool), denoiser, factor=factor, members=1)
    assert made.value.shape == tuple(factor * n for n in low.shape)
    for image in (made.value, made.members[0]):
        np.testing.assert_allclose(coarsened(image, factor), low, atol=0.02)


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_saturated_frame_means_what_was_seen_and_stays_within_its_bounds(denoiser, factor) -> None:
    low = np.clip(coarsened(IMAGE[:128, :128], factor), 950, 1050)
    bounds = (950.0, 1050.0)
    made = restore_band(low, np.ones(low.shape, bool), denoiser, factor=factor, members=1, steps=4, bounds=bounds)
    for image in (made.value, made.members[0]):
        assert image.min() >= 950 - 1e-3
        assert image.max() <= 1050 + 1e-3
        np.testing.assert_allclose(coarsened(image, factor), low, atol=0.02)


def test_a_frame_of_one_value_is_enlarged_to_that_value(denoiser) -> None:
    frame = np.full((20, 20), 0.123)
    made = restore_band(frame, np.ones(frame.shape, bool), denoiser, factor=2, members=1, steps=4)
    for image in (made.value, *made.members):
        np.testing.assert_allclose(image, 0.123, rtol=1e-6)
    assert made.standard_error.max() < 1e-6


def test_bounds_beyond_what_the_network_counts_in_are_none(denoiser) -> None:
    widest = np.finfo(np.float64)
    low = coarsened(IMAGE[:64, :64], 2)
    first, second = (
        restore_band(low, np.ones(low.shape, bool), denoiser, factor=2, steps=4, **bounds).value
        for bounds in ({}, {"bounds": (float(widest.min), float(widest.max))})
    )
    np.testing.assert_array_equal(first, second)


def test_numbers_are_cut_off_where_they_pile_up_at_an_end() -> None:
    light = np.rint(RNG.normal(100, 20, 10_000))
    assert cut_off(light) == UNBOUNDED
    assert cut_off(np.minimum(light, 120)) == (-np.inf, 120)
    assert cut_off(np.clip(light, 80, 120)) == (80, 120)
    assert cut_off(RNG.normal(size=1000)) == UNBOUNDED
    assert cut_off(np.ones(50)) == UNBOUNDED


def test_noise_is_taken_away_and_its_strength_found(denoiser) -> None:
    noisy = IMAGE + 30 * RNG.normal(size=IMAGE.shape)
    made = restore_band(noisy, EVERYWHERE, denoiser, denoise=True)
    assert made.noise == pytest.approx(30, rel=0.15)
    assert ((made.value - IMAGE) ** 2).mean() < 0.4 * 30**2


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_weak_noise_is_taken_away_with_errors_and_members_of_its_size(denoiser, share) -> None:
    noise = share * float(IMAGE.std())
    grainy = IMAGE + noise * np.random.default_rng(5).normal(size=IMAGE.shape)
    found = restore_band(grainy, EVERYWHERE, denoiser, denoise=True, noise=noise, members=1, steps=4)
    assert np.sqrt(((found.value - IMAGE) ** 2).mean()) < noise
    assert np.median(found.standard_error) < 1.1 * noise
    assert (found.members[0] - found.value).std() < 1.1 * noise


def test_four_members_mean_the_value_and_a_seed_is_an_answer(denoiser) -> None:
    noisy = IMAGE[:96, :96] + 30 * RNG.normal(size=(96, 96))
    seen = np.ones(noisy.shape, bool)
    first, again, other = (
        restore_band(noisy, seen, denoiser, denoise=True, noise=30, members=4, seed=s, steps=4) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.members, again.members)
    assert not np.array_equal(first.members, other.members)
    np.testing.assert_array_equal(first.value, other.value)
    np.testing.assert_allclose(first.members.mean(axis=0), first.value, rtol=1e-4)


def test_the_stored_calibration_widens_the_errors(denoiser) -> None:
    noisy = IMAGE + 30 * RNG.normal(size=IMAGE.shape)
    wide = replace(denoiser, calibration=replace(denoiser.calibration, restore_factors=(2.0, 1.0, 1.0, 1.0)))
    plain = replace(denoiser, calibration=replace(denoiser.calibration, restore_factors=(1.0, 1.0, 1.0, 1.0)))
    errors = [restore_band(noisy, EVERYWHERE, d, denoise=True, noise=30).standard_error for d in (wide, plain)]
    np.testing.assert_allclose(errors[0], 2 * errors[1], rtol=1e-4)


@pytest.mark.parametrize("noise", [0.1, 1.0, 4.0])
def test_the_noise_of_a_textured_frame_is_found(noise) -> None:
    textured = gaussian_filter(RNG.normal(size=(256, 256)), 2.5) * 8
    found = estimate_noise(textured + noise * RNG.normal(size=textured.shape), np.ones(textured.shape, bool))
    assert found == pytest.approx(noise, rel=0.15)


@pytest.mark.parametrize("noise", [0.4, 1.0, 2.0, 20.0])
def test_the_noise_of_whole_numbers_beside_black_sky_and_what_is_saturated_is_found(noise) -> None:
    """A limb with a burnt-out sun: most of the frame holds no noise, or the half that is not cut off."""
    rows, columns = np.mgrid[:256, :256]
    limb = np.where(columns > 150, 0, 110 + rows / 7.3 + columns / 11) + np.where(rows > 200, 200, 0)
    counts = np.clip(np.rint(limb + noise * RNG.normal(size=limb.shape)), 0, 255)
    found = estimate_noise(counts, np.ones(limb.shape, bool))
    assert found == pytest.approx(noise, rel=0.15)


def test_a_frame_without_noise_has_none_although_its_numbers_are_rounded() -> None:
    rows, columns = np.mgrid[:256, :256]
    clean = np.rint(100 + 20 * np.sin(columns / 9) * np.cos(rows / 7))
    assert estimate_noise(clean, np.ones(clean.shape, bool)) == 0


def test_what_cannot_be_done_is_said(denoiser) -> None:
    with pytest.raises(InputError, match="superres by 3"):
        restore_band(IMAGE, EVERYWHERE, denoiser, factor=3)
    with pytest.raises(InputError, match="noise of -1"):
        restore_band(IMAGE, EVERYWHERE, denoiser, denoise=True, noise=-1)
    with pytest.raises(NothingKnownError):
        restore_band(IMAGE, ~EVERYWHERE, denoiser)


def test_what_is_broad_is_told_by_the_frame_of_half_the_size(denoiser, monkeypatch) -> None:
    """Odd sides, a hole, a line lost at the rim: what the network sees as grain in its windows is none beyond them."""
    rows, columns = np.mgrid[:133, :171]
    truth = 100 + rows / 9 + columns / 7
    grainy = truth + 40 * np.random.default_rng(2).normal(size=truth.shape)
    known = np.ones(truth.shape, bool)
    known[40:60, 70:90], known[-1], known[:, 5] = False, False, False
    both = restore_band(grainy, known, denoiser, denoise=True, noise=40, members=1, steps=4)
    monkeypatch.setattr("geodiff.diffusion.restoration._SMALLEST", 1000)
    one = restore_band(grainy, known, denoiser, denoise=True, noise=40, members=1, steps=4)
    errors = [np.sqrt(((made.value - truth)[known] ** 2).mean()) for made in (both, one)]
    assert errors[0] < 0.75 * errors[1]
    np.testing.assert_array_equal(both.standard_error, one.standard_error)
    np.testing.assert_allclose(both.members[0] - both.value, one.members[0] - one.value, atol=1e-3)
    np.testing.assert_array_equal(both.value[~known], one.value[~known])


def test_windows_are_the_same_on_any_number_of_cores(denoiser, monkeypatch) -> None:
    made = []
    for cores in (1, 3):
        monkeypatch.setattr("geodiff.diffusion.restoration.cores", lambda cores=cores: cores)
        made.append(restore_band(IMAGE, EVERYWHERE, denoiser, denoise=True, noise=30, members=1, steps=4))
    for name in ("value", "standard_error", "members"):
        np.testing.assert_array_equal(*(getattr(one, name) for one in made))
