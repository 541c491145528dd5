"""The command line: one module a verb or a family of verbs, each a few lines over the functions it names."""

from __future__ import annotations

import errno
import logging
import signal
import sys
from typing import Annotated, Any

import typer

from geodiff.cli import fill, looking, model, report, restore, score, train
from geodiff.cli.app import app, say
from geodiff.errors import GeodiffError, forget_interruption
from geodiff.streams import mend_streams

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for any misuse; it has no public name there."""

__all__ = ["app", "fill", "looking", "main", "model", "report", "restore", "score", "train"]


def main() -> None:
    """The entry point: runs a verb and turns what went wrong into one line and an exit code."""
    mend_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interruption like Ctrl-C
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # so is a terminal that goes away, unless nohup says no
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        sys.exit(_run())
    except GeodiffError as error:
        _complain(error, error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns Ctrl-C into its exit code, without a word, but for
        code = 130 if isinstance(end, KeyboardInterrupt) else end.code  # one that comes while it reads the options
        if code == 130:
            say(f"interrupted{_GOES_ON.get(_verb(), '')}", err=True)
            forget_interruption()
        sys.exit(code)
    except Exception as error:  # noqa: BLE001 - the last door: one line for the user, the traceback with -vv
        _complain(error, 1)


_GOES_ON = {
    "fill": "; the same command goes on where this one stopped",
    "train": "; the same command with --resume goes on from its last checkpoint, and without it begins anew",
    "restore": "; nothing was written, and the same command begins anew",
}


def _verb() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _run() -> int:
    """Run the verb that was asked for; typer would draw a box around a wrong option, here it is one line as ever."""
    try:
        code: int | None = app(standalone_mode=False, prog_name="geodiff")
    except typer.Abort:
        say("stopped: the input ended", err=True)
        return 1
    except _UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # that one has printed the help by itself
            say(f"error: {_usage(error)}", err=True)
        return 2
    return code or 0


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, and where to read the right ones."""
    said = " ".join(str(error.format_message()).split()).rstrip(".")
    if "unable to parse string as" in said:  # of a number; which string it was is not said
        said = f"{said.partition(':')[0]}: {_given(sys.argv, getattr(error, 'param', None))!r} is no number"
    command = error.ctx.command_path if error.ctx is not None else "geodiff"
    return f"{said}; {command} --help lists what there is"


def _given(words: list[str], parameter: Any) -> str:
    """What the command line gives an option, as it was typed."""
    names = getattr(parameter, "opts", ())
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else following
    return ""


def _complain(error: BaseException, code: int) -> None:
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).debug("where it went wrong", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        say(f"error: {error}; make room, or choose another place; the same command then resumes", err=True)
        sys.exit(code)
    if isinstance(error, OSError) and error.filename is None and str(error):  # of a store or a server, as they word it
        cure = f"check the place, its permissions and credentials{_GOES_ON.get(_verb(), '')}"
        say(f"error: {str(error).rstrip('.')}; {cure}", err=True)
        sys.exit(code)
    known = isinstance(error, (GeodiffError, OSError))
    say(f"error: {error}" if known and str(error) else f"error: {type(error).__name__}: {error}", err=True)
    sys.exit(code)


def _version(value: bool) -> None:
    if value:
        from geodiff import __version__

        say(f"geodiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of geodiff itself."""
