"""Training on a user's own rasters: gaps and all, set aside by place, fine-tuned, resumed, in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from geodiff.cli.train import _configuration, _kept
from geodiff.diffusion.folder import Calibration, check_folder
from geodiff.diffusion.journal import Verdict
from geodiff.diffusion.losses import named_loss, spectral_difference
from geodiff.diffusion.shipping import copied
from geodiff.diffusion.trainconfig import read_config
from geodiff.diffusion.training import train
from geodiff.errors import InputError, JobError, LockedError, TargetError
from geodiff.io.lock import lock
from geodiff.learning import FINE_TUNING, Learnt, learn, next_model, recalibrate, user_sources
from tests.rasters import write

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")

ROOT = Path(__file__).parents[1]
SMALL = {"channels": (8, 12), "batch": 2, "crop": 32, "patches": 6, "frames": 0, "validation_patches": 2, "steps": 4}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> str:
    """Two bands of uint16 with a hole and a column of nodata."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    rng = np.random.default_rng(0)
    bands = (3000 + 500 * gaussian_filter(rng.normal(size=(2, 320, 700)), (0, 3, 3)) * 12).astype(np.uint16)
    bands[:, 40:80, 60:130] = 0
    bands[:, :, 300] = 0
    return str(write(path, bands, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)))


def config(work: Path, **more):
    return read_config(None, work=work, **{**SMALL, **more})


def test_the_part_set_aside_lies_in_the_east_and_gaps_are_not_known(scene) -> None:
    sources = user_sources([scene])
    assert {s.part for s in sources} == {"train", "validation"}
    assert all(int(s.name.rsplit("columns ", 1)[1].split("+")[0]) >= 525 for s in sources if s.part == "validation")
    west = next(s for s in sources if s.part == "train").read(Path())
    assert not west.known[0, :, 40:80, 60:130].any()
    assert np.isfinite(west.values).all()
    assert abs(float(np.median(west.values[west.known]))) < 0.3


def test_a_raster_too_small_to_set_a_part_aside_is_refused(tmp_path) -> None:
    path = tmp_path / "tiny.tif"
    with rasterio.open(path, "w", driver="GTiff", height=40, width=40, count=1, dtype="float32",
                       transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)) as target:  # fmt: skip
        target.write(np.ones((1, 40, 40), np.float32))
    with pytest.raises(InputError, match="too small"):
        user_sources([str(path)])


def test_a_raster_that_cannot_be_read_is_named_and_left_out(scene, tmp_path, caplog) -> None:
    whole, cut, empty = Path(scene).read_bytes(), tmp_path / "cut.tif", tmp_path / "empty.tif"
    cut.write_bytes(whole[: int(0.9 * len(whole))])  # its head, and most of its tiles, are there
    empty.touch()
    with caplog.at_level("WARNING"):
        sources = user_sources([str(cut), scene, str(empty)])
    assert {source.name.split(":")[0] for source in sources} == {scene}
    assert "cut.tif cannot be read" in caplog.text
    assert "empty.tif is an empty file" in caplog.text
    learnt = learn([str(cut), scene], tmp_path / "model", config(tmp_path / "work", steps=1), quiet=True)
    assert learnt.left_out == (str(cut),)
    assert "cut.tif" not in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(InputError, match=r"no source can be learnt from; the first: .*cut\.tif cannot be read"):
        user_sources([str(cut), str(empty)])
    with pytest.raises(JobError, match="valid-range"):
        user_sources([scene, str(cut)], valid_range="5")


def test_a_raster_too_small_for_a_tile_is_named_among_others(scene, tmp_path, caplog) -> None:
    small = tmp_path / "small.tif"
    with rasterio.open(scene) as source, rasterio.open(
        small, "w", **{**source.profile, "width": 50, "height": 60}
    ) as target:
        target.write(source.read()[:, :60, :50])
    with caplog.at_level("WARNING"):
        user_sources([str(small), scene])
    assert "small.tif has no 48 x 48 pixels" in caplog.text


def test_a_model_is_fine_tuned_scored_and_opens(scene, tmp_path) -> None:
    made = config(tmp_path / "work", begin_from="geodiff/models/default", steps=2)
    learnt = learn([scene], tmp_path / "model", made, quiet=True)
    check_folder(tmp_path / "model")
    assert learnt.steps == 2
    assert learnt.before == pytest.approx(learnt.after, abs=0.3)
    scores = (tmp_path / "work" / "scores.csv").read_text().splitlines()
    assert scores[1].startswith("0,validation,"), "what the model it began from makes of these rasters"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "scene.tif" in card
    assert f"{learnt.after:.3f}" in card
    assert ", from default." in card
    assert learnt.kept in (0, 2)
    assert f"trained for {learnt.kept} steps" in card
    with pytest.raises(TargetError, match="--overwrite"):
        learn([scene], tmp_path / "model", made, quiet=True)


def test_whose_weights_a_model_has_is_said() -> None:
    def told(kept: int, before: float | None) -> str:
        return _kept(Learnt("mine", 40, 2.0, before, 0.9, 8, "the steps were spent", kept=kept))

    assert told(40, 0.95) == ""
    assert "the model it began from, whose weights are kept" in told(0, 0.9)
    assert "step 20 did best and is kept" in told(20, None)


def test_a_resumed_training_ends_where_one_run_does(scene, tmp_path) -> None:
    learn([scene], tmp_path / "whole", config(tmp_path / "a", warm_up=0, dtype="float32"), quiet=True)
    half = config(tmp_path / "b", warm_up=0, dtype="float32", steps=4, minutes=1e-6)
    learn([scene], tmp_path / "half", half, quiet=True)
    rest = config(tmp_path / "b", warm_up=0, dtype="float32")
    learn([scene], tmp_path / "half", rest, quiet=True, resume=True, overwrite=True)
    log = (tmp_path / "b" / "scores.csv").read_text()
    assert "verdict" in log
    steps = [json.loads((tmp_path / w / "checkpoint.json").read_text())["step"] for w in "ab"]
    assert steps == [4, 4]


def rewritten(scene: str, path: Path, values=lambda bands: bands) -> str:
    with rasterio.open(scene) as source, rasterio.open(path, "w", **source.profile) as target:
        target.write(values(source.read()))
    return str(path)


def test_tiles_of_a_file_that_changed_or_is_read_otherwise_are_others(scene, tmp_path) -> None:
    path = rewritten(scene, tmp_path / "scene.tif")
    first = user_sources([path])
    assert user_sources([path]) == first
    assert not set(user_sources([path], nodata=3000)) & set(first)
    rewritten(scene, tmp_path / "scene.tif", lambda bands: bands[:, ::-1])
    assert not set(user_sources([path])) & set(first)


def test_a_training_begun_anew_leaves_nothing_of_another_to_resume(scene, tmp_path) -> None:
    def stopped(*_) -> None:
        raise KeyboardInterrupt

    made, sources = config(tmp_path, patches=1, validation_patches=0, steps=1, crop=16), user_sources([scene])
    train(made, sources=sources)
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events").touch()
    with pytest.raises(KeyboardInterrupt):
        train(made.model_copy(update={"steps": 3}), sources=sources, watch=stopped)
    assert not (tmp_path / "tensorboard").exists(), "its curves would stand among those of the other"
    kept = {path.name for path in (tmp_path / "former").iterdir()}
    assert kept == {"checkpoint.safetensors", "checkpoint.json", "tensorboard"}, "hours of work are not lost"
    with pytest.raises(InputError, match="no checkpoint"):
        train(made, sources=sources, resume=True)


def test_a_work_folder_does_not_pass_on_patches_or_models_of_other_rasters(scene, tmp_path) -> None:
    other = rewritten(scene, tmp_path / "other.tif", lambda bands: bands[:, ::-1])
    made = config(tmp_path, patches=1, validation_patches=1, steps=1, crop=16)
    train(made, sources=user_sources([scene]))
    before, rows = set(tmp_path.glob("train-*")), (tmp_path / "scores.csv").read_text().count("\n")
    train(made, sources=user_sources([other]))
    assert len(set(tmp_path.glob("train-*")) - before) == 1
    assert (tmp_path / "scores.csv").read_text().count("\n") == rows, "scores of this training alone"
    train(made.model_copy(update={"validation_patches": 0}), sources=user_sources([other]))
    assert not (tmp_path / "best").exists(), "what another training thought best is not shipped"


def test_a_raster_of_which_little_is_known_is_scaled_by_what_is(scene, tmp_path) -> None:
    path = tmp_path / "wide.tif"
    with rasterio.open(scene) as source:
        bands, profile = np.zeros((2, 1600, 1600), np.uint16), {**source.profile, "width": 1600, "height": 1600}
        bands[:, -100:, -100:] = bands[:, :100, :100] = source.read()[:, :100, 320:420]
    with rasterio.open(path, "w", **profile, compress="deflate") as target:
        target.write(bands)
    corner = next(s for s in user_sources([str(path)]) if " rows 0+512 columns 0+512" in s.name).read(Path())
    assert abs(float(np.median(corner.values[corner.known]))) < 1


def test_numbers_that_no_sensor_measured_are_not_learnt_from(scene, tmp_path) -> None:
    path = tmp_path / "wild.tif"
    with rasterio.open(scene) as source:
        bands, profile = source.read().astype(np.float32), {**source.profile, "dtype": "float32", "nodata": None}
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.where(bands == 0, np.float32(-3.4028235e38), bands))
    west = next(s for s in user_sources([str(path)]) if s.part == "train").read(Path())
    assert not west.known[0, :, 40:80, 60:130].any()
    assert west.values[west.known].std() > 0.3


def test_a_configuration_file_stands_over_the_defaults_and_under_the_options(tmp_path) -> None:
    (tmp_path / "train.toml").write_text("augment = false\nbatch = 4\n")
    made = read_config(tmp_path / "train.toml", FINE_TUNING, work=tmp_path, batch=2)
    assert (made.augment, made.batch, made.patches, made.frames) == (False, 2, 600, 0)
    assert made.minutes == FINE_TUNING["minutes"]
    assert read_config(None, FINE_TUNING, work=tmp_path, steps=4).minutes is None


def test_the_command_line_takes_work_folder_and_start_from_the_file(tmp_path) -> None:
    (tmp_path / "train.toml").write_text(f'begin_from = "default"\nwork = "{tmp_path}/here"\nsteps = 7\n')
    made = _configuration(tmp_path / "model", tmp_path / "train.toml", {"steps": 9})
    assert made.work == tmp_path / "here"
    assert made.learning_rate == FINE_TUNING["learning_rate"], "a start in the file is a start"
    assert (made.steps, made.minutes) == (9, None)
    anew = _configuration(tmp_path / "model", None, {})
    assert (anew.work, anew.begin_from) == (tmp_path / "model.training", None)


@pytest.mark.parametrize("wrong", [{"device": "nowhere"}, {"loss": "mae"}])
def test_what_cannot_be_trained_is_told_before_patches_are_cut(scene, tmp_path, wrong) -> None:
    with pytest.raises(JobError, match=next(iter(wrong.values()))):
        train(config(tmp_path, **wrong), sources=user_sources([scene]))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_model_is_not_replaced_by_one(scene, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data.txt").write_text("mine")
    with pytest.raises(TargetError, match="is no model folder"):
        next_model([scene], precious, "default", {"minutes": 0.1})
    assert (precious / "data.txt").read_text() == "mine"


def test_two_trainings_do_not_share_a_work_folder(scene, tmp_path) -> None:
    work = tmp_path / "work"
    with lock(str(work / "training")), pytest.raises(LockedError, match=f"{work}"):
        learn([scene], tmp_path / "model", config(work), quiet=True)
    assert not list(work.glob("train-*"))


def test_recalibrating_keeps_the_weights(scene, tmp_path, caplog) -> None:
    with caplog.at_level("INFO"):
        calibration = recalibrate("default", [scene], tmp_path / "own", count=2)
    assert "filling 2 patches of the part set aside" in caplog.text
    assert all(f > 0 for f in calibration.factors)
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "own" / name).read_bytes() == (ROOT / "geodiff/models/default" / name).read_bytes()
    stored = json.loads((tmp_path / "own" / "model_index.json").read_text())
    assert tuple(stored["calibration"]["factors"]) == calibration.factors
    check_folder(tmp_path / "own")


def test_the_card_of_a_recalibrated_model_says_its_own_factors_once(tmp_path) -> None:
    first, second = (Calibration(factors=(f,) * 5) for f in (1.25, 3.5))
    once = copied("default", tmp_path / "once", calibration=first, measured_on="3 patches of a.tif")
    twice = copied(once, tmp_path / "twice", calibration=second, measured_on="5 patches of b.tif")
    card = (twice / "README.md").read_text()
    assert "1.25, 1.25, 1.25, 1.25, 1.25" in (once / "README.md").read_text()
    assert "On 5 patches of b.tif" in card
    assert "3.50, 3.50, 3.50, 3.50, 3.50" in card
    assert "a.tif" not in card
    assert card.startswith((ROOT / "geodiff/models/default/README.md").read_text().rstrip())
    check_folder(twice)


def test_two_processes_hold_one_network(scene, tmp_path) -> None:
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"]
    words += ["-m", "geodiff", "train", scene, "--out", str(tmp_path / "model")]
    work = tmp_path / "work"
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "dtype": "float32"}))
    words += ["--config", str(tmp_path / "config.json"), "--work", str(work), "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads((work / "checkpoint.json").read_text())
    assert facts["step"] == 4
    check_folder(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())


def test_losses_by_name_by_import_path_and_wrong() -> None:
    estimate, truth = torch.tensor([[[[3.0]]]]), torch.tensor([[[[1.0]]]])
    assert named_loss("mse")(estimate, truth).item() == 4
    assert named_loss("huber")(estimate, truth).item() == 3  # 2 * (2 - 1/2)
    assert named_loss("torch.nn.functional:l1_loss")(estimate, truth).item() == 2
    for wrong in ("mae", "no.such.module:loss", "math:no_such_function"):
        with pytest.raises(JobError, match=wrong.split(":")[0]):
            named_loss(wrong)


def test_the_spectral_term_is_nothing_for_the_truth_and_grows_with_blur() -> None:
    truth = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert spectral_difference(truth, truth).item() == 0
    assert spectral_difference(blurred, truth).item() > 0.5


def test_overfitting_is_told_from_a_bad_day() -> None:
    verdict = Verdict()
    assert verdict.add({"a": 1.0}, {"a": 1.0}) == "better"
    assert verdict.add({"a": 0.9}, {"a": 0.9}) == "better"
    assert verdict.add({"a": 0.9005}, {"a": 0.85}) == "level"
    assert verdict.add({"a": 0.95}, {"a": 0.8}) == "overfitting"
    assert verdict.add({"a": 0.95}, {"a": 0.9}) == "worse"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate = 1", "lerning_rate"), ("path = 'scenes'", "path"), ("begin_from = 5", "begin_from"),
        ("batch = 0", "batch"), ("[", "TOML"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_one_line(tmp_path, text, said) -> None:
    (tmp_path / "train.toml").write_text(text)
    with pytest.raises(JobError, match=said):
        read_config(tmp_path / "train.toml", work=tmp_path)
    with pytest.raises(JobError, match=said):
        _configuration(tmp_path / "model", tmp_path / "train.toml", {})


def test_a_missing_tensorboard_is_told_before_anything_is_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodiff.diffusion.trainconfig.find_spec", lambda name: None)
    with pytest.raises(JobError, match="pip install tensorboard"):
        read_config(None, work=tmp_path, tensorboard=True)
    assert not read_config(None, work=tmp_path).tensorboard


def test_patience_without_validations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="validation_patches = 0 leaves none"):
        read_config(None, work=tmp_path, patience=3, validation_patches=0)
