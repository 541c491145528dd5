"""Who is who: identities of sources and models for the fingerprint, and the names of what lies beside a target."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.errors import SourceError
from geodiff.io.places import filesystem_of, local_path

if TYPE_CHECKING:
    from geodiff.io import Raster
    from geodiff.job import FillJob

__all__ = ["describe_model", "model_identity", "source_identity", "source_stamp", "target_stem"]


def source_identity(raster: Raster) -> str:
    """SHA-256 over the content of every file of a source; of size and ETag where it is remote.

    Content and not clock times, so that a copied or touched file is the same source and a reprocessed one is not.
    """
    digest = hashlib.sha256()
    for name in sorted(raster.files or (raster.path,)):
        local = local_path(name)
        digest.update(_remote(name) if local is None else _local(local))
    return digest.hexdigest()


def source_stamp(raster: Raster) -> tuple[object, ...]:
    """Sizes and times of a source's local files: cheap to compare while a run lasts."""
    stamps = []
    for name in sorted(raster.files or (raster.path,)):
        local = local_path(name)
        if local is not None and local.exists():
            facts = local.stat()
            stamps.append((name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return tuple(stamps)


def _local(path: Path) -> bytes:
    if path.is_dir():
        parts = [str(p.relative_to(path)).encode() + _local(p) for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256(b"".join(parts)).digest()
    if not path.exists():  # a name only GDAL understands (a subdataset, a /vsi path): the name is all there is
        return str(path).encode()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def _remote(url: str) -> bytes:
    filesystem, root = filesystem_of(url)
    try:
        facts = filesystem.info(root)
    except OSError as error:
        raise SourceError(f"cannot reach {url}: {error}") from None
    known = {key.lower(): str(value) for key, value in facts.items()}
    return repr([url, known.get("size"), known.get("etag"), known.get("lastmodified")]).encode()


def target_stem(target: str) -> tuple[str, str]:
    """Folder and stem of a target; what belongs to it is named `<stem>_...` or `<stem>.geodiff...` beside it."""
    bare = target.rstrip("/")
    folder, slash, name = bare.rpartition("/")
    stem = name if target.endswith("/") else name.rsplit(".", 1)[0]
    return (folder if folder or not slash else "/") or ".", stem


def model_identity(job: FillJob) -> str:
    """Hash of the model's weights where the filler uses one, and geodiff's own version in any case."""
    from geodiff import __version__

    return __version__ + (describe_model(job)["model_hash"] if job.filler in ("auto", "diffusion") else "")


def describe_model(job: FillJob) -> dict[str, str]:
    """Name, weight hash, device and dtype of the network a job runs."""
    if job.filler not in ("auto", "diffusion"):
        return {}
    from geodiff.fillers.diffusion import describe

    return describe(job.model, job.device, job.dtype)
