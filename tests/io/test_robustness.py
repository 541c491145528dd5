"""Every odd or broken file ends in a raster or in one line: no other error, no hang, no flood of memory."""

import json
import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from geodiff.errors import InputError, SourceError
from geodiff.io import open_raster
from geodiff.lattice import Window

SECONDS = 60
BYTES = 2**30


def test_every_odd_file_is_opened_or_refused_in_one_line(data_dir: Path) -> None:
    files = sorted(path for path in (data_dir / "robustness").rglob("*") if path.is_file())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:  # other tests' memory is not these files'
        ends, peak = own.submit(every_ending, files).result()
    print(dict(ends))
    assert len(files) > 200
    assert set(ends) <= {"opened", "SourceError", "EncodingError", "GridError"}
    assert ends["opened"] > 0.7 * len(files)
    assert peak < BYTES


def every_ending(files: list[Path]) -> tuple[Counter[str], int]:
    """Give how each file ends, and the most memory in bytes that this process held (getrusage: also its parent's)."""
    ends = Counter(ending(path) for path in files)
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return ends, int(facts["VmHWM"].split()[0]) * 1024


def ending(path: Path) -> str:
    try:
        with at_most(SECONDS, path):
            read_first_windows(path)
    except InputError as error:
        return type(error).__name__ if one_line(error, path) else f"unclear: {error}"
    return "opened"


def one_line(error: InputError, path: Path) -> bool:
    return "\n" not in str(error) and path.name in str(error) and error.exit_code == 2


def read_first_windows(path: Path) -> None:
    for variable in open_raster(str(path)).variables:
        _, bands, rows, columns = variable.shape
        window = Window(0, 0, min(256, rows), min(256, columns))
        values = variable.reader.read(0, window)
        assert values.shape == (bands, *window.shape)
        assert values.dtype == variable.dtype
        valid = variable.reader.valid(0, window)
        assert valid is None or valid.shape == window.shape


@contextmanager
def at_most(seconds: int, path: Path) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"{path} is not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def long_axis(place: Path, kind: str) -> Path:
    """A file of some kilobytes with 10^9 dates, nothing of which is stored."""
    path, dates, side = place / f"a.{kind}", 10**9, 8
    if kind == "zarr":
        store = zarr.open_group(str(path), mode="w", zarr_format=2)
        time = store.create_array("time", shape=(dates,), chunks=(10**6,), dtype="f8")
        time.attrs["_ARRAY_DIMENSIONS"] = ["time"]
        values = store.create_array("v", shape=(dates, side, side), chunks=(1, side, side), dtype="f4")
        values.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
        return path
    with h5py.File(path, "w") as file:
        time = file.create_dataset("time", (dates,), "f8", chunks=(10**6,))
        time.make_scale("time")
        values = file.create_dataset("v", (dates, side, side), "f4", chunks=(1, side, side))
        values.dims[0].attach_scale(time)
    return path


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_an_axis_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match="declares 1,000,000,000 places along time"):
        open_raster(str(long_axis(tmp_path, kind)))


def test_chunks_of_no_size_and_names_of_dots_are_told(tmp_path: Path) -> None:
    (tmp_path / "zero.zarr" / "v").mkdir(parents=True)
    (tmp_path / "zero.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    facts = {"zarr_format": 2, "shape": [8, 8], "chunks": [0, 8], "dtype": "<u2", "compressor": None, "fill_value": 0}
    (tmp_path / "zero.zarr" / "v" / ".zarray").write_text(json.dumps({**facts, "order": "C", "filters": None}))
    with pytest.raises(SourceError, match="chunks of no size"):
        open_raster(str(tmp_path / "zero.zarr"))
    with h5py.File(tmp_path / "dots.h5", "w") as file:
        file[b".."] = np.arange(64, dtype="u2").reshape(8, 8)
    with pytest.raises(SourceError, match="no store can hold"):
        open_raster(str(tmp_path / "dots.h5"))
