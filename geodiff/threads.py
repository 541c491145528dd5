"""Cores and threads: how many there are, linear algebra on one, and calls of a network side by side.

Many small systems are slower on several threads, and sums then depend on the machine. A kriging system of 500 pixels
takes 1 ms on one thread. BLAS on as many threads as there are cores gains little on a quiet machine, waits 30 times as
long where something else uses a core, and may round differently with another number of cores. What uses several cores
is `--workers`, training, and a network's calls, which have nothing to do with each other: `each`. What the classical
fillers do is too small for threads: Python runs one of them at a time, and two took a fifth more of the processor for
a tenth less time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, islice
from threading import Lock
from typing import Any, TypeVar

from geodiff.limits import processor_quota

__all__ = ["cores", "each", "one_thread", "side_by_side"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MOST = 8
"""Pieces at a time; each takes memory."""
_pool: ContextVar[Executor | None] = ContextVar("geodiff-pieces", default=None)
"""What `each` hands pieces to here. A new thread begins with none: a Dask worker has one core, and pieces of pieces
come one after the other."""

_lock = Lock()
_inside = 0
"""Threads and nested calls that want the limit now."""
_limit: Any = None
"""What gives the caller's setting back."""


def cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has; part of one counts as one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota()
    return here if quota is None else min(here, math.ceil(quota))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside a `with`, or a function that this decorates.

    The setting belongs to the process: the first to come in makes it, and the last to go out, in whichever thread,
    gives the caller's own back.
    """
    _come_in()
    try:
        yield
    finally:
        _go_out()


def _come_in() -> None:
    global _inside, _limit  # noqa: PLW0603 (so does the setting that it counts for)
    import numpy.linalg  # noqa: F401 (a library is limited once it is loaded; SciPy brings a BLAS of its own)
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    with _lock:
        if not _inside:
            _anyone_may_set()
            _limit = threadpool_limits(1, user_api="blas")
        _inside += 1


def _go_out() -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        if not _inside:
            _anyone_may_set()
            _limit.restore_original_limits()
            _anyone_may_set()  # this thread may live on in a pool, and the caller's own limits would do nothing


def _anyone_may_set() -> None:
    """Newer threadpoolctl lets only the thread that limited OpenBLAS set it again, while that lives."""
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


@contextmanager
def side_by_side(many: int = 0) -> Iterator[None]:
    """Let `each` do so many pieces at a time inside a `with`; 0 for as many as there are cores, eight at most."""
    many = min(many or cores(), _MOST)
    with ThreadPoolExecutor(many, thread_name_prefix="geodiff-piece") as pool:  # threads start with the first piece
        before = _pool.set(pool if many > 1 else None)
        try:
            yield
        finally:
            _pool.reset(before)


def each(work: Callable[[_T], _R], pieces: Iterable[_T]) -> list[_R]:
    """What `work` says of each piece, in their order; the same whether they are done side by side or not.

    Pieces must not depend on each other; those that are still to be made are made here, while others are worked on.
    What one raises is raised here, and those not begun are left.
    """
    pool, rest = _pool.get(), iter(pieces)
    first = list(islice(rest, 2))
    if pool is None or len(first) < 2:
        return [work(piece) for piece in chain(first, rest)]
    return list(pool.map(work, chain(first, rest)))
