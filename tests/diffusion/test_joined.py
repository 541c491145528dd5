"""The network in use says what the network says."""

import pytest
import torch

from geodiff.diffusion.fields import CHANNELS
from geodiff.diffusion.joined import Joined
from geodiff.diffusion.unet import SCALARS, UNet


def shaken(**layout: object) -> UNet:
    """A network none of whose parts says nothing."""
    torch.manual_seed(0)
    network = UNet(**layout).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def planes(count: int, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    context = torch.randn(count, len(CHANNELS), side, side)
    return torch.randn(count, 1, side, side), context


@pytest.fixture(
    params=[
        {"channels": (8, 12, 16)},
        {"channels": (8, 12, 16), "blocks": 2, "inner": (4, 6, 8)},
        {"channels": (8, 12), "fold": 1},
        {"channels": (8,), "fold": 4},
    ],
    ids=["three levels", "two blocks, pruned", "at full resolution", "one level"],
)
def pair(request) -> tuple[UNet, Joined]:
    return shaken(**request.param), Joined(shaken(**request.param), torch.float32)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_it_says_what_the_network_says(pair, rows) -> None:
    network, joined = pair
    noisy, context = planes(3)
    told = torch.rand(rows, len(SCALARS)) if rows else None
    for level in (0.3, 1.1):
        c_noise = torch.full((max(rows, 1),), level)
        asked = noisy, context, c_noise, told
        for one, other in zip(network(*asked), joined(*asked), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_noise_levels_that_are_kept_are_not_mixed_up(pair, monkeypatch) -> None:
    monkeypatch.setattr("geodiff.diffusion.joined._MOST", 2)
    network, joined = pair
    noisy, context = planes(1)
    for level in (0.1, 0.2, 0.3, 0.1, 0.3):
        c_noise = torch.tensor([level])
        torch.testing.assert_close(joined(noisy, context, c_noise)[0], network(noisy, context, c_noise)[0])


def test_gradients_flow_after_a_call_without(pair) -> None:
    """A guided sampler asks the denoiser for the slope of its answer."""
    _, joined = pair
    noisy, context = planes(1)
    with torch.inference_mode():
        joined(noisy, context, torch.tensor([0.2]))
    noisy.requires_grad_(True)
    joined(noisy, context, torch.tensor([0.2]))[0].sum().backward()
    assert noisy.grad is not None
    assert noisy.grad.abs().sum() > 0


class _Emptied(dict):
    """As where another thread makes room: what is put there is gone a moment later."""

    def __setitem__(self, key, value) -> None:
        self.clear()


def test_what_another_thread_throws_away_is_not_missed(pair) -> None:
    network, joined = pair
    joined._kept = _Emptied()
    noisy, context = planes(1)
    level = torch.tensor([0.3])
    torch.testing.assert_close(joined(noisy, context, level)[0], network(noisy, context, level)[0])
