"""Where blocks run: a plain loop, local Dask workers, or any Dask cluster. Tasks carry keys, never arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from geodiff.blocks import BlockResult
from geodiff.errors import InputError

if TYPE_CHECKING:
    from geodiff.blocks import BlockResult
    from geodiff.job import FillJob
    from geodiff.plan import Block
    from geodiff.progress import Progress

__all__ = ["run_blocks"]

FillBlock = Callable[[str, "Block"], "BlockResult"]


def run_blocks(
    fill_block: FillBlock, work_path: str, blocks: Sequence[Block], job: FillJob, progress: Progress
) -> list[BlockResult]:
    """Run every block once; one Dask task a block where Dask is asked for."""
    if not blocks:
        return []
    if not job.scheduler and (job.workers or 1) == 1:
        results = []
        for block in blocks:
            results.append(fill_block(work_path, block))
            progress.advance()
        return results
    return _on_dask(fill_block, work_path, blocks, job, progress)


def _on_dask(
    fill_block: FillBlock, work_path: str, blocks: Sequence[Block], job: FillJob, progress: Progress
) -> list[BlockResult]:
    from dask.distributed import as_completed

    results: list[BlockResult] = []
    with ExitStack() as held:
        client = _client(job, held)
        keys = [f"geodiff-{block.key}" for block in blocks]
        futures = [
            client.submit(fill_block, work_path, block, key=key, pure=False, retries=2)
            for key, block in zip(keys, blocks, strict=True)
        ]
        for future in as_completed(futures):
            results.append(_result(future))
            progress.advance()
    return results


def _result(future: Any) -> BlockResult:
    error = future.exception()
    if error is None:
        result: BlockResult = future.result()
        return result
    key = str(future.key).removeprefix("geodiff-")
    return BlockResult(key, error=f"{type(error).__name__}: {error}")


def _client(job: FillJob, held: ExitStack) -> Any:
    import logging

    from dask.distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)  # set to info by the import above
    if job.scheduler:
        try:
            return held.enter_context(Client(job.scheduler, timeout="20s"))
        except OSError as error:
            raise InputError(f"no Dask scheduler answers at {job.scheduler}: {error}; check --scheduler") from None
    cluster = LocalCluster(
        n_workers=job.workers,
        threads_per_worker=1,  # one thread a process: the same sums in the same order on every worker
        processes=True,
        silence_logs=logging.ERROR,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # any free port: two jobs on one machine do not meet
        memory_limit=0,  # the plan bounds memory; a worker killed at a guess would only be restarted
    )
    return held.enter_context(Client(held.enter_context(cluster)))
