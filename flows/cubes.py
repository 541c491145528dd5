"""A cube that grows: the dates that a product lacks are added to it; plain functions, no Prefect.

What is new is told from content: the product keeps its dates, and a digest of every chunk of the source it was made
from. So a date that arrives late, or is reprocessed, is noticed too, and so are the dates it is a neighbour of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geodiff.appending import assert_appendable
from geodiff.pipeline import run

if TYPE_CHECKING:
    from geodiff.job import FillJob
    from geodiff.record import RunRecord

__all__ = ["CubeRecord", "append_new", "growing"]


@dataclass(frozen=True, slots=True)
class CubeRecord:
    """What became of a cube; small, so that it can travel."""

    source: str
    target: str
    status: str
    """`done`, `nothing to append`, `nothing to fill`, `planned` or `some blocks failed`."""
    dates: int = 0
    new_dates: int = 0
    """Dates that the product did not hold before; all of them where it is new."""
    dates_filled: int = 0
    """Dates on which something was filled: new ones, and those whose neighbours changed."""
    filled: int = 0
    """Values that are filled in the product as it is now, over all dates."""
    to_fill: int = 0
    coverage90: float | None = None
    """Share of hidden known pixels inside value +- 1.645 standard errors, as the fit measured it."""
    seconds: float = 0.0
    message: str = ""
    """Why, where blocks failed."""

    @property
    def failed(self) -> bool:
        """Whether a person has to look at it."""
        return self.status == "some blocks failed"


def growing(job: FillJob) -> FillJob:
    """The job with `--append`; raises JobError where its target cannot be extended."""
    chosen = job.model_copy(update={"append": True, "target": job.target.rstrip("/")})
    assert_appendable(chosen)
    return chosen


def append_new(job: FillJob) -> CubeRecord:
    """Add the dates that the product lacks, and fill again those whose neighbours changed; make it where there is none.

    Raises
    ------
    GeodiffError
        Where the cube cannot be filled, or a gate refuses it; the product is then as it was before.
    """
    return _said(run(growing(job), quiet=True))


def _said(record: RunRecord) -> CubeRecord:
    facts = [] if record.status == "planned" else list(record.variables.values())
    return CubeRecord(
        record.source,
        record.target,
        record.status,
        dates=max((f["shape"][0] for f in facts), default=0),
        new_dates=max((_added(f, "new_dates") for f in facts), default=0),
        dates_filled=max((_added(f, "dates_filled") for f in facts), default=0),
        filled=sum(f["filled"] for f in facts),
        to_fill=sum(f["to_fill"] for f in facts),
        coverage90=record.gates.get("coverage90"),
        seconds=round(sum(record.seconds.values()), 1),
        message="; ".join(f"{key}: {error}" for key, error in record.failed_blocks.items()),
    )


def _added(facts: dict[str, Any], name: str) -> int:
    """What was added of one variable: all its dates where the product is new."""
    return int(facts["appended"].get(name, facts["shape"][0]))
