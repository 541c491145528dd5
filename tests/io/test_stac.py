"""STAC in: what an Item says is taken, what it must not name is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rasterio

from geodiff.errors import SourceError
from geodiff.identity import source_identity
from geodiff.io import OpenOptions, open_raster
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.pipeline import run
from tests.io.items import data, item, save, write


def test_bands_encodings_flags_and_the_date_come_from_the_item(tmp_path: Path, scene: dict[str, Any]) -> None:
    raster = open_raster(save(tmp_path / "item.json", scene))
    bands, flags = raster.variables
    assert [band.name for band in bands.bands] == ["B02", "B03"]
    assert {(b.encoding.nodata, b.encoding.scale, b.encoding.offset) for b in bands.bands} == {(0, 0.0001, -0.1)}
    assert str(bands.dates[0])[:19] == "2021-03-01T10:00:00"
    assert bands.reader.read(0, Window(0, 0, 2, 2)).tolist() == [[[1000, 1000]] * 2] * 2
    (quality,) = raster.quality
    assert (quality.preset, quality.variable.name, flags.name, flags.geobox.shape[0]) == (
        "sentinel2-scl",
        "scl",
        "scl",
        16,
    )


def test_no_name_in_an_item_leads_out_of_the_folder_of_products(tmp_path: Path) -> None:
    for band, dtype in {"a": "uint16", "b": "uint16", "c": "float32"}.items():
        write(tmp_path / f"{band}.tif", nodata=0, dtype=dtype)
    assets = {band: data(f"{band}.tif", f"../{band}") for band in "abc"}
    source = save(tmp_path / "item.json", item(assets, "../../scene"))
    record = run(FillJob.build(source=source, target=f"{tmp_path}/x/y/", filler="laplace", work=str(tmp_path)))
    assert {Path(path).resolve().parent for path in record.products} == {tmp_path / "x/y"}


def test_what_the_file_says_of_its_numbers_goes_before_the_item(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", nodata=7)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.scales = (0.5,)
    source = save(tmp_path / "item.json", item({"a": data("a.tif", nodata=0, scale=0.1, unit="K")}))
    (band,) = open_raster(source).variables[0].bands
    assert (band.name, band.encoding.nodata, band.encoding.scale, band.units) == ("a", 7, 0.5, "K")


def test_stac_1_1_says_the_same_in_other_words(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    asset = {
        "href": "a.tif",
        "roles": ["data"],
        "nodata": 0,
        "bands": [{"name": "B4", "raster:scale": 0.01, "unit": "1"}],
    }
    source = save(tmp_path / "item.json", item({"a": asset}) | {"stac_version": "1.1.0"})
    (band,) = open_raster(source).variables[0].bands
    assert (band.name, band.encoding.nodata, band.encoding.scale, band.units) == ("B4", 0, 0.01, "1")


def test_an_offset_that_is_in_the_numbers_already_is_not_added_again(tmp_path: Path, scene: dict[str, Any]) -> None:
    scene["properties"]["earthsearch:boa_offset_applied"] = True
    bands = open_raster(save(tmp_path / "item.json", scene)).variables[0].bands
    assert {(band.encoding.scale, band.encoding.offset) for band in bands} == {(0.0001, 0.0)}


def test_a_period_begins_with_its_start(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    document = item(
        {"a": data("a.tif")}, when=None, start_datetime="2020-01-01T00:00:00Z", end_datetime="2020-02-01T00:00:00Z"
    )
    assert str(open_raster(save(tmp_path / "item.json", document)).variables[0].dates[0])[:10] == "2020-01-01"


def test_resolution_brings_bands_and_flags_to_one_grid(tmp_path: Path, scene: dict[str, Any]) -> None:
    source = save(tmp_path / "item.json", scene)
    raster = open_raster(source, OpenOptions(resolution=60))
    assert {tuple(variable.geobox.shape) for variable in raster.variables} == {(16, 16)}
    assert raster.quality[0].variable.geobox.shape == (16, 16)


def test_links_and_dates_of_editing_are_no_new_source_but_numbers_are(tmp_path: Path, scene: dict[str, Any]) -> None:
    def identity() -> str:
        return source_identity(open_raster(save(tmp_path / "item.json", scene)))

    first = identity()
    scene["properties"]["updated"] = "2026-01-01T00:00:00Z"
    scene["links"] = [{"rel": "about", "href": "https://example.com"}]
    assert identity() == first
    scene["assets"]["blue"]["raster:bands"][0]["offset"] = 0.0
    second = identity()
    assert second != first
    write(tmp_path / "S2_SCL.tif", 9, pixel=60, dtype="uint8")
    assert identity() not in (first, second)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "Polygon", "coordinates": []}, "belong to --mask"),
        ({"type": "Feature", "id": "x"}, "not a valid STAC Item"),
        ({"type": "Catalog", "id": "c", "description": "c", "links": []}, "leads to no Item"),
        (item({"t": {"href": "x.jpg", "roles": ["thumbnail"]}}), "no raster asset with data .its assets: t."),
        (item({"a": data("/vsicurl/https://example.com/a.tif")}), "is not beside it"),
        (item({"a": data("nowhere.tif")}), "asset a of scene: .*nowhere.tif cannot be read"),
        (item({"a": data("item.json")}), "asset a of scene"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_cure(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_raster(save(tmp_path / "item.json", document))


def test_what_is_no_json_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("<html>")
    with pytest.raises(SourceError, match="is no JSON"):
        open_raster(f"{tmp_path}/a.json")
    with pytest.raises(SourceError, match="does not exist; check the path"):
        open_raster(f"{tmp_path}/b.json")


def test_remote_items_open_remote_assets_by_their_own_address(
    tmp_path: Path, scene: dict[str, Any], served: str
) -> None:
    save(tmp_path / "item.json", scene)
    raster = open_raster(f"{served}/item.json")
    assert raster.variables[0].reader.read(0, Window(0, 0, 1, 1)).tolist() == [[[1000]], [[1000]]]
    assert f"{served}/S2_B02.tif" in raster.files


@pytest.mark.parametrize(
    "href", ["file://{}", "FILE://{}", 'NETCDF:"{}":a', "vrt://{}", "<VRTDataset>{}</VRTDataset>.tif"]
)
def test_a_remote_item_cannot_name_files_of_this_machine(tmp_path: Path, served: str, href: str) -> None:
    secret = write(tmp_path / "secret.tif")
    save(tmp_path / "item.json", item({"a": data(href.format(secret))}))
    with pytest.raises(SourceError, match="is not beside it"):
        open_raster(f"{served}/item.json")
