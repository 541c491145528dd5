"""FillJob: one validated object for the command line, the TOML file and workers."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from geodiff.cli import app
from geodiff.diffusion.trainconfig import read_fields
from geodiff.errors import JobError
from geodiff.job import FillJob, parse_gates
from geodiff.record import RunRecord
from geodiff.restoring.job import RestoreJob


def _job(**fields: object) -> FillJob:
    return FillJob.build(source="a.tif", target="b.tif", **fields)


@pytest.mark.parametrize("value", ["[" * 50_000 + "]" * 50_000, "9" * 5_000], ids=["nested", "endless"])
def test_a_job_file_that_cannot_be_read_is_told_whatever_is_in_it(tmp_path: Path, value: str) -> None:
    (tmp_path / "job.toml").write_text(f'source = "a.tif"\ntarget = "b.tif"\nseed = {value}\n')
    for read in (FillJob.from_toml, read_fields):
        with pytest.raises(JobError, match=r"job\.toml"):
            read(tmp_path / "job.toml")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 3}, "steps"),
        ({"buffer": -1}, "buffer"),
        ({"valid_range": (2.0, 1.0)}, "lower bound first"),
        ({"quantiles": (1.5,)}, "between 0 and 1"),
        ({"detect": ("clouds",)}, "named detector"),
        ({"gate": "colour>=1"}, "coverage90"),
        ({"device": "gpu"}, "device"),
        ({"filler": "laplace", "members": 4}, "draws no members"),
        ({"members": 0, "product": "member"}, "needs at least one member"),
        ({"filler": "laplace", "sampler": "magic"}, "no sampler is called 'magic'; choose one of edm-dpm2m"),
        ({"sampler": "ddim"}, "discrete betas"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_field_is_named_with_the_reason(fields: dict[str, object], words: str) -> None:
    with pytest.raises(JobError, match=words):
        _job(**fields)


def test_members_default_to_what_the_filler_can_draw() -> None:
    assert _job().drawn_members == 4
    assert _job(filler="laplace").drawn_members == 0
    assert _job(members=0).drawn_members == 0


def test_the_fingerprint_covers_pixels_and_nothing_else() -> None:
    base = _job().fingerprint("source")
    for how in ({"block_size": 128}, {"workers": 2}, {"batch": 1}, {"work": "elsewhere"}):
        assert _job(**how).fingerprint("source") == base
    for what in ({"seed": 1}, {"members": 5}, {"buffer": 1}, {"qa": ("none",)}, {"steps": 12}, {"max_error": 1.0}):
        assert _job(**what).fingerprint("source") != base
    assert _job().fingerprint("another source") != base
    assert FillJob.build(source="../a.tif", target="b.tif").fingerprint("source") == base
    assert _job(members=4).fingerprint("source") == base


def test_gates() -> None:
    gates = parse_gates("coverage90>=0.85, seam<=1.05")
    held = [(g.figure, g.holds(0.9), g.holds(1.1)) for g in gates]
    assert held == [("coverage90", True, True), ("seam", True, False)]


def test_a_toml_file_is_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('source = "a.tif"\ntarget = "b.tif"\nbuffer = 2\nquantiles = [0.1]\n')
    assert FillJob.from_toml(tmp_path / "job.toml", seed=3) == _job(buffer=2, quantiles=(0.1,), seed=3)
    (tmp_path / "windows.toml").write_bytes(
        b'\xef\xbb\xbfsource = "a.tif"\r\ntarget = "b.tif"\r\nqa = "landsat-c2"\r\nbands = [1, "red"]\r\n'
    )
    assert FillJob.from_toml(tmp_path / "windows.toml") == _job(qa=("landsat-c2",), bands=("1", "red"))
    (tmp_path / "broken.toml").write_text("source = ")
    with pytest.raises(JobError, match=r"broken\.toml.*TOML"):
        FillJob.from_toml(tmp_path / "broken.toml")


def test_the_command_repeats_the_job() -> None:
    command = _job(filler="matern", buffer=2, valid_range=(0.0, 1.0), workers=4).command()
    assert command == "geodiff fill a.tif b.tif --valid-range 0.0,1.0 --buffer 2 --filler matern"


@pytest.mark.parametrize(
    "fields",
    [
        {"qa": ("landsat-c2", "pds:a b.tif"), "mask": ("one.gpkg", "two, three.tif")},
        {"qa": ("none",), "bands": ("1", "near infrared"), "detect": ("dropouts", "stripes")},
        {"gate": "unfilled<=0.02"},
        {"gate": "coverage90>=0.85, seam<=1.05", "max_error": 1e-12, "quantiles": (0.05, 0.95)},
        {"source": "scenes/*_B4.tif", "target": "it's $HOME/", "nodata": -9999.0, "valid_range": (-1.5, 2.0)},
        {"source": "https://host/a.tif?a=1&b=2", "dates": "2024-06-01:2024-06-30", "members": 0, "seed": -3},
    ],
)
def test_a_shell_reads_the_command_as_the_same_job(
    fields: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes/a_B4.tif").touch()  # for a glob that is not quoted
    read: list[FillJob] = []

    def run(job: FillJob, **_: object) -> RunRecord:
        read.append(job)
        return RunRecord(job.source, job.target, job.command(), "up to date")

    monkeypatch.setattr("geodiff.report.run_and_report", run)
    job = FillJob.build(**{"source": "a.tif", "target": "b.tif", **fields})
    done = CliRunner().invoke(app, _as_a_shell(job.command())[1:])
    assert done.exit_code == 0, done.output
    assert read == [job.model_copy(update={"workers": 0})]  # which the command line sets


def _as_a_shell(command: str) -> list[str]:
    """Words as `sh` makes them of a command."""
    script = f"for word in {command}; do printf '%s\\0' \"$word\"; done"
    return subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.split("\0")[:-1]


def test_no_quality_flags_are_spelt() -> None:
    assert _job(qa=()).command() == "geodiff fill a.tif b.tif --qa none"


@pytest.mark.parametrize("build", [FillJob.build, RestoreJob.build])
def test_a_zarr_format_is_refused_for_what_is_no_zarr(build: Any) -> None:
    build = partial(build, task="denoise") if build == RestoreJob.build else build
    assert build(source="a.tif", target="out.zarr/", zarr_format=2).zarr_format == 2
    for target in ("filled.tif", "filled.nc", "folder/"):
        with pytest.raises(JobError, match=r"--zarr-format 2 .*, which " + target):
            build(source="a.tif", target=target, zarr_format=2)
