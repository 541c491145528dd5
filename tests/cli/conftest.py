"""A console, and a scene to fill."""

import sys
from pathlib import Path

import pytest

from geodiff import cli
from tests.cli.console import Outcome, Run, raster


@pytest.fixture
def geodiff_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command as the console script does."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["geodiff", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return Outcome(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A float raster with a hole in its middle."""
    return raster(tmp_path / "scene.tif", slice(20, 30), slice(24, 34))
