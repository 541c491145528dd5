"""What the command line promises of its exit codes: one line for what went wrong, and how to go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.cli import main
from geodiff.fillers import Filled
from geodiff.job import FillJob
from tests.cli.console import Broken, Run, raster, register


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


def test_credentials_that_expire_are_1_with_the_way_on(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired(job: FillJob, *, quiet: bool = False) -> None:
        raise PermissionError("The provided token has expired.")  # as s3fs words it, without a place

    monkeypatch.setattr("geodiff.report.run", expired)
    failed = geodiff_cli("fill", scene, scene.with_name("filled.tif"))
    assert failed.code == 1
    assert failed.err.startswith("error: The provided token has expired; check the place, its permissions and cred")
    assert failed.err.endswith("; the same command goes on where this one stopped\n")


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
    assert said.index("blocks have gaps") < said.index("trying laplace") < said.index("fitted ")


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


def test_a_filler_that_fails_where_it_is_tried_too_is_3(
    geodiff_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Broken):
        def fill(self, patches: Any, fitted: Any, *, seed: int) -> list[Filled]:
            if any(patch.window.column >= 400 for patch in patches):
                return {}["nowhere"]
            filled = super().fill(patches, fitted, seed=0)
            for patch, one in zip(patches, filled, strict=True):
                one.standard_error[:] = np.nan if patch.window.column < 60 else 1.0
            return filled

    wide = raster(tmp_path / "wide.tif", slice(20, 30), slice(40, 560), (64, 600))
    register(monkeypatch, Lost)
    words = ("fill", wide, tmp_path / "filled.tif", "--filler", "broken", "--block-size", "256")
    partly = geodiff_cli(*words)
    assert partly.code == 3
    assert "KeyError: 'nowhere'" in partly.out
    assert "'broken' failed on " in partly.err
    with rasterio.open(tmp_path / "filled_source.tif") as file:
        source = file.read(1)[25]
    assert (source[45:60] == 255).all(), "a value without an error is none"
    assert (source[230:250] == 100).all()


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


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_terminal_that_goes_away_is_an_interruption_unless_nohup_says_no(
    monkeypatch: pytest.MonkeyPatch, before: Any
) -> None:
    kept = {stop: signal.getsignal(stop) for stop in (signal.SIGHUP, signal.SIGTERM)}
    monkeypatch.setattr("geodiff.cli._run", lambda: 7)
    try:
        signal.signal(signal.SIGHUP, before)
        with pytest.raises(SystemExit, match="7"):
            main()
        heard = signal.getsignal(signal.SIGHUP)
    finally:
        for stop, handler in kept.items():
            signal.signal(stop, handler)
    assert heard is (signal.default_int_handler if before is signal.SIG_DFL else signal.SIG_IGN)


def test_no_stream_to_complain_into_changes_no_exit_code(
    geodiff_cli: Run, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As daemons and `2>&-` start it: Python has no `sys.stderr` then."""
    monkeypatch.setattr(sys, "stderr", None)
    words = ("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace")
    codes = geodiff_cli(*words).code, geodiff_cli(*words[:3], "--filler", "nearest").code
    sys.stderr.close()  # which was put in its place
    assert codes == (0, 2)


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fill"], "SOURCE and TARGET are missing; give them, or a job file with --job"),
        (["model", "export", "default", "--out", "s3://b/hub"], "s3://b/hub is not on this machine"),
        (["score", "a.tif", "--encoder", "texture"], "--encoder texture belongs to --realism"),
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
        (["fill", "a.tif", "b.tif", "--quantiles", "0.5,0.5"], "--quantiles 0.5,0.5: a quantile is there twice"),
        (["fill", "a.tif", "b.tif", "--gate", ""], "--gate was given nothing; give it a value or leave it out"),
        (["fill", "a.tif", "b.tif", "--bands", " "], "--bands was given nothing"),
        (["fill", "a.tif", "b.tif", "--mask", "m.tif", "--mask", ""], "--mask was given nothing"),
        (["fill", "", "b.tif"], "SOURCE was given nothing"),
        (["restore", "a.tif", "b.tif", "--task", "denoise", "--detect", ""], "--detect was given nothing"),
        (["fill", "--job", "none.toml"], "cannot read the job file none.toml: No such file or directory; `geodiff"),
    ],
)
def test_a_wrong_word_is_named_with_the_cure(words: list[str], said: str, geodiff_cli: Run) -> None:
    refused = geodiff_cli(*words)
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.strip().count("\n") == 0
