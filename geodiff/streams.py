"""The three streams that a program is started with, or without, as some daemons and `2>&-` do."""

from __future__ import annotations

import os
import sys

__all__ = ["mend_streams"]


def mend_streams() -> None:
    """Put `/dev/null` in the place of standard streams that are closed.

    Python has none for them then, so that the first word of talk would end the run; and the next files to be opened,
    those of a product among them, would get their numbers, and whatever a C library prints with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if not _is_open(number):
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:  # its number may be another file's by now
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115
    _keep_results_apart()


def _keep_results_apart() -> None:
    """Let standard output carry only what Python writes to it.

    GDAL's GRIB driver prints a line for each field of some centres, which would end up in the JSON of `info`.
    """
    try:
        if sys.stdout.fileno() != 1:  # a test, or a program that calls this one, has its own already
            return
    except (OSError, ValueError):
        return
    sys.stdout.flush()
    encoding, errors, line_by_line = sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty()
    sys.stdout = open(os.dup(1), "w", 1 if line_by_line else -1, encoding, errors)  # noqa: PTH123, SIM115
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
