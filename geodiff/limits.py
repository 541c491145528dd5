"""What a container or a batch system leaves to this process: memory and processor time, by the limits of its cgroups.

The machine's own figures do not know of them: in a container of 4 GiB on a node of 256 all of the node looks free.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_memory", "processor_quota", "total_memory"]

_PROC = Path("/proc/self/cgroup")
_MOUNTS = Path("/sys/fs/cgroup")
_NONE = 1 << 60
"""Bytes from which a limit is none: version 1 writes the largest number of pages there is."""


def free_memory() -> int:
    """Bytes that this process may still take."""
    import psutil

    return min(int(psutil.virtual_memory().available), *_rooms())


def total_memory() -> int:
    """Bytes that this process and what shares its limits may hold at most."""
    import psutil

    return min(int(psutil.virtual_memory().total), *(limit for _, limit in _memory_limits()), _NONE)


def processor_quota() -> float | None:
    """Processors' worth of time that this process may use; None where nothing limits it."""
    quotas = [quota for folder in _folders("cpu") if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _rooms() -> Iterator[int]:
    """What is left below each limit; pages of files do not count, they make way."""
    yield _NONE
    for folder, limit in _memory_limits():
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        yield max(0, limit - max(0, used - _pages_of_files(folder)))


def _memory_limits() -> Iterator[tuple[Path, int]]:
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and limit < _NONE:
                yield folder, limit


def _pages_of_files(folder: Path) -> int:
    stat = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    below = "total_" if "total_inactive_file" in stat else ""  # version 1 counts children there only
    return sum(int(stat.get(f"{below}{name}", 0)) for name in ("inactive_file", "active_file"))


def _quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`, or no such file
        return None
    return share if share > 0 else None


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup of either version and of all above it, as far as they are seen from here.

    In a container the path may be the host's, and its own limits then lie at the mount point.
    """
    for line in _text(_PROC).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounts = [_MOUNTS / controllers] if controllers else [_MOUNTS, _MOUNTS / "unified"]
        if controllers and controller not in controllers.split(","):
            continue
        for mount in mounts:
            place = mount / path.lstrip("/")
            yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(mount))


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
