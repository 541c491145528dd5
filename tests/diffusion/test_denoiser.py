"""The network in use: one window, one answer; and memory that runs out halves the batch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from geodiff.diffusion.denoiser import Denoiser, open_denoiser
from geodiff.diffusion.fields import CHANNELS
from geodiff.threads import side_by_side


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def denoiser(request) -> Denoiser:
    return open_denoiser("default", device="cpu", dtype=request.param)


def inputs(count: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, len(CHANNELS), size, size)).astype(np.float32), rng.random((count, size, size)) < 0.4


def test_on_a_processor_one_window_is_one_call(denoiser) -> None:
    """Convolutions are chosen by the batch's size; so a batch must not exist for products to be bit-equal."""
    assert denoiser.batch == 1
    planes, wanted = inputs(5, 32)
    together = denoiser.value(planes, wanted)
    for index in (0, 3):
        alone = denoiser.value(planes[index : index + 1], wanted[index : index + 1])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[index])


def test_calls_side_by_side_say_the_same(denoiser) -> None:
    planes, wanted = inputs(6, 32)
    noise = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    alone = *denoiser.value(planes, wanted), denoiser.members(planes, wanted, noise[:, None], steps=4)
    with side_by_side(3):
        together = *denoiser.value(planes, wanted), denoiser.members(planes, wanted, noise[:, None], steps=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_batches_are_padded_and_agree(denoiser, batch) -> None:
    sizes = []

    def spying(noisy, context, c_noise):
        sizes.append(len(context))
        return denoiser.network(noisy, context, c_noise)

    planes, wanted = inputs(5, 32)
    noise = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    many = replace(denoiser, network=spying, batch=batch).members(planes, wanted, noise[:, None], steps=4)
    assert set(sizes) == {batch}
    np.testing.assert_allclose(many, denoiser.members(planes, wanted, noise[:, None], steps=4), atol=0.1)


def test_when_memory_runs_out_the_batch_is_halved_and_the_log_says_so(denoiser, caplog) -> None:
    calls = []

    def greedy(noisy, context, c_noise):
        calls.append(len(context))
        if len(context) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return denoiser.network(noisy, context, c_noise)

    planes, wanted = inputs(5, 16)
    poor = replace(denoiser, network=greedy, batch=8)
    np.testing.assert_allclose(poor.value(planes, wanted)[0], denoiser.value(planes, wanted)[0], atol=0.05)
    assert calls == [8, 4, 2, 2, 2]
    assert "continuing with 2" in caplog.text


def test_other_failures_are_not_swallowed(denoiser) -> None:
    def broken(*_):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        replace(denoiser, network=broken).value(*inputs(1, 16))


def test_a_value_needs_no_diffusers() -> None:
    """Its import takes seconds; each process of a job without members would pay them."""
    program = """
import sys, numpy as np, geodiff
known = np.ones((96, 96), bool)
known[30:50, 30:50] = False
geodiff.fill_array(np.add.outer(np.arange(96.0), np.sin(np.arange(96.0))), known, filler="diffusion")
print("torch" in sys.modules, "diffusers" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["True", "False"]
