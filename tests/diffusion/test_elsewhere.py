"""The network on a device that is not the processor: nothing mixes, batches are full, the answers are the same."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from geodiff.diffusion import GapFillPipeline
from geodiff.diffusion import denoiser as opening
from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.folder import find_folder
from geodiff.diffusion.restoration import restore_band
from geodiff.fillers import FillerSettings, Patch, SceneSample
from geodiff.fillers.diffusion import Diffusion
from geodiff.lattice import Window
from tests.diffusion.elsewhere import another_device, picking

HERE = FillerSettings(members=2, steps=4, batch=4, device="cpu", dtype="float32")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The other device; where it is asked for, the network is opened on it."""
    opening._opened.cache_clear()
    with another_device() as device:
        monkeypatch.setattr(opening, "pick_device", picking(device))
        yield device
    opening._opened.cache_clear()


def test_tensors_there_and_here_do_not_mix_and_count_alike(there: torch.device) -> None:
    """Of the other device itself: what would fail on a GPU fails on it."""
    one = torch.arange(3.0).to(there)
    assert (one.device, (2 * one + 1).cpu().tolist()) == (there, [1.0, 3.0, 5.0])
    with pytest.raises(RuntimeError, match="same device"):
        one + torch.ones(3)
    with pytest.raises((RuntimeError, TypeError)):
        one.numpy()


def patches(rng: np.random.Generator, count: int) -> list[Patch]:
    """Windows of two bands, a gap of one size in each."""
    made = []
    for place in range(count):
        values = gaussian_filter(rng.normal(size=(1, 2, 192, 192)), (0, 0, 3, 3)).astype(np.float32)
        known = np.ones(values.shape, bool)
        known[..., 80:100, 70:90] = False
        window, everywhere = Window(0, 64 * place, 128, 128), np.ones_like(known)
        shown, dates = 10 * values * known, np.zeros(1, np.int64)
        made.append(Patch(shown, known, everywhere, 0 * values, window, 32, (0, 64 * place), dates))
    return made


def test_members_of_several_windows_and_bands_share_full_batches(there: torch.device, rng: np.random.Generator) -> None:
    asked, sizes = patches(rng, 4), []
    here, away = Diffusion(HERE), Diffusion(replace(HERE, device="cuda"))
    fitted = here.fit(SceneSample())
    network = away.denoiser.network

    def spying(noisy, context, *told):
        sizes.append(len(context))
        return network(noisy, context, *told)

    away.__dict__["denoiser"] = replace(away.denoiser, network=spying)
    assert away.denoiser.device == there
    for one, other in zip(here.fill(asked, fitted, seed=1), away.fill(asked, fitted, seed=1), strict=True):
        for name in ("value", "standard_error", "members"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=2e-4)
    planes = 4 * 2
    assert sizes == [4] * (planes // 4 * (1 + HERE.members * HERE.steps)), "no call has a window that nobody asked for"


def test_a_frame_is_restored_there_as_here(there: torch.device, rng: np.random.Generator) -> None:
    frame = (100 + 20 * gaussian_filter(rng.normal(size=(90, 140)), 3)).astype(np.float32)
    known = np.ones(frame.shape, bool)
    known[40:50, 30:50] = False
    made = [
        restore_band(
            frame, known, open_denoiser(device=device, dtype="float32"),
            denoise=True, noise=3.0, members=1, steps=4, seed=1,
        )
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    for name in ("value", "standard_error", "members"):
        np.testing.assert_allclose(*(getattr(one, name) for one in made), atol=1e-2)


def test_the_pipeline_works_there_as_here(
    there: torch.device, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    values = gaussian_filter(rng.normal(size=(2, 64, 72)), (0, 3, 3)).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[:, 20:40, 20:50] = False
    pipe = GapFillPipeline.from_pretrained(find_folder("default"))
    here = pipe(values, known, members=2, steps=4)
    torch.nn.Module.to(pipe.unet, there)
    monkeypatch.setattr(type(pipe.unet), "to", lambda unet, **_: unet)  # inference tensors cannot be moved there
    assert (pipe.denoiser.device, pipe.denoiser.batch) == (there, 8)
    away = pipe(values, known, members=2, steps=4)
    for name in ("value", "standard_error", "members"):
        np.testing.assert_allclose(getattr(away, name), getattr(here, name), atol=1e-4)
