"""A model folder looked at, and a pruned one made from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from geodiff.diffusion.folder import (
    assert_replaceable,
    check_folder,
    find_folder,
    model_hash,
    put_in_place,
    read_calibration,
    read_layout,
    weights_path,
)

__all__ = ["describe", "prune_folder"]


def describe(model: str) -> dict[str, Any]:
    """What a model is; raises ModelError where its weights are not those its card names."""
    from geodiff.diffusion.denoiser import open_denoiser

    folder = find_folder(model)
    check_folder(folder)
    network, layout = open_denoiser(model, device="cpu", dtype="float32").network, read_layout(folder)
    stored, card = read_calibration(folder), folder / "README.md"
    return {
        "folder": str(folder),
        "parameters": sum(p.numel() for p in network.parameters()),
        "channels": layout["channels"],
        "inner": layout.get("inner") or layout["channels"],
        "bytes": weights_path(folder).stat().st_size,
        "sha256": model_hash(folder),
        "sampler": stored.sampler,
        "steps": stored.steps,
        "factors": list(stored.factors),
        "spread": list(stored.spread),
        "card": card.read_text() if card.exists() else "",
    }


def prune_folder(model: str, out: Path, share: float, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a pruned copy of a model; returns its size and cost beside the original's."""
    from geodiff.diffusion.pipeline import GapFillPipeline
    from geodiff.diffusion.pruning import pruned
    from geodiff.diffusion.shipping import gflop, write_card

    assert_replaceable(out, overwrite=overwrite)
    pipeline = GapFillPipeline.from_pretrained(model)
    network = pruned(pipeline.unet, share)
    beside = out.with_name(f".{out.name}.next")
    shutil.rmtree(beside, ignore_errors=True)
    GapFillPipeline(network, pipeline.scheduler, pipeline.config.get("calibration")).save_pretrained(beside)
    weights_path(beside).chmod(0o644)
    count, before = (sum(p.numel() for p in n.parameters()) for n in (network, pipeline.unet))
    text = f"{share:.0%} of the inner channels of {model!r} were removed; it was not trained since.\n"
    write_card(beside, f"# A pruned geodiff model\n\n{text}")
    put_in_place(beside, out)
    return {"parameters": count, "before": before, "gflop": gflop(network), "gflop_before": gflop(pipeline.unet)}
