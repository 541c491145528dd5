"""Devices and precisions: asked of the hardware, refused with a cure."""

from threading import Event, Thread

import pytest
import torch

from geodiff.diffusion import processes
from geodiff.diffusion.device import dtype_of, has_bfloat16, on_threads, one_torch_thread, pick_device
from geodiff.diffusion.processes import Processes
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


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), on_threads(before + 1):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("told", "count", "expected"), [(None, 1, 8), (None, 3, 2), (None, 9, 1), ("5", 2, 5), ("0", 2, 4), ("4,2", 2, 4)]
)
def test_processes_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, told: str | None, count: int, expected: int
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert Processes(count=count).cores == expected


def test_one_thread_of_torch_is_for_as_long_as_it_is_wanted_in_whichever_thread() -> None:
    """Every Python thread gets back what the caller had, and so do those that begin later."""
    seen: dict[str, int] = {}
    inside, leave = Event(), Event()

    def other() -> None:
        with one_torch_thread():
            inside.set()
            leave.wait(60)
            seen["inside"] = torch.get_num_threads()
        seen["after"] = torch.get_num_threads()

    with on_threads(3):
        with one_torch_thread():
            thread = Thread(target=other)
            thread.start()
            inside.wait(60)
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        leave.set()
        thread.join()
        late = Thread(target=lambda: seen.update(late=torch.get_num_threads()))
        late.start()
        late.join()
        assert torch.get_num_threads() == 3
    assert seen == {"inside": 1, "after": 3, "late": 3}
