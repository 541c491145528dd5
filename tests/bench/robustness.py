"""Fill every odd and broken file of GEODIFF_DATA/robustness: `python tests/bench/robustness.py`.

Each file is filled in a forked child with a time limit of 60 s and a memory limit of 2 GiB above the parent's. Anything
but a product or a one-line refusal (exit 2) is listed.
"""

from __future__ import annotations

import collections
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import geodiff
from geodiff import pipeline  # noqa: F401 - imported once, in the parent
from geodiff.errors import GeodiffError

LIMIT_SECONDS, LIMIT_BYTES = 60, 2 << 30


def _target(source: Path, folder: Path) -> str:
    return str(folder / "filled.zarr") if source.suffix in {".nc", ".h5"} else str(folder / "filled.tif")


def _fill(source: Path, folder: Path) -> tuple[int, str]:
    try:
        record = geodiff.fill(source, _target(source, folder), filler="laplace")
    except GeodiffError as error:
        message = str(error)
        return error.exit_code, message if "\n" not in message else f"NOT ONE LINE: {message}"
    except BaseException as error:  # noqa: BLE001 - that nothing else comes out is what is measured
        return 99, f"{type(error).__name__}: {error}"
    return 40 + record.exit_code, record.status


def _in_child(source: Path) -> tuple[int, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(LIMIT_SECONDS)
        with tempfile.TemporaryDirectory() as folder:
            code, text = _fill(source, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(writer, f"{code}|{peak:.0f}|{text[:400]}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return 98, f"killed by signal {os.WTERMSIG(status)}"
    code, peak, text = said.split("|", 2)
    if float(peak) * 2**20 > LIMIT_BYTES:
        return 97, f"{peak} MiB: {text}"
    return int(code), text


def main() -> int:
    """Print a table of outcomes; 1 where a file ended otherwise than in a product or a clear refusal."""
    folder = Path(os.environ["GEODIFF_DATA"]) / "robustness"
    outcomes: collections.Counter[str] = collections.Counter()
    bad, slowest = [], (0.0, "")
    for source in sorted(p for p in folder.rglob("*") if p.is_file()):
        began = time.monotonic()
        code, text = _in_child(source)
        slowest = max(slowest, (time.monotonic() - began, source.name))
        kinds = {40: f"product ({text})", 43: "product, some blocks failed", 2: "refused (exit 2)"}
        kind = kinds.get(code, f"BAD {code}")
        outcomes[kind] += 1
        if code not in (40, 2) or text.startswith("NOT ONE LINE"):
            bad.append(f"{source.relative_to(folder)}: {code} {text}")
        if "-v" in sys.argv:
            print(f"{source.relative_to(folder)}: {kind}: {text}", flush=True)
    for kind, count in outcomes.most_common():
        print(f"{count:5d}  {kind}")
    print(f"slowest: {slowest[1]}, {slowest[0]:.1f} s")
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
