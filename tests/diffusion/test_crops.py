"""The network looks at what is wanted and its surroundings, and answers for every wanted pixel as it would for all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.diffusion.crops import CELL, MARGIN, Crop, by_size, crops
from geodiff.diffusion.denoiser import Denoiser, open_denoiser
from geodiff.diffusion.fields import CHANNELS


def discs(*places: tuple[int, int, int], side: int = 128) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.any([(y - row) ** 2 + (x - column) ** 2 < radius**2 for row, column, radius in places], axis=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127), st.integers(1, 40)), min_size=1, max_size=6))
def test_every_wanted_pixel_is_answered_for_with_its_surroundings(places) -> None:
    wanted = discs(*places)
    answered = np.zeros((1, 1, 128, 128), np.float32)
    for part in crops(wanted[None]):
        rows, columns = part.outer
        part.put(answered, np.ones((1, *part.shape), np.float32))
        assert rows.start % CELL == columns.start % CELL == 0, "the network's cells must be the window's"
        for inner, outer in zip(part.inner, part.outer, strict=True):
            assert inner.start - outer.start >= MARGIN * CELL or outer.start == 0
            assert outer.stop - inner.stop >= MARGIN * CELL or outer.stop == 128
    assert answered[0, 0][wanted].all()


def test_sizes_are_few_and_a_window_full_of_gaps_is_one_call() -> None:
    rng = np.random.default_rng(3)
    many = np.stack([discs(*zip(*rng.integers(4, 124, (2, 2)), (5, 9), strict=True)) for _ in range(200)])
    assert all(n % 32 == 0 for shape in by_size(crops(many)) for n in shape)
    assert [part.shape for part in crops(np.ones((1, 128, 128), bool))] == [(128, 128)]
    assert not list(crops(np.zeros((3, 128, 128), bool)))
    assert [p.shape for p in crops(discs((20, 20, 6), (100, 100, 6))[None])] == [(64, 64), (64, 64)]
    assert [p.shape for p in crops(discs((60, 60, 5), (60, 77, 5))[None])] == [(64, 64)]


def test_windows_that_are_no_whole_cells_are_looked_at_whole() -> None:
    wanted = np.zeros((1, 60, 50), bool)
    wanted[0, 5, 5] = True
    assert list(crops(wanted)) == [Crop(0, (slice(0, 60), slice(0, 50)), (slice(0, 60), slice(0, 50)))]


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return open_denoiser("default", device="cpu", dtype="float32")


def smooth(seed: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    planes = np.random.default_rng(seed).normal(size=(1, len(CHANNELS), 128, 128))
    return gaussian_filter(planes, (0, 0, 3, 3)).astype(np.float32) * 8


def test_a_crop_says_what_the_whole_window_does(denoiser, monkeypatch) -> None:
    context, wanted = smooth(1), discs((40, 50, 9), (100, 90, 5))[None]
    noise = np.random.default_rng(2).normal(size=wanted.shape).astype(np.float32)
    parts = denoiser.value(context, wanted), denoiser.members(context, wanted, noise[:, None], steps=4)[:, 0]
    assert len(list(crops(wanted))) == 2

    whole = Crop(0, (slice(0, 128), slice(0, 128)), (slice(0, 128), slice(0, 128)))
    monkeypatch.setattr("geodiff.diffusion.denoiser.crops", lambda _: iter([whole]))
    mean, spread = denoiser.value(context, wanted)
    drawn = denoiser.members(context, wanted, noise[:, None], steps=4)[:, 0]
    for part, all_ in ((parts[0][0], mean), (parts[0][1], spread), (parts[1], drawn)):
        assert np.corrcoef(part[wanted], all_[wanted])[0, 1] > 0.99
        assert np.abs(part - all_)[wanted].mean() < 0.1 * all_[wanted].std() + 0.01


def test_far_from_what_is_wanted_the_network_says_nothing(denoiser) -> None:
    context, wanted = smooth(1), discs((40, 50, 9))[None]
    mean, spread = denoiser.value(context, wanted)
    assert not mean[0, 100:].any()
    assert (spread[0, 100:] == 1).all()


@pytest.mark.parametrize("batch", [1, 4])
def test_parts_of_many_windows_go_to_their_own_places(denoiser, batch) -> None:
    """Crops of one size share a call, whichever window they come from."""
    wanted = np.stack([discs((30, 30, 8)), np.zeros((128, 128), bool), discs((90, 40, 8), (20, 100, 8))])
    context = np.concatenate([smooth(n) for n in range(3)])
    together = replace(denoiser, batch=batch).value(context, wanted)[0]
    for index in range(3):
        alone = denoiser.value(context[index : index + 1], wanted[index : index + 1])[0][0]
        np.testing.assert_allclose(together[index], alone, atol=1e-3)
