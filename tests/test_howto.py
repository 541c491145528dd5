"""What the how-to pages show works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import geodiff
from geodiff import fillers

PAGES = Path(__file__).parents[1] / "docs" / "pages" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


def test_the_filler_of_the_page_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    module: dict[str, object] = {}
    exec(blocks("filler.md", "python")[0], module)
    point = SimpleNamespace(load=lambda: module["Plane"])
    monkeypatch.setattr(fillers, "_registered", lambda: {"plane": point})
    assert isinstance(fillers.load_filler("plane"), fillers.Filler)
    rows, columns = np.indices((150, 140)).astype(np.float64)
    truth = 3 + 0.5 * rows - 0.2 * columns
    known = np.ones(truth.shape, bool)
    known[40:70, 90:130] = False
    value, standard_error = geodiff.fill_array(np.where(known, truth, np.nan), known, filler="plane")
    assert np.array_equal(value[known], truth[known].astype("float32"))
    assert np.abs(value - truth)[~known].max() < 0.5 * np.ptp(truth[~known])
    assert (standard_error[~known] > 0).all()


def test_every_verb_and_option_of_the_pages_exists() -> None:
    from typer.main import get_command

    from geodiff.cli import app

    verbs = get_command(app).commands
    for page in PAGES.glob("*.md"):
        for line in (line for block in blocks(page.name, "console") for line in block.splitlines()):
            words = line.split("#")[0].split()
            if words[:1] != ["geodiff"]:
                continue
            offered = {option for parameter in verbs[words[1]].params for option in parameter.opts}
            assert {word.split("=")[0] for word in words if word.startswith("--")} <= offered, f"{page.name}: {line}"
