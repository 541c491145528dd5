"""The licence of every distribution that the project pins: `python tests/audit/licences.py`; fails on what binds.

A package is refused where all it names are licences that would reach into what is built on it (GPL, AGPL, SSPL,
non-commercial ones). One that leaves the choice, or whose own terms say so (LGPL, MPL), is fine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

_BINDING = re.compile(
    r"(?i)\bA?GPL|\bGNU (affero )?general public|\bSSPL|server side public|non-?commercial|\bCC[- ]BY-NC"
)
_LESSER = re.compile(
    r"(?i)\bLGPL|lesser general public|library general public|with (gcc|runtime|classpath)[\w -]*exception"
)
_CHOICE = re.compile(r" OR |;|,|/")


def said(distribution: Distribution) -> str:
    """What a distribution says of its licence: the SPDX expression, else its classifiers, else the free text."""
    facts = distribution.metadata
    if facts.get("License-Expression"):
        return str(facts["License-Expression"])
    classifiers = [
        text.rpartition(" :: ")[2] for text in facts.get_all("Classifier") or () if text.startswith("License")
    ]
    named = [text for text in classifiers if text not in {"OSI Approved", "License"}]
    return "; ".join(named) or " ".join(str(facts.get("License") or "").split())[:60]


def binds(licence: str) -> bool:
    """Whether every choice that a licence text leaves is one that binds what is built on it."""
    choices = [part for part in _CHOICE.split(licence) if part.strip()]
    return bool(choices) and all(_BINDING.search(part) and not _LESSER.search(part) for part in choices)


def table(found: Iterable[Distribution]) -> list[tuple[str, str, str]]:
    """Name, version and licence of each distribution, by name."""
    rows = {str(d.metadata["Name"]).lower(): (str(d.metadata["Name"]), d.version, said(d)) for d in found}
    return [rows[name] for name in sorted(rows)]


def pinned() -> list[Distribution]:
    """What is installed of the distributions that this project pins; what a person added by hand is his own."""
    text = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
    names = {canonical(line) for line in text.splitlines() if line[:1].isalnum()}
    return [found for found in distributions() if canonical(str(found.metadata["Name"])) in names]


def canonical(line: str) -> str:
    """The name at the beginning of a requirement, as indexes spell it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>~!\[; ]", line.strip(), maxsplit=1)[0]).lower()


def main() -> int:
    """Print the table; 1 where a licence binds."""
    rows = table(pinned())
    for name, version, licence in rows:
        print(f"{name:32s} {version:16s} {licence or 'says nothing'}")
    refused = [row for row in rows if binds(row[2])]
    for name, version, licence in refused:
        print(f"refused: {name} {version} is under {licence}; do without it, or find another", file=sys.stderr)
    print(f"{len(rows)} distributions, {len(refused)} refused, {sum(not row[2] for row in rows)} say nothing")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
