"""Memory and processors under the limits of a container, told from trees of files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from geodiff import limits
from geodiff.limits import free_memory, processor_quota, total_memory
from geodiff.threads import cores

MIB = 1 << 20


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to lay out a process's cgroups in: `self` says which they are, `mnt` is where they are mounted."""
    monkeypatch.setattr(limits, "_PROC", tmp_path / "self")
    monkeypatch.setattr(limits, "_MOUNTS", tmp_path / "mnt")
    return tmp_path


def lay(kernel: Path, groups: str, files: dict[str, str]) -> None:
    (kernel / "self").write_text(groups)
    for name, text in files.items():
        (kernel / "mnt" / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / "mnt" / name).write_text(f"{text}\n")


def test_without_cgroups_the_machine_is_the_limit(kernel: Path) -> None:
    assert 0 < free_memory() <= total_memory() == psutil.virtual_memory().total
    assert processor_quota() is None


@pytest.mark.parametrize(
    ("groups", "files", "free", "total"),
    [
        (  # version 2, seen from the machine: the tighter of a group and the one above it; files make way
            "0::/jobs/one\n",
            {
                "jobs/memory.max": f"{900 * MIB}", "jobs/memory.current": f"{700 * MIB}",
                "jobs/memory.stat": f"anon 5\ninactive_file {30 * MIB}\nactive_file {20 * MIB}",
                "jobs/one/memory.max": "max", "jobs/one/memory.current": f"{MIB}",
            },
            250, 900,
        ),
        (  # version 2 inside a container
            "0::/\n", {"memory.max": f"{64 * MIB}", "memory.current": f"{16 * MIB}"}, 48, 64,
        ),
        (  # version 1 inside a container that is told the host's path
            "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
            {
                "memory/memory.limit_in_bytes": f"{512 * MIB}", "memory/memory.usage_in_bytes": f"{500 * MIB}",
                "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {100 * MIB}\ntotal_active_file 0",
            },
            112, 512,
        ),
        ("0::/\n", {"memory.max": f"{64 * MIB}", "memory.current": f"{80 * MIB}"}, 0, 64),
    ],
)  # fmt: skip
def test_a_limit_of_memory_is_what_is_free(
    kernel: Path, groups: str, files: dict[str, str], free: int, total: int
) -> None:
    lay(kernel, groups, files)
    assert (free_memory(), total_memory()) == (free * MIB, total * MIB)


def test_a_limit_beyond_the_machine_is_none(kernel: Path) -> None:
    lay(kernel, "5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"})
    assert total_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/pod/one\n", {"pod/cpu.max": "50000 100000", "pod/one/cpu.max": "max 100000"}, 0.5),
        ("3:cpu,acct:/x\n", {"cpu,acct/cpu.cfs_quota_us": "400000", "cpu,acct/cpu.cfs_period_us": "100000"}, 4),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
    ],
)
def test_a_quota_of_time_is_a_number_of_processors(
    kernel: Path, groups: str, files: dict[str, str], quota: float | None
) -> None:
    lay(kernel, groups, files)
    assert processor_quota() == quota


def test_part_of_a_core_is_one(kernel: Path) -> None:
    free = cores()
    lay(kernel, "0::/\n", {"cpu.max": "20000 100000"})
    assert cores() == 1
    lay(kernel, "0::/\n", {"cpu.max": "99900000 100000"})
    assert cores() == free
