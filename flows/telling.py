"""How a flow tells what came of each scene or frame: in its log, as tables that the server keeps, and on paper."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from flows.finding import called
from flows.local import complain, local_prefect
from geodiff.credentials import legible
from geodiff.errors import GeodiffError

__all__ = ["SomeFailedError", "Teller", "failures", "linked", "plain", "source_name"]


class _Record(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def failed(self) -> bool: ...


R = TypeVar("R", bound=_Record)
_LINES = 100
"""Scenes that the state of a run names; a server that is away makes thousands fail, and alerts carry that text."""


class SomeFailedError(GeodiffError):
    """Some of many could not be made; the products of the others are delivered."""

    what: ClassVar[str]
    """What they are, in the plural."""

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = tuple(records)
        super().__init__(failures(self.what, records))


@dataclass(frozen=True, slots=True)
class Teller(Generic[R]):
    """Tells of records of one kind; what failed comes first."""

    what: str
    """What they are of, in the plural."""
    table: str
    """Key of the table artifact; with `-summary`, of the same as text with links to the reports."""
    row: Callable[[R], Mapping[str, Any]]
    """A record as a row of the table."""
    head: Sequence[str]
    """Names of the columns of the text."""
    cells: Callable[[R], Sequence[str]]
    """A record as cells of the text."""
    detail: Callable[[R], str]
    """What follows name and status in a printed line."""

    def publish(self, records: Sequence[R]) -> None:
        """The table in the flow's log, as an artifact and as text."""
        ordered = _worst_first(records)
        counts = Counter(record.status for record in records)
        summary = ", ".join(f"{number} {status}" for status, number in counts.most_common()) or f"no {self.what}"
        get_run_logger().info("%d %s: %s", len(ordered), self.what, summary)
        create_table_artifact(
            key=self.table, table=[dict(self.row(record)) for record in ordered], description=summary
        )
        create_markdown_artifact(self._markdown(ordered, summary), key=f"{self.table}-summary", description=summary)

    def _markdown(self, records: Sequence[R], summary: str) -> str:
        rows = [self.head, ["---"] * len(self.head), *map(self.cells, records)]
        return "\n".join([f"**{summary}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""])

    def deliver(self, run: Callable[[], Sequence[R]]) -> int:
        """Run a flow here and now, and print what came of it; returns the exit code."""
        try:
            with local_prefect():
                records = run()
        except SomeFailedError as error:
            self.print(error.records)
            return complain(str(error).splitlines()[0], 1)
        self.print(records)
        return 0

    def print(self, records: Sequence[R]) -> None:
        """A line for each on standard output."""
        for record in _worst_first(records):
            line = f"{record.name}: {record.status}{self.detail(record)}"
            said = f"{line}: {record.message}" if record.message else line
            sys.stdout.write(f"{legible(said, lines=False)}\n")  # files may be called as commands of a terminal
        if not records:
            sys.stdout.write(f"no {self.what}: nothing to do\n")


def _worst_first(records: Iterable[R]) -> list[R]:
    return sorted(records, key=lambda record: (not record.failed, record.name))


def source_name() -> str:
    """What a task's run is called: as the scene of its job."""
    from prefect.runtime import task_run

    return called(task_run.parameters["job"].source)


def failures(what: str, records: Sequence[_Record]) -> str:
    """How many failed, and on a line each, why; of very many the first ones, as the table has all."""
    bad = [record for record in records if record.failed]
    lines = [f"{record.name}: {record.status}: {record.message}" for record in bad[:_LINES]]
    more = [f"and {len(bad) - _LINES} more"] if len(bad) > _LINES else []
    return "\n".join([f"{len(bad)} of {len(records)} {what} failed", *lines, *more])


def linked(name: str, page: str) -> str:
    """A name in Markdown, as a link to its page where there is one."""
    return f"[{plain(name)}]({_address(page)})" if page else plain(name)


def _address(page: str) -> str:
    return page if "://" in page else Path(page).absolute().as_uri()


def plain(text: str) -> str:
    """Text that cannot end a cell or begin a link."""
    return re.sub(r"([|\\`*_\[\]<>])", r"\\\1", " ".join(text.split()))
