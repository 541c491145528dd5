"""Where blocks run: a plain loop, local Dask workers, or any Dask cluster. Tasks carry keys, never arrays."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from geodiff import __version__
from geodiff.blocks import BlockResult
from geodiff.errors import ClusterError, InputError, one_line
from geodiff.threads import one_thread, side_by_side

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.plan import Block
    from geodiff.progress import Progress

__all__ = ["assert_main_guard", "assert_scheduler", "local_workers", "run_blocks"]

_log = logging.getLogger(__name__)

FillBlock = Callable[[str, "Block"], "BlockResult"]
_PATIENCE = "20s"
"""How long to wait for a scheduler to answer."""
_SPAWN = "distributed.nanny.pre-spawn-environ"
"""Dask's setting for the environment of its worker processes."""
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**27, "MALLOC_MMAP_THRESHOLD_": 2**25}
"""Thresholds, in bytes, to which glibc adapts by itself unless one is set. Dask sets 64 KiB, with which every temporary
array is mapped and unmapped page by page: blocks of `matern` took 3.5 times as long in two workers."""
_OF_A_BLOCK = (
    "geodiff.estimate", "geodiff.scene", "odc.geo.geobox", "rasterio",
    "scipy.fft", "scipy.linalg", "scipy.ndimage", "zarr",
)  # fmt: skip
"""Modules that a block needs, some of which are imported where they are used; together they take seconds to load."""
_WORTH_HELP = 30.0
"""Seconds of work left from which more processes are started; each takes about six seconds to start."""
_TOLD = 0.25
"""Blocks that must be done, possibly in part, before the time for the others is estimated."""
_GUARD = "put the call under `if __name__ == '__main__':`, or use workers=1"
_LOOK = 30.0
"""Seconds between two looks at the workers of a cluster."""
_AT_ONCE = 20_000
"""Most tasks given to a scheduler at a time: each takes some kilobytes there, and a millisecond before it runs."""


@contextmanager
def local_workers(job: FillJob) -> Iterator[Future[Any] | None]:
    """A client of local Dask workers that start in the background; None where the job needs no workers of its own.

    They take some seconds to start and to load what the filler needs, while the source is scanned and a filler fitted.
    """
    workers = job.workers or 1
    if job.scheduler or workers == 1:
        yield None
        return
    with _Starting() as starting:
        yield starting.begin(job, workers)


class _Starting:
    """Local workers that start in the background. A run that fails or is interrupted does not wait for them."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._lock, self._left = Lock(), False
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is not None:
                logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it logs streams that close while starting
            elif self._thread is not None:
                self._thread.join()
        finally:  # also when interrupted while waiting
            with self._lock:
                self._left = True
            self._held.close()

    def begin(self, job: FillJob, workers: int) -> Future[Any]:
        """A future client of so many workers, done when they are ready."""
        made: Future[Any] = Future()

        def start() -> None:
            try:
                with ExitStack() as opening:
                    client = _local_client(job, workers, opening)
                    with self._lock:
                        if not self._left:  # otherwise this thread, which opened them, closes them
                            self._held.push(opening.pop_all())
                made.set_result(client)
            except Exception as failed:  # noqa: BLE001  # raised where the client is asked for
                made.set_exception(failed)

        self._thread = Thread(target=start, name="geodiff-workers", daemon=True)  # exit does not wait for it either
        self._thread.start()
        return made


@one_thread()  # once for all blocks: finding out which libraries are loaded takes as long as a small block
def run_blocks(
    fill_block: FillBlock,
    work_path: str,
    blocks: Sequence[Block],
    job: FillJob,
    progress: Progress,
    local: Future[Any] | None = None,
    most: int = 1,
) -> list[BlockResult]:
    """Run every block once, as one Dask task per block where Dask is used.

    Parameters
    ----------
    local : the future client of `local_workers`.
    most : number of processes, this one included, that memory and processors allow, if the job leaves it open.

    Raises
    ------
    InputError
        If no scheduler answers at the address of `--scheduler`.
    ClusterError
        If the scheduler disappears before all blocks are filled.
    """
    if not blocks:
        return []
    if job.scheduler:
        with _connected(job.scheduler) as client:
            return list(_on_dask(client, fill_block, work_path, blocks, progress))
    if local is not None:
        return list(_on_dask(local.result(), fill_block, work_path, blocks, progress))
    if job.workers == 0 and most > 1 and not _on_gpu(job):
        return list(_with_help(fill_block, work_path, blocks, job, progress, most))
    return list(_alone(fill_block, work_path, blocks, job, progress))


def _alone(
    fill_block: FillBlock, work_path: str, blocks: Sequence[Block], job: FillJob, progress: Progress
) -> Iterator[BlockResult]:
    """Fill blocks in this process, on as many cores as the job allows."""
    for block in blocks:
        with side_by_side(job.workers or 0):
            result = fill_block(work_path, block)
        progress.advance()
        yield result


def _with_help(
    fill_block: FillBlock, work_path: str, blocks: Sequence[Block], job: FillJob, progress: Progress, most: int
) -> Iterator[BlockResult]:
    """Fill blocks in this process and, where much work is left, in up to `most - 1` more that are started meanwhile.

    This process goes on from the front of the list, the others take blocks from its end.
    """
    began, todo, asked = time.monotonic(), deque(blocks), False
    client: Future[Any] | None = None
    helpers: _Helpers | None = None

    def consider(share: float) -> None:
        """Start helpers or give them work, with that share of the present block done."""
        nonlocal asked, client, helpers
        done = len(blocks) - len(todo) - (1 - share)
        left = (time.monotonic() - began) / max(done, 1e-9) * (len(blocks) - done)
        workers = min(most - 1, len(todo))
        if not asked and done >= _TOLD and workers and left > _WORTH_HELP:
            count = f"{workers} more process{'es' * (workers > 1)}"
            _log.info("about %.0f s of blocks are left: starting %s", left, count)
            asked, client = True, starting.begin(job, workers)
        elif client is not None and client.done():
            started, client = client, None
            if (reason := started.exception()) is not None:
                _log.warning("no more processes could be started (%s); continuing in this one", reason)
                return
            helpers = _Helpers(started.result(), fill_block, work_path, todo)
            for _ in range(workers):
                helpers.supply()

    def told(*, waiting: bool) -> Iterator[BlockResult]:
        for result in helpers.answers(waiting=waiting) if helpers is not None else ():
            progress.advance()
            yield result

    progress.heard = consider
    with _Starting() as starting:
        while block := _first(todo):
            yield from _alone(fill_block, work_path, [block], job, progress)
            consider(1.0)
            yield from told(waiting=False)
        yield from told(waiting=True)


def _first(todo: deque[Block]) -> Block | None:
    """The first block that is left."""
    try:
        return todo.popleft()
    except IndexError:
        return None


@dataclass(frozen=True, slots=True)
class _Helpers:
    """Workers that take blocks from the end of the list, each one at a time."""

    client: Any
    fill_block: FillBlock
    work_path: str
    todo: deque[Block]
    _run: str = field(default_factory=lambda: uuid4().hex)
    _taken: list[tuple[Any, Block]] = field(default_factory=list)
    _lock: Any = field(default_factory=Lock)

    def supply(self, _: object = None) -> None:
        """Submit one more block, if any is left."""
        with self._lock:
            try:
                block = self.todo.pop()
            except IndexError:
                return
            future = self.client.submit(
                _fresh, self.fill_block, self.work_path, block, self._run, __version__,
                key=f"geodiff-{self._run}-{block.key}", pure=False, retries=2,
            )  # fmt: skip
            self._taken.append((future, block))
        future.add_done_callback(self.supply)

    def answers(self, *, waiting: bool) -> Iterator[BlockResult]:
        """Results of the submitted blocks that are done; with `waiting`, of all of them."""
        with self._lock:
            done = [waiting or future.done() for future, _ in self._taken]
            ready = [each for each, told in zip(self._taken, done, strict=True) if told]
            self._taken[:] = [each for each, told in zip(self._taken, done, strict=True) if not told]
        for future, block in ready:
            yield _result(future, block)


def _on_gpu(job: FillJob) -> bool:
    """Whether a network runs on a GPU, which several processes would only share."""
    if "torch" not in sys.modules:  # it is imported where a network runs
        return False
    from geodiff.diffusion.device import pick_device

    return pick_device(job.device).type != "cpu"


def assert_main_guard(job: FillJob) -> None:
    """Raise InputError in a worker process that imports a script which would start workers again."""
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    if importing and job.workers not in (None, 1) and not job.scheduler:
        raise InputError(f"workers={job.workers} starts processes, and each of them runs this script first; {_GUARD}")


def assert_scheduler(job: FillJob) -> None:
    """Raise InputError if the cluster that a job names does not answer, before anything is scanned or fitted."""
    if job.scheduler:
        with _connected(job.scheduler):
            pass


def _on_dask(
    client: Any, fill_block: FillBlock, work_path: str, blocks: Sequence[Block], progress: Progress
) -> Iterator[BlockResult]:
    """Run one task per block, at most `_AT_ONCE` at a time; Dask gives the blocks of a lost worker to others."""
    from dask.distributed import as_completed

    resources, run = _resources(client), uuid4().hex
    for first in range(0, len(blocks), _AT_ONCE):
        some = blocks[first : first + _AT_ONCE]
        keys = {f"geodiff-{run}-{block.key}": block for block in some}  # unique among all jobs of the cluster
        futures = [
            client.submit(
                _fresh, fill_block, work_path, block, run, __version__,
                key=key, pure=False, retries=2, resources=resources,
            )
            for key, block in keys.items()
        ]  # fmt: skip
        with _watched(client, resources):
            for future in as_completed(futures, loop=client.loop):
                yield _result(future, keys[future.key])
                progress.advance()


@contextmanager
def _watched(client: Any, resources: Mapping[str, int] | None) -> Iterator[None]:
    """Log when no worker can take blocks, for which Dask would wait forever without a message."""
    left = Event()

    def look() -> None:
        told = ""
        while not left.wait(_LOOK):
            with suppress(Exception):  # if the scheduler is gone, the caller gets the error
                said = _why_idle(list(client.scheduler_info(n_workers=-1)["workers"].values()), resources or {})
                if said and said != told:
                    _log.warning("%s", said)
                told = said

    watching = Thread(target=look, name="geodiff-watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        left.set()


def _why_idle(workers: Sequence[Mapping[str, Any]], resources: Mapping[str, int]) -> str:
    """Why no block, which needs `resources`, can start on a cluster with these workers; empty if one can."""
    if not workers:
        return "the Dask cluster has no worker: blocks wait until one comes"
    able = [worker for worker in workers if all(worker.get("resources", {}).get(name) for name in resources)]
    if not able:
        asked = ",".join(f"{name}={number}" for name, number in resources.items())
        return (
            f"none of the Dask cluster's workers ({len(workers)}) offers {asked} any more, as those did when this run "
            f"began: blocks wait until one comes that does (`dask worker --resources {asked}`)"
        )
    if any(worker.get("status") != "paused" or _at_work(worker) for worker in able):
        return ""
    least = min(worker.get("memory_limit") or 0 for worker in able)
    return (
        f"Dask has paused all its workers ({len(able)}), whose memory is nearly full (the least has "
        f"{least / 2**20:.0f} MiB): blocks wait. Stop this run, and run the same command again with more memory for "
        "each (--memory-limit of `dask worker`): it goes on with the blocks that are left"
    )


def _at_work(worker: Mapping[str, Any]) -> bool:
    """Whether a worker is filling a block, whose end may free the memory that made Dask pause it."""
    return bool(worker.get("metrics", {}).get("task_counts", {}).get("executing"))


_runs: dict[str, str] = {}
"""The latest run for which this worker filled blocks, by working store, in order of use."""
_REMEMBERED = 2
"""Number of runs for which a worker keeps its files open."""


def _fresh(fill_block: FillBlock, work_path: str, block: Block, run: str, version: str) -> BlockResult:
    """Fill a block on a worker that may outlive runs, closing what it opened for an earlier run at this place.

    Raises ClusterError if this worker has another version of geodiff than the run, and might fill differently.
    """
    if version != __version__:
        raise ClusterError(f"a worker has geodiff {__version__} and this run {version}; install the same for both")
    if _runs.get(work_path) != run:
        from geodiff.blocks import forget

        forget(work_path)
        _runs.pop(work_path, None)
        _runs[work_path] = run
        for old in list(_runs)[:-_REMEMBERED]:
            forget(old)
            _runs.pop(old, None)
    return fill_block(work_path, block)


def _resources(client: Any) -> dict[str, int] | None:
    """One GPU per block if the cluster's workers offer any (`dask worker --resources "GPU=1"`)."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any(worker.get("resources", {}).get("GPU") for worker in workers) else None


def _result(future: Any, block: Block) -> BlockResult:
    """The result of a block, which the cluster may then forget.

    Otherwise it would fill the block again if the worker that holds the result is lost, possibly while the working
    store is being removed.
    """
    try:
        error = future.exception()
        if error is None:
            result: BlockResult = future.result()
            return result
        return BlockResult(block.key, error=f"{type(error).__name__}: {error}")
    finally:
        future.release()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of an external cluster; raises ClusterError if its scheduler disappears meanwhile."""
    from dask.distributed import Client
    from distributed.comm.core import CommClosedError

    _quieten()
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = one_line(error, 200)
        raise InputError(f"no Dask scheduler answers at {address}: {reason}; check --scheduler") from None
    with client:
        try:
            yield client
        except (CancelledError, CommClosedError) as error:
            logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it logs the reconnection that is given up
            raise ClusterError(
                f"the Dask scheduler at {address} went away in mid-run ({one_line(error, 200)}); start "
                "one again: the same command then resumes with the blocks that are left"
            ) from error


def _local_client(job: FillJob, workers: int, held: ExitStack) -> Any:
    import dask
    from dask.distributed import Client, LocalCluster

    _quieten()
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") == "65536":  # set by another Dask cluster of this process
        del os.environ["MALLOC_TRIM_THRESHOLD_"]
    with dask.config.set({_SPAWN: {**dask.config.get(_SPAWN), **_MALLOC}}):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,  # one thread a process: the same sums in the same order on every worker
                processes=True,
                silence_logs=logging.ERROR,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any free port, as two jobs may share a machine
                memory_limit=0,  # the plan bounds memory; Dask would kill and restart workers by its own estimate
            )
        except RuntimeError as error:
            raise InputError(
                f"{workers} worker processes could not be started ({error}); in a script, {_GUARD}"
            ) from error
    client = held.enter_context(Client(held.enter_context(cluster), set_as_default=False))
    client.run(_warm_up, job)
    return client


def _warm_up(job: FillJob) -> None:
    """Load what the first block of a worker would otherwise wait for: modules and the network, if any."""
    from importlib import import_module

    from geodiff.blocks import filler_of

    for module in _OF_A_BLOCK:
        import_module(module)

    warm_up = getattr(filler_of(job), "warm_up", None)
    if warm_up is not None:
        warm_up()


def _quieten() -> None:
    """Log only errors of distributed, which sets itself to info when imported."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
