"""Training: it learns what there is to learn, repeats itself, resumes, and refuses a wrong configuration."""

import resource
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from geodiff.diffusion import shipping, training
from geodiff.diffusion.batches import Caches, draw_batch
from geodiff.diffusion.data import FRAME_PLANES, PLAIN, PLANES, SIZE, Cache, flags_of
from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.fields import CHANNELS, channel
from geodiff.diffusion.folder import check_folder
from geodiff.diffusion.journal import Journal, Verdict
from geodiff.diffusion.losses import edm_loss
from geodiff.diffusion.shipping import average_of, ship
from geodiff.diffusion.trainconfig import TrainConfig
from geodiff.diffusion.training import Trainer, _train, read_checkpoint, validation_scores
from geodiff.errors import InputError, JobError, WriteError
from tests.diffusion.elsewhere import another_device


@pytest.fixture(scope="module")
def cache() -> Caches:
    """Patches whose residual is written in the date1 channel."""
    rng = np.random.default_rng(0)
    count = 4
    planes = gaussian_filter(rng.normal(size=(count, len(PLANES) + 1, SIZE, SIZE)), (0, 0, 2, 2))
    planes = (planes / planes.std()).astype(np.float16)
    planes[:, -1] = planes[:, PLANES.index("date1")]
    hidden = rng.random((count, SIZE, SIZE)) < 0.5
    known = {"known": ~hidden, "date1_known": np.ones_like(hidden)}
    days, told = np.zeros((count, 2), np.float32), np.repeat(PLAIN[None], count, axis=0)
    gaps = Cache(planes, flags_of(known, hidden), days, ["optical"] * count, told)
    return Caches(gaps, None, gaps, None)


def config(work: Path, **more) -> TrainConfig:
    fields = {"work": work, "channels": (8, 12), "batch": 4, "crop": 16, "steps": 60, "warm_up": 5, "ema": 0.9,
              "learning_rate": 5e-3, "dtype": "float32", "drop_date": 0.0}  # fmt: skip
    return TrainConfig(**{**fields, **more})


def run(trainer: Trainer, cache: Caches, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.advance(draw_batch(cache, trainer.config, trainer.step))
    return trainer


def test_a_small_network_learns_a_small_task(cache, tmp_path) -> None:
    trainer = run(Trainer(config(tmp_path, steps=80)), cache, 80)
    scores = validation_scores(trainer.average, cache, trainer.config)
    assert scores["value/optical"] < 0.7, "the prior alone has 1"
    assert scores["denoise/2.0"] < 0.5, "the input alone has about 0.45 when it is scaled at best"


def one_by_one(optimiser):
    def build(*args, fused, **options):
        return optimiser(*args, **options)

    return build


def test_a_training_there_is_the_training_here(cache, tmp_path, monkeypatch) -> None:
    """What a GPU would refuse, because tensors there and here do not mix, is refused by the other device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no such device,
    monkeypatch.setattr(torch.optim, "AdamW", one_by_one(torch.optim.AdamW))  # nor do fused steps
    here = run(Trainer(config(tmp_path / "here")), cache, 3)
    with another_device() as device:
        away = run(Trainer(config(tmp_path / "there", device=str(device))), cache, 3)
        assert {p.device for p in away.model.parameters()} == {device}
        numbers = [p.detach().cpu() for p in away.average.parameters()]
        scores = validation_scores(away.average, cache, away.config)
    for one, other in zip(here.average.parameters(), numbers, strict=True):
        torch.testing.assert_close(other, one.detach(), atol=1e-5, rtol=1e-4)
    assert scores == pytest.approx(validation_scores(here.average, cache, here.config), rel=1e-3)


def test_a_batch_is_a_function_of_seed_and_step(cache, tmp_path) -> None:
    made = config(tmp_path)
    first, again, other = draw_batch(cache, made, 3), draw_batch(cache, made, 3), draw_batch(cache, made, 4)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.context, again.context)
    assert not torch.equal(first.noise, other.noise)


def test_a_resumed_run_is_one_run(cache, tmp_path) -> None:
    made = config(tmp_path, warm_up=0)
    whole = run(Trainer(made), cache, 6)
    half = run(Trainer(made), cache, 3)
    half.save(tmp_path)
    resumed = Trainer(made)
    resumed.restore(tmp_path)
    run(resumed, cache, 3)
    for one, two in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(two, one)


def test_a_resumed_run_drops_what_an_undisturbed_one_would(cache, tmp_path) -> None:
    made = config(tmp_path, warm_up=0, dropout=0.5)
    whole = run(Trainer(made), cache, 4)
    run(Trainer(made), cache, 2).save(tmp_path)
    resumed = Trainer(made)
    resumed.restore(tmp_path)
    run(resumed, cache, 2)
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(two, one)


def test_a_checkpoint_of_another_network_is_refused_in_words(cache, tmp_path) -> None:
    Trainer(config(tmp_path)).save(tmp_path)
    with pytest.raises(InputError, match=r"channels .*8, 12.*8, 16.*leave out --resume"):
        Trainer(config(tmp_path, channels=(8, 16))).restore(tmp_path)


def test_a_gradient_that_is_no_number_stops_the_training(cache, tmp_path) -> None:
    with pytest.raises(JobError, match="lower learning_rate"):
        run(Trainer(config(tmp_path, learning_rate=1e30, warm_up=0)), cache, 4)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("torch.nn.functional:mse_loss", "one number for each pixel"),
        ("torch:mean", "fails on crops of 16 pixels"),
        ("math:pi", "not callable"),
        ("operator:is_", "no attribute 'shape'"),
        ("operator:gt", "does not require grad"),
        (f"{__name__}:as_numpy", "Can't call numpy"),
    ],
)
def test_a_loss_that_cannot_be_learnt_from_is_refused_at_once(tmp_path, loss, said) -> None:
    with pytest.raises(JobError, match=said):
        Trainer(config(tmp_path, loss=loss))


def as_numpy(estimate, truth):
    return (estimate.numpy() - truth.numpy()) ** 2


@pytest.mark.parametrize("wrong", ["x = (", "x = 1 / 0"])
def test_a_loss_whose_module_fails_is_one_line(tmp_path, monkeypatch, wrong) -> None:
    (tmp_path / f"broken{len(wrong)}.py").write_text(wrong)
    monkeypatch.syspath_prepend(tmp_path)
    for name in (f"broken{len(wrong)}:loss", ":loss", ".broken:loss"):
        with pytest.raises(JobError, match="cannot be imported"):
            Trainer(config(tmp_path, loss=name))


def test_bounds_of_infinity_survive_a_checkpoint(tmp_path) -> None:
    made = config(tmp_path, clip=float("inf"), checkpoint_minutes=float("inf"), minutes=float("inf"))
    Trainer(made).save(tmp_path)
    assert TrainConfig(**average_of(tmp_path)[1]["config"]) == made


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path) -> None:
    trainer = Trainer(config(tmp_path))
    trainer.save(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        trainer.step = 7
        with pytest.raises(WriteError, match="free space"):
            trainer.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(tmp_path)[1]["step"] == 0


@pytest.mark.parametrize("deep", [{"channels": (8,) * 4, "crop": 24}, {"channels": (8,) * 6, "crop": 64}])
def test_a_network_that_is_too_deep_for_its_crops_or_for_filling_is_refused(tmp_path, deep) -> None:
    with pytest.raises(JobError, match=r"channels \(8, .*fewer channels"):
        Trainer(config(tmp_path, **deep))


def test_scores_that_a_killed_validation_left_behind_do_not_count(tmp_path) -> None:
    Journal(tmp_path).scores(1, {"a": 1.0, "b": 3.0}, {"a": 1.0}, "better")
    with (tmp_path / "scores.csv").open("a") as log:
        log.write("2,validation,a,0.5\n")
    assert Verdict.after(tmp_path, 2).best == 2.0


def test_steps_that_a_killed_run_told_of_are_told_once(cache, tmp_path) -> None:
    made, caches = config(tmp_path, steps=4, log_every=1), Caches(cache.gaps, None, None, None)

    def killed(trainer: Trainer, said: str) -> None:
        if trainer.step == 2:
            trainer.save(tmp_path)  # the last checkpoint
        if trainer.step == 3:
            raise KeyboardInterrupt

    trainer = Trainer(made)
    with pytest.raises(KeyboardInterrupt):
        _train(trainer, caches, killed)
    again = Trainer(made)
    again.restore(tmp_path)
    _train(again, caches, lambda trainer, said: None)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["step", "1", "2", "3", "4"]


def test_what_a_resumed_training_has_to_beat_is_what_it_had_reached(cache, tmp_path) -> None:
    _train(Trainer(config(tmp_path, steps=2)), cache, lambda *_: None)
    assert (tmp_path / "best").exists()
    for row in ("validation", "training"):  # a later validation that was far better
        with (tmp_path / "scores.csv").open("a") as file:
            file.write(f"2,{row},value/optical,0.01\n")
    verdict = Verdict.after(tmp_path, 2)
    assert verdict.best < 1
    assert Verdict.after(tmp_path, 1).best == float("inf"), "nothing was judged by then"
    assert Verdict.after(tmp_path / "none", 9).best == float("inf")


def test_degraded_frames_come_in_their_share_with_their_scalars(cache, tmp_path) -> None:
    told = np.array([[0, 1, 0, -0.5, 0]] * 4, np.float32)
    planes = np.zeros((4, len(FRAME_PLANES) + 1, SIZE, SIZE), np.float16)
    planes[:, [FRAME_PLANES.index("degraded"), -1]] = 1
    everywhere = np.ones((4, SIZE, SIZE), bool)
    flags = flags_of({"known": everywhere}, everywhere)
    frames = Cache(planes, flags, np.zeros((4, 2), np.float32), ["denoise"] * 4, told, FRAME_PLANES)
    both = Caches(cache.gaps, frames, None, frames)
    made = config(tmp_path, batch=400, restore_share=0.3, crop=16)
    batch = draw_batch(both, made, 0)
    is_frame = batch.scalars[:, 1] == 1
    assert 0.2 < is_frame.float().mean() < 0.4
    assert (batch.context[:, channel("degraded"), 0, 0] == is_frame.float()).all()
    assert "value/denoise" in validation_scores(Trainer(made).average, both, made)


def test_only_hidden_pixels_are_scored(cache, tmp_path) -> None:
    made = config(tmp_path)
    trainer = run(Trainer(made), cache, 2)
    batch = draw_batch(cache, made, 0)
    spoilt = type(batch)(batch.context, torch.where(batch.hidden > 0, batch.residual, 1e3), batch.hidden, batch.sigma,
                         batch.noise, batch.is_value, batch.scalars)  # fmt: skip
    loss, spoilt_loss = (edm_loss(trainer.model.eval(), b, made)[0] for b in (batch, spoilt))
    torch.testing.assert_close(spoilt_loss, loss)


def test_the_rate_warms_up_and_ends_low(tmp_path) -> None:
    trainer = Trainer(config(tmp_path))
    assert trainer.rate == pytest.approx(1e-3, rel=0.01)
    trainer.step = trainer.since = 60
    assert trainer.rate == pytest.approx(trainer.config.least_rate)
    assert trainer.progress == 1
    gentle = Trainer(config(tmp_path, learning_rate=1e-6, warm_up=0))
    gentle.step = 60
    assert gentle.rate == pytest.approx(1e-6), "a rate below the usual least one is not raised to it"


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 60}, {"batch": 0}, {"dtype": "float16"}, {"lerning_rate": 1e-3}, {"channels": ()},
        {"channels": (0, 8)}, {"log_sigma": (-0.5, -1.0)}, {"log_sigma": (float("nan"), 1.0)}, {"seed": -1},
        {"learning_rate": float("inf")},
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused(tmp_path, wrong) -> None:
    with pytest.raises(ValidationError):
        config(tmp_path, **wrong)


def test_the_command_line_of_make_train_says_what_it_lacks(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("GEODIFF_DATA", raising=False)
    for module, words in ((training, ["--work"]), (shipping, ["--out", str(tmp_path / "model"), "--checkpoint"])):
        monkeypatch.setattr(sys, "argv", ["x", *words, str(tmp_path / "none")])
        with pytest.raises(SystemExit) as left:
            module.main()
        assert left.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_resuming_from_nothing_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
@pytest.mark.parametrize("fold", [1, 2])
def test_a_checkpoint_becomes_a_model_folder(cache, tmp_path, fold) -> None:
    trainer = run(Trainer(config(tmp_path, fold=fold)), cache, 3)
    trainer.save(tmp_path)
    ship(tmp_path, tmp_path / "model", text="Scores.\n")
    check_folder(tmp_path / "model")
    network, facts = average_of(tmp_path)
    assert facts["step"] == 3
    context = torch.randn(1, len(CHANNELS), 16, 16)
    with torch.inference_mode():
        one, two = (n(context[:, :1], context, torch.zeros(1))[0] for n in (network, trainer.average.eval()))
    torch.testing.assert_close(one, two)
    assert open_denoiser(tmp_path / "model").network.network.fold == fold


def test_a_crop_is_put_together_as_it_was_taken_apart(cache) -> None:
    context, residual, hidden = cache.gaps.take(1, 8, 16, 32)
    np.testing.assert_array_equal(context[channel("date1")], residual)
    np.testing.assert_array_equal(context[channel("known")], ~hidden)
    assert context[channel("date1_known")].all()
    assert not context[channel("guide_known")].any()
