"""Products with a PDS4 label: the numbers, the place and the label's own words come back; what does not fit is told."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

import geodiff
from geodiff.errors import TargetError, WriteError
from geodiff.io import Product, ProductVariable, Raster, open_raster, pds4, read_fingerprint, write_product
from geodiff.io.stacitem import write_item
from geodiff.io.writing import check_target
from geodiff.lattice import Window
from geodiff.report.product import open_product

MARS = {"crs": "IAU_2015:49910", "transform": Affine(9, 0, -59280, 0, -9, 3751320)}


def source(path: Path, values: np.ndarray, **profile: Any) -> Raster:
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{"driver": "GTiff", "dtype": values.dtype, **shape, **profile}) as file:
            file.write(values)
    return open_raster(str(path))


def product_of(raster: Raster, fingerprint: str = "a1") -> Product:
    """As though nothing had been filled."""
    (variable,) = raster.variables
    value = variable.reader.read(0, Window(0, 0, *variable.shape[2:]))[None]
    zeros = np.zeros(variable.shape)
    layers = ProductVariable(variable, value, zeros.astype("u1"), zeros.astype("u2"), zeros.astype("f4"))
    return Product(raster, (layers,), {"geodiff_fingerprint": fingerprint}, {"observed": 0}, {"nodata": 1})


def mars(path: Path, values: np.ndarray, **profile: Any) -> Raster:
    return source(path, values, **{**MARS, **profile})


def said(label: Path, name: str) -> list[str]:
    """Texts of a label's elements of one name, in their order."""
    return [node.text or "" for node in ET.parse(label).iter() if node.tag.rpartition("}")[2] == name]


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("u1", None), ("u1", 0), ("i2", -32768), ("u2", None), ("f4", -3.4028226550889045e38), ("f4", np.nan)],
)
@pytest.mark.parametrize("bands", [1, 3])
def test_numbers_and_place_come_back_through_the_label(
    tmp_path: Path, rng: np.random.Generator, dtype: str, nodata: float | None, bands: int
) -> None:
    values = rng.integers(0, 200, (bands, 33, 47)).astype(dtype)
    raster = mars(tmp_path / "in.tif", values, nodata=nodata)
    target = tmp_path / "out.xml"
    check_target(raster, str(target))
    written = write_product(product_of(raster), str(target))
    layers = [tmp_path / f"out_{name}.tif" for name in ("source", "reason", "standard_error")]
    assert written == [str(path) for path in (*layers, tmp_path / "out_image.tif", target)]
    with rasterio.open(tmp_path / "in.tif") as one, rasterio.open(target) as other:
        assert other.driver == "PDS4"
        np.testing.assert_array_equal(other.read(), values)
        assert other.dtypes == one.dtypes
        assert (other.crs, other.transform) == (one.crs, one.transform)
        assert other.nodata == one.nodata or (np.isnan(other.nodata) and np.isnan(one.nodata))
    with rasterio.open(tmp_path / "out_image.tif") as image:
        assert image.crs.to_authority() == ("IAU_2015", "49910")
        assert image.compression is None  # PDS4 wants arrays in one piece
    offset, size = (int(text) for text in (said(target, "offset")[-1], said(target, "file_size")[0]))
    raw = (tmp_path / "out_image.tif").read_bytes()
    assert len(raw) == size
    assert raw[offset : offset + values.nbytes] == values.tobytes()  # for readers that know no TIFF
    assert said(target, "md5_checksum") == [hashlib.md5(raw, usedforsecurity=False).hexdigest()]


def test_a_frame_of_a_camera_gets_a_label_without_a_place(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    values = rng.integers(0, 255, (1, 20, 30)).astype("u1")
    raster = source(tmp_path / "in.png", values, driver="PNG")
    written = write_product(product_of(raster), str(tmp_path / "out.xml"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(written[-1]) as file:
            np.testing.assert_array_equal(file.read(), values)
            assert file.crs is None
    assert "Cartography" not in Path(written[-1]).read_text()
    assert said(tmp_path / "out.xml", "title") == ["out, gaps filled"]
    assert not caplog.records


def test_a_label_carries_its_fingerprint_and_the_same_job_gives_the_same_bytes(tmp_path: Path) -> None:
    raster = mars(tmp_path / "in.tif", np.arange(12, dtype="u1").reshape(1, 3, 4))
    target = tmp_path / "out.xml"
    assert read_fingerprint(str(target)) is None
    write_product(product_of(raster), str(target))
    first = {path.name: path.read_bytes() for path in tmp_path.glob("out*")}
    assert read_fingerprint(str(target)) == "a1"
    write_product(product_of(raster, "b2"), str(target))
    assert read_fingerprint(str(target)) == "b2"
    write_product(product_of(raster), str(target))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("out*")} == first
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
    (tmp_path / "out_image.tif").unlink()
    assert read_fingerprint(str(target)) == ""  # a label without its image is no product
    (tmp_path / "theirs.xml").write_text("<Product_Observational/>")
    assert read_fingerprint(str(tmp_path / "theirs.xml")) == ""


def test_the_label_of_a_pds4_source_is_kept(tmp_path: Path) -> None:
    values = np.arange(60, dtype="i2").reshape(1, 6, 10)
    mars(tmp_path / "first.tif", values, nodata=-1)
    rasterio.shutil.copy(str(tmp_path / "first.tif"), str(tmp_path / "in.xml"), driver="PDS4")
    label = tmp_path / "in.xml"
    text = label.read_text().replace("${LOGICAL_IDENTIFIER}", "urn:nasa:pds:made_up:data:frame")
    text = text.replace("<missing_constant>", "<saturated_constant>99</saturated_constant><missing_constant>")
    label.write_text(text)
    written = write_product(product_of(open_raster(str(label))), str(tmp_path / "out.xml"))
    made = Path(written[-1])
    assert said(made, "logical_identifier") == ["urn:nasa:pds:made_up:data:frame"]
    assert said(made, "saturated_constant") == ["99"]
    assert said(made, "file_name") == ["out_image.tif"]
    with rasterio.open(made) as file:
        np.testing.assert_array_equal(file.read(), values)


def test_what_a_label_cannot_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    ones = np.ones((1, 3, 4), "u1")
    raster = {
        "numbers": mars(tmp_path / "wide.tif", ones.astype("i8")),
        "another one": mars(tmp_path / "degrees.tif", ones, crs="IAU_2015:49900", transform=Affine(1, 0, 10, 0, -1, 9)),
        "comes back": mars(tmp_path / "turned.tif", ones, transform=Affine(9, 1, 0, 1, -9, 0)),
    }
    for reason, found in raster.items():
        with pytest.raises(TargetError, match=rf"{reason}.*use \.tif"):
            check_target(found, str(tmp_path / "out.xml"))
        with pytest.raises(TargetError, match=rf"{reason}.*use \.tif"):
            write_product(product_of(found), str(tmp_path / "out.xml"))
    own = mars(tmp_path / "out_image.tif", ones)
    with pytest.raises(TargetError, match=r"part of the source"):
        check_target(own, str(tmp_path / "out.xml"))
    with pytest.raises(TargetError, match=r"s3://bucket/out\.xml is remote"):
        check_target(own, "s3://bucket/out.xml")
    assert not (tmp_path / "out.xml").exists()


def test_a_write_that_fails_leaves_the_older_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = mars(tmp_path / "in.tif", np.ones((1, 3, 4), "u1"))
    target = tmp_path / "out.xml"
    write_product(product_of(raster), str(target))
    before = [path.read_bytes() for path in (target, tmp_path / "out_image.tif")]
    told = pds4._said

    def damaged(label: Path, image: Path, *rest: Any) -> None:
        told(label, image, *rest)
        image.write_bytes(image.read_bytes().replace(b"\1" * 12, b"\2" * 12))

    monkeypatch.setattr(pds4, "_said", damaged)
    with pytest.raises(WriteError, match=r"other numbers"):
        write_product(product_of(raster, "b2"), str(target))
    assert [path.read_bytes() for path in (target, tmp_path / "out_image.tif")] == before
    assert not list(tmp_path.glob(".out*"))


def test_a_fill_to_a_label_from_end_to_end(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(50, 60, (1, 40, 50)).astype("u1")
    values[0, 10:20, 10:25] = 0
    mars(tmp_path / "in.tif", values, nodata=0)
    target = str(tmp_path / "out.xml")
    record = geodiff.fill(str(tmp_path / "in.tif"), target, filler="laplace", members=0)
    assert record.exit_code == 0
    with rasterio.open(target) as file:
        filled = file.read()
    gap = values == 0
    assert (filled[gap] > 0).all()
    np.testing.assert_array_equal(filled[~gap], values[~gap])
    assert geodiff.fill(str(tmp_path / "in.tif"), target, filler="laplace", members=0).status == "up to date"
    (picture,) = open_product(target).pictures
    assert set(picture.layers) == {"source", "reason", "standard_error"}
    write_item(f"{tmp_path}/out.stac.json", open_raster(str(tmp_path / "in.tif")), record.products, {}, "")
    item = (tmp_path / "out.stac.json").read_text()
    assert '"value"' in item
    assert '"image"' in item
