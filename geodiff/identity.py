"""Who is who: identities of sources and models for the fingerprint, and the names of what lies beside a target."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geodiff.credentials import redacted
from geodiff.errors import InputError, SourceError, TargetError
from geodiff.fillers import filler_identity
from geodiff.io import open_raster
from geodiff.io.addresses import address, part_of
from geodiff.io.filledbefore import filled_before
from geodiff.io.places import exists, filesystem_of, local_path, read
from geodiff.io.stacitem import item_fingerprint
from geodiff.io.vector import area_files
from geodiff.quality import flags_inside

if TYPE_CHECKING:
    from geodiff.digests import Digests
    from geodiff.io import Raster
    from geodiff.job import FillJob

__all__ = [
    "WITH_SIDECARS",
    "assert_apart",
    "assert_nameable",
    "assert_unchanged",
    "assert_writable",
    "describe_model",
    "inputs_identity",
    "model_identity",
    "record_path",
    "sidecars",
    "source_identity",
    "stamp_of",
    "suffix_of",
    "target_stem",
]

logger = logging.getLogger(__name__)

_LAYERS = ("source", "reason", "standard_error", "members", "quantiles")
"""What may lie beside a target as `<stem>_<layer>.tif`."""
WITH_SIDECARS = (".tif", ".tiff", ".png", ".xml")

METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")
"""Documents at the root of a Zarr store."""

_VERSIONS = ("etag", "contentmd5", "digest", "crc", "lastmodified", "mtime", "updated", "modified", "created")
"""What file systems call that which changes with an object, the best first."""

_BESIDE = 48
"""Bytes that names beside a target have more than its stem, at most, with some to spare."""
_MOST_FILES = 20_000
"""Files of a folder with more than this are not read one by one for its identity; their sizes and times stand in."""


def source_identity(raster: Raster, digests: Digests | None = None) -> str:
    """SHA-256 over the content of every file of a source; where it is remote, over what its store tells of it.

    Content and not clock times, so that a copied or touched file is the same source and a reprocessed one is not.
    Where its name means a part of a file (a subdataset, a page, one file of an archive), that part is named too.
    With `digests`, files that nobody touched since they were read are not read again.
    """
    return _identity(raster.path, raster.files or (raster.path,), digests)


def inputs_identity(job: FillJob, raster: Raster, digests: Digests | None = None) -> str:
    """Of the masks, fillable area and quality flags that a job names: content, or the name of a band of the source."""
    flags = [where for where in _flag_places(job) if flags_inside(raster, where) is not None]
    return json.dumps([[_identity(name, files, digests) for name, files in _inputs(job, raster)], flags])


def stamp_of(job: FillJob, raster: Raster) -> tuple[object, ...]:
    """Sizes and times of a source's files and of all that `inputs_identity` goes by, or what their stores tell of them.

    Cheap to compare while a run lasts.
    """
    return _source_stamp(raster), tuple(_stamp(files) for _, files in _inputs(job, raster))


def assert_unchanged(job: FillJob, raster: Raster, stamp: tuple[object, ...], *, written: bool = False) -> None:
    """Raise SourceError where a source, or what masks it, is not what it was when `stamp_of` gave its stamp.

    What was not touched is still to be copied: it must come from the very source that the estimates were made from.
    """
    if stamp_of(job, raster) != stamp:
        what = raster.path if _source_stamp(raster) != stamp[0] else f"what masks {raster.path}"
        mixed = f"so {job.target}, which is written, may hold parts of both; run this again with --overwrite"
        left = mixed if written else "so nothing was written; run this again"
        raise SourceError(f"{what} changed while it was being filled, {left}")


def _source_stamp(raster: Raster) -> tuple[object, ...]:
    return _stamp(raster.files or (raster.path,))


def _inputs(job: FillJob, raster: Raster) -> list[tuple[str, tuple[str, ...]]]:
    """Each path that a job names beside its source with the files behind it, and the layers of the fill that made that.

    Those are named by none.
    """
    areas = [(name, area_files(name)) for name in (*job.mask, *({job.fillable} - {"auto", "all"}))]
    flags = [
        (where, open_raster(where).files or (where,))
        for where in _flag_places(job)
        if flags_inside(raster, where) is None
    ]
    layers = [("", found.files) for v in raster.variables if (found := filled_before(v)) is not None and found.files]
    return [*areas, *flags, *layers]


def _flag_places(job: FillJob) -> list[str]:
    return [where for text in job.qa if (where := text.partition(":")[2])]


def _identity(name: str, files: Sequence[str], digests: Digests | None) -> str:
    """Of what a name means: the content of its files, and which part of them where that is not all."""
    part = part_of(name, files)
    return _digest(files, digests) + (f" {part}" if part else "")


def _digest(names: Sequence[str], digests: Digests | None) -> str:
    places = [local_path(address(name)) for name in names]
    files = [file for place in places if place is not None for file in _files(place)]
    if digests is None or None in places or not files:
        return _content(names)
    return digests.of(sorted(files), lambda: _content(names))


def _content(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names, key=_without_place):
        local = local_path(address(name))
        digest.update(_remote(name) if local is None else _local(local))
    return digest.hexdigest()


def _without_place(name: str) -> tuple[str, str]:
    """An order of files that does not depend on how the way to them is spelt."""
    return name.rstrip("/").rpartition("/")[2], name


def _stamp(names: Sequence[str]) -> tuple[object, ...]:
    stamps: list[object] = []
    for name in sorted(names):
        local = local_path(address(name))
        if local is None:
            stamps.append(_told(name)[0])
        else:
            stamps += [(str(file), *_times(file)) for file in _files(local)]
    return tuple(stamps)


def _times(path: Path) -> tuple[int, ...]:
    if not path.exists():
        return ()
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _files(place: Path) -> list[Path]:
    return _inside(place) if place.is_dir() else [place]


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _local(path: Path) -> bytes:
    if path.is_dir():
        files = _inside(path)
        told = _times_of if len(files) > _MOST_FILES else _local
        parts = [str(file.relative_to(path)).encode() + told(file) for file in files]
        return hashlib.sha256(b"".join(parts)).digest()
    if not path.exists():  # a name only its reader understands (a subdataset, a STAC Item): the name is all there is
        return str(path).encode()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def _times_of(path: Path) -> bytes:
    """What stands for the content of one file of very many."""
    facts = path.stat()
    return f" {facts.st_size} {facts.st_mtime_ns};".encode()


def _remote(name: str) -> bytes:
    told, doubt = _told(name)
    if doubt:
        logger.warning("%s", redacted(f"{doubt}; if it did, fill it again with --overwrite"))
    return repr(told).encode()


def _told(name: str) -> tuple[list[object], str]:
    """What the store tells of a remote file or folder (ending in `/`), and why a change of it may go unseen, if so.

    GDAL has ways of its own to a store, so that what it reads may be out of reach here; then the name is all there is.
    Raises SourceError where it is not GDAL that reads it.
    """
    url = address(name)
    try:
        filesystem, root = filesystem_of(url)
        filesystem.invalidate_cache()
        told, doubt = _of_folder(url, filesystem, root) if url.endswith("/") else _of_file(url, filesystem.info(root))
    except Exception as error:  # noqa: BLE001  # the file systems have no error in common
        if name == url:
            raise error if isinstance(error, InputError) else SourceError(f"cannot reach {url}: {error}") from None
        told, doubt = [], f"{url} tells nothing of its state ({error}), so that it may change unseen"
    return [redacted(url), *told], doubt


def _of_file(url: str, facts: Mapping[str, Any]) -> tuple[list[object], str]:
    size, version = _version(facts)
    return [size, version], "" if version else f"{url} has neither ETag nor time, so that it may change unseen"


def _of_folder(url: str, filesystem: Any, root: str) -> tuple[list[object], str]:
    """Name, size and version of every object; of a store on a web server, which lists nothing, the metadata alone."""
    listed = {} if urlsplit(url).scheme in ("http", "https") else filesystem.find(root, detail=True)
    if listed:
        versions = {name.removeprefix(root): _version(facts) for name, facts in sorted(listed.items())}
        known = all(version for _, version in versions.values())
        return [versions], "" if known else f"{url} has neither ETags nor times, so that it may change unseen"
    documents = [(name, content) for name in METADATA if (content := read(f"{url}{name}")) is not None]
    return [documents], f"{url} cannot be listed, so that its chunks may change unseen while its metadata stay"


def _version(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Size and ETag of an object, or its time where there is no ETag."""
    known = {key.lower().replace("-", ""): str(value) for key, value in facts.items() if value}
    return known.get("size", ""), next((known[key] for key in _VERSIONS if key in known), "")


def target_stem(target: str) -> tuple[str, str]:
    """Folder and stem of a target; what belongs to it is named `<stem>_...` or `<stem>.geodiff...` beside it."""
    bare = target.rstrip("/")
    folder, slash, name = bare.rpartition("/")
    stem = name if target.endswith("/") else name.rsplit(".", 1)[0]
    return (folder if folder or not slash else "/") or ".", stem


def suffix_of(target: str) -> str:
    """`.tif`, `.zarr` and so on; nothing for a folder, whatever its name."""
    return "" if target.endswith("/") else Path(target).suffix.lower()


def sidecars(target: str) -> list[str]:
    """Files that may be written beside a target, one a layer; none for stores and folders, which hold their own."""
    suffix, (folder, stem) = suffix_of(target), target_stem(target)
    if suffix not in WITH_SIDECARS:
        return []
    return [f"{folder}/{stem}_{layer}.tif" for layer in (*_LAYERS, *(["image"] if suffix == ".xml" else []))]


def record_path(target: str) -> str:
    """Where the record of a target lies; `a.tif` and `a.zarr` share theirs."""
    folder, stem = target_stem(target)
    return f"{folder}/{stem}.geodiff.json"


def assert_apart(job: FillJob, raster: Raster) -> None:
    """Raise TargetError where what the job writes is or holds a file that it reads: it would be lost.

    That is TARGET, the layers beside it, and the STAC Item, which must not be one of the others either.
    """
    own = [job.target.rstrip("/"), *sidecars(job.target)]
    if job.stac is not None:
        _assert_item(job.stac, [*own, record_path(job.target)], overwrite=job.overwrite)
        own.append(job.stac)
    there = [(name, place) for name in own if (place := _existing(name))]
    if not there:
        return
    masks = [name for _, files in _inputs(job, raster) for name in files]
    for name in (raster.path, *raster.files, *masks):
        read = _existing(address(name))
        for written, target in there:
            if read is not None and (target.samefile(read) or target.resolve() in read.resolve().parents):
                raise TargetError(
                    f"{written} is itself read by this job ({name}), and would be destroyed; give another target"
                )


def _assert_item(path: str, others: Sequence[str], *, overwrite: bool) -> None:
    """Raise TargetError where `--stac` names a folder, one of the `others` that the job writes, or a foreign file."""
    local = local_path(path)
    if path.endswith("/") or (local is not None and local.is_dir()):
        raise TargetError(f"--stac {path} is a folder; name the file to write, such as {path.rstrip('/')}/item.json")
    for other in others:
        place = local_path(other)
        if path == other or (local is not None and place is not None and local.resolve() == place.resolve()):
            raise TargetError(f"--stac {path} would be written over {other}, which this job writes; name another file")
    if not overwrite and exists(path) and item_fingerprint(path) is None:
        raise TargetError(
            f"--stac {path} is there already and is no STAC Item of a product of geodiff; use --overwrite to replace "
            "it, or name another file"
        )


def _existing(name: str) -> Path | None:
    """The local place of that name, where anything is there."""
    local = local_path(name)
    return local if local is not None and local.exists() else None


def assert_writable(folder: str, what: str) -> None:
    """Raise TargetError, before any work, where nothing can be written to a local folder, or by such an address."""
    _assert_takes_files(folder)
    local = local_path(folder)
    if local is None:
        return
    try:
        local.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=local):
            pass
    except OSError as error:
        raise TargetError(f"{what}, {folder}, cannot be written to: {error.strerror}; choose another place") from None


def _assert_takes_files(place: str) -> None:
    """Raise TargetError for an address by which nothing can be written."""
    if place.lower().startswith(("http://", "https://")):
        what = "is on a web server, where nothing can be written; use a path, or an object store"
    elif place.startswith("/vsi"):
        what = "is a name of GDAL's own, which is for reading alone; use a path, or the store's own address"
    elif local_path(place) is None and "::" in place:
        what = "is a chain of addresses, which is for reading alone; use a path, or an object store"
    else:
        return
    raise TargetError(f"{redacted(place)} {what} as in s3://bucket/name.tif")


def assert_nameable(target: str) -> None:
    """Raise TargetError, before any work, where nothing can be written, or names beside TARGET would be too long."""
    _assert_takes_files(target)
    folder, stem = target_stem(target)
    local = local_path(folder)
    if local is None:
        return
    there = next(place for place in (local.absolute(), *local.absolute().parents) if place.exists())
    length, most = len(os.fsencode(stem)), os.pathconf(there, "PC_NAME_MAX")
    if length + _BESIDE > most:
        raise TargetError(
            f"the name of TARGET has {length} bytes, names beside it {_BESIDE} more, and {folder} takes {most} in all; "
            f"give a name of {most - _BESIDE} at most"
        )


def model_identity(job: FillJob) -> str:
    """Hash of the model's weights and its calibration where the filler uses one, and geodiff's version in any case.

    Of a third party's filler, its package's version too: another one may make other pixels.

    Raises ModelError where the job names a model that is not there.
    """
    from geodiff import __version__
    from geodiff.diffusion.folder import find_folder, read_calibration

    folder = find_folder(job.model)  # one that is not there is refused, also by fillers that would not ask for it
    # A device that is not there is refused before any work; the choice that cannot fail need not wait for torch.
    chosen = (job.device, job.dtype) != ("auto", "auto")
    facts = describe_model(job, ran=chosen)
    if not facts:
        return f"{__version__}{filler_identity(job.filler)}"
    return f"{__version__}{facts['model_hash']}{read_calibration(folder).as_json()}"


def describe_model(job: FillJob, *, ran: bool = True) -> dict[str, str]:
    """Name and weight hash of a job's network, and where it `ran` its device and dtype, which only torch knows."""
    if job.filler not in ("auto", "diffusion"):
        return {}
    if not ran:
        from geodiff.diffusion.folder import find_folder, model_hash

        return {"model": job.model, "model_hash": model_hash(find_folder(job.model))}
    from geodiff.fillers.diffusion import describe

    return describe(job.model, job.device, job.dtype)
