"""What the command line prints of what was done: words, JSON, plans, nothing."""

import json
import re
from pathlib import Path

import pytest
import rasterio

from tests.cli.console import Run


def test_what_is_missing_and_left_is_no_gap_but_is_told(geodiff_cli: Run, scene: Path) -> None:
    with rasterio.open(scene, "r+") as file:
        values = file.read()
        values[:, :, :40] = file.nodata
        values[:, :, 40:] = 7
        file.write(values)
    done = geodiff_cli("fill", scene, scene.with_name("filled.tif"), "--filler", "laplace", "-q")
    assert done.code == 0
    assert re.search(r"has no gap to fill; .*; [\d,]+ missing values are not to be filled \(--dry-run says", done.out)


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


def test_a_calibration_takes_what_a_training_takes(geodiff_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.diffusion.folder import Calibration

    taken: dict[str, object] = {}
    monkeypatch.setattr("geodiff.learning.recalibrate", lambda *_, **given: taken.update(given) or Calibration())
    words = ("--bands", "2", "--nodata", "-1", "--mask", "clouds.gpkg", "--valid-range", "0,1", "-q")
    assert geodiff_cli("model", "calibrate", "default", "scene.tif", "--out", "mine", *words).code == 0
    wanted = {"bands": ("2",), "nodata": -1.0, "mask": ("clouds.gpkg",), "valid_range": (0.0, 1.0)}
    assert taken == {"overwrite": False, "quiet": True, **wanted}


def test_an_exported_model_is_told_in_json(geodiff_cli: Run, tmp_path: Path) -> None:
    facts = json.loads(geodiff_cli("model", "export", "default", "--out", tmp_path / "hub", "--json").out)
    assert facts["model"] == str(tmp_path / "hub")
    assert facts["sha256"] in (tmp_path / "hub" / "README.md").read_text()


def test_info_in_json_and_in_words(geodiff_cli: Run, scene: Path) -> None:
    facts = json.loads(geodiff_cli("info", scene, "--json").out)
    assert facts["variables"][0]["gaps"]["missing"] == 100
    assert "EPSG:32633" in geodiff_cli("info", scene).out


def test_large_numbers_of_a_model_are_legible(geodiff_cli: Run) -> None:
    shown = geodiff_cli("model", "show", "default").out
    assert re.search(r"parameters  \d,\d{3},\d{3}$", shown, re.MULTILINE)
    assert re.search(r"channels  \d+, \d+", shown)
