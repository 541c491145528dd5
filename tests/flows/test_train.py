"""A model is trained by the flow, and replaces the last good one only where it is better."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geodiff.learning as learning
from flows.train import main, train_model, train_once
from geodiff.diffusion.folder import check_folder
from geodiff.errors import GateError, InputError, LockedError
from geodiff.learning import Learnt, next_model
from tests.rasters import write

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    rng = np.random.default_rng(0)
    values = (1000 + 100 * rng.normal(size=(1, 200, 520)).cumsum(2) / 10).astype("float32")
    return str(write(path, values, None))


def settings(**more: Any) -> dict[str, Any]:
    return {"patches": 4, "validation_patches": 2, "batch": 2, "crop": 32, "steps": 2, "dtype": "float32", **more}


def judged(monkeypatch: pytest.MonkeyPatch, after: float, before: float = 0.9) -> None:
    """Let the training be real and its score be this."""
    learn = learning.learn
    monkeypatch.setattr(
        learning, "learn", lambda *a, **k: replace(learn(*a, **k), after=after, before=before)
    )


def test_a_better_model_takes_the_place_and_a_worse_one_does_not(
    scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    judged(monkeypatch, after=0.8)
    assert next_model([scene], out, "", settings()).delivered
    check_folder(out)
    was = (out / "README.md").read_text()
    judged(monkeypatch, after=0.95)
    assert not next_model([scene], out, "", settings(seed=1)).delivered
    assert (out / "README.md").read_text() == was
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing is left beside it"


def test_a_kill_while_the_model_is_replaced_loses_no_good_one(
    scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, begun = tmp_path / "model", []
    judged(monkeypatch, after=0.8)
    next_model([scene], out, "", settings())
    out.rename(tmp_path / ".model.was")  # as a kill between the two renames leaves it
    (tmp_path / "model.training").mkdir()
    (tmp_path / "model.training" / "checkpoint.safetensors").write_bytes(b"half")  # and a power cut
    learn = learning.learn
    monkeypatch.setattr(learning, "learn", lambda *a, **k: begun.append(a[2].begin_from) or learn(*a, **k))
    next_model([scene], out, "", settings(seed=1))
    assert begun == [out]
    check_folder(out)
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing is left beside it"


def test_the_flow_keeps_the_last_good_model_and_fails(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = Learnt("m", 3, 0.1, 0.9, 0.95, 8, "the time was spent", delivered=False)
    monkeypatch.setattr("flows.train.next_model", lambda *_: worse)
    with pytest.raises(GateError, match=r"0\.950"):
        train_model(["a.tif"], str(tmp_path / "m"))
    monkeypatch.setattr("flows.train.next_model", lambda *_: replace(worse, after=0.8, delivered=True))
    assert train_model(["a.tif"], str(tmp_path / "m")).delivered


def test_the_rasters_of_a_folder_are_learnt_from_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[str]] = []
    monkeypatch.setattr("flows.train.next_model", lambda sources, *_: taken.append(sources))
    for name in ("scenes/a.tif", "scenes/b.tif", "scenes/notes.txt", "cube.zarr/zarr.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    scenes, cube, stack = f"{tmp_path}/scenes", f"{tmp_path}/cube.zarr", f"{tmp_path}/scenes/*.tif"
    train_once.fn([scenes, "c.tif", cube, stack], "m", "", {})
    assert taken == [[f"{scenes}/a.tif", f"{scenes}/b.tif", "c.tif", cube, stack]]
    with pytest.raises(InputError, match="empty holds no rasters"):
        train_once.fn([scenes, f"{tmp_path}/empty"], "m", "", {})


def test_one_run_at_a_time_trains_for_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Learnt("m", 3, 0.1, 0.9, 0.95, 8, "the time was spent")

    def learn(*_: Any, **__: Any) -> Learnt:
        with pytest.raises(LockedError, match=rf"{tmp_path}/m is being written by process {os.getpid()}"):
            next_model(["a.tif"], tmp_path / "m", "", {})
        return done

    monkeypatch.setattr(learning, "learn", learn)
    assert not next_model(["a.tif"], tmp_path / "m", "", {}).delivered
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_what_came_out(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Learnt("m", 3, 0.1, 0.9, 0.95, 8, "the time was spent", delivered=False)
    monkeypatch.setattr("flows.train.next_model", lambda *_: done)
    assert main([str(tmp_path / "m"), "a.tif"]) == GateError("").exit_code == 5
    assert "stays as it was" in capsys.readouterr().err
