"""What may be said: no secret of an address or of the environment, and nothing that moves a terminal's cursor."""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["legible", "redacted", "take", "unsaid"]

_LOGIN = re.compile(r"(?<=://)[^/\s?#'\"]+@")  # to the last @: a password may hold one that is not quoted
_SECRET = re.compile(
    r"([?&;][^=&;\s'\"]*(?:sig|token|key|secret|passw|pwd|credential|auth|accessid)[^=&;\s'\"]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that colour, move, overwrite or turn around what a terminal shows; not tabs and ends of lines."""
_SHORTEST = 6
"""Letters of a value that is looked for in messages: what is shorter guards nothing and stands in many words."""

_taken: set[str] = set()
"""Values that addresses have taken from the environment, as they are and as an address spells them."""


def redacted(text: str) -> str:
    """A text in which logins and signed or secret query values of addresses are stars.

    >>> redacted("https://me:pass@host/a.tif?sig=abc&v=1")
    'https://***@host/a.tif?sig=***&v=1'
    """
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", text))


def take(value: str) -> str:
    """A value of the environment that goes into an address, and into no message from then on."""
    if len(value) >= _SHORTEST:
        _taken.update({value, quote(value), quote(value, safe="")})
    return value


def unsaid(text: str) -> str:
    """The same for messages: values that were taken from the environment are stars too, wherever they stand."""
    for value in sorted(_taken, key=len, reverse=True):
        text = text.replace(value, "***")
    return redacted(text)


def legible(text: str, *, lines: bool = True) -> str:
    r"""A text as a terminal or a log can show it: names in files are other people's words, and may hold its commands.

    >>> legible("red\x1b[2J"), legible("a\nerror: b", lines=False)
    ('red\\x1b[2J', 'a\\nerror: b')
    """
    if not lines:
        text = text.replace("\n", "\\n")
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
