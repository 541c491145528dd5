"""Laws of `--append`: steps give what one run gives, only what is affected is filled, a kill leaves a product."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from scipy.ndimage import uniform_filter

import geodiff
from geodiff import fillers
from geodiff.appending import kept_beside, load_kept, origins
from geodiff.beside import alone
from geodiff.errors import GateError, JobError, TargetError
from geodiff.fillers import Filled, FillerSettings, Fitted, Patch, SceneSample
from geodiff.io import zarr as stores
from geodiff.job import FillJob
from geodiff.pipeline import plan

ROWS, COLUMNS = 60, 300


@dataclass(frozen=True)
class Around:
    """A quick filler that looks at all there is: the nearest dates, the low-resolution fill, what its fit learnt."""

    members: int = 0
    context_dates: int = 4
    name: str = "around"
    halo: int = 8

    @classmethod
    def configured(cls, settings: FillerSettings) -> Around:
        return cls(settings.members)

    def fit(self, sample: SceneSample) -> Fitted:
        shifts = [
            float((t.truth - t.patch.coarse[list(t.patch.targets)][..., *t.patch.core]).mean()) for t in sample.trials
        ]
        return Fitted(self.name, {"shift": float(np.mean(shifts or [0.0]))})

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        return [self._one(patch, fitted) for patch in patches]

    def _one(self, patch: Patch, fitted: Fitted) -> Filled:
        share = patch.known.mean(axis=(0, 2, 3))[:, None, None].astype("f4")
        blurred = uniform_filter(patch.values.sum(axis=0), (1, 9, 9)) + patch.coarse.mean(axis=0) * share
        value = (blurred + np.float32(fitted.facts["shift"]))[None, :, *patch.core]
        members = np.stack([value + i for i in range(self.members)]) if self.members else None
        return Filled(value, np.full_like(value, 0.3), members, np.full(value.shape, 100, "u1"))


@pytest.fixture(autouse=True)
def around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fillers, "_registered", lambda: {"around": SimpleNamespace(load=lambda: Around)})


def _values(day: int) -> np.ndarray:
    """A smooth field that drifts, with clouds of its own each day; two chunks wide."""
    rng = np.random.default_rng(day)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    field = 285 + 4 * np.sin((y + 3 * day) / 40) + 3 * np.cos(x / 31) + 0.2 * day + rng.normal(0, 0.1, (ROWS, COLUMNS))
    for _ in range(3):
        row, column = rng.integers(0, ROWS), rng.integers(0, COLUMNS)
        field[(y - row) ** 2 + (x - column) ** 2 < 10**2] = np.nan
    return field.astype("f4")


def _cube(path: Path, days: list[int], **changed: np.ndarray) -> Path:
    """A CF cube of those days; `day7=...` replaces a day's values."""
    values = np.stack([changed.get(f"day{day}", _values(day)) for day in days])
    attributes = {"units": "K", "standard_name": "sea_surface_temperature"}
    dataset = xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, attributes)},
        {
            "time": ("time", np.array(days, "i4"), {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", 60 - 0.01 * np.arange(ROWS), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 0.01 * np.arange(COLUMNS), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    if path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if path.suffix == ".nc":
        dataset.to_netcdf(path, engine="h5netcdf")
    else:
        dataset.to_zarr(path, zarr_format=3, consolidated=False)
    return path


def _digests(target: Path) -> dict[str, str]:
    files = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
    return {str(p.relative_to(target)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _fill(source: Path, target: Path, **options: Any) -> geodiff.RunRecord:
    return geodiff.fill(source, target, **{"filler": "around", **options})


def _with_the_fit_of(target: Path, folder: Path) -> Path:
    """A target that is not there yet, beside a copy of another one's fit."""
    folder.mkdir()
    shutil.copytree(kept_beside(str(target)), folder / f"{target.stem}.geodiff-fit.zarr")
    return folder / target.name


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".zarr", {"members": 2}),
        (".zarr", {"quantiles": (0.1, 0.9), "buffer": 3, "zarr_format": 2}),
        (".nc", {"max_error": 1.0}),
    ],
)
def test_steps_give_the_bytes_of_one_run_with_the_same_fit(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    source, target = tmp_path / "sst.zarr", tmp_path / f"filled{suffix}"
    for days in ([3, 4, 5, 6], [3, 4, 5, 6, 7], [1, 3, 4, 5, 6, 7, 9]):  # at the end, then also before the first
        _cube(source, days)
        _fill(source, target, append=True, **options)
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, whole, append=True, **options)
    assert _digests(target) == _digests(whole)
    assert xr.open_dataset(target, engine=None if suffix == ".nc" else "zarr").sizes["time"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("filler", ["auto", "spacetime", "regression", "harmonic", "dineof"])
def test_steps_give_the_bytes_of_one_run_with_our_own_fillers(tmp_path: Path, filler: str) -> None:
    source, target = tmp_path / "sst.zarr", tmp_path / "filled.zarr"
    options = {"filler": filler, "members": 1 if filler == "auto" else 0, "steps": 4}
    for days in ([3, 4, 6], [3, 4, 5, 6, 7]):
        _cube(source, days)
        _fill(source, target, append=True, **options)
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, whole, append=True, **options)
    assert _digests(target) == _digests(whole)


def test_only_new_dates_and_those_with_new_neighbours_are_filled(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    first = _fill(source, target, filler="laplace", append=True)
    _cube(source, [1, 2, 3, 4])
    later = _fill(source, target, filler="laplace", append=True)
    assert (first.status, later.status) == ("done", "done")
    assert 0 < later.blocks == _blocks_of(source, [3])  # no other date is context to `laplace`
    facts = later.variables["sst"]
    assert facts["filled"] == facts["to_fill"] - facts["refused"]  # of all dates


def test_the_plan_says_why_a_short_product_is_filled_again(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, append=True)
    _cube(source, [1, 2, 3, 4])
    planned = plan(FillJob.build(source=str(source), target=str(target), filler="around", append=True))
    assert {block.date for block in planned.blocks} == {0, 1, 2, 3}
    assert "the filler looks at 4 dates, more than the 3 there were" in str(planned)


def _blocks_of(source: Path, dates: list[int]) -> int:
    whole = plan(FillJob.build(source=str(source), target=str(source.with_name("other.zarr")), filler="laplace"))
    return sum(block.date in dates for block in whole.blocks)


def test_a_late_date_refills_its_neighbours_and_no_more(tmp_path: Path) -> None:
    """The filler looks at the four nearest dates."""
    days, late = [*range(16)], 8
    source, target = _cube(tmp_path / "sst.zarr", [d for d in days if d != late]), tmp_path / "filled.zarr"
    _fill(source, target, append=True)
    _cube(source, days)
    planned = plan(FillJob.build(source=str(source), target=str(target), filler="around", append=True))
    assert {block.date for block in planned.blocks} == {6, 7, 8, 9, 10}
    assert "stay as they are" in str(planned)
    assert "those with another date among the 4 that the filler looks at" in str(planned)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_reprocessed_corner_refills_what_is_in_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    """Large products are sharded: of a shard some chunks stay and some are filled again."""
    monkeypatch.setattr(stores, "_MOST_CHUNKS", 1 if sharded else 4096)
    rows = 900
    rng = np.random.default_rng(0)
    values = rng.normal(280, 1, (2, rows, 300)).astype("f4")
    values[0, 40:60, 40:60] = values[0, 800:820, 40:60] = values[1, 40:60, 200:220] = np.nan

    def write(numbers: np.ndarray) -> None:
        shutil.rmtree(tmp_path / "sst.zarr", ignore_errors=True)
        times = ("time", np.array([0, 1], "i4"), {"units": "days since 2024-01-01"})
        xr.Dataset({"sst": (("time", "y", "x"), numbers)}, {"time": times}).to_zarr(
            tmp_path / "sst.zarr", zarr_format=3, consolidated=False
        )

    write(values)
    job = FillJob.build(source=f"{tmp_path}/sst.zarr", target=f"{tmp_path}/out.zarr", filler="laplace", append=True)
    _fill(tmp_path / "sst.zarr", tmp_path / "out.zarr", filler="laplace", append=True, block_size=256)
    values[0, 5, 5] += 1
    write(values)
    assert [(b.date, b.window.row) for b in plan(job).blocks] == [(0, 0)]
    _fill(tmp_path / "sst.zarr", tmp_path / "out.zarr", filler="laplace", append=True)
    whole = _with_the_fit_of(tmp_path / "out.zarr", tmp_path / "whole")
    _fill(tmp_path / "sst.zarr", whole, filler="laplace", append=True)
    assert _digests(tmp_path / "out.zarr") == _digests(whole)
    assert (zarr.open_group(whole)["sst"].shards is not None) == sharded
    unfilled = zarr.open_group(whole)["sst_source"][:] == fillers.UNFILLED
    assert not unfilled.any()


def test_a_date_that_sees_what_none_had_seen_is_appended(tmp_path: Path) -> None:
    """Then other pixels are land in every chunk and on every date, but the source is the one of before."""

    def clouded(day: int) -> np.ndarray:
        values = _values(day)
        values[20:24, ::30] = np.nan
        return values

    hidden = {f"day{day}": clouded(day) for day in (1, 2, 3)}
    target = tmp_path / "filled.zarr"
    _fill(_cube(tmp_path / "sst.zarr", [1, 2, 3], **hidden), target)
    source = _cube(tmp_path / "sst.zarr", [1, 2, 3, 4], **hidden)
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, target, append=True)
    _fill(source, whole, append=True)
    assert _digests(target) == _digests(whole)


def test_what_the_source_has_no_more_or_scales_otherwise_is_not_appended(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    both = xr.open_zarr(source, decode_cf=False, consolidated=False).load()
    both["chl"] = both["sst"] / 2
    both.to_zarr(source, mode="w", zarr_format=3, consolidated=False)
    _fill(source, target)
    before = _digests(target)
    with pytest.raises(TargetError, match="holds chl, which the source no longer has"):
        _fill(_cube(source, [1, 2, 3, 4]), target, append=True)
    both["chl"].attrs["scale_factor"] = 0.1  # the numbers of before, but their errors are others
    both.to_zarr(source, mode="w", zarr_format=3, consolidated=False)
    with pytest.raises(TargetError, match="holds chl as"):
        _fill(source, target, append=True)
    assert _digests(target) == before


def test_a_calendar_of_30_day_months_goes_on_past_its_february(tmp_path: Path) -> None:
    source, target = tmp_path / "sst.zarr", tmp_path / "filled.zarr"
    days = xr.open_zarr(_cube(tmp_path / "days.zarr", [56, 57, 58, 59, 60]), decode_times=False, consolidated=False)
    days["time"].attrs["calendar"] = "360_day"
    for until in (2, 5):
        days.isel(time=slice(until)).to_zarr(source, mode="w", zarr_format=3, consolidated=False)
        record = _fill(source, target, append=True)
    assert record.variables["sst"]["appended"]["new_dates"] == 3


def test_nothing_to_append_is_said_and_nothing_is_touched(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, filler="laplace")
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
    record = _fill(source, target, filler="laplace", append=True)
    assert (record.status, record.exit_code) == ("nothing to append", 0)
    assert before == {p: p.stat().st_mtime_ns for p in target.rglob("*")}


def test_another_jobs_target_is_left_alone(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, filler="laplace")
    _cube(source, [1, 2, 3, 4])
    before = _digests(target)
    with pytest.raises(TargetError, match="another job, with --filler laplace") as refused:
        _fill(source, target, filler="idw", append=True)
    assert refused.value.exit_code == 2
    with pytest.raises(TargetError, match="another job, without --nodata; append with the same options"):
        _fill(source, target, filler="laplace", nodata=-1.0, append=True)
    with pytest.raises(TargetError, match="holds 2 dates that the source no longer has"):
        _fill(_cube(source, [3, 4]), target, filler="laplace", append=True)
    other = {f"day{day}": _values(day) + 1 for day in (1, 2, 3)}
    with pytest.raises(TargetError, match="from another source"):
        _fill(_cube(source, [1, 2, 3, 4], **other), target, filler="laplace", append=True)
    assert _digests(target) == before
    _cube(source, [1, 2, 3, 4])
    shutil.rmtree(tmp_path / "filled.geodiff-fit.zarr")
    with pytest.raises(TargetError, match="use --overwrite"):
        _fill(source, target, filler="laplace", append=True)
    shutil.copytree(source, tmp_path / "foreign.zarr")
    with pytest.raises(TargetError, match="no product of geodiff"):
        _fill(source, tmp_path / "foreign.zarr", filler="laplace", append=True)


@pytest.mark.parametrize("target", ["filled.tif", "filled/", "memory://bucket/filled.zarr"])
def test_targets_that_cannot_grow_are_refused_with_the_cure(tmp_path: Path, target: str) -> None:
    place = target if "://" in target else f"{tmp_path}/{target}"
    with pytest.raises(JobError, match=r"local \.zarr or \.nc"):
        geodiff.fill(_cube(tmp_path / "sst.zarr", [1, 2]), place, filler="laplace", append=True)


def test_append_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="exclude each other"):
        _fill(_cube(tmp_path / "sst.zarr", [1, 2]), tmp_path / "a.zarr", append=True, overwrite=True)


def test_refit_alone_is_refused(tmp_path: Path) -> None:
    source = _cube(tmp_path / "in.zarr", [1, 2])
    for options in ({}, {"dry_run": True}, {"overwrite": True}):
        with pytest.raises(JobError, match="add --append, or use --overwrite"):
            _fill(source, tmp_path / "out.zarr", refit=True, **options)


def test_refit_learns_from_all_dates(tmp_path: Path) -> None:
    source, target = tmp_path / "sst.zarr", tmp_path / "filled.zarr"
    for days in ([1, 2, 3], [1, 2, 3, 4]):
        _fill(_cube(source, days), target, append=True)
    extended = load_kept(kept_beside(str(target)))
    assert extended.fit != extended.fingerprint
    with pytest.raises(TargetError, match="--append"):
        _fill(source, target)
    _fill(source, target, append=True, refit=True)
    renewed = load_kept(kept_beside(str(target)))
    assert renewed.fit == renewed.fingerprint
    (tmp_path / "fresh").mkdir()
    _fill(source, tmp_path / "fresh" / "filled.zarr")
    assert _digests(target) == _digests(tmp_path / "fresh" / "filled.zarr")


def test_a_gate_that_refuses_leaves_the_product_of_before(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, filler="laplace")
    before = _digests(target)
    _cube(source, [1, 2, 3, 4])
    with pytest.raises(GateError):
        _fill(source, target, filler="laplace", append=True, gate="coverage90>=1")
    assert _digests(target) == before
    assert load_kept(kept_beside(str(target))).cubes["sst"].dates[-1].startswith("2024-01-04")


@pytest.mark.parametrize("where", ["geodiff.finishing.write_product", "geodiff.finishing.save_kept"])
def test_what_dies_in_the_end_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Before TARGET is written, and between that and keeping the fit."""
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, append=True)
    _cube(source, [1, 2, 3, 4])
    before = _digests(target)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, die)
        with pytest.raises(KeyboardInterrupt):
            _fill(source, target, append=True)
    if "write" in where:
        assert _digests(target) == before
    record = _fill(source, target, append=True)
    assert record.blocks_resumed == record.blocks
    assert bool(record.blocks) == ("write" in where)
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, whole, append=True)
    assert _digests(target) == _digests(whole)
    assert _fill(source, target, append=True).status == "nothing to append"


def test_dates_that_another_run_has_appended_until_the_lock_is_held_stay_in_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, later = tmp_path / "filled.zarr", range(9, 19)
    first, second, third = (
        _cube(tmp_path / f"{len(days)}.zarr", days)
        for days in ([1, 2, *later], [1, 2, 3, *later], [1, 2, 3, *later, 21])
    )
    _fill(first, target, append=True)
    others = iter([second])

    @contextmanager
    def late(*places: str) -> Iterator[Callable[[], None]]:
        for other in others:
            _fill(other, target, append=True)  # its third date arrives late: what follows moves on by one
        with alone(*places) as assert_ours:
            yield assert_ours

    monkeypatch.setattr("geodiff.pipeline.alone", late)
    _fill(third, target, append=True)
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(third, whole, append=True)
    assert _digests(target) == _digests(whole)


def test_killed_while_it_appends_the_target_is_as_before_and_the_same_command_finishes(tmp_path: Path) -> None:
    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    _fill(source, target, append=True, filler="linear-time")
    _cube(source, [1, 2, 3, 4, 5])
    before = _digests(target)
    words = [sys.executable, "-m", "geodiff", "fill", str(source), str(target), "--filler", "linear-time", "--append"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        done = tmp_path / "filled.geodiff-work.zarr" / "geodiff-done"
        while run.poll() is None and not any(done.glob("[!.]*.json")):
            time.sleep(0.002)
        os.kill(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert _digests(target) == before
    assert _fill(source, target, append=True, filler="linear-time").blocks_resumed > 0
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, whole, append=True, filler="linear-time")
    assert _digests(target) == _digests(whole)


def test_blocks_that_failed_are_filled_by_the_next_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import pipeline

    source, target = _cube(tmp_path / "sst.zarr", [1, 2, 3]), tmp_path / "filled.zarr"
    fill_block = pipeline.fill_block

    def one_fails(path: str, block: Any) -> Any:
        if block.date == 1:
            return pipeline.BlockResult(block.key, error="OSError: no")
        return fill_block(path, block)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "fill_block", one_fails)
        assert _fill(source, target, filler="laplace").exit_code == 3
    _cube(source, [1, 2, 3, 4])
    record = _fill(source, target, filler="laplace", append=True)
    assert record.gates["unfilled"] == 0
    whole = _with_the_fit_of(target, tmp_path / "whole")
    _fill(source, whole, filler="laplace", append=True)
    assert _digests(target) == _digests(whole)


def test_dates_are_matched_in_their_order() -> None:
    assert origins(["a", "b", "b"], ["a", "b", "c", "b"], "t") == (0, 1, -1, 2)
    with pytest.raises(TargetError, match="1 dates"):
        origins(["a", "b"], ["b"], "t")
