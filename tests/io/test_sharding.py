"""Laws of shards: a large product is few objects with the same numbers, and no two writers share one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from geodiff.errors import GridError
from geodiff.io import zarr as stores
from geodiff.io.contents import Numbers, OutputArray
from geodiff.io.datasets import Plan
from geodiff.io.store import write_block
from geodiff.lattice import Window


def _plan(values: np.ndarray, chunk: int) -> Plan:
    dims = ("time", "y", "x")[-values.ndim :]
    chunks = (*(1 for _ in dims[:-2]), chunk, chunk)
    return Plan((OutputArray("v", dims, values.shape, values.dtype, {}, chunks, Numbers(values), exact=True),), {})


def _written(folder: Path, values: np.ndarray, chunk: int) -> zarr.Array:
    from zarr.storage import LocalStore

    folder.mkdir()
    stores._write(_plan(values, chunk), LocalStore(folder), str(folder), 3)
    return zarr.open_group(str(folder), mode="r")["v"]


def test_many_chunks_are_kept_in_few_shards_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(2 * 70 * 90, dtype="i4").reshape(2, 70, 90)
    plain = _written(tmp_path / "plain", values, 4)
    monkeypatch.setattr(stores, "_MOST_CHUNKS", 100)
    sharded = _written(tmp_path / "sharded", values, 4)
    assert plain.shards is None
    assert sharded.shards == (1, 32, 32)
    assert sharded.chunks == plain.chunks == (1, 4, 4)
    assert np.array_equal(sharded[...], values)
    files = {kind: sum(p.is_file() for p in (tmp_path / kind / "v").rglob("*")) for kind in ("plain", "sharded")}
    assert files["sharded"] == 1 + 2 * 3 * 3
    assert files["plain"] == 1 + 2 * 18 * 23


def test_a_block_is_whole_shards(tmp_path: Path) -> None:
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(1, 1, 64, 64), chunks=(1, 1, 8, 8), shards=(1, 1, 32, 32), dtype="i2"
    )
    write_block(array, 0, Window(32, 0, 32, 64), np.ones((1, 32, 64), "i2"))
    assert array[...].sum() == 32 * 64
    with pytest.raises(GridError, match="chunks of 32 rows"):
        write_block(array, 0, Window(8, 0, 32, 64), np.ones((1, 32, 64), "i2"))
