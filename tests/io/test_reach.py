"""A source shows bytes of its own files only, and fetches nothing: hostile texts, labels and HDF5 files."""

from __future__ import annotations

import socket
import zipfile
from contextlib import nullcontext
from html import escape
from pathlib import Path

import h5py
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geodiff.errors import SourceError
from geodiff.io import open_raster
from geodiff.io.vector import read_geometries
from geodiff.lattice import Window
from tests.io.geotiffs import write_source

SECRET = b"the password is hunter2;" * 16


def write(path: Path, value: int = 1) -> None:
    write_source(path, np.full((1, 8, 8), value, np.uint8))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A stranger's folder; what is not his lies beside it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "strange").mkdir()
    return tmp_path / "strange"


def vrt(source: str, band: str = "", relative: int = 0, name: str = "SourceFilename") -> str:
    inside = f'<{name} relativeToVRT="{relative}">{source}</{name}>'
    if not band:
        inside = f"<SimpleSource>{inside}</SimpleSource>"
    return (
        f'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" {band}>{inside}'
        "</VRTRasterBand></VRTDataset>"
    )


RAW = 'subClass="VRTRawRasterBand"'
PDS = (
    'PDS_VERSION_ID = PDS3\r\nRECORD_TYPE = FIXED_LENGTH\r\nRECORD_BYTES = 8\r\n^IMAGE = ("{}",1)\r\nOBJECT = IMAGE\r\n'
    "LINES = 8\r\nLINE_SAMPLES = 8\r\nSAMPLE_TYPE = UNSIGNED_INTEGER\r\nSAMPLE_BITS = 8\r\nBANDS = 1\r\n"
    "END_OBJECT = IMAGE\r\nEND\r\n"
)
MRF = (
    '<MRF_META><Raster><Size x="8" y="8" c="1"/><PageSize x="8" y="8" c="1"/><Compression>NONE</Compression>'
    "<DataType>Byte</DataType><DataFile>{}</DataFile></Raster></MRF_META>"
)
ISIS = (
    "Object = IsisCube\n Object = Core\n ^Core = {}\n StartByte = 1\n Format = BandSequential\n Group = Dimensions\n"
    " Samples = 8\n Lines = 8\n Bands = 1\n End_Group\n Group = Pixels\n Type = UnsignedByte\n ByteOrder = Lsb\n"
    " Base = 0.0\n Multiplier = 1.0\n End_Group\n End_Object\nEnd_Object\nEnd\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.vrt", vrt("{secret}", RAW)),
        ("a.vrt", vrt("../secret.txt", RAW, 1)),
        ("a.vrt", vrt("{secret}", 'subclass="vrtrawrasterband"', name="sourcefilename")),
        ("a.vrt", f"><!-- {' ' * 2**20} -->".join(vrt("{secret}", RAW).split(">", 1))),
        ("a.lbl", PDS.format("../secret.txt")),
        ("a.mrf", MRF.format("{secret}")),
        ("a.cub", ISIS.format("{secret}")),
    ],
    ids=["vrt", "vrt-up", "vrt-lower-case", "vrt-long", "pds", "mrf", "isis"],
)
def test_no_text_takes_bytes_of_another_folder_for_pixels(place: Path, name: str, text: str) -> None:
    text = text.replace("{secret}", str(place.parent / "secret.txt"))
    (place / name).write_text(text)
    inner = vrt(name, relative=1)
    (place / "outer.vrt").write_text(inner)
    for source in (place / name, place / "outer.vrt"):
        with pytest.raises(SourceError, match=r"secret\.txt|own folder"):
            open_raster(str(source))


@pytest.mark.parametrize("end", ["msk", "ovr"])
def test_what_lies_beside_a_raster_takes_none_either(place: Path, end: str) -> None:
    write(place / "a.tif")
    open_raster(str(place / "a.tif"))
    (place / f"a.tif.{end}").write_text(vrt(str(place.parent / "secret.txt"), RAW))
    with pytest.raises(SourceError, match=r"secret\.txt"):
        open_raster(str(place / "a.tif"))


def test_an_archive_takes_none_either(place: Path) -> None:
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.writestr("raw.vrt", vrt(str(place.parent / "secret.txt"), RAW))
        archive.writestr("outer.vrt", vrt("raw.vrt", relative=1))
    for name in ("raw.vrt", "outer.vrt"):
        with pytest.raises(SourceError, match=r"raw\.vrt"):
            open_raster(f"/vsizip/{place}/a.zip/{name}")


def hdf5(path: Path, kind: str) -> None:
    other = path.parents[1] / "other.h5"
    with h5py.File(other, "w") as file:
        file["v"] = np.arange(64, dtype="u1").reshape(8, 8)
    with h5py.File(path, "w") as file:
        if kind == "storage":
            file.create_dataset("v", (8, 8), "u1", external=[(str(other.with_name("secret.txt")), 0, 64)])
        elif kind == "link":
            file["g/v"] = h5py.ExternalLink(str(other), "v")
        else:
            layout = h5py.VirtualLayout((8, 8), "u1")
            layout[:] = h5py.VirtualSource(str(other) if kind == "virtual" else ".", "own", (8, 8))
            file["own"] = np.arange(64, dtype="u1").reshape(8, 8)
            file.create_virtual_dataset("v", layout)


@pytest.mark.parametrize("kind", ["storage", "link", "virtual"])
def test_hdf5_takes_numbers_from_no_other_file(place: Path, kind: str) -> None:
    hdf5(place / "a.h5", kind)
    (place / "outer.vrt").write_text(vrt('HDF5:"a.h5"://v', relative=1))
    for source in (place / "a.h5", f'NETCDF:"{place}/a.h5":v', place / "outer.vrt"):
        with pytest.raises(SourceError, match=r"another file|v is not a netCDF variable|No such file"):
            open_raster(str(source))


def test_a_virtual_dataset_within_its_file_is_welcome(place: Path) -> None:
    hdf5(place / "a.h5", "own")
    assert open_raster(str(place / "a.h5")).variables


@pytest.mark.parametrize(
    "source",
    ["http&#58;//{host}/a.tif", 'NETCDF:"http&#58;//{host}/a.nc":v', "WMS:http&#58;//{host}/wms", "vrt&#58;///a.tif",
     'STACIT:"http&#58;//{host}/a.json"', "PG:host=127.0.0.1", escape("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>"),
     escape(vrt("http://{host}/a.tif"))],
)  # fmt: skip
def test_no_text_fetches_even_where_a_proxy_is_not_asked(
    place: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL's web drivers are kept off by a dead proxy, which NO_PROXY goes around, as does what reads OPeNDAP."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        host = f"127.0.0.1:{server.getsockname()[1]}"
        (place / "inner.vrt").write_text(vrt(source.format(host=host)))
        (place / "outer.vrt").write_text(vrt("inner.vrt", relative=1))
        for name in ("inner.vrt", "outer.vrt"):
            with pytest.raises(SourceError, match="reaches beyond"):
                open_raster(str(place / name))
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["a.tif", "../a.tif", "inner.vrt", "/vsizip/{place}/a.zip/a.tif", "absolute"])
def test_what_a_vrt_is_for_goes_on_working(place: Path, name: str) -> None:
    for path in (place / "a.tif", place.parent / "a.tif"):
        write(path, 7)
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.write(place / "a.tif", "a.tif")
    (place / "inner.vrt").write_text(vrt("a.tif", relative=1))
    name = str(place / "a.tif") if name == "absolute" else name.format(place=place)
    (place / "outer.vrt").write_text(vrt(name, relative=int(not name.startswith("/"))))
    assert open_raster(str(place / "outer.vrt")).variables[0].reader.read(0, Window(0, 0, 2, 2)).max() == 7


def test_a_text_that_is_no_xml_or_nests_too_deep_is_refused(place: Path) -> None:
    (place / "a.vrt").write_text(vrt("a.tif").replace("</SimpleSource>", ""))
    (place / "b.vrt").write_text("<!DOCTYPE x [<!ENTITY a 'b'>]>" + vrt("&a;.tif"))
    for depth in range(12):
        (place / f"{depth}.vrt").write_text(vrt(f"{depth + 1}.vrt", relative=1))
    for name in ("a.vrt", "b.vrt", "0.vrt"):
        with pytest.raises(SourceError, match="reaches beyond"):
            open_raster(str(place / name))


VECTORS = {
    "a.geojson": '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>http://{host}/a</SrcDataSource></OGRVRTLayer>'
    "</OGRVRTDataSource>",
    "b.gml": "<OGRWFSDataSource><URL>http://{host}/wfs</URL></OGRWFSDataSource>",
    "c.json": '{{"type":"gdal_streamed_alg","command_line":"gdal vector pipeline ! read http://{host}/a ! write x"}}',
    "d.geojson": '{{"type":"FeatureCollection","crs":{{"type":"link","properties":{{"href":"http://{host}/crs"}}}},"features":'
    '[{{"type":"Feature","properties":{{}},"geometry":{{"type":"Point","coordinates":[1,1]}}}}]}}',
    "e.gml": '<f:FeatureCollection xmlns:f="http://www.opengis.net/wfs" xmlns:gml="http://www.opengis.net/gml" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:a="http://a" xsi:schemaLocation="http://a '
    'http://{host}/wfs?SERVICE=WFS&amp;VERSION=1.0.0&amp;REQUEST=DescribeFeatureType&amp;TYPENAME=a:b"><gml:featureMember>'
    '<a:b fid="b.1"><a:g><gml:Point><gml:coordinates>1,1</gml:coordinates></gml:Point></a:g></a:b></gml:featureMember>'
    "</f:FeatureCollection>",
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", VECTORS)
def test_no_mask_fetches(place: Path, name: str, monkeypatch: pytest.MonkeyPatch, *, zipped: bool) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        mask = place / name
        mask.write_text(VECTORS[name].format(host=f"127.0.0.1:{server.getsockname()[1]}"))
        if zipped:
            with zipfile.ZipFile(place / "a.zip", "w") as archive:
                archive.write(mask, name)
            mask = place / "a.zip"
        expected = nullcontext() if name == "e.gml" else pytest.raises(SourceError, match="reaches beyond its own")
        with expected:  # what GML wants to fetch is of no use for its geometries
            read_geometries(str(mask), GeoBox((8, 8), Affine(1, 0, 0, 0, -1, 8), None))
        with pytest.raises(TimeoutError):
            server.accept()
