"""Where the network runs and in which precision: read from what the machine is, never from a timing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock

import torch

from geodiff.errors import JobError

__all__ = ["dtype_of", "has_bfloat16", "on_threads", "one_torch_thread", "pick_device"]

_lock = Lock()
_inside, _before = 0, 1
"""Threads that want torch on one thread now, and what the caller had before the first of them."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name: auto, cpu, cuda, cuda:1, mps; raises JobError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as reason:
        raise JobError(
            f"device {name!r} cannot be used here ({str(reason).splitlines()[0]}); use --device auto"
        ) from reason
    return device


@lru_cache(maxsize=1)
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (avx512_bf16 or amx_bf16 among its flags)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = {word for line in text.splitlines() if line.startswith("flags") for word in line.split()}
    return bool({"avx512_bf16", "amx_bf16"} & flags)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The precision of that name; auto is bfloat16 where the hardware has it."""
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and has_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(name)
    if chosen is None:
        raise JobError(f"dtype {name!r} is not one of auto, float32, bfloat16")
    return chosen


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """So many processor threads for torch inside a `with`; the caller's number returns."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread of the processor inside a `with`, or a function that this decorates.

    With two, convolutions are not bit-equal across batch sizes. Each Python thread has a number of its own, which it
    takes over from the one that was set last: here the caller's, also where several come in and go out by turns.
    """
    global _inside, _before  # noqa: PLW0603 (so does the setting that it counts for)
    now = torch.get_num_threads()  # asked in each thread, which would else take over a number that is set after its own
    with _lock:
        _before = _before if _inside else now
        _inside += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_before)
