"""From a checkpoint to a model folder: float16 safetensors, configuration, calibration, card.

    python -m geodiff.diffusion.shipping --checkpoint WORK --out FOLDER [--count 24]

writes the folder, scores it on the validation part, calibrates it and writes its card.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodiff.diffusion.data import SHARES
from geodiff.diffusion.folder import (
    Calibration,
    assert_replaceable,
    check_folder,
    find_folder,
    front_matter,
    put_in_place,
    weights_path,
)
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.trainconfig import TrainConfig
from geodiff.diffusion.training import part_of, read_checkpoint
from geodiff.errors import GeodiffError

__all__ = ["average_of", "card", "copied", "gflop", "ship", "ship_scored", "user_card", "write_card"]

_AGAIN = "## Calibrated again"


def average_of(checkpoint: Path) -> tuple[GapFillUNet, dict[str, Any]]:
    """The averaged network of a checkpoint folder, and its facts."""
    tensors, facts = read_checkpoint(checkpoint)
    config = TrainConfig(**facts["config"])
    layout = facts.get("layout") or {"channels": config.channels, "blocks": config.blocks}
    network = GapFillUNet(**layout)
    network.load_state_dict(part_of(tensors, "ema."))
    return network.eval(), facts


def ship(checkpoint: Path, folder: Path, *, calibration: Calibration | None = None, text: str = "") -> None:
    """Write the checkpoint's averaged network as a model folder; replaces what is there."""
    from geodiff.diffusion.pipeline import GapFillPipeline
    from geodiff.diffusion.sampling import SAMPLERS

    network, facts = average_of(checkpoint)
    stored = calibration or Calibration()
    pipeline = GapFillPipeline(network, SAMPLERS[stored.sampler].build(stored.steps), stored.as_json())
    beside = folder.with_name(f".{folder.name}.next")
    shutil.rmtree(beside, ignore_errors=True)
    pipeline.save_pretrained(beside)
    weights_path(beside).chmod(0o644)  # safetensors writes for the owner alone
    write_card(
        beside, text or f"Trained for {facts['step']} steps; not scored, and its intervals are not calibrated.\n"
    )
    put_in_place(beside, folder)


def ship_scored(checkpoint: Path, folder: Path, *, count: int = 24, root: Path | None = None) -> str:
    """Ship with a calibration and a card from the validation part; returns the table of scores."""
    from geodiff.diffusion import evaluation as judging
    from geodiff.diffusion import restoration_evaluation as restoring
    from geodiff.diffusion.denoiser import open_denoiser

    draft = folder.with_name(f".{folder.name}.draft")
    ship(checkpoint, draft)
    denoiser = open_denoiser(draft)
    drawn = judging.drawn_examples(denoiser, count, root=root)
    outcomes = [judging.outcome_of(one) for one in drawn]
    gaps = judging.calibrate(outcomes)
    restored = restoring.evaluate_restoration(denoiser, count, root=root)
    calibration = restoring.calibrate_restoration(restored, gaps)
    table = judging.as_markdown(judging.summarise(outcomes))
    frames = judging.as_markdown(restoring.summarise_restoration(restored))
    ship(checkpoint, folder, calibration=calibration, text=card(checkpoint, calibration, table, frames, len(outcomes)))
    shutil.rmtree(draft)
    return f"{table}\n\n{frames}"


def card(checkpoint: Path, calibration: Calibration, table: str, frames: str, examples: int) -> str:
    """The text of the card."""
    network, facts = average_of(checkpoint)
    config = TrainConfig(**facts["config"])
    shares = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in SHARES.items())
    return (
        Path(__file__)
        .with_name("card.md")
        .read_text()
        .format(
            parameters=sum(p.numel() for p in network.parameters()),
            channels="/".join(map(str, network.config.channels)), stem=_stem(network.config.fold),
            gflop=gflop(network), steps=facts["step"], minutes=facts["seconds"] / 60, batch=config.batch,
            crop=config.crop, rate=config.learning_rate, ema=config.ema, patches=config.patches, shares=shares,
            sampler=calibration.sampler, sampling_steps=calibration.steps, examples=examples, table=table,
            frames=frames, frame_patches=config.frames, restore_share=100 * config.restore_share * bool(config.frames),
            restore_factors=_listed(calibration.restore_factors),
            restore_spread=_listed(calibration.restore_spread),
            factors=_listed(calibration.factors), spread=_listed(calibration.spread),
        )
    )  # fmt: skip


def _stem(fold: int) -> str:
    return "at full resolution" if fold == 1 else f"{fold} x {fold} pixel-unshuffle stem"


def user_card(
    checkpoint: Path, calibration: Calibration, paths: Sequence[str], before: float | None, after: float, examples: int
) -> str:
    """The card of a model that was trained on a user's rasters."""
    network, facts = average_of(checkpoint)
    start = facts["config"].get("begin_from")
    was = "" if before is None else f" The model it started from has {before:.3f} there."
    parameters = sum(p.numel() for p in network.parameters())
    return (
        f"# A geodiff model\n\n"
        f"`GapFillUNet` with {parameters:,} parameters, trained for {facts['step']:,} "
        f"steps ({facts['seconds'] / 60:.0f} minutes){f', from {Path(start).name}' if start else ''}.\n\n"
        f"Learnt from: {', '.join(Path(p).name for p in paths)}. Their east quarter was set aside.\n\n"
        f"On {examples} patches of that quarter the RMSE of the value is {after:.3f} of kriging's.{was}\n\n"
        f"Standard errors are multiplied by {_listed(calibration.factors)} by distance to data, departures of "
        f"realisations by {_listed(calibration.spread)}; for {calibration.sampler}, {calibration.steps} steps.\n"
    )


def copied(
    model: str | Path,
    out: Path,
    *,
    calibration: Calibration | None = None,
    measured_on: str = "",
    overwrite: bool = False,
) -> Path:
    """A model folder at another place, whole or not at all; with another calibration where one is given.

    Its card says then what it was measured on, in words: those before would speak of factors that it no longer has.
    """
    folder = find_folder(model)
    check_folder(folder)
    assert_replaceable(out, overwrite=overwrite)
    beside = out.with_name(f".{out.name}.next")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    if calibration is not None:
        path = beside / "model_index.json"
        facts = {**json.loads(path.read_text()), "calibration": calibration.as_json()}
        path.write_text(json.dumps(facts, indent=2) + "\n")
        _recalibrated(beside / "README.md", calibration, measured_on)
    put_in_place(beside, out)
    return out


def _recalibrated(card: Path, calibration: Calibration, measured_on: str) -> None:
    was = card.read_text().partition(_AGAIN)[0].rstrip() if card.is_file() else ""
    card.write_text(
        f"{was}\n\n{_AGAIN}\nOn {measured_on}. By distance to data the standard error is multiplied by "
        f"{_listed(calibration.factors)}, departures of realisations by {_listed(calibration.spread)}; for "
        f"{calibration.sampler}, {calibration.steps} steps. They take the place of the factors above, "
        "with which all that is said there of intervals and draws was measured.\n"
    )


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{n:.2f}" for n in numbers)


def gflop(network: GapFillUNet) -> float:
    """Floating-point operations of one window, in 1e9."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        channels = len(network.config.context)
        network(torch.zeros(1, 1, 128, 128), torch.zeros(1, channels, 128, 128), torch.zeros(1))
    return float(counter.get_total_flops()) / 1e9


def write_card(folder: Path, text: str) -> None:
    """The card with the hash of the weights in its head."""
    tags = "tags: [inpainting, remote-sensing, gap-filling, uncertainty]"
    head = ["license: apache-2.0", "pipeline_tag: image-to-image", tags]
    (folder / "README.md").write_text(front_matter(folder, head) + "\n" + text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="validation patches of each kind")
    given = parser.parse_args()
    try:
        print(ship_scored(given.checkpoint, given.out, count=given.count))  # noqa: T201 (a command line)
    except GeodiffError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
