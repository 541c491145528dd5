"""Quality and speed of the shipped network with 0, 25 and 50 % of its inner channels removed.

    python tests/bench/bench_pruning.py [--count 6] [--minutes 0] [--json OUT]

RMSE of the value over the harmonic fill's and fair CRPS of 8 draws over its MAE on patches of the validation part
(GEODIFF_DATA), with 95 % bootstrap intervals; seconds of one network call on one thread, float32. With --minutes each
pruned network is trained further for that long first.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.evaluation import evaluate, summarise
from geodiff.diffusion.exporting import prune_folder
from geodiff.diffusion.fields import CHANNELS
from geodiff.diffusion.shipping import ship
from geodiff.diffusion.trainconfig import read_config
from geodiff.diffusion.training import train

FIGURES = ("RMSE value / prior", "CRPS 8 draws / MAE prior")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6, help="patches of each kind")
    parser.add_argument("--minutes", type=float, default=0, help="further training of each pruned network")
    parser.add_argument("--timed", nargs="+", metavar="MODEL", help="only time these models, in turn, and stop")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", ".*deprecated.*", FutureWarning)
    torch.set_num_threads(1)
    if given.timed:
        timed(given.timed)
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.0, 0.25, 0.5):
            model = Path(folder) / f"pruned-{share}"
            facts = prune_folder("default", model, share)
            if given.minutes and share:
                model = further(model, given.minutes)
            denoiser = open_denoiser(model, device="cpu", dtype="float32")
            table = summarise(evaluate(denoiser, given.count))["all"]
            row = {name: table[name] for name in FIGURES} | {"milliseconds": milliseconds(denoiser.network), **facts}
            rows[f"{share:.0%}"] = row
            shown = "  ".join(f"{name} {row[name][0]:.3f} ({row[name][1]:.3f}-{row[name][2]:.3f})" for name in FIGURES)
            print(f"{share:4.0%}  {facts['parameters']:>9,} parameters  {facts['gflop']:.2f} GFLOP  "
                  f"{row['milliseconds']:.0f} ms  {shown}", flush=True)  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def further(model: Path, minutes: float) -> Path:
    """The pruned network trained on; learning rate and warm-up as for fine-tuning."""
    work, out = model.with_name(f"{model.name}.work"), model.with_name(f"{model.name}.trained")
    config = read_config(
        None, work=work, begin_from=model, minutes=minutes, patches=1500, frames=400, validation_patches=0,
        learning_rate=3e-4, warm_up=50, checkpoint_minutes=1000,
    )  # fmt: skip
    train(config)
    ship(work, out)
    return out


def timed(models: list[str], rounds: int = 7) -> None:
    """Print each model's median time over rounds in which all take turns, and its ratio to the first one's."""
    networks = [open_denoiser(name, device="cpu", dtype="float32").network for name in models]
    times = np.array([[milliseconds(network) for network in networks] for _ in range(rounds)])
    for place, name in enumerate(models):
        ratio = np.quantile(times[:, place] / times[:, 0], (0.5, 0.0, 1.0))
        count = sum(p.numel() for p in networks[place].parameters())
        print(f"{name}  {count:,} parameters  {np.median(times[:, place]):.0f} ms  "
              f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f}) of the first")  # fmt: skip


def milliseconds(network) -> float:
    """Median time of one 128 x 128 window."""
    context = torch.zeros(1, len(CHANNELS), 128, 128).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(12):
            began = time.perf_counter()
            network(context[:, :1], context, torch.zeros(1))
            times.append(time.perf_counter() - began)
    return float(np.median(times[2:]) * 1e3)


if __name__ == "__main__":
    main()
