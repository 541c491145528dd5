"""Secrets are taken from the environment and never said: what is written down of an address leaves them out."""

from __future__ import annotations

import re

__all__ = ["redacted"]

_LOGIN = re.compile(r"(?<=://)[^/\s@?#'\"]+@")
_SECRET = re.compile(
    r"([?&;][^=&;\s'\"]*(?:sig|token|key|secret|passw|pwd|credential|auth|accessid)[^=&;\s'\"]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """A text in which logins and signed or secret query values of addresses are stars.

    >>> redacted("https://me:pass@host/a.tif?sig=abc&v=1")
    'https://***@host/a.tif?sig=***&v=1'
    """
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", text))
