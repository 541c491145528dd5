"""The door for sources: by what is there, not by names alone, and nothing that fetches or runs."""

import os
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.errors import SourceError
from geodiff.io import gdal, open_raster
from geodiff.io.addresses import gdal_path, is_remote
from geodiff.lattice import Window


def write(path: Path, value: int = 1, **profile: object) -> Path:
    given = {
        "driver": "GTiff",
        "height": 8,
        "width": 9,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 0, 0, -10, 0),
    }
    with rasterio.open(path, "w", **{**given, **profile}) as file:
        file.write(np.full((8, 9), value, "uint8"), 1)
    return path


def test_urls_are_what_gdal_calls_them() -> None:
    assert gdal_path("s3://bucket/a b.tif") == "/vsis3/bucket/a b.tif"
    assert gdal_path("https://example.org/a.tif?x=1") == "/vsicurl/https://example.org/a.tif?x=1"
    assert gdal_path("gs://bucket/a.tif") == "/vsigs/bucket/a.tif"
    assert gdal_path("file:///data/a.tif") == "/data/a.tif"
    assert gdal_path("zip://in/a.tif::s3://bucket/a.zip") == "/vsizip/{/vsis3/bucket/a.zip}/in/a.tif"
    assert gdal_path("/vsis3/bucket/a.tif") == "/vsis3/bucket/a.tif"
    assert gdal_path("C.tif") == "C.tif"
    assert gdal_path('HDF5:"a.h5"://group/array') == 'HDF5:"a.h5"://group/array'
    with pytest.raises(SourceError, match="hdfs://"):
        gdal_path("hdfs://node/a.tif")
    assert is_remote("s3://b/a.tif")
    assert not is_remote("/data/s3/a.tif")


def test_file_urls_open(tmp_path: Path) -> None:
    raster = open_raster(f"file://{write(tmp_path / 'a.tif')}")
    assert raster.variables[0].reader.read(0, Window(0, 0, 8, 9)).sum() == 72
    assert raster.files == (str(tmp_path / "a.tif"),)


class Ranges(BaseHTTPRequestHandler):
    """A server of one file that answers range requests, as object stores do."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        if not self.path.startswith("/a.tif"):
            self.send_error(404)
            return
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        part = self.content[int(first) : int(last) + 1] if asked else self.content
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.content)}")
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_remote_rasters_open_where_the_caller_names_them(tmp_path: Path) -> None:
    handler = type("OneFile", (Ranges,), {"content": write(tmp_path / "a.tif", 3).read_bytes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.tif"
        assert open_raster(url).variables[0].reader.read(0, Window(0, 0, 8, 9)).sum() == 3 * 72
        with pytest.raises(SourceError, match=r"b\.tif.*check the address"):
            open_raster(url.replace("a.tif", "b.tif"))
        server.shutdown()


class Failing(Ranges):
    """The same, until it fails or falls silent."""

    fault = ""
    ended = threading.Event()

    def answer(self, *, body: bool) -> None:
        if self.fault == "silent":
            self.ended.wait(60)
        if self.fault:
            with suppress(OSError):  # who asked has gone
                self.send_error(500)
        else:
            super().answer(body=body)


@pytest.mark.parametrize("fault", ["failing", "silent"])
def test_a_server_that_breaks_off_or_says_nothing_ends_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """GDAL would wait for good for the one that says nothing, and so would a run at night.

    Where it asks only now where the tiles lie, it takes no answer for tiles that were left out, and gives zeros.
    """
    assert {"GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_LOW_SPEED_LIMIT"} <= set(gdal._PATIENCE)
    monkeypatch.setitem(gdal._PATIENCE, "GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setitem(gdal.NETWORK, "GDAL_HTTP_MAX_RETRY", "0")
    content = write(tmp_path / "a.tif", 3, height=400, width=400, tiled=True, blockxsize=128, blockysize=128)
    handler = type("OneFile", (Failing,), {"content": content.read_bytes(), "ended": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reader = open_raster(f"http://127.0.0.1:{server.server_port}/a.tif").variables[0].reader
        handler.fault = fault  # type: ignore[attr-defined]
        try:
            with pytest.raises(SourceError, match=r"a\.tif cannot be read: .*broke off or did not answer in time"):
                reader.read(0, Window(300, 300, 90, 90))
        finally:
            handler.ended.set()  # type: ignore[attr-defined]
            server.shutdown()


def test_netcdf_and_hdf4_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    with pytest.raises(SourceError, match=r"HDF4.*GeoTIFF"):
        open_raster(str(tmp_path / "a.tif"))
    (tmp_path / "b.img").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(SourceError, match=r"HDF5"):
        open_raster(str(tmp_path / "b.img"))


def test_absent_empty_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    for name in ("absent.tif", "empty.tif", "text.csv", "folder", "*.jp2", "absent.zarr", "absent.nc"):
        with pytest.raises(SourceError) as caught:
            open_raster(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(SourceError, match="pipe"):
        open_raster(str(tmp_path / "pipe.tif"))


def vrt(path: Path, source: str, band: str = "") -> str:
    path.write_text(
        f"<VRTDataset rasterXSize='8' rasterYSize='8'><VRTRasterBand dataType='Byte' band='1' {band}>"
        f"<SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return str(path)


@pytest.mark.parametrize(
    "source",
    ["/vsicurl/http://127.0.0.1:{port}/a.tif", "http://127.0.0.1:{port}/a.tif", "/vsis3/b/a.tif", "/vsistdin/",
     "{inner}",
     "&lt;GDAL_WMS&gt;&lt;Service name='TMS'&gt;&lt;ServerUrl&gt;http://127.0.0.1:{port}/&lt;/ServerUrl&gt;&lt;/Service&gt;&lt;/GDAL_WMS&gt;"],
)  # fmt: skip
def test_a_file_cannot_make_us_fetch(tmp_path: Path, source: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        inner = vrt(tmp_path / "inner.vrt", f"/vsicurl/http://127.0.0.1:{port}/a.tif")
        outer = vrt(tmp_path / "outer.vrt", source.format(port=port, inner=inner))
        with pytest.raises(SourceError):
            open_raster(outer).variables[0].reader.read(0, Window(0, 0, 8, 8))
        with pytest.raises(TimeoutError):  # nobody called
            server.accept()


def test_python_in_a_vrt_does_not_run(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    trace = tmp_path / "trace"
    python = f"<![CDATA[\nopen('{trace}', 'w')\ndef f(*a, **k): pass\n]]>"
    code = (
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode>{python}</PixelFunctionCode>"
    )
    (tmp_path / "p.vrt").write_text(
        "<VRTDataset rasterXSize='8' rasterYSize='8'>"
        f"<VRTRasterBand dataType='Byte' band='1' subClass='VRTDerivedRasterBand'>{code}<SimpleSource>"
        f"<SourceFilename>{tmp_path / 'a.tif'}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(SourceError):
        open_raster(str(tmp_path / "p.vrt")).variables[0].reader.read(0, Window(0, 0, 8, 8))
    assert not trace.exists()


def test_absurd_sizes_are_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    tiles = {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "sparse_ok": True}
    ground = {"crs": "EPSG:32633", "transform": Affine(10, 0, 0, 0, -10, 0)}
    size = {"height": 600_000, "width": 600_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "bomb.tif", "w", driver="GTiff", **size, **tiles, **ground):
        pass
    with pytest.raises(SourceError, match=r"600000 x 600000"):
        open_raster(str(tmp_path / "bomb.tif"))
    (tmp_path / "big.vrt").write_text(
        "<VRTDataset rasterXSize='2000000000' rasterYSize='2000000000'>"
        "<VRTRasterBand dataType='Byte' band='1'/></VRTDataset>"
    )
    with pytest.raises(SourceError):
        open_raster(str(tmp_path / "big.vrt"))


def test_the_data_part_of_a_labelled_product_names_its_label(tmp_path: Path) -> None:
    (tmp_path / "frame.img").write_bytes(bytes(100))
    (tmp_path / "frame.lbl").write_text("PDS_VERSION_ID = PDS3\n")
    with pytest.raises(SourceError, match=r"open .*frame\.lbl"):
        open_raster(str(tmp_path / "frame.img"))


def test_a_glob_is_a_stack(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        write(tmp_path / f"ndvi_2021-05-0{day}.tif", day)
    for source in (tmp_path, tmp_path / "ndvi_*.tif"):
        raster = open_raster(str(source))
        assert raster.driver == "stack"
        (variable,) = raster.variables
        assert [str(date)[:10] for date in variable.dates] == ["2021-05-01", "2021-05-02", "2021-05-03"]
        assert [int(variable.reader.read(n, Window(0, 0, 1, 1)).max()) for n in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("manifest", "files", "said"),
    [
        ("xfdumanifest.xml", ["LST_in.nc", "geodetic_in.nc"], r"Sentinel-3 .*LST_in\.nc and 1 more\), and its flags"),
        ("manifest.safe", ["measurement/s1a-iw-grd-vv.tiff"], r"Sentinel-1 .*measurement/s1a-iw-grd-vv\.tiff\), and"),
    ],
)
def test_folders_of_sentinel_1_and_3_are_told_with_the_file_to_give(
    tmp_path: Path, manifest: str, files: list[str], said: str
) -> None:
    """They were called stacks without dates, or folders without rasters."""
    for name in (manifest, *files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=said):
        open_raster(str(tmp_path))
