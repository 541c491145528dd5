"""RePaint and DPS against a prior whose conditional law is known in closed form."""

import numpy as np
import pytest
import torch

from geodiff.diffusion.guided import Dps, RePaint, dps, ignorant, repaint, schedule, sigmas

RHO = 0.8
"""Every even column and its right neighbour are a Gaussian pair of this correlation, unit variance."""


def exact(x, sigma):
    """The expected clean image of such pairs: Sigma (Sigma + sigma^2 I)^-1 x."""
    pair = np.array([[1, RHO], [RHO, 1]])
    gain = torch.tensor(pair @ np.linalg.inv(pair + sigma**2 * np.eye(2)), dtype=x.dtype)
    flat = x.reshape(*x.shape[:-1], -1, 2)
    return (flat @ gain.T).reshape(x.shape)


@pytest.fixture
def seen():
    """Even columns known, drawn from the prior."""
    generator = torch.Generator().manual_seed(1)
    observed = torch.zeros(1, 1, 64, 64)
    observed[..., ::2] = torch.randn(1, 1, 64, 32, generator=generator)
    known = torch.zeros(1, 1, 64, 64)
    known[..., ::2] = 1
    return observed, known


def test_the_papers_defaults_cost_what_the_paper_says():
    times = schedule(RePaint())
    assert len(times) - 1 == 4570, "transitions at T = 250, jumps of 10, 10 resamplings"
    assert RePaint().calls == 250 + 24 * 9 * 10
    assert Dps().calls == 1000


def test_the_walk_starts_in_noise_ends_in_the_image_and_moves_one_step_at_a_time():
    times = np.array(schedule(RePaint(steps=30, jump=5, resamplings=3)))
    assert times[0] == 30
    assert times[-1] == 0
    assert set(np.abs(np.diff(times))) == {1}
    assert schedule(RePaint(steps=4, jump=2, resamplings=1)) == [4, 3, 2, 1, 0]


def test_noise_levels_fall_from_the_models_largest_to_none():
    levels = sigmas(50)
    assert levels[0] == 0
    assert levels[[1, -1]] == pytest.approx([0.02, 80.0])
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize("method", ["repaint", "dps"])
def test_known_pixels_come_back_and_the_unknown_follow_them(method, seen):
    observed, known = seen
    generator = torch.Generator().manual_seed(0)
    if method == "repaint":
        x = repaint(exact, observed, known, RePaint(steps=60, jump=5, resamplings=6), generator)
    else:
        x = dps(exact, observed, known, Dps(steps=200, zeta=3.0), generator)
    assert torch.equal(x[..., ::2], observed[..., ::2])
    given, drawn = observed[..., ::2].ravel().numpy(), x[..., 1::2].ravel().numpy()
    slope = float((given * drawn).mean() / (given**2).mean())
    assert slope == pytest.approx(RHO, abs=0.15), "the conditional mean is rho times the neighbour"
    if method == "repaint":
        assert float((drawn - slope * given).std()) == pytest.approx((1 - RHO**2) ** 0.5, abs=0.12)


def test_without_resampling_the_unknown_follow_less(seen):
    observed, known = seen
    slopes = []
    for again in (1, 8):
        x = repaint(exact, observed, known, RePaint(40, 5, again), torch.Generator().manual_seed(0))
        slopes.append(float((observed[..., ::2] * x[..., 1::2]).mean() / (observed[..., ::2] ** 2).mean()))
    assert slopes[0] < slopes[1], "that is what the paper resamples for"


def test_the_same_generator_gives_the_same_draw(seen):
    observed, known = seen
    draws = [repaint(exact, observed, known, RePaint(8, 2, 2), torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_our_denoiser_without_knowledge_leaves_an_image_without_noise_as_it_is():
    from geodiff.diffusion.denoiser import open_denoiser

    denoise = ignorant(open_denoiser(dtype="float32"), (32, 32), 1.0)
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float((denoise(x, 0.02) - x).abs().max()) < 0.2
    with torch.enable_grad():
        state = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(denoise(state, 1.0).square().sum(), state)
    assert slope.abs().sum() > 0, "DPS needs its gradient"
