"""What the command line tells of itself: help, what can be chosen, completion, and that it starts at once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import geodiff
from geodiff import cli
from geodiff.codes import CODES
from geodiff.flags import PRESETS
from geodiff.job import GATES, FillJob
from geodiff.samplers import NAMES
from tests.cli.console import Run, raster

VERBS = (
    "fill", "info", "score", "train", "restore", "report", "view", "demo", "doctor", "init", "schema",
    "model", "model show", "model calibrate", "model prune", "model export",
)  # fmt: skip
TELLING = {
    "fill", "info", "score", "train", "restore", "demo", "doctor", "model show", "model calibrate", "model prune",
    "model export", "report",
}  # fmt: skip
"""Verbs that print facts."""


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_ends_in_examples(verb: str) -> None:
    shown = CliRunner().invoke(cli.app, [*verb.split(), "--help"], env={"TERM": "dumb", "COLUMNS": "100"})
    assert shown.exit_code == 0
    _, found, examples = shown.output.rpartition("Examples")
    assert found
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("geodiff ") for line in lines)
    assert any(line.startswith(f"geodiff {verb}") for line in lines)
    options = set(re.findall(r"^│ (?:\*  )? *(--[a-z-]+)", shown.output, re.MULTILINE))
    assert ({"--verbose", "--quiet"} <= options) == (verb != "model")
    assert ("--json" in options) == (verb in TELLING)


@pytest.mark.parametrize("family", ["", "model"])
def test_every_verb_is_tested_here(family: str) -> None:
    shown = CliRunner().invoke(cli.app, [*family.split(), "--help"], env={"COLUMNS": "100"})
    found = re.findall(r"^│ ([a-z]+) ", shown.output, re.MULTILINE)
    assert {f"{family} {verb}".strip() for verb in found} == {v for v in VERBS if v.rpartition(" ")[0] == family}


def test_examples_are_commands_that_parse() -> None:
    shown = CliRunner().invoke(cli.app, ["fill", "--help"], env={"COLUMNS": "140"})
    options = set(re.findall(r"(--[a-z-]+)", shown.output.partition("Examples")[2]))
    assert options <= set(re.findall(r"^│ (--[a-z-]+)", shown.output, re.MULTILINE))


def test_every_field_of_the_job_is_an_option() -> None:
    shown = CliRunner().invoke(cli.app, ["fill", "--help"], env={"COLUMNS": "140"})
    options = set(re.findall(r"--([a-z-]+)", shown.output))
    fields = {name.replace("_", "-") for name in FillJob.model_fields} - {"source", "target"}
    assert fields <= options


def test_the_help_names_what_can_be_chosen() -> None:
    """Presets, fillers, gates and samplers, so that nobody has to look elsewhere."""
    shown = CliRunner().invoke(cli.app, ["fill", "--help"], env={"COLUMNS": "140"}).output
    for name in (*PRESETS, *CODES, *GATES, *NAMES, "stripes", "auto"):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", shown), name


def test_completion_scripts_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = CliRunner().invoke(cli.app, ["--show-completion", "bash"], prog_name="geodiff")
    assert shown.exit_code == 0
    assert "complete" in shown.output
    assert "geodiff" in shown.output


def test_completion_knows_the_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"_GEODIFF_COMPLETE": "complete_bash", "COMP_WORDS": "geodiff d", "COMP_CWORD": "1"}
    shown = CliRunner().invoke(cli.app, [], prog_name="geodiff", env=asked)
    assert {"demo", "doctor"} <= set(shown.output.split())


def test_version(geodiff_cli: Run) -> None:
    assert geodiff_cli("--version").out.strip() == f"geodiff {geodiff.__version__}"


def test_python_m_geodiff_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "geodiff", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"geodiff {geodiff.__version__}"


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    script = "import sys, geodiff.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "rasterio", "dask", "xarray", "pandas", "matplotlib", "pydantic"}.isdisjoint(loaded)


_WITHOUT_TORCH = (
    ("planned", ["scene.tif", "new.tif", "--dry-run"]),
    ("up to date", ["scene.tif", "made.tif"]),
    ("nothing to fill", ["whole.tif", "new.tif"]),
    ("classical", ["scene.tif", "new.tif", "--filler", "laplace"]),
)


@pytest.mark.parametrize(("status", "words"), _WITHOUT_TORCH, ids=[case[0] for case in _WITHOUT_TORCH])
def test_torch_is_not_waited_for_where_no_network_runs(
    status: str, words: list[str], tmp_path: Path, geodiff_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raster(tmp_path / "scene.tif", slice(20, 30), slice(24, 34))
    raster(tmp_path / "whole.tif", slice(0, 0), slice(0, 0))
    if status == "up to date":
        assert geodiff_cli("fill", *words, "--members", 0, "-q").code == 0
        words = [*words, "--members", "0"]
    script = (
        "import sys\nfrom geodiff import cli\ntry:\n    cli.main()\nfinally:\n"
        "    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, "fill", *words, "-q"], capture_output=True, text=True, check=True
    )
    assert said.stderr.split() == ["False"]
