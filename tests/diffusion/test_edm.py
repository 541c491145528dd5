"""EDM preconditioning: the closed forms of Karras et al. (2022)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geodiff.diffusion import edm

LEVELS = st.floats(edm.SIGMA_MIN, edm.SIGMA_MAX)


@given(LEVELS)
def test_the_network_sees_unit_variance(sigma: float) -> None:
    assert edm.c_in(sigma) ** 2 * (edm.SIGMA_DATA**2 + sigma**2) == pytest.approx(1)


@given(LEVELS)
def test_the_networks_target_has_unit_variance(sigma: float) -> None:
    """Eq. 8: (y - c_skip (y + n)) / c_out."""
    target = (1 - edm.c_skip(sigma)) ** 2 * edm.SIGMA_DATA**2 + edm.c_skip(sigma) ** 2 * sigma**2
    assert target / edm.c_out(sigma) ** 2 == pytest.approx(1)


@given(LEVELS)
def test_every_level_weighs_the_same_at_first(sigma: float) -> None:
    assert edm.loss_weight(sigma) * edm.c_out(sigma) ** 2 == pytest.approx(1)


@given(LEVELS)
def test_tensors_and_floats_agree(sigma: float) -> None:
    tensor = torch.tensor(sigma, dtype=torch.float64)
    for function in (edm.c_skip, edm.c_out, edm.c_in, edm.c_noise, edm.loss_weight):
        assert float(function(tensor)) == pytest.approx(function(sigma))


def test_noise_is_told_as_a_quarter_of_its_logarithm() -> None:
    assert edm.c_noise(math.e) == pytest.approx(0.25)
