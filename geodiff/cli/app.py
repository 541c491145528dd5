"""The typer application, and what every verb's options share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from copy import copy
from typing import Annotated, Any

import typer

from geodiff.credentials import legible, unsaid

__all__ = ["Json", "Quiet", "Verbose", "app", "chosen", "examples", "numbers", "say", "talk", "what_is_missing",
           "words"]  # fmt: skip

app = typer.Typer(
    name="geodiff",
    help="Fill gaps in rasters with a standard error for each filled pixel; known pixels stay as they were.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print the results as JSON.")]
Verbose = Annotated[
    int,
    typer.Option("-v", "--verbose", count=True, metavar="", show_default=False, help="Log more; -vv shows tracebacks."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", metavar="", help="Print only warnings and errors to stderr.")]


def examples(*lines: str) -> str:
    """The end of a verb's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def talk(verbose: int, *, quiet: bool) -> None:
    """Set up logging to stderr."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
    for out in logging.getLogger().handlers:
        out.setFormatter(_Legible())
    logging.getLogger("geodiff").setLevel(level)
    if verbose > 1:
        logging.getLogger().setLevel(logging.DEBUG)
        for chatty in ("rasterio", "matplotlib", "asyncio", "distributed", "PIL", "fsspec", "botocore", "h5py", "zarr"):
            logging.getLogger(chatty).setLevel(logging.WARNING)


class _Legible(logging.Formatter):
    """Messages alone, and nothing in them that a terminal would obey; a name that is put into one makes no new line."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = copy(record)
            record.args = tuple(legible(a, lines=False) if isinstance(a, str) else a for a in record.args or ())
        return legible(unsaid(super().format(record)))


def say(text: object, *, err: bool = False) -> None:
    """Print what was found, or with `err` what went wrong, as a terminal can show it."""
    typer.echo(legible(unsaid(str(text))), err=err)


def words(text: str | None) -> tuple[str, ...] | None:
    """Words separated by commas; None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    """Numbers separated by commas; JobError names the option and what it was given."""
    from geodiff.errors import JobError

    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise JobError(f"{what} {text!r}: expected numbers separated by commas, such as 0.05,0.95") from None


def what_is_missing(
    variable: str | None,
    bands: str | None,
    qa: Sequence[str] | None,
    mask: Sequence[str] | None,
    nodata: float | None,
    valid_range: str | None,
) -> dict[str, Any]:
    """The options that every verb with a source has, as fields of a job."""
    return {
        "variable": words(variable), "bands": words(bands), "qa": tuple(qa) if qa else None,
        "mask": tuple(mask) if mask else None, "nodata": nodata,
        "valid_range": numbers(valid_range, "--valid-range"),
    }  # fmt: skip


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given.

    Raises JobError where one was given nothing, as shells do of a variable that is not set: a gate, a mask or bands
    would otherwise be left out without a word, and an empty path is the folder one stands in.
    """
    from geodiff.errors import JobError

    for name, value in options.items():
        words = value if isinstance(value, tuple) else (value,)
        if not words or any(isinstance(word, str) and not word.strip() for word in words):
            option = name.removeprefix("begin_").replace("_", "-")
            shown = name.upper() if name in ("source", "target") else f"--{option}"
            raise JobError(f"{shown} was given nothing; give it a value or leave it out (is a shell variable not set?)")
    return {name: value for name, value in options.items() if value is not None}
