"""The command line of the flows: every option of `geodiff fill`, read off FillJob, so that the two cannot differ."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.job import REPEATED, FillJob

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["add_fill_options", "add_many_options", "add_run_options", "job_of"]

_NOT_HERE = {"source", "target", "append", "stac"}
_NEGATIVE = re.compile(r"-\.?\d[-+.,\deE]*$")
"""What begins with a minus and is a value all the same: -9999, -1e3, -2,40."""


def add_fill_options(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add FOLDER, OUT, --job and one option a field of FillJob; `optional` lets FOLDER and OUT be left out."""
    parser._negative_number_matcher = _NEGATIVE  # argparse knows single ones only
    count = "?" if optional else None
    folder = "folder of rasters or scene folders, here or at s3://, a glob in quotes, or a STAC catalogue"
    parser.add_argument("folder", nargs=count, help=folder)
    parser.add_argument("out", nargs=count, help="folder of products")
    parser.add_argument("--job", type=Path, metavar="FILE", help="job file (TOML) whose options apply to every scene")
    group = parser.add_argument_group("options of every scene, as for geodiff fill")
    for name, field in FillJob.model_fields.items():
        if name not in _NOT_HERE:
            group.add_argument(f"--{name.replace('_', '-')}", **_as_argument(name, field))


def add_run_options(parser: argparse.ArgumentParser, at_one: str = "") -> None:
    """Add what every flow takes: tries `at_one` thing, where there are several, and the log."""
    parser.add_argument("--retries", type=int, default=3, metavar="N", help="retries after failures of disk or network")
    one_try = f"for one try at one {at_one}" if at_one else "for one try"
    parser.add_argument("--timeout-minutes", type=float, default=240, metavar="M", help=one_try)
    parser.add_argument("-v", "--verbose", action="store_true", help="show Prefect's log")


def add_many_options(parser: argparse.ArgumentParser, each: str) -> None:
    """Add what flows over many scenes or frames take beside `add_run_options`, which it adds too."""
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help=f"{each}s at a time (default 1)")
    parser.add_argument("--no-pages", dest="pages", action="store_false", help="write no HTML reports")
    add_run_options(parser, each)


def _as_argument(name: str, field: FieldInfo) -> dict[str, Any]:
    text = str(field.description).replace("%", "%%")
    if name in REPEATED:
        return {"action": "append", "metavar": "X", "help": f"{text}; may be repeated"}
    if field.annotation is bool:
        return {"action": "store_true", "default": None, "help": text}
    if "tuple" in str(field.annotation):
        return {"type": _words, "metavar": "A[,B..]", "help": text}
    return {"metavar": "X", "help": text}


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def job_of(chosen: argparse.Namespace) -> FillJob:
    """The job that the command line describes; raises JobError with one line a wrong field."""
    given = {name: getattr(chosen, name, None) for name in FillJob.model_fields if name not in _NOT_HERE}
    fields = {name: value for name, value in given.items() if value is not None}
    fields |= {"source": chosen.folder, "target": f"{chosen.out.rstrip('/')}/"}
    return FillJob.from_toml(chosen.job, **fields) if chosen.job else FillJob.build(**fields)
