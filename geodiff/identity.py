"""Who is who: identities of sources and models for the fingerprint, and the names of what lies beside a target."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.credentials import redacted
from geodiff.errors import SourceError, TargetError
from geodiff.io.places import filesystem_of, local_path

if TYPE_CHECKING:
    from geodiff.io import Raster
    from geodiff.job import FillJob

__all__ = [
    "assert_apart",
    "assert_writable",
    "describe_model",
    "model_identity",
    "source_identity",
    "source_stamp",
    "target_stem",
]


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
    return repr([redacted(url), known.get("size"), known.get("etag"), known.get("lastmodified")]).encode()


def target_stem(target: str) -> tuple[str, str]:
    """Folder and stem of a target; what belongs to it is named `<stem>_...` or `<stem>.geodiff...` beside it."""
    bare = target.rstrip("/")
    folder, slash, name = bare.rpartition("/")
    stem = name if target.endswith("/") else name.rsplit(".", 1)[0]
    return (folder if folder or not slash else "/") or ".", stem


def assert_apart(job: FillJob, raster: Raster) -> None:
    """Raise TargetError where TARGET is a file that the job reads: writing it would destroy observations."""
    flags = (text.partition(":")[2] for text in job.qa)
    reads = (raster.path, *raster.files, *job.mask, job.fillable, *flags)
    target = local_path(job.target.rstrip("/"))
    if target is None or not target.exists():
        return
    for name in filter(None, reads):
        local = local_path(name)
        if local is not None and local.exists() and target.samefile(local):
            raise TargetError(
                f"{job.target} is itself read by this job ({name}), and would be destroyed; give another target"
            )


def assert_writable(folder: str, what: str) -> None:
    """Raise TargetError, before any work, where nothing can be written to a local folder."""
    local = local_path(folder)
    if local is None:
        return
    try:
        local.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=local):
            pass
    except OSError as error:
        raise TargetError(f"{what}, {folder}, cannot be written to: {error.strerror}; choose another place") from None


def model_identity(job: FillJob) -> str:
    """Hash of the model's weights where the filler uses one, and geodiff's own version in any case."""
    from geodiff import __version__

    # A device that is not there is refused before any work; the choice that cannot fail need not wait for torch.
    chosen = (job.device, job.dtype) != ("auto", "auto")
    return __version__ + describe_model(job, ran=chosen).get("model_hash", "")


def describe_model(job: FillJob, *, ran: bool = True) -> dict[str, str]:
    """Name and weight hash of a job's network, and where it `ran` its device and dtype, which only torch knows."""
    if job.filler not in ("auto", "diffusion"):
        return {}
    if not ran:
        from geodiff.diffusion.folder import find_folder, model_hash

        return {"model": job.model, "model_hash": model_hash(find_folder(job.model))}
    from geodiff.fillers.diffusion import describe

    return describe(job.model, job.device, job.dtype)
