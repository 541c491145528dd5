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


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
