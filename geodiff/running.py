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
"""For a scheduler to answer."""
_SPAWN = "distributed.nanny.pre-spawn-environ"
"""Dask's setting of what its worker processes find in their environment."""
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**27, "MALLOC_MMAP_THRESHOLD_": 2**25}
"""What glibc would learn by itself if Dask set no threshold. Dask's own, 64 KiB, maps and unmaps every temporary array
page by page: blocks of `matern` took 3.5 times as long in two workers."""
_OF_A_BLOCK = (
    "geodiff.estimate", "geodiff.scene", "odc.geo.geobox", "rasterio",
    "scipy.fft", "scipy.linalg", "scipy.ndimage", "zarr",
)  # fmt: skip
"""Modules that a block works with, some of them imported where they are used: seconds, together."""
_WORTH_HELP = 30.0
"""Seconds that blocks must still take in one process for several to be started: a start costs each some six seconds."""
_TOLD = 0.25
"""Blocks that must be done to tell how long the others take."""
_GUARD = "put the call under `if __name__ == '__main__':`, or use workers=1"
_LOOK = 30.0
"""Seconds between two looks at the workers of a cluster."""
_AT_ONCE = 20_000
"""Tasks a scheduler holds at a time: each takes some kilobytes and, before it runs, a millisecond."""


@contextmanager
def local_workers(job: FillJob) -> Iterator[Future[Any] | None]:
    """A client of local Dask workers, which start in the background; None where a job has none of its own.

    They take some seconds to start and to load what the filler needs; meanwhile the source is scanned and it is fitted.
    """
    workers = job.workers or 1
    if job.scheduler or workers == 1:
        yield None
        return
    with _Starting() as starting:
        yield starting.begin(job, workers)


class _Starting:
    """Local workers that start in the background. Who leaves with an error or is interrupted does not wait for them."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._lock, self._left = Lock(), False
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is not None:
                logging.getLogger("distributed").setLevel(logging.CRITICAL)  # of streams that close under a start
            elif self._thread is not None:
                self._thread.join()
        finally:  # who is interrupted here leaves too
            with self._lock:
                self._left = True
            self._held.close()

    def begin(self, job: FillJob, workers: int) -> Future[Any]:
        """A client of so many workers, once they stand."""
        made: Future[Any] = Future()

        def start() -> None:
            try:
                with ExitStack() as opening:
                    client = _local_client(job, workers, opening)
                    with self._lock:
                        if not self._left:  # otherwise they are closed here, by the thread that opened them
                            self._held.push(opening.pop_all())
                made.set_result(client)
            except Exception as failed:  # noqa: BLE001  # whoever asks for the client is told
                made.set_exception(failed)

        self._thread = Thread(target=start, name="geodiff-workers", daemon=True)  # nor does the process wait at its end
        self._thread.start()
        return made


@one_thread()  # kept over all blocks: to ask which libraries are loaded takes as long as a small block does
def run_blocks(
    fill_block: FillBlock,
    work_path: str,
    blocks: Sequence[Block],
    job: FillJob,
    progress: Progress,
    local: Future[Any] | None = None,
    most: int = 1,
) -> list[BlockResult]:
    """Run every block once; one Dask task a block where Dask is asked for.

    Parameters
    ----------
    local : of `local_workers`.
    most : processes that memory and processors allow, this one among them, for a job that leaves their number open.

    Raises
    ------
    InputError
        Where `--scheduler` names a place that no scheduler answers from.
    ClusterError
        Where that scheduler goes away before all blocks are filled.
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
    """In this process, which has as many cores as the job allows."""
    for block in blocks:
        with side_by_side(job.workers or 0):
            result = fill_block(work_path, block)
        progress.advance()
        yield result


def _with_help(
    fill_block: FillBlock, work_path: str, blocks: Sequence[Block], job: FillJob, progress: Progress, most: int
) -> Iterator[BlockResult]:
    """Alone at first; where much is left others start meanwhile, and take blocks from the end while this one goes on.

    `most` processes, this one among them.
    """
    began, todo, asked = time.monotonic(), deque(blocks), False
    client: Future[Any] | None = None
    helpers: _Helpers | None = None

    def consider(share: float) -> None:
        """Ask for help, or set it to work, with that share of the present block done."""
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
    """The first block that nobody took."""
    try:
        return todo.popleft()
    except IndexError:
        return None


@dataclass(frozen=True, slots=True)
class _Helpers:
    """Workers that take blocks from the end of what is to be done, one at a time each."""

    client: Any
    fill_block: FillBlock
    work_path: str
    todo: deque[Block]
    _run: str = field(default_factory=lambda: uuid4().hex)
    _taken: list[tuple[Any, Block]] = field(default_factory=list)
    _lock: Any = field(default_factory=Lock)

    def supply(self, _: object = None) -> None:
        """Hand out one more block, where one is left."""
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
        """Of the blocks that were handed out those filled by now; all, `waiting` for them, once none is left."""
        with self._lock:
            done = [waiting or future.done() for future, _ in self._taken]
            ready = [each for each, told in zip(self._taken, done, strict=True) if told]
            self._taken[:] = [each for each, told in zip(self._taken, done, strict=True) if not told]
        for future, block in ready:
            yield _result(future, block)


def _on_gpu(job: FillJob) -> bool:
    """Whether a network runs on a GPU, which several processes would only have to share."""
    if "torch" not in sys.modules:  # it is imported where a network runs
        return False
    from geodiff.diffusion.device import pick_device

    return pick_device(job.device).type != "cpu"


def assert_main_guard(job: FillJob) -> None:
    """Raise InputError in a worker that runs the script which asks for it once more, as each imports it first."""
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    if importing and job.workers not in (None, 1) and not job.scheduler:
        raise InputError(f"workers={job.workers} starts processes, and each of them runs this script first; {_GUARD}")


def assert_scheduler(job: FillJob) -> None:
    """Raise InputError, before anything is scanned or fitted, where the cluster that a job names does not answer."""
    if job.scheduler:
        with _connected(job.scheduler):
            pass


def _on_dask(
    client: Any, fill_block: FillBlock, work_path: str, blocks: Sequence[Block], progress: Progress
) -> Iterator[BlockResult]:
    """One task a block, so many at a time that no scheduler drowns; a lost worker's blocks go to the others."""
    from dask.distributed import as_completed

    resources, run = _resources(client), uuid4().hex
    for first in range(0, len(blocks), _AT_ONCE):
        some = blocks[first : first + _AT_ONCE]
        keys = {f"geodiff-{run}-{block.key}": block for block in some}  # a cluster may have other jobs' blocks too
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
    """Say in the log where no worker takes blocks: Dask waits for one for ever, and without a word of its own here."""
    left = Event()

    def look() -> None:
        told = ""
        while not left.wait(_LOOK):
            with suppress(Exception):  # of a scheduler that is gone the caller hears
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
    """Why no block, which asks for `resources`, can begin on a cluster with these workers; empty where one can."""
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
    """Whether it fills a block: what pauses it now, that block may let go of."""
    return bool(worker.get("metrics", {}).get("task_counts", {}).get("executing"))


_runs: dict[str, str] = {}
"""The run for which this worker last filled blocks of each working store, the latest last."""
_REMEMBERED = 2
"""Runs at a time for which a worker keeps open what it fills from."""


def _fresh(fill_block: FillBlock, work_path: str, block: Block, run: str, version: str) -> BlockResult:
    """Fill a block on a worker that may outlive runs: what it opened for an earlier one at this place is let go.

    Raises ClusterError where this worker has another `version` of geodiff than who asks, and may fill otherwise.
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
    """One GPU a block where the cluster's workers offer any (`dask worker --resources "GPU=1"`)."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any(worker.get("resources", {}).get("GPU") for worker in workers) else None


def _result(future: Any, block: Block) -> BlockResult:
    """What became of a block, whose answer the cluster may then forget.

    It would fill a block anew whose answer is lost with a worker, and be at it when the working store goes away.
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
    """A client of a cluster that runs elsewhere; raises ClusterError where that goes away meanwhile."""
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
            logging.getLogger("distributed").setLevel(logging.CRITICAL)  # of a reconnection that is given up here
            raise ClusterError(
                f"the Dask scheduler at {address} went away in mid-run ({one_line(error, 200)}); start "
                "one again: the same command then resumes with the blocks that are left"
            ) from error


def _local_client(job: FillJob, workers: int, held: ExitStack) -> Any:
    import dask
    from dask.distributed import Client, LocalCluster

    _quieten()
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") == "65536":  # left here by another Dask cluster of this process
        del os.environ["MALLOC_TRIM_THRESHOLD_"]
    with dask.config.set({_SPAWN: {**dask.config.get(_SPAWN), **_MALLOC}}):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,  # one thread a process: the same sums in the same order on every worker
                processes=True,
                silence_logs=logging.ERROR,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any free port: two jobs on one machine do not meet
                memory_limit=0,  # the plan bounds memory; a worker killed at a guess would only be restarted
            )
        except RuntimeError as error:
            raise InputError(
                f"{workers} worker processes could not be started ({error}); in a script, {_GUARD}"
            ) from error
    client = held.enter_context(Client(held.enter_context(cluster), set_as_default=False))
    client.run(_warm_up, job)
    return client


def _warm_up(job: FillJob) -> None:
    """Load what the first block of a worker would wait for: modules and, where there is one, the network."""
    from importlib import import_module

    from geodiff.blocks import filler_of

    for module in _OF_A_BLOCK:
        import_module(module)

    warm_up = getattr(filler_of(job), "warm_up", None)
    if warm_up is not None:
        warm_up()


def _quieten() -> None:
    """Set to info by the import of distributed."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
