"""What came of a scene that has no product, kept beside where that would lie, so that no run reads it again in vain."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from geodiff.beside import keep_digests
from geodiff.errors import GeodiffError
from geodiff.identity import target_stem
from geodiff.io.places import delete, put, read
from geodiff.standing import standing

if TYPE_CHECKING:
    from geodiff.job import FillJob

__all__ = ["drop_verdict", "keep_verdict", "verdict"]


def verdict(job: FillJob) -> tuple[str, str] | None:
    """The status of a scene and why, as an earlier run found it; None where there is no such word, or it is outdated.

    It holds for one state of the source, one set of options, one model and one version of geodiff.
    """
    kept = _kept(job.target)
    if not kept:
        return None
    try:  # a product of an earlier delivery is no matter here
        now = standing(job.model_copy(update={"overwrite": True}))
    except GeodiffError:  # whoever runs the job will tell
        return None
    if kept.get("fingerprint") != now.fingerprint:
        return None
    keep_digests(job.target, now.digests)
    return kept.get("status", ""), kept.get("message", "")


def keep_verdict(job: FillJob, fingerprint: str, status: str, message: str = "") -> None:
    """Keep what came of a scene in that state; a place that cannot be written to is none to fail for."""
    if job.dry_run or not fingerprint:
        return
    said = {"status": status, "message": message, "fingerprint": fingerprint}
    with suppress(OSError):
        put(_path(job.target), (json.dumps(said, indent=1) + "\n").encode())


def drop_verdict(job: FillJob) -> None:
    """Take it away where there is a product now."""
    if not job.dry_run and _kept(job.target):
        delete(_path(job.target))


def _path(target: str) -> str:
    folder, stem = target_stem(target)
    return f"{folder}/{stem}.geodiff-verdict.json"


def _kept(target: str) -> dict[str, str]:
    try:
        found = json.loads(read(_path(target)) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
