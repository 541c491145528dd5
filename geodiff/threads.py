"""Linear algebra on one thread: many small systems are slower on several, and sums then depend on the machine.

A kriging system of 500 pixels takes 1 ms on one thread. BLAS on as many threads as there are cores gains little on a
quiet machine, waits 30 times as long where something else uses a core, and may round differently with another number
of cores. What uses several cores is `--workers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["one_thread"]

_held = Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside a `with`, or a function that this decorates; the caller's setting returns.

    The setting belongs to the process, and has to be unmade by the thread that made it: others share it meanwhile.
    """
    if not _held.acquire(blocking=False):
        yield
        return
    try:
        import numpy.linalg  # noqa: F401 (a library is limited once it is loaded; SciPy brings a BLAS of its own)
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        _held.release()
