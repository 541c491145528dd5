"""The licence list refuses what binds, and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("licences", Path(__file__).with_name("licences.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
licences = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(licences)


@pytest.mark.parametrize(
    "text",
    ["GPL-3.0-or-later", "GNU General Public License v2 (GPLv2)", "AGPL-3.0", "CC BY-NC 4.0", "GPL-2.0 OR AGPL-3.0"],
)
def test_what_binds_is_refused(text: str) -> None:
    assert licences.binds(text)


@pytest.mark.parametrize(
    "text",
    [
        "MIT", "Apache-2.0", "BSD-3-Clause", "LGPL-2.1-or-later", "MPL-2.0", "", "MIT OR GPL-2.0",
        "GNU Lesser General Public License v3 (LGPLv3)", "Artistic License; GNU General Public License v2 (GPLv2)",
    ],
)  # fmt: skip
def test_what_leaves_a_choice_is_fine(text: str) -> None:
    assert not licences.binds(text)


def test_nothing_that_is_pinned_and_installed_here_binds() -> None:
    rows = licences.table(licences.pinned())
    assert {"numpy", "zarr"} <= {name for name, _, _ in rows}
    assert [row for row in rows if licences.binds(row[2])] == []
