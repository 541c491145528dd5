"""Secrets stay out of what is written down."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geodiff.cli.app import say, talk
from geodiff.credentials import redacted
from geodiff.errors import SourceError
from geodiff.finishing import begin_record
from geodiff.io import open_raster
from geodiff.io.places import expanded, filesystem_of, listing
from geodiff.job import FillJob
from geodiff.pipeline import plan
from geodiff.progress import waiting
from tests.io.geotiffs import write_source

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@host/a.tif",
        f"https://{SECRET}@host/a.tif",
        f"https://me:p@{SECRET}@host/a.tif",
        f"https://host/a.tif?sv=1&sig={SECRET}",
        f"https://host/a.tif?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}",
        f"https://host/a.tif?access_token={SECRET};x=1",
        f"/vsicurl/https://me:{SECRET}@host/a.tif?AWSAccessKeyId={SECRET}",
        f"zip://a.tif::https://host/a.zip?api_key={SECRET}",
    ],
)
def test_no_secret_of_an_address_is_said(url: str) -> None:
    job = FillJob.build(source=url, target="out.tif", filler="laplace")
    record = begin_record(job, "f", "done", 0.0)
    for text in (
        redacted(url),
        job.command(),
        json.dumps(job.pixels()),
        record.to_json(),
        str(SourceError(f"no {url}")),
    ):
        assert SECRET not in text
        assert "host/a." in text or "host" not in url


@pytest.mark.parametrize(
    "text", ["s3://bucket/key/a.tif", "https://host/a.tif?version=3", "/data/me@home/a.tif", "NETCDF:a.nc:sst", ""]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_a_fresh_signature_is_no_other_source() -> None:
    one, other = (FillJob.build(source=f"https://h/a.tif?sig={s}", target="o.tif", filler="idw") for s in ("a1", "b2"))
    assert one.fingerprint() == other.fingerprint()


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", SECRET)
    assert expanded("https://host/a.tif?sig=${GEODIFF_TEST_TOKEN}") == f"https://host/a.tif?sig={SECRET}"
    assert expanded("${HOME}/a.tif") == "${HOME}/a.tif"  # a local name is taken as it is
    with pytest.raises(SourceError, match="NO_SUCH_VARIABLE"):
        open_raster("https://host/a.tif?sig=${NO_SUCH_VARIABLE}")


def test_what_came_from_the_environment_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the query calls it, and in the path too."""
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", f"{SECRET}/+")
    address = expanded("https://host/${GEODIFF_TEST_TOKEN}/a.tif?k=${GEODIFF_TEST_TOKEN}")
    for said in (address, address.replace("/+", "%2F%2B"), address.replace("+", "%2B")):
        assert SECRET not in str(SourceError(f"no {said}"))


def test_a_listing_names_no_variable_of_its_own_and_gives_back_what_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", SECRET)
    filesystem, _ = filesystem_of("memory://")
    filesystem.pipe_file(f"/{SECRET}/a.tif", b"1")
    assert listing("memory://${GEODIFF_TEST_TOKEN}/") == ["memory:///${GEODIFF_TEST_TOKEN}/a.tif"]
    filesystem.pipe_file("/strange/${GEODIFF_TEST_TOKEN}.nc", b"1")
    with pytest.raises(SourceError, match="only an address that you give yourself may"):
        listing("memory://strange/")


def test_a_zarr_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    import zarr

    group = zarr.open_group(str(tmp_path / "bomb.zarr"), mode="w", zarr_format=3)
    group.create_array(
        "v",
        shape=(200_000, 200_000),
        chunks=(200_000, 200_000),
        dtype="f4",
        dimension_names=("y", "x"),
        fill_value=np.nan,
    )
    with pytest.raises(SourceError, match=r"chunks of 149\.0 GiB"):
        open_raster(str(tmp_path / "bomb.zarr"))


def test_a_gdal_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "bomb.tif", "w", driver="GTiff", height=400_000, width=400_000, count=1, dtype="uint8",
        sparse_ok=True, tiled=True, blockxsize=4096, blockysize=4096, compress="deflate", bigtiff=True,
        crs="EPSG:32618", transform=rasterio.Affine(2, 0, 0, 0, -2, 0),
    ):  # fmt: skip
        pass
    with pytest.raises(SourceError, match="declares 400000 x 400000"):
        open_raster(str(tmp_path / "bomb.tif"))


def test_what_gdal_logs_of_an_address_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    address = f"http://me:{SECRET}@host/a.tif?sig={SECRET}"
    logging.getLogger("rasterio._env").warning("CPLE_%s in %s", "AppDefined", f"HTTP response code on {address}: 0")
    assert SECRET not in caplog.text
    assert "HTTP response code on http://***@host/a.tif?sig=***" in caplog.text


HOSTILE = "red\x1b]0;title\x07\x1b[2J\u202e\nerror: nothing was found [/x]"


def test_names_in_a_file_command_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in what verbs print, nor in a plan, a log line or an error; and none of them makes a line of its own."""
    from geodiff.inspection import describe
    from geodiff.inspection.words import render

    values = np.arange(1, 4097, dtype=np.uint16).reshape(1, 64, 64)
    values[:, 20:30, 20:30] = 0

    def name(file: rasterio.io.DatasetWriter) -> None:
        file.set_band_description(1, HOSTILE)

    source = write_source(tmp_path / "a.tif", values, nodata=0, describe=name)
    job = FillJob.build(source=source, target=str(tmp_path / "b.tif"), filler="nearest")
    try:
        talk(0, quiet=False)
        say(render(describe(source)))
        say(plan(job))
        logging.getLogger("geodiff").info("trying %s", HOSTILE)
        say(f"error: {SourceError(HOSTILE.splitlines()[0])}", err=True)
    finally:
        logging.basicConfig(level=logging.WARNING, force=True)
        logging.getLogger("geodiff").setLevel(logging.NOTSET)
    shown = "".join(capfd.readouterr())
    assert "red\\x1b]0;title" in shown
    assert not set("\x1b\x07\u202e") & set(shown)
    assert not any(line.startswith("error: nothing") for line in shown.splitlines())


def test_a_name_in_brackets_is_no_command_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with waiting(f"fitting {HOSTILE}"):
        pass
