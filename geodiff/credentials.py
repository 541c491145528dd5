"""Secrets are taken from the environment and never said: what is written down of an address leaves them out."""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["redacted", "take", "unsaid"]

_LOGIN = re.compile(r"(?<=://)[^/\s?#'\"]+@")  # to the last @: a password may hold one that is not quoted
_SECRET = re.compile(
    r"([?&;][^=&;\s'\"]*(?:sig|token|key|secret|passw|pwd|credential|auth|accessid)[^=&;\s'\"]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


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
