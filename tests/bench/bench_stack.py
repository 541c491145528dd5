"""Memory and time of a stack of dates: what the plan says, what it took.

    python tests/bench/bench_stack.py --dates 100 --size 1024 --filler linear-time
    python tests/bench/bench_stack.py --dates 40 --size 512 --filler linear-time --append
    python tests/bench/bench_stack.py --dates 60 --bands 10 --filler auto --peer

Fills one date of a stack, the others are context; with --append, all dates but the last are filled first and the
figures are those of adding it; with --peer, beside xarray's `interpolate_na("time")`. Each run is a process of its own,
whose peak is its own. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr


def write_stack(path: Path, dates: int, size: int, bands: int = 1, seed: int = 0) -> Path:
    """Dates of a drifting field with clouds over three tenths, one chunk a date, band and 256 x 256 pixels."""
    rng = np.random.default_rng(seed)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    names = ("time", "y", "x") if bands == 1 else ("time", "band", "y", "x")
    inner = (size, size) if bands == 1 else (bands, size, size)
    chunks = (1,) * (len(inner) - 1) + (256, 256)
    stack = group.create_array("v", shape=(dates, *inner), chunks=chunks, dtype="f4", dimension_names=names)
    time = group.create_array("time", shape=(dates,), dtype="i4", dimension_names=("time",))
    time[:] = np.arange(dates)
    time.attrs["units"] = "days since 2024-01-01"
    y, x = np.mgrid[:size, :size]
    for date in range(dates):
        field = 280 + 5 * np.sin((y + date) / 60) + 4 * np.cos((x - date) / 45) + rng.normal(0, 0.2, inner)
        clouds = np.kron(rng.random((size // 32, size // 32)) < 0.3, np.ones((32, 32), bool))
        stack[date] = np.where(clouds, np.nan, field).astype("f4")
    return path


_RUN = """
import json, sys, time
from geodiff.job import FillJob
from geodiff.pipeline import plan, run
job = FillJob.build(**json.loads(sys.argv[1]))
began = time.time()
record = run(job, quiet=True)
print(json.dumps({"peak": record.peak_memory_bytes, "seconds": round(time.time() - began, 1),
    "blocks": record.blocks, "filled": sum(f["filled"] for f in record.variables.values())}))
"""


_PEER = """
import json, resource, sys, time
import xarray
began = time.time()
with xarray.open_zarr(sys.argv[1], consolidated=False, chunks=None) as source:
    filled = source["v"].interpolate_na("time").isel(time=int(sys.argv[2])).to_dataset(name="v")
    filled.to_zarr(sys.argv[1] + ".filled", consolidated=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peer_peak": peak, "peer_seconds": round(time.time() - began, 1)}))
"""


def measured(job: dict[str, object]) -> dict[str, float]:
    """Peak bytes and seconds of one run in a process of its own."""
    return _told(_RUN, json.dumps(job))


def _told(code: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def planned(job: dict[str, object]) -> int:
    """Bytes that the plan allows a process."""
    from geodiff.blocks import filler_of
    from geodiff.job import FillJob
    from geodiff.plan import Means
    from geodiff.scene import open_scene

    made = FillJob.build(**job)
    return Means.of(open_scene(made), made, filler_of(made)).memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dates", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--filler", default="linear-time")
    parser.add_argument("--bands", type=int, default=1)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--peer", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "stack.zarr"
        job = {"source": str(source), "target": str(folder / "filled.zarr"), "filler": chosen.filler, "members": 0}
        if chosen.append:
            job["append"] = True
            write_stack(source, chosen.dates - 1, chosen.size, chosen.bands)
            first = measured(job)
            write_stack(source, chosen.dates, chosen.size, chosen.bands)
            facts = {**measured(job), "first_seconds": first["seconds"], "first_blocks": first["blocks"]}
        else:
            write_stack(source, chosen.dates, chosen.size, chosen.bands)
            job["dates"] = "2024-02-01"
            facts = measured(job)
        if chosen.peer:
            facts |= _told(_PEER, str(source), "31")  # the same date, the first of February
        stack = chosen.dates * chosen.bands * chosen.size**2 * 4
        print(json.dumps({**vars(chosen), **facts, "planned": planned(job), "stack": stack}))


if __name__ == "__main__":
    main()
