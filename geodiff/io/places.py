"""Places: local paths and fsspec URLs alike, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from geodiff.credentials import take
from geodiff.errors import InputError, SourceError, WriteError

__all__ = [
    "Arrivals",
    "appearing",
    "arriving",
    "assert_plain",
    "delete",
    "existing",
    "exists",
    "expanded",
    "files_with_content",
    "filesystem_of",
    "listing",
    "local_path",
    "put",
    "read",
    "read_all",
    "remove_tree",
    "size_of",
    "swap_in",
    "upload",
]


_S3_EXTRA = ("s3", "s3a", "http", "https")
"""Addresses whose packages, s3fs and the aiohttp that it brings, come with `geodiff[s3]`."""

_ASKED = 8
"""Paths in one remote folder that are asked for one by one; of more the folder is listed, a thousand at a time."""

_PAUSES = (0.1, 0.5, 2.0)
"""Seconds to wait before trying again to remove a folder that another process still writes to."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def local_path(path: str) -> Path | None:
    """The local path that `path` or a `file://` URL names; None for any other URL, and for chains of them (`a::b`)."""
    parts = urlsplit(str(path))
    if parts.scheme in {"file", "local"}:
        return Path(unquote(parts.path))
    local = "://" not in str(path) and ("::" not in str(path) or os.path.exists(path))  # noqa: PTH110 - never raises
    return Path(path) if local else None


def expanded(path: str) -> str:
    """A URL with each `${NAME}` in it taken from the environment, so that no job or record holds the secret itself.

    For addresses that the user gave: of those that a document or a listing names `assert_plain` comes first. Raises
    SourceError where the environment has no such variable.
    """
    if "://" not in path:
        return path

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SourceError(f"{path} asks for the environment variable {match[1]}, which is not set; export it first")
        return take(os.environ[match[1]])

    return _VARIABLE.sub(value, path)


def assert_plain(address: str, namer: str) -> None:
    """Raise SourceError for an address found in a document or a listing that asks for what is in the environment.

    Whoever wrote it would be sent whatever secret he names.
    """
    asked = _VARIABLE.search(address)
    if asked:
        raise SourceError(
            f"{namer} names {address}, which asks for the environment variable {asked[1]}; only an address that you "
            "give yourself may, so that nobody else's document fetches your secrets"
        )


def filesystem_of(path: str) -> tuple[Any, str]:
    """The fsspec file system that a URL names, and the path in it.

    Raises InputError where a package is missing that reads such addresses, or none does.
    """
    from fsspec.core import url_to_fs

    try:
        filesystem, root = url_to_fs(expanded(path))
    except ImportError as error:
        scheme = urlsplit(path).scheme
        cure = "pip install 'geodiff[s3]'" if scheme in _S3_EXTRA else "install it, or copy the file here"
        raise InputError(f"{path} needs a package that is not installed ({error}); {cure}") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be reached: {error}; use s3://, https:// or file://") from error
    return filesystem, root


def exists(path: str) -> bool:
    """Whether anything is there; an empty folder is nothing."""
    local = local_path(path)
    if local is not None:
        return local.exists() and not (local.is_dir() and not any(local.iterdir()))
    filesystem, root = filesystem_of(path)
    filesystem.invalidate_cache()  # what another process has written since is there too
    return bool(filesystem.exists(root))


def existing(paths: Sequence[str]) -> set[str]:
    """Those of the paths that `exists` finds; of many in one remote folder that folder is listed once."""
    folders = Counter(path.rpartition("/")[0] for path in paths if local_path(path) is None)
    names: dict[str, set[str]] = {}
    for folder in (folder for folder, count in folders.items() if count > _ASKED):
        with suppress(PermissionError):  # who may not list may yet ask
            names[folder] = _names_in(folder)
    found = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name in names[folder] if folder in names and local_path(path) is None else exists(path):
            found.add(path)
    return found


def _names_in(folder: str) -> set[str]:
    """Names of files and folders in a remote folder; none where it is not there."""
    filesystem, root = filesystem_of(folder)
    filesystem.invalidate_cache()
    try:
        return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in filesystem.ls(root, detail=False)}
    except FileNotFoundError:
        return set()


def read(path: str) -> bytes | None:
    """The bytes of a file, or None where there is none."""
    local = local_path(path)
    try:
        if local is not None:
            return local.read_bytes()
        filesystem, root = filesystem_of(path)
        return bytes(filesystem.cat_file(root))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def read_all(folder: str) -> dict[str, bytes]:
    """JSON files of a folder by name, sorted; half-written ones (of another name) are not seen."""
    local = local_path(folder)
    if local is not None:
        return {file.name: file.read_bytes() for file in sorted(local.glob("*.json"))}
    filesystem, root = filesystem_of(folder)
    if not filesystem.exists(root):
        return {}
    filesystem.invalidate_cache(root)
    names = sorted(name for name in filesystem.find(root) if name.endswith(".json"))
    found = filesystem.cat(names) if names else {}
    return {name.rsplit("/", 1)[-1]: bytes(found[name]) for name in names}


def listing(pattern: str) -> list[str]:
    """URLs of what lies in a remote folder, or matches a pattern with stars, sorted.

    A bucket knows no empty folders: where it is there and nothing in it begins so, nothing is found. Raises SourceError
    where the place cannot be listed.
    """
    try:
        filesystem, root = filesystem_of(pattern)
        filesystem.invalidate_cache()
        try:
            found = filesystem.glob(root) if "*" in root else filesystem.ls(root, detail=False)
        except FileNotFoundError:
            bucket, within, _ = root.strip("/").partition("/")
            if not within or pattern.startswith(("http://", "https://")) or not filesystem.exists(bucket):
                raise
            found = []
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        said = f"{pattern} cannot be listed ({' '.join(str(error).split())[:120] or type(error).__name__})"
        raise SourceError(f"{said}; check the address and its credentials, or name one file") from error
    for name in found:
        assert_plain(str(name), pattern)
    return sorted(_put_back(filesystem.unstrip_protocol(str(name)), pattern) for name in found)


def _put_back(found: str, asked: str) -> str:
    """What was found with `${NAME}` again where the address that was asked for has it: jobs and records name it."""
    for match in _VARIABLE.finditer(asked):
        if os.environ[match[1]]:
            found = found.replace(os.environ[match[1]], match[0])
    return found


def put(path: str, content: bytes) -> None:
    """Write a small file whole: by rename locally, in one request elsewhere."""
    local = local_path(path)
    if local is None:
        filesystem, root = filesystem_of(path)
        filesystem.pipe_file(root, content)
        return
    local = _written_through(local)
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(local)
    finally:
        partial.unlink(missing_ok=True)


def upload(file: Path, path: str) -> None:
    """Copy a local file to a URL, where it appears whole (object stores show an object when its upload is complete)."""
    filesystem, root = filesystem_of(path)
    filesystem.put_file(str(file), root)


def delete(path: str) -> None:
    """Remove a file; nothing there is no error."""
    local = local_path(path)
    if local is not None:
        local.unlink(missing_ok=True)
        return
    filesystem, root = filesystem_of(path)
    if filesystem.exists(root):
        filesystem.rm(root)


def size_of(path: str) -> int | None:
    """Bytes of a local file, or of all files of a local folder; None where nothing local is there."""
    local = local_path(path)
    try:
        return None if local is None else sum(file.stat().st_size for file in _files(local))
    except FileNotFoundError:  # or it goes this very moment
        return None


def _files(local: Path) -> list[Path]:
    if not local.is_dir():
        return [local]
    return [Path(root, name) for root, _, names in os.walk(local) for name in names]


def files_with_content(folder: str) -> frozenset[str]:
    """Names, seen from the folder, of the files below it that hold any byte; a power cut leaves others."""
    local = local_path(folder)
    if local is not None:
        inside = ((Path(root, name), os.path.relpath(Path(root, name), local)) for root, _, names in os.walk(local)
                  for name in names)  # fmt: skip
        return frozenset(name for path, name in inside if path.stat().st_size)
    filesystem, root = filesystem_of(folder)
    filesystem.invalidate_cache()
    found = filesystem.find(root, detail=True).items()
    return frozenset(name.removeprefix(f"{root}/") for name, facts in found if facts["size"])


def remove_tree(path: str) -> None:
    """Delete a folder, its `zarr.json` last, so that what a kill leaves is still known for what it is.

    Of a link the folder behind it is emptied, and both stay: an empty folder is nothing.
    """
    local = local_path(path)
    if local is None:
        _remove_objects(path)
        return
    if not local.is_dir():
        return
    for entry in local.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove_folder(entry)
        elif entry.name != "zarr.json":
            entry.unlink()
    (local / "zarr.json").unlink(missing_ok=True)
    if not local.is_symlink():
        local.rmdir()


def _remove_folder(folder: Path) -> None:
    """Delete a folder, even if a worker that has lost its scheduler still writes to it."""
    for pause in (*_PAUSES, None):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or pause is None:
                raise
            time.sleep(pause)
        else:
            return


def _remove_objects(path: str) -> None:
    """The same elsewhere. Raises OSError where objects are left: a store that forbids it may say so in silence."""
    filesystem, root = filesystem_of(path)
    filesystem.invalidate_cache()
    last = f"{root}/zarr.json"
    inside = [name for name in filesystem.find(root) if name != last]
    if inside:
        filesystem.rm(inside)
        filesystem.invalidate_cache()
        if left := [name for name in filesystem.find(root) if name != last]:
            raise PermissionError(f"{path} cannot be removed ({len(left)} objects are left)")
    if filesystem.exists(root):
        filesystem.rm(root, recursive=True)


def swap_in(new: Path, target: Path) -> None:
    """Put a finished file or folder in the place of an older one, or of the other kind.

    A file replaces a file in one step. For folders there is nothing between the two renames, never half of one. The
    older one waits under a name that is always the same, so that the next run clears what a killed one left.
    """
    old = target.with_name(f".{target.stem}.geodiff-old{target.suffix}")
    _remove(old)
    if target.is_dir() or (new.is_dir() and target.exists()):
        target.rename(old)
    new.replace(target)
    _remove(old)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Files that are made beside their places and take them together.

    A disk that fills up before the last one is made leaves the older ones as they are.
    """

    _made: list[Path] = field(default_factory=list)
    _steps: list[tuple[Path, Callable[[], None]]] = field(default_factory=list)

    @contextmanager
    def appearing(self, target: Path) -> Iterator[Path]:
        """A sibling to write to, which is to become `target`.

        The sibling's name ends in the target's suffix, because some libraries go by it, and is always the same, so that
        the next run clears what a killed one left (jobs on one target are kept apart by the lock).
        """
        target = _written_through(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.stem}.geodiff-partial{target.suffix}")
        self._made.append(partial)
        _remove(partial)
        yield partial
        self.then(target, lambda: swap_in(partial, target))

    def then(self, target: Path, step: Callable[[], None]) -> None:
        """Do more for `target` once all are made; what is asked for while it is being made comes right before it."""
        self._steps.append((target, step))

    def land(self) -> None:
        """Put what is finished in its place, in the order in which it was made.

        Raises WriteError, naming the file, where the disk takes no more or a folder may not be changed.
        """
        while self._steps:
            target, step = self._steps.pop(0)
            try:
                step()
            except OSError as error:
                raise WriteError(f"{target} cannot be written: {error}; check free space and permissions") from error

    def clear(self) -> None:
        """Remove what has not come to its place."""
        for partial in self._made:
            _remove(partial)


@contextmanager
def arriving() -> Iterator[Arrivals]:
    """Files that appear together when the block ends well, and are removed when it does not."""
    arrivals = Arrivals()
    try:
        yield arrivals
        arrivals.land()
    finally:
        arrivals.clear()


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A sibling to write to, renamed to `target` when the block ends well and removed when it does not."""
    with arriving() as arrivals, arrivals.appearing(target) as partial:
        yield partial


def _written_through(target: Path) -> Path:
    """What a link points to, which is to change and not the link: a product may lie on another disk."""
    return target.resolve() if target.is_symlink() else target


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link leads to is not ours to clear, nor to write into
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
