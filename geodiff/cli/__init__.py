"""The command line: one module a verb or a family of verbs, each a few lines over the functions it names."""

from __future__ import annotations

import errno
import logging
import signal
import sys
from typing import Annotated

import typer

from geodiff.cli import fill, looking, model, report, restore, score, train
from geodiff.cli.app import app
from geodiff.errors import GeodiffError

__all__ = ["app", "fill", "looking", "main", "model", "report", "restore", "score", "train"]


def main() -> None:
    """The entry point: runs a verb and turns what went wrong into one line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interruption like Ctrl-C
    try:
        app(standalone_mode=True, prog_name="geodiff")
    except GeodiffError as error:
        _complain(error, error.exit_code)
    except SystemExit as end:  # typer has turned Ctrl-C into its exit code already, without a word
        if end.code == 130:
            typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        raise
    except Exception as error:  # noqa: BLE001 - the last door: one line for the user, the traceback with -vv
        _complain(error, 1)


def _complain(error: BaseException, code: int) -> None:
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).debug("where it went wrong", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        typer.echo(f"error: {error}; make room, or choose another place; the same command then goes on", err=True)
        sys.exit(code)
    known = isinstance(error, (GeodiffError, OSError))
    typer.echo(f"error: {error}" if known and str(error) else f"error: {type(error).__name__}: {error}", err=True)
    sys.exit(code)


def _version(value: bool) -> None:
    if value:
        from geodiff import __version__

        typer.echo(f"geodiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Options of geodiff itself."""
