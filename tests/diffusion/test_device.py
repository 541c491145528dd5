"""Devices and precisions: asked of the hardware, refused with a cure."""

import pytest
import torch

from geodiff.diffusion.device import dtype_of, has_bfloat16, pick_device
from geodiff.errors import JobError


def test_cpu_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cuda:99", "warp", "mps:7"])
def test_a_device_that_is_not_there_is_a_job_error(name) -> None:
    with pytest.raises(JobError, match="--device auto"):
        pick_device(name)


def test_auto_precision_is_a_fact_of_the_processor() -> None:
    cpu = torch.device("cpu")
    assert dtype_of("auto", cpu) == (torch.bfloat16 if has_bfloat16() else torch.float32)
    assert dtype_of("float32", cpu) == torch.float32
    with pytest.raises(JobError, match="float16"):
        dtype_of("float16", cpu)
