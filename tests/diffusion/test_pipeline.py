"""The diffusers pipeline: a round trip through a folder, known pixels as they came, foreign code refused."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from scipy import ndimage

from geodiff.arrays import fill_array
from geodiff.diffusion import GapFillPipeline, GapFillUNet
from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.device import on_threads
from geodiff.diffusion.exporting import describe
from geodiff.diffusion.fields import CHANNELS
from geodiff.diffusion.folder import Calibration, check_folder, find_folder, model_hash, stored_hash
from geodiff.diffusion.sampling import SAMPLERS
from geodiff.diffusion.shipping import copied
from geodiff.errors import InputError, JobError, ModelError, NothingKnownError, TargetError
from geodiff.identity import model_identity
from geodiff.job import FillJob

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")  # diffusers' own, on its own calls


@pytest.fixture(scope="module")
def pipeline() -> GapFillPipeline:
    torch.manual_seed(0)
    network = GapFillUNet(channels=(8, 12, 16), embedding=16)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    stored = Calibration(factors=(1.5,) * 5).as_json()
    made = GapFillPipeline(network, SAMPLERS["edm-dpm2m"].build(10), stored)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def folder(pipeline, tmp_path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def image(rng) -> tuple[np.ndarray, np.ndarray]:
    values = 300 + 10 * ndimage.gaussian_filter(rng.normal(size=(37, 53)), 2)
    known = np.ones(values.shape, bool)
    known[10:25, 20:40] = False
    return np.where(known, values, -9999), known


def test_a_saved_pipeline_answers_the_same(pipeline, folder, image) -> None:
    loaded = GapFillPipeline.from_pretrained(folder)
    assert loaded.unet.dtype == torch.float32
    assert pipeline.unet.dtype == torch.float32
    first, second = pipeline(*image, members=2, steps=4), loaded(*image, members=2, steps=4)
    np.testing.assert_allclose(second.value, first.value, atol=0.02)  # stored as float16
    np.testing.assert_allclose(second.standard_error, first.standard_error, rtol=0.02)


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("remade", [lambda pipe: GapFillPipeline(**pipe.components), GapFillPipeline.from_pipe])
def test_a_pipeline_made_of_anothers_components_has_its_calibration(pipeline, image, remade) -> None:
    first, second = (pipe(*image) for pipe in (pipeline, remade(pipeline)))
    np.testing.assert_array_equal(second.standard_error, first.standard_error)


def test_the_number_format_is_asked_for_as_in_diffusers(folder) -> None:
    assert GapFillPipeline.from_pretrained(folder).unet.dtype == torch.float32, "files hold float16"
    assert GapFillPipeline.from_pretrained(folder, dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_it_opens_on_a_device_of_ones_choice(folder, image) -> None:
    pytest.importorskip("accelerate")
    opened, placed = GapFillPipeline.from_pretrained(folder), GapFillPipeline.from_pretrained(folder, device_map="cpu")
    np.testing.assert_array_equal(*(pipe(*image).value for pipe in (opened, placed)))


def test_weights_are_float16_safetensors_under_their_hash(folder) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert model_hash(folder) == stored_hash(folder) == hashlib.sha256(weights.read_bytes()).hexdigest()
    header = json.loads(weights.read_bytes()[8:][: int.from_bytes(weights.read_bytes()[:8], "little")])
    assert {v["dtype"] for k, v in header.items() if k != "__metadata__"} == {"F16"}


def test_the_filler_and_the_pipeline_open_the_same_model(folder) -> None:
    opened = open_denoiser(folder, device="cpu", dtype="float32")
    assert opened is open_denoiser(str(folder), device="cpu", dtype="float32"), "loaded once per process"
    assert opened.sha256 == model_hash(folder)
    assert opened.calibration == GapFillPipeline.from_pretrained(folder).denoiser.calibration == Calibration((1.5,) * 5)


def test_known_pixels_come_back_and_hidden_ones_are_estimated(pipeline, image) -> None:
    values, known = image
    filled = pipeline(values, known, members=5, steps=4)
    assert filled.members.shape == (5, *values.shape)
    for layer in (filled.value, *filled.members):
        np.testing.assert_array_equal(layer[known], values[known])
        assert (np.abs(layer[~known] - 300) < 100).all()
    assert (filled.standard_error[known] == 0).all()
    assert (filled.standard_error[~known] > 0).all()
    np.testing.assert_allclose(filled.members.mean(0), filled.value, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "same"), [("float64", "float64"), ("int32", "float64"), ("float16", "float32"), ("int16", "float32")]
)
@pytest.mark.parametrize("tensor", [False, True])
def test_known_numbers_come_back_whatever_their_type(pipeline, image, kind: str, same: str, *, tensor: bool) -> None:
    values, known = (image[0] * (1 + (kind == "int32") * 123_457)).astype(kind), image[1]
    filled = pipeline(torch.from_numpy(values) if tensor else values, known, members=1, steps=4)
    for layer in (filled.value, filled.members[0]):
        assert layer.dtype == same
        np.testing.assert_array_equal(layer[known], values[known])
    assert filled.standard_error.dtype == same


def test_answers_do_not_depend_on_torchs_threads_and_leave_them(pipeline, image, folder) -> None:
    expected = pipeline(*image, members=2, steps=4)
    with on_threads(2):
        again = pipeline(*image, members=2, steps=4)
        fill_array(*image, filler="diffusion", model=str(folder))
        assert torch.get_num_threads() == 2
    np.testing.assert_array_equal(again.value, expected.value)
    np.testing.assert_array_equal(again.members, expected.members)


def test_complex_tensors_are_refused(pipeline, image) -> None:
    with pytest.raises(InputError, match="complex"):
        pipeline(torch.from_numpy(image[0] * 1j), image[1])


def test_the_value_does_not_depend_on_members_or_seed(pipeline, image) -> None:
    first = pipeline(*image).value
    np.testing.assert_array_equal(pipeline(*image, members=3, steps=4, seed=9).value, first)


def test_calibration_goes_by_the_distance_to_data(pipeline, image, tmp_path) -> None:
    plain = Calibration(factors=(1.0,) * 5, spread=(1.0,) * 5).as_json()
    wide = Calibration(factors=(1.0, 1.0, 1.0, 2.0, 2.0), spread=(1.0, 1.0, 1.0, 2.0, 2.0)).as_json()
    pipes = [GapFillPipeline(pipeline.unet, pipeline.scheduler, c) for c in (plain, wide)]
    one, two = (pipe(*image, members=3, steps=4) for pipe in pipes)
    missing = ~image[1]
    ratio = two.standard_error[missing] / one.standard_error[missing]
    away = ndimage.distance_transform_edt(missing)[missing]
    np.testing.assert_allclose(ratio[away <= 4], 1.0, rtol=1e-5)
    assert ratio[away > 7].min() > 1.2
    departures = [np.abs(a.members - a.value).mean(axis=0)[missing] for a in (one, two)]
    assert departures[1][away > 7].mean() > 1.1 * departures[0][away > 7].mean()


def test_numbers_that_are_none_and_masked_ones_are_not_known(pipeline, image) -> None:
    values, known = image
    expected = pipeline(values, known)
    broken = np.where(known, values, np.nan)
    np.testing.assert_array_equal(pipeline(broken, np.ones_like(known)).value, expected.value)
    np.testing.assert_array_equal(pipeline(broken).value, expected.value)
    np.testing.assert_array_equal(pipeline(values, np.where(known, 1.0, np.nan)).value, expected.value)
    np.testing.assert_array_equal(pipeline(np.ma.masked_array(values, ~known), True * known).value, expected.value)


def test_another_scheduler_is_used_or_refused(pipeline, image) -> None:
    swapped = GapFillPipeline(pipeline.unet, SAMPLERS["edm-euler"].build(10), pipeline.config.get("calibration"))
    drawn = [p(*image, members=1, steps=4, sampler=s).members for p, s in ((swapped, None), (pipeline, "edm-euler"))]
    np.testing.assert_array_equal(*drawn)
    assert not np.array_equal(drawn[0], pipeline(*image, members=1, steps=4).members)
    swapped.scheduler = EDMEulerScheduler.from_config(pipeline.scheduler.config)  # diffusers' way of swapping
    np.testing.assert_array_equal(swapped(*image, members=1, steps=4).members, drawn[0])
    own = pipeline.scheduler.config
    noisy = EDMDPMSolverMultistepScheduler.from_config(own, algorithm_type="sde-dpmsolver++")
    for other, said in ((DDIMScheduler(), "DDIMScheduler is"), (noisy, "algorithm_type sde-dpmsolver")):
        swapped.scheduler = other
        with pytest.raises(JobError, match=said):
            swapped(*image)


def test_saving_over_another_model_leaves_a_whole_one(pipeline, folder) -> None:
    other = GapFillPipeline(GapFillUNet(channels=(8, 12), embedding=16), pipeline.scheduler)
    other.save_pretrained(folder)
    check_folder(folder)


def test_a_model_that_is_calibrated_again_is_opened_anew_and_is_another_for_products(folder) -> None:
    job = FillJob(source="scene.tif", target="filled.tif", model=str(folder))
    before, opened = model_identity(job), open_denoiser(folder)
    facts = json.loads((folder / "model_index.json").read_text())
    facts["calibration"]["factors"] = [3.0] * 5
    (folder / "model_index.json").write_text(json.dumps(facts))
    assert open_denoiser(folder).calibration.factors == (3.0,) * 5 != opened.calibration.factors
    assert model_identity(job) != before


def test_bands_and_tensors(pipeline, image) -> None:
    values, known = image
    both = pipeline(torch.from_numpy(np.stack([values, values])), torch.from_numpy(known), members=1, steps=4)
    assert both.value.shape == (2, *values.shape)
    assert both.members.shape == (1, 2, *values.shape)
    np.testing.assert_allclose(both.value[0], pipeline(values, known).value, rtol=1e-5)
    assert not np.array_equal(both.members[0, 0], both.members[0, 1]), "bands draw their own noise"


def test_nothing_known_and_wrong_shapes_are_said(pipeline, image) -> None:
    values, known = image
    with pytest.raises(NothingKnownError):
        pipeline(values, np.zeros_like(known))
    with pytest.raises(InputError, match="give \\(row, column\\)"):
        pipeline(values[None, None], known)
    with pytest.raises(InputError, match="same pixels"):
        pipeline(values, known[:20])
    with pytest.raises(JobError, match="members = -1"):
        pipeline(values, known, members=-1)
    with pytest.raises(JobError, match="too few"):
        pipeline(values, known, steps=2)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "unet/weights.pt", "x.pkl", "unet/model.ckpt", "pipeline.py"])
def test_a_folder_with_pickles_or_scripts_is_refused(folder, name) -> None:
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=Path(name).name):
        GapFillPipeline.from_pretrained(folder)
    with pytest.raises(ModelError):
        open_denoiser(folder)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "auto_map", {"AutoModel": "evil.Model"}),
        ("model_index.json", "custom_pipeline", "someone/elses"),
        ("model_index.json", "unet", ["evil_module", "GapFillUNet"]),
    ],
)
def test_a_folder_that_wants_foreign_code_is_refused(folder, file, key, value) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ModelError, match="code from elsewhere"):
        check_folder(folder)


def test_weights_that_are_not_the_cards_are_refused(folder) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2] + b"\x00\x3c")
    with pytest.raises(ModelError, match="SHA-256"):
        open_denoiser(folder)


def test_weights_cut_short_are_refused(folder) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    (folder / "README.md").unlink()
    for opened in (open_denoiser, GapFillPipeline.from_pretrained):
        with pytest.raises(ModelError, match="cannot be read"):
            opened(folder)


def rewritten(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_network_that_looks_at_other_channels_is_refused(folder) -> None:
    rewritten(folder / "unet" / "config.json", context=[*CHANNELS[:-1], "slope"])
    for opened in (open_denoiser, GapFillPipeline.from_pretrained):
        with pytest.raises(ModelError, match=r"other channels .*degraded, slope"):
            opened(folder)


@pytest.mark.parametrize("layout", [{"inner": [8]}, {"channels": []}, {"channels": [8, 12]}, {"stem": 3}])
def test_a_layout_that_is_not_the_weights_is_refused(folder, layout) -> None:
    rewritten(folder / "unet" / "config.json", **layout)
    with pytest.raises(ModelError, match="do not fit"):
        open_denoiser(folder)


def test_a_model_from_before_pruning_is_described(folder) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "inner"}))
    assert describe(str(folder))["inner"] == [8, 12, 16]


def test_only_models_are_overwritten(folder, tmp_path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "scene.tif").write_bytes(b"mine")
    with pytest.raises(TargetError, match="not a model folder"):
        copied(folder, tmp_path / "own", overwrite=True)
    assert (tmp_path / "own" / "scene.tif").exists()
    copied(folder, copied(folder, tmp_path / "two"), overwrite=True)
    check_folder(tmp_path / "two")


def test_missing_folders_and_weights_are_said(folder, tmp_path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        find_folder(tmp_path / "nowhere")
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match="not a geodiff model"):
        check_folder(folder)


def test_pickles_are_not_written(pipeline, tmp_path) -> None:
    with pytest.raises(InputError, match="pickle"):
        pipeline.save_pretrained(tmp_path, safe_serialization=False)


def test_weights_have_one_name(pipeline, tmp_path) -> None:
    with pytest.raises(InputError, match="leave variant out"):
        pipeline.save_pretrained(tmp_path, variant="fp16")
    assert not any(tmp_path.iterdir())
    pipeline.save_pretrained(tmp_path, variant=None)
    check_folder(tmp_path)


def test_the_shipped_model_is_small_and_true_to_its_card() -> None:
    folder = find_folder("default")
    check_folder(folder)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 16 * 2**20
    assert stored_hash(folder) == model_hash(folder)
