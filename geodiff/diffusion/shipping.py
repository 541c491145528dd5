"""From a checkpoint to a model folder: float16 safetensors, configuration, calibration, card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from geodiff.diffusion.folder import Calibration, front_matter, weights_path
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.training import TrainConfig, part_of, read_checkpoint

__all__ = ["average_of", "ship", "write_card"]


def average_of(checkpoint: Path) -> tuple[GapFillUNet, dict[str, Any]]:
    """The averaged network of a checkpoint folder, and its facts."""
    tensors, facts = read_checkpoint(checkpoint)
    config = TrainConfig(**facts["config"])
    network = GapFillUNet(channels=config.channels, blocks=config.blocks)
    network.load_state_dict(part_of(tensors, "ema."))
    return network.eval(), facts


def ship(checkpoint: Path, folder: Path, *, calibration: Calibration | None = None, card: str = "") -> None:
    """Write the checkpoint's averaged network as a model folder; replaces what is there."""
    from geodiff.diffusion.pipeline import GapFillPipeline
    from geodiff.diffusion.sampling import SAMPLERS

    network, facts = average_of(checkpoint)
    pipeline = GapFillPipeline(network, SAMPLERS["edm-dpm2m"].build(10), (calibration or Calibration()).as_json())
    beside = folder.with_name(f".{folder.name}.next")
    shutil.rmtree(beside, ignore_errors=True)
    pipeline.save_pretrained(beside)
    weights_path(beside).chmod(0o644)  # safetensors writes for the owner alone
    write_card(beside, card or f"Trained for {facts['step']} steps; scores and calibration are still to come.\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def write_card(folder: Path, text: str) -> None:
    """The card with the hash of the weights in its head."""
    head = [
        "license: apache-2.0",
        "pipeline_tag: image-to-image",
        "tags: [inpainting, remote-sensing, gap-filling, uncertainty]",
    ]
    (folder / "README.md").write_text(front_matter(folder, head) + "\n" + text)
