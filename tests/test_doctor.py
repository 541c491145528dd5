"""The doctor finds what is wrong, and is content where nothing is."""

import json
from pathlib import Path
from typing import Any

import pytest

from geodiff import doctor
from geodiff.errors import ModelError


def test_this_installation_is_well_and_the_facts_are_json() -> None:
    facts = doctor.examine()
    assert facts["problems"] == []
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["packages"]["numpy"]
    assert facts["devices"]["cpu"] in ("float32", "bfloat16")
    assert facts["gdal"]["reads"][:2] == ["GTiff", "COG"]
    text = doctor.render(facts)
    assert f"torch {facts['packages']['torch']}" in text, "on one line"
    assert "problem" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("warning")) <= 80


@pytest.mark.parametrize("name", ["pyproj", "rasterio"])
def test_both_copies_of_proj_know_earth_and_mars(name: str) -> None:
    problems: list[str] = []
    found = doctor._proj(problems)[name]
    assert problems == []
    assert any("IAU_2015" in pair for pair in found["metres_off"])
    assert all(metres < 0.01 for metres in found["metres_off"].values())


@pytest.mark.parametrize("answer", [(0.0, 0.0), (float("inf"), float("inf"))])
def test_a_wrong_answer_of_proj_is_a_problem(answer: tuple[float, float]) -> None:
    problems: list[str] = []
    doctor._sanity("pyproj", lambda: ("9.9", lambda *_: answer), problems)
    assert len(problems) == 2
    assert "unset PROJ_DATA" in problems[0]


def test_a_broken_proj_is_a_problem_and_no_crash() -> None:
    def broken(*_: object) -> tuple[float, float]:
        raise RuntimeError("no database context")

    problems: list[str] = []
    found = doctor._sanity("rasterio", lambda: ("9.9", broken), problems)
    assert set(found["metres_off"].values()) == {None}
    assert "cannot be done" in problems[0]


@pytest.mark.parametrize("name", ["PROJ_DATA", "PROJ_LIB", "GDAL_DATA"])
def test_foreign_data_folders_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    for other in doctor._FOREIGN:
        monkeypatch.delenv(other, raising=False)
    warnings: list[str] = []
    assert doctor._environment(warnings) == {}
    assert warnings == []
    monkeypatch.setenv(name, str(tmp_path / "gone"))
    assert doctor._environment(warnings) == {name: str(tmp_path / "gone")}
    assert f"unset {name}" in warnings[0]
    assert "does not exist" in warnings[0]


def test_a_changed_model_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(folder: Path) -> None:
        raise ModelError("the weights have SHA-256 1234, its card says 5678; fetch the model again")

    monkeypatch.setattr("geodiff.diffusion.folder.check_folder", changed)
    problems: list[str] = []
    assert doctor._model(problems) == {"name": "default", "sound": False}
    assert "its card says" in problems[0]


@pytest.mark.parametrize("error", [ImportError("numpy.core failed to import"), OSError("libx.so: no such file")])
def test_a_package_that_is_installed_and_does_not_load_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(module: str) -> None:
        if module in ("zarr", "skimage.restoration", "pyarrow"):
            raise error
        if module == "xarray":
            raise RuntimeError

    monkeypatch.setattr(doctor, "import_module", broken)
    problems: list[str] = []
    warnings: list[str] = []
    doctor._packages(problems, warnings)
    assert [text.partition(" ")[0] for text in problems] == ["scikit-image", "xarray"]
    assert [text.partition(" ")[0] for text in warnings] == ["pyarrow"]  # a fill may do without
    assert f"cannot be loaded ({error}); pip install --force-reinstall scikit-image zarr" in problems[0]
    assert "(RuntimeError)" in problems[1]


def test_a_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package-at-all"))
    problems: list[str] = []
    assert doctor._packages(problems, [])["no-such-package-at-all"] is None
    assert problems == ["no-such-package-at-all not installed; pip install -c constraints.txt ."]


def test_little_room_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_DISK", 1 << 60)
    monkeypatch.setattr(doctor, "_LEAST_MEMORY", 1 << 60)
    warnings: list[str] = []
    doctor._disk(warnings)
    doctor._memory(warnings)
    assert len(warnings) == 3
    for text, cure in zip(warnings, ("--work on", "TMPDIR", "--block-size"), strict=True):
        assert cure in text


def test_problems_and_warnings_are_shown_last(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {**doctor.examine(), "warnings": ["a draught"], "problems": ["a leak"]}
    assert doctor.render(facts).splitlines()[-2:] == ["warning: a draught", "problem: a leak"]
