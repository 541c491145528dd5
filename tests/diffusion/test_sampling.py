"""Samplers: with an exact denoiser the spread comes out right; what cannot be trusted is refused by name."""

import pytest
import torch

from geodiff.diffusion import edm
from geodiff.diffusion.sampling import LEAST_STEPS, SAMPLERS, sample, sampler_of
from geodiff.errors import JobError
from geodiff.samplers import NAMES, REFUSED


def exact(spread: float):
    """The raw output F of the exact denoiser of N(0, spread^2)."""

    def network(x: torch.Tensor, sigma: float) -> torch.Tensor:
        denoised = x * spread**2 / (spread**2 + sigma**2)
        return (denoised - edm.c_skip(sigma) * x) / edm.c_out(sigma)

    return network


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn((2, 1, 32, 32), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [8, 10, 18])
@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_the_default_has_the_right_spread_from_eight_calls(noise, steps, spread) -> None:
    drawn = sample(exact(spread), noise, steps=steps)
    assert float(drawn.std() / noise.std()) == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_converges_to_the_right_spread(noise, name) -> None:
    drawn = sample(exact(1.0), noise, sampler=name, steps=60)
    assert float(drawn.std() / noise.std()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_is_a_function_of_its_own_noise(noise, name) -> None:
    alone = sample(exact(1.0), noise[1:], sampler=name, steps=6)
    torch.testing.assert_close(sample(exact(1.0), noise, sampler=name, steps=6)[1:], alone, rtol=0, atol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_schedulers_with_noise_of_their_own_are_refused_with_the_reason(name) -> None:
    with pytest.raises(JobError, match=r"betas|noise") as caught:
        sampler_of(name, 10)
    assert "edm-dpm2m" in str(caught.value)


def test_the_names_that_jobs_know_are_those_that_are_built() -> None:
    assert tuple(SAMPLERS) == NAMES


def test_unknown_samplers_and_too_few_steps_are_refused() -> None:
    with pytest.raises(JobError, match="no sampler is called 'magic'"):
        sampler_of("magic", 10)
    with pytest.raises(JobError, match="3 steps are too few"):
        sampler_of("edm-dpm2m", LEAST_STEPS - 1)
