"""What the command line promises: exit codes, help, JSON, job files, and one line for what went wrong."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

import geodiff
from geodiff import cli
from geodiff.codes import CODES
from geodiff.fillers import Filled, Fitted
from geodiff.flags import PRESETS
from geodiff.job import GATES, NOT_BUILT, FillJob
from geodiff.jobfile import commented_toml
from geodiff.samplers import NAMES

Run = Callable[..., "Outcome"]
VERBS = (
    "fill", "info", "score", "train", "restore", "report", "view", "demo", "doctor", "init", "schema",
    "model", "model show", "model calibrate", "model prune", "model export",
)  # fmt: skip
TELLING = {
    "fill", "info", "score", "train", "restore", "demo", "doctor", "model show", "model calibrate", "model prune",
}  # fmt: skip
"""Verbs that print facts."""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


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


def raster(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (64, 64)) -> Path:
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = (np.sin(y / 9) + np.cos(x / 7)).astype(np.float32)
    values[rows, columns] = -9999
    profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": 1, "dtype": "float32"}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000), "nodata": -9999}
    with rasterio.open(path, "w", **profile, **place) as dataset:
        dataset.write(values, 1)
    return path


class Broken:
    """A filler that fails in the blocks (the fit asks with seed 0) whose windows begin at or beyond a column."""

    name, halo, beyond = "broken", 8, 0

    def fit(self, sample: Any) -> Fitted:
        return Fitted(self.name)

    def fill(self, patches: Any, fitted: Any, *, seed: int) -> list[Filled]:
        if seed and any(patch.window.column >= self.beyond for patch in patches):
            raise ValueError("out of ideas")
        shapes = [patch.missing.shape for patch in patches]
        return [
            Filled(np.zeros(s, np.float32), np.ones(s, np.float32), None, np.full(s, 100, np.uint8)) for s in shapes
        ]


def register(monkeypatch: pytest.MonkeyPatch, filler: type) -> None:
    points = {"broken": SimpleNamespace(load=lambda: filler)}
    monkeypatch.setattr("geodiff.fillers._registered", lambda: points)


# -- exit codes


def test_done_is_0_and_known_pixels_stay(geodiff_cli: Run, scene: Path) -> None:
    target = scene.with_name("filled.tif")
    done = geodiff_cli("fill", scene, target, "--filler", "laplace", "-q")
    assert done.code == 0
    assert "filled 100 of 100" in done.out
    with rasterio.open(scene) as before, rasterio.open(target) as after:
        stored, filled = before.read(1), after.read(1)
    known = stored != -9999
    np.testing.assert_array_equal(filled[known], stored[known])
    assert (filled != -9999).all()


def test_the_same_command_again_has_nothing_to_do(geodiff_cli: Run, scene: Path) -> None:
    words = ("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "-q")
    assert geodiff_cli(*words).code == 0
    again = geodiff_cli(*words)
    assert again.code == 0
    assert "nothing to do" in again.out


def test_a_target_made_by_another_job_is_2_unless_overwrite(geodiff_cli: Run, scene: Path) -> None:
    target = scene.with_name("filled.tif")
    assert geodiff_cli("fill", scene, target, "--filler", "laplace", "-q").code == 0
    other = ("fill", scene, target, "--filler", "nearest", "-q")
    refused = geodiff_cli(*other)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert geodiff_cli(*other, "--overwrite").code == 0


def test_nothing_to_fill_is_0_and_4_when_asked(geodiff_cli: Run, tmp_path: Path) -> None:
    whole = raster(tmp_path / "whole.tif", slice(0, 0), slice(0, 0))
    words = ("fill", whole, tmp_path / "filled.tif", "--filler", "laplace", "-q")
    asked = geodiff_cli(*words, "--fail-if-empty")
    assert asked.code == 4
    assert not (tmp_path / "filled.tif").exists()
    assert geodiff_cli(*words).code == 0


def test_nothing_known_is_2(geodiff_cli: Run, tmp_path: Path) -> None:
    empty = raster(tmp_path / "empty.tif", slice(None), slice(None))
    refused = geodiff_cli("fill", empty, tmp_path / "filled.tif", "--filler", "laplace", "--fillable", "all", "-q")
    assert refused.code == 2
    assert not (tmp_path / "filled.tif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "SOURCE and TARGET are missing"),
        (("missing.tif", "out.tif"), "missing.tif"),
        (("SCENE", "out.tif", "--filler", "nonsense"), "choose one of"),
        (("SCENE", "out.tif", "--steps", "2"), "--steps 2"),
        (("SCENE", "out.tif", "--valid-range", "a,b"), "--valid-range 'a,b'"),
        (("SCENE", "out.tif", "--valid-range", "5,1"), "lower bound first"),
        (("SCENE", "out.tif", "--bands", "9", "--filler", "laplace"), "--bands 9"),
        (("SCENE", "out.tif", "--detect", "clouds"), "named detector"),
        (("SCENE", "out.tif", "--filler", "laplace", "--members", "2"), "--members 0"),
        (("SCENE", "out.tif", "--filler", "laplace", "--product", "member"), "member"),
        (("SCENE", "out.tif", "--gate", "beauty>=1"), "coverage90"),
        (("SCENE", "out.tif", "--filler", "laplace", "--sampler", "magic"), "choose one of edm-dpm2m"),
        (("SCENE", "out.tif", "--filler", "laplace", "--model", "nowhere"), "no model folder 'nowhere'"),
        (("SCENE", "out.tif", "--qa", "nonsense", "--filler", "laplace"), "landsat-c2"),
        (("SCENE", "out.tif", "--job", "missing.toml"), "geodiff init"),
    ],
)
def test_bad_usage_and_bad_input_are_2_in_one_line(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(scene.parent)
    refused = geodiff_cli("fill", *(str(scene) if word == "SCENE" else word for word in words), "-q")
    assert refused.code == 2
    assert said.lower() in refused.err.lower()
    assert "Traceback" not in refused.err
    assert refused.out == ""
    assert len(refused.err.strip().splitlines()) == 1
    assert not Path("out.tif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bogus",), "--bogus"),
        (("frobnicate",), "'frobnicate'"),
        (("fil",), "'fill'"),
        (("fill", "--fillr", "laplace"), "--filler"),
        (("fill", "--members", "some"), "--members"),
        (("info",), "SOURCE"),
        (("model", "shw"), "geodiff model --help"),
    ],
)
def test_usage_that_typer_refuses_is_2_in_one_line_that_names_the_cure(
    geodiff_cli: Run, words: tuple[str, ...], said: str
) -> None:
    refused = geodiff_cli(*words)
    assert refused.code == 2
    assert refused.out == ""
    assert refused.err.startswith("error: ")
    assert len(refused.err.strip().splitlines()) == 1
    assert said in refused.err
    assert "--help" in refused.err


def test_no_words_at_all_show_the_help(geodiff_cli: Run) -> None:
    shown = geodiff_cli()
    assert shown.code == 2
    assert "Usage: geodiff" in shown.err + shown.out


def test_a_mask_that_misses_the_scene_is_said(geodiff_cli: Run, scene: Path) -> None:
    elsewhere = scene.with_name("elsewhere.tif")
    with rasterio.open(scene) as read:
        profile = dict(read.profile, count=1, dtype="uint8", nodata=None)
        profile["transform"] = read.transform @ Affine.translation(10 * read.width, 0)
    with rasterio.open(elsewhere, "w", **profile) as write:
        write.write(np.ones((1, profile["height"], profile["width"]), np.uint8))
    here = scene.with_name("here.tif")
    with rasterio.open(scene) as read, rasterio.open(here, "w", **{**profile, "transform": read.transform}) as write:
        write.write(np.ones((1, profile["height"], profile["width"]), np.uint8))
    target = scene.with_name("filled.tif")
    assert "so it adds no gap" in geodiff_cli("fill", scene, target, "--mask", elsewhere, "--dry-run").out
    assert "so it adds no gap" not in geodiff_cli("fill", scene, target, "--mask", here, "--dry-run").out


def test_the_plan_is_said_before_the_fit(geodiff_cli: Run, scene: Path) -> None:
    said = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace").err
    assert said.index("blocks hold gaps") < said.index("trying laplace") < said.index("fitted ")


def test_an_absent_file_is_named_once(geodiff_cli: Run, tmp_path: Path) -> None:
    assert geodiff_cli("info", tmp_path / "absent.tif").err.count("absent.tif") == 1


def test_some_failed_blocks_are_3_and_listed(geodiff_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = raster(tmp_path / "wide.tif", slice(20, 30), slice(40, 560), (64, 600))
    register(monkeypatch, type("Halfway", (Broken,), {"beyond": 400}))
    words = ("fill", wide, tmp_path / "filled.tif", "--filler", "broken", "--block-size", "256", "--seed", "7", "-q")
    partly = geodiff_cli(*words)
    assert partly.code == 3
    assert "out of ideas" in partly.out
    assert (tmp_path / "filled.tif").exists()


def test_all_blocks_failed_is_1_and_nothing_is_delivered(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, Broken)
    failed = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "broken", "--seed", "7", "-q")
    assert failed.code == 1
    assert "out of ideas" in failed.err
    assert not scene.with_name("filled.tif").exists()


def test_a_gate_that_does_not_hold_is_5(geodiff_cli: Run, scene: Path) -> None:
    words = ("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "--gate", "seam<=0.0001", "-q")
    refused = geodiff_cli(*words)
    assert refused.code == 5
    assert "seam" in refused.err
    assert not scene.with_name("filled.tif").exists()


def test_interrupted_is_130_and_says_how_to_go_on(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: FillJob, *, quiet: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geodiff.report.run", interrupted)
    stopped = geodiff_cli("fill", scene, scene.with_name("filled.tif"))
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "interrupted; the same command goes on where this one stopped"


@pytest.mark.parametrize("module", ["geodiff", "flows.fill"])
def test_interrupted_amid_an_import_a_module_ends_with_130_too(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from geodiff.job import FillJob\n"
        "def interrupted(**_): exec('raise KeyboardInterrupt')  # as modules do that make others while they load\n"
        "FillJob.build = interrupted\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    words = [sys.executable, "-m", module, *(["fill"] if module == "geodiff" else []), "in.tif", "out.tif"]
    here = {**os.environ, "PYTHONPATH": path}
    stopped = subprocess.run(words, env=here, capture_output=True, text=True, check=False)
    assert "interrupted; the same command goes on" in stopped.stderr
    assert stopped.returncode == 130


def test_interrupted_while_its_options_are_read_is_no_traceback(
    geodiff_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(**options: object) -> None:
        raise KeyboardInterrupt  # typer catches it in verbs only

    monkeypatch.setattr("geodiff.cli.app", app)
    stopped = geodiff_cli("fill", "a.tif", "b.tif")
    assert stopped.code == 130
    assert stopped.err == "interrupted; the same command goes on where this one stopped\n"


def test_an_interrupted_restoration_does_not_promise_to_go_on(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: Any, *, quiet: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geodiff.restoring.run", interrupted)
    stopped = geodiff_cli("restore", scene, scene.with_name("restored.tif"), "--task", "denoise")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "interrupted; nothing was written, and the same command begins anew"


def test_a_full_disk_is_1_in_one_line(geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: FillJob, *, quiet: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geodiff.report.run", full)
    failed = geodiff_cli("fill", scene, scene.with_name("filled.tif"))
    assert failed.code == 1
    assert failed.err.startswith("error: [Errno 28] No space left on device; make room")
    assert failed.err.strip().count("\n") == 0


# -- help, JSON, completion


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


def test_what_is_missing_and_left_is_no_gap_but_is_told(geodiff_cli: Run, scene: Path) -> None:
    with rasterio.open(scene, "r+") as file:
        values = file.read()
        values[:, :, :40] = file.nodata
        values[:, :, 40:] = 7
        file.write(values)
    done = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "-q")
    assert done.code == 0
    assert re.search(r"has no gap to fill; .*; [\d,]+ missing values are left as they are \(--dry-run says", done.out)


def test_json_of_fill_parses_and_stands_alone_on_stdout(geodiff_cli: Run, scene: Path) -> None:
    done = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "--json")
    record = json.loads(done.out)
    assert record["exit_code"] == done.code == 0
    assert record["status"] == "done"
    assert str(scene.with_name("filled.tif")) in record["products"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(geodiff_cli: Run, scene: Path) -> None:
    before = sorted(scene.parent.iterdir())
    planned = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "--dry-run")
    assert planned.code == 0
    assert "to fill 100 values" in planned.out
    assert sorted(scene.parent.iterdir()) == before


def test_quiet_says_nothing_on_stderr(geodiff_cli: Run, scene: Path) -> None:
    assert geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "-q").err == ""


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")  # diffusers' own, on its own calls
def test_a_pruned_model_is_told_in_json(geodiff_cli: Run, tmp_path: Path) -> None:
    pruned = geodiff_cli("model", "prune", "default", "--out", tmp_path / "smaller", "--json", "-q")
    assert pruned.code == 0
    facts = json.loads(pruned.out)
    assert (facts["model"], facts["parameters"] < facts["before"]) == (str(tmp_path / "smaller"), True)


def test_a_calibration_is_told_in_json(geodiff_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.diffusion.folder import Calibration

    monkeypatch.setattr("geodiff.learning.recalibrate", lambda *_, **__: Calibration(factors=(1.5,) * 5))
    told = geodiff_cli("model", "calibrate", "default", "scene.tif", "--out", "mine", "--json", "-q")
    facts = json.loads(told.out)
    assert (facts["model"], facts["factors"], facts["steps"]) == ("mine", [1.5] * 5, 10)


def test_info_in_json_and_in_words(geodiff_cli: Run, scene: Path) -> None:
    facts = json.loads(geodiff_cli("info", scene, "--json").out)
    assert facts["variables"][0]["gaps"]["missing"] == 100
    assert "EPSG:32633" in geodiff_cli("info", scene).out


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


# -- job files


def test_init_writes_a_job_that_is_read_back_at_its_defaults(geodiff_cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    assert geodiff_cli("init", path).code == 0
    assert FillJob.from_toml(path) == FillJob.build(source="scene.tif", target="filled.tif")
    assert geodiff_cli("init", path).code == 2
    assert geodiff_cli("init", path, "--overwrite").code == 0


def test_every_commented_field_is_valid_as_it_stands() -> None:
    fields = tomllib.loads(uncommented())
    assert set(fields) == set(FillJob.model_fields) - set(NOT_BUILT)
    job = FillJob.build(**fields)
    for name, field in FillJob.model_fields.items():
        if field.default is not None and not field.is_required():
            assert getattr(job, name) == field.default


def uncommented() -> str:
    return re.sub(r"^# (\w+ = )", r"\1", commented_toml(), flags=re.MULTILINE)


def test_options_override_the_job_file(geodiff_cli: Run, scene: Path) -> None:
    job = scene.with_name("job.toml")
    job.write_text(f'source = "{scene}"\ntarget = "{scene.with_name("a.tif")}"\nfiller = "nearest"\n')
    done = geodiff_cli("fill", "--job", job, "--filler", "laplace", "--json", "-q")
    assert "--filler laplace" in json.loads(done.out)["command"]


@pytest.mark.parametrize(
    ("text", "said"),
    [('source = "a.tif"\ntarget = "b.tif"\nmember = 3\n', "--member 3"), ("source = [", "cannot read the job file")],
)
def test_a_wrong_job_file_is_2(geodiff_cli: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    refused = geodiff_cli("fill", "--job", tmp_path / "job.toml")
    assert refused.code == 2
    assert said in refused.err


def test_the_schema_describes_the_job_file(geodiff_cli: Run) -> None:
    schema = json.loads(geodiff_cli("schema").out)
    fields = tomllib.loads(uncommented())
    assert set(schema["properties"]) == set(fields) | set(NOT_BUILT)
    assert set(schema["required"]) == {"source", "target"}
    assert schema["additionalProperties"] is False
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, which comes with the flows")
    jsonschema.validate(fields, schema)
    with pytest.raises(jsonschema.ValidationError, match=r"steps|minimum"):
        jsonschema.validate({**fields, "steps": 1}, schema)


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fill"], "SOURCE and TARGET are missing; give them, or a job file with --job"),
        (["fill", "a.tif"], "TARGET is missing; give it, or a job file with --job"),
        (["fill", "a.tif", "b.tif", "--members", "four"], "'--members': 'four' is no number"),
        (["fill", "a.tif", "b.tif", "--nodata=x"], "'--nodata': 'x' is no number"),
        (["fill", "a.tif", "b.tif", "--gate", "good"], "--gate good: good is not FIGURE>=BOUND"),
        (["fill", "a.tif", "b.tif", "--valid-range", "0"], "--valid-range 0.0 is not two numbers; give A,B"),
        (["fill", "a.tif", "b.tif", "--valid-range", "5,1"], "--valid-range 5.0,1.0: the range is empty"),
        (["fill", "a.tif", "b.tif", "--detect", "lines,clouds"], "--detect lines: it should be 'dropouts', 'stripes'"),
        (["fill", "a.tif", "b.tif", "--detect", "dropouts,clouds"], "--detect clouds: clouds cannot be found"),
        (["fill", "a.tif", "b.tif", "--device", "gpu"], "--device gpu: choose auto, cpu, cuda, cuda:1"),
        (["fill", "a.tif", "b.tif", "--buffer", "-1"], "--buffer -1: it should be greater than or equal to 0"),
        (["fill", "a.tif", "b.tif", "--quantiles", "5,95"], "--quantiles 5.0,95.0: quantile 5.0 is not between"),
        (["fill", "--job", "none.toml"], "cannot read the job file none.toml: No such file or directory; `geodiff"),
    ],
)
def test_a_wrong_word_is_named_with_the_cure(words: list[str], said: str, geodiff_cli: Run) -> None:
    refused = geodiff_cli(*words)
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.strip().count("\n") == 0


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
