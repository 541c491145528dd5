"""One readable progress bar on a terminal; a log line a minute anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from geodiff.credentials import legible

__all__ = ["Progress", "waiting", "within"]

logger = logging.getLogger(__name__)

_EVERY = 60.0
_present: ContextVar[Progress | None] = ContextVar("present", default=None)
"""What this thread shows, the innermost."""


class Progress:
    """Counts finished pieces of work; a context manager. `quiet` is without a bar: the log may be listened to."""

    def __init__(self, what: str, total: int, unit: str, *, done: int = 0, quiet: bool = False) -> None:
        self._what, self._total, self._unit, self._done = what, total, unit, done
        self._began = self._spoke = time.monotonic()
        self._first = done
        self._share = 0.0
        self._bar: Any = None
        self._quiet = quiet
        self.heard: Callable[[float], None] = lambda _: None
        """Told too what share of the present piece is done."""

    def __enter__(self) -> Self:
        self._outer = _present.set(self)
        if not self._quiet and self._total and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self._what, total=self._total, completed=self._done, told=self._told())
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _present.reset(self._outer)
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more piece is done."""
        self._done += 1
        self._share = 0.0
        self._show()

    def within(self, share: float) -> None:
        """That share of the present piece is done."""
        self._share = share
        self.heard(share)
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done + self._share, told=self._told())
        elif time.monotonic() - self._spoke >= _EVERY:
            self._spoke = time.monotonic()
            logger.info("%s", self._sentence())

    def _told(self) -> str:
        """`120 of 900 blocks`; `12 %` of few pieces, as a share of one block of one tells nobody anything."""
        done = self._done + self._share
        few = self._total < 100
        return f"{100 * done / self._total:.0f} %" if few else f"{int(done):,} of {self._total:,} {self._unit}"

    def _sentence(self) -> str:
        """`filling: 120 of 900 blocks, about 14 min left`; `filling: 12 %, less than a minute left` of few pieces."""
        done, told = self._done + self._share, self._told()
        rate = (done - self._first) / max(self._spoke - self._began, 1e-9)
        if rate <= 0:
            return f"{self._what}: {told}"
        left = (self._total - done) / rate / 60
        return f"{self._what}: {told}, " + (f"about {left:.0f} min left" if left >= 1 else "less than a minute left")


def within(share: float) -> None:
    """Tell whatever progress this thread shows that a share of its present piece is done."""
    shown = _present.get()
    if shown is not None:
        shown.within(share)


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Work whose pieces are not counted: a turning mark and the time so far on a terminal, a log line elsewhere."""
    if quiet or not sys.stderr.isatty():
        logger.info("%s ...", what)
        yield
        return
    from rich import progress
    from rich.console import Console

    said = progress.TextColumn("{task.description}", markup=False)  # which may hold a name with brackets
    columns = progress.SpinnerColumn(), said, progress.TimeElapsedColumn()
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(legible(what, lines=False), total=None)
        yield


def _bar() -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[told]}"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
