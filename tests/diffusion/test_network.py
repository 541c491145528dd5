"""The denoiser network: shapes, translation, and that absent channels and neighbours in a batch do not matter."""

import pytest
import torch

from geodiff.diffusion.fields import CHANNELS
from geodiff.diffusion.network import GapFillUNet


@pytest.fixture(scope="module")
def network() -> GapFillUNet:
    torch.manual_seed(0)
    made = GapFillUNet(channels=(8, 12, 16), embedding=16)
    for parameter in made.parameters():  # the head starts at zero; give it something to say
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def run(network: GapFillUNet, context: torch.Tensor, level: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        level = torch.zeros(1) if level is None else level
        return torch.cat(network(context[:, :1], context, level), dim=1)


def test_it_starts_as_zero_so_that_the_first_answer_is_the_prior() -> None:
    fresh = GapFillUNet(channels=(8, 12, 16), embedding=16)
    assert not run(fresh, torch.randn(1, len(CHANNELS), 16, 16)).any()


@pytest.mark.parametrize("shape", [(16, 16), (24, 40), (8, 64)])
def test_sides_are_any_multiple(network, shape) -> None:
    assert network.multiple == 8
    assert run(network, torch.randn(2, len(CHANNELS), *shape)).shape == (2, 2, *shape)


def test_an_answer_does_not_depend_on_the_others_in_the_batch(network) -> None:
    context = torch.randn(5, len(CHANNELS), 32, 32)
    together = run(network, context)
    for index in range(5):
        alone = run(network, context[index : index + 1])[0]
        torch.testing.assert_close(alone, together[index], rtol=1e-4, atol=1e-4)


def test_far_inside_it_does_not_see_where_the_window_is(network) -> None:
    wide = torch.randn(1, len(CHANNELS), 128, 128)
    shifted = run(network, wide[..., 8:, 8:])[..., 52:60, 52:60]
    torch.testing.assert_close(shifted, run(network, wide)[..., 60:68, 60:68], rtol=1e-4, atol=1e-4)


def test_the_noise_level_matters_and_survives_a_cast(network) -> None:
    context = torch.randn(1, len(CHANNELS), 16, 16)
    assert not torch.equal(run(network, context), run(network, context, torch.ones(1)))
    assert not list(network.buffers()), "a buffer would be rounded when weights are cast"
