"""Content hashes, kept with the stamps of the files that they were read from: what nobody touched is not read again.

A stamp is size, times, inode and device of each file. Modification times can be set back (`cp -p`, `touch -r`), the
time of an inode's last change cannot, so that an equal stamp means equal content. Where a file system makes up its
inodes anew, stamps differ and files are read again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geodiff import __version__

__all__ = ["Digests", "stamp_of"]

_SETTLED = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system. A file younger than that could change again under the same time."""
_MOST = 32
"""Hashes that are kept beside one target, the newest."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Content hashes by stamp: those that an earlier run kept, and those of this run."""

    kept: Mapping[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: bytes | None) -> Digests:
        """What an earlier run kept; nothing where the text is anything else."""
        try:
            found = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            return cls()
        sound = isinstance(found, dict) and all(_is_hash(digest) for digest in found.values())
        return cls(found) if sound else cls()

    def of(self, files: Sequence[Path], read: Callable[[], str]) -> str:
        """The content hash of files: the one known where their stamp is the same, else what `read` finds."""
        stamp = stamp_of(files)  # before they are read: what changes meanwhile has another one
        if stamp is None:
            return read()
        digest = self.kept.get(stamp) or self.seen.get(stamp) or read()
        self.seen[stamp] = digest
        return digest

    def to_json(self) -> bytes | None:
        """What to keep for the next run; None where nothing is new."""
        if self.seen.items() <= self.kept.items():
            return None
        return json.dumps(dict([*{**self.kept, **self.seen}.items()][-_MOST:]), indent=1).encode() + b"\n"


def _is_hash(digest: object) -> bool:
    return isinstance(digest, str) and len(digest) == 64


def stamp_of(files: Iterable[Path]) -> str | None:
    """SHA-256 over path, size, times, inode and device of every file; None where one is out of reach or too young."""
    now = time.time_ns()
    facts: list[tuple[object, ...]] = []
    for file in files:
        try:
            found = file.stat()
        except FileNotFoundError:  # a name that only its reader understands, and all there is to read of it
            facts.append((str(file),))
            continue
        except OSError:
            return None
        if found.st_ctime_ns > now - _SETTLED:
            return None
        facts.append((str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev))
    return hashlib.sha256(repr((__version__, facts)).encode()).hexdigest()
