"""The Items of products: valid, linked to their sources, and listed by a catalogue."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pystac
import pytest
from affine import Affine
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geodiff.io import open_raster
from geodiff.io.places import expanded
from geodiff.io.stacitem import update_catalogue
from geodiff.job import FillJob
from geodiff.pipeline import run
from tests.io.items import catalogue, data, item, product, save, write


def test_the_item_of_a_product_is_valid_and_says_what_a_reader_needs(tmp_path: Path) -> None:
    made = product(
        write(tmp_path / "in" / "a_2021-03-01.tif", nodata=0), tmp_path / "out" / "a.tif", quantiles=(0.05, 0.95)
    )
    assert (made.id, made.datetime.isoformat()) == ("a", "2021-03-01T00:00:00+00:00")
    assert (made.properties["proj:code"], made.properties["proj:shape"]) == ("EPSG:32633", [32, 32])
    assert made.properties["proj:transform"] == [30.0, 0.0, 500_000.0, 0.0, -30.0, 5_000_000.0]
    assert list(made.assets) == ["value", "source", "reason", "standard_error", "quantiles", "record"]
    assert [key for key, asset in made.assets.items() if asset.has_role("data")] == ["value"]
    value = (tmp_path / "out" / "a.tif").read_bytes()
    assert made.assets["value"].extra_fields["file:size"] == len(value)
    assert made.assets["value"].extra_fields["file:checksum"] == f"1220{hashlib.sha256(value).hexdigest()}"
    assert made.assets["value"].to_dict()["bands"] == [{"name": "band_1", "data_type": "uint16", "nodata": 0}]
    assert made.properties["processing:software"]["geodiff"]
    assert made.properties["geodiff:fingerprint"]
    (link,) = made.get_links("derived_from")
    assert link.get_absolute_href() == str(tmp_path / "in" / "a_2021-03-01.tif")
    west, south, east, north = made.bbox
    assert west == pytest.approx(15.0, abs=1e-6)
    assert (east - west, north - south) == pytest.approx((0.0122, 0.00864), rel=0.01)


def test_the_item_of_a_product_can_be_filled_again(tmp_path: Path) -> None:
    product(write(tmp_path / "a_2021-03-01.tif", nodata=0), tmp_path / "out" / "a.tif")
    raster = open_raster(f"{tmp_path}/out/a.stac.json")
    assert [len(variable.bands) for variable in raster.variables] == [1]
    assert str(raster.variables[0].dates[0])[:10] == "2021-03-01"


def test_an_item_is_derived_from_an_item(tmp_path: Path, scene: dict[str, Any]) -> None:
    made = product(save(tmp_path / "in.json", scene), f"{tmp_path}/out/a/")
    assert made.get_links("derived_from")[0].get_absolute_href() == f"{tmp_path}/in.json"
    value = made.assets["scene_bands"] if "scene_bands" in made.assets else made.assets["scene"]
    assert value.to_dict()["bands"][0]["raster:scale"] == 0.0001


def test_several_dates_are_a_period_and_a_store_has_no_checksum(tmp_path: Path) -> None:
    made = product(catalogue(tmp_path), tmp_path / "out" / "cube.zarr")
    assert made.datetime is None
    assert (made.properties["start_datetime"], made.properties["end_datetime"]) == (
        "2021-03-01T00:00:00Z", "2021-03-03T00:00:00Z",
    )  # fmt: skip
    assert "file:checksum" not in made.assets["value"].extra_fields
    assert [band["name"] for band in made.assets["value"].to_dict()["bands"]] == ["ndvi"]


def test_a_picture_without_crs_has_no_geometry(tmp_path: Path) -> None:
    made = product(
        write(tmp_path / "a.tif", crs=None, nodata=0, transform=Affine(2, 0, 0, 0, 2, 0)), tmp_path / "out" / "a.tif"
    )
    assert (made.geometry, made.bbox, made.properties["proj:code"]) == (None, None, None)
    assert "geodiff:datetime_from" in made.properties


MARS = (
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
)


def test_ground_of_mars_is_in_degrees_of_mars_whatever_the_earths_are(tmp_path: Path) -> None:
    place = Affine(0.01, 0, 137.0, 0, -0.01, -4.0)
    made = product(write(tmp_path / "gale.tif", crs=MARS, nodata=0, transform=place), tmp_path / "out" / "gale.tif")
    assert made.properties["ssys:targets"] == ["Mars"]
    assert made.properties["proj:code"] is None
    assert "Mars" in made.properties["proj:wkt2"]
    assert made.bbox == [137.0, -4.32, 137.32, -4.0]


def test_a_product_that_is_there_gets_its_item_later(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a_2021-03-01.tif", nodata=0), tmp_path / "out" / "a.tif"
    run(FillJob.build(source=str(source), target=str(target), filler="laplace"), quiet=True)
    when = target.stat().st_mtime_ns
    made = product(source, target)
    assert list(made.assets) == ["value", "source", "reason", "standard_error", "record"]
    assert target.stat().st_mtime_ns == when


@pytest.mark.parametrize("name", ["a#1", "a?1", "100%", "a%231", "a#1/b"])
def test_signs_that_mean_something_in_a_link_may_stand_in_names(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "in" / f"{name}_2021-03-01.tif", nodata=0)
    target = tmp_path / "out" / f"{name}.tif"
    place = target.with_suffix(".stac.json")
    run(FillJob.build(source=str(source), target=str(target), filler="laplace", stac=str(place)), quiet=True)
    said = json.loads(place.read_text())  # pystac opens no file of such a name
    hrefs = [asset["href"] for asset in said["assets"].values()]
    assert len(set(hrefs)) == len(hrefs) == 5
    assert all((place.parent / unquote(href)).is_file() for href in hrefs)
    assert said["assets"]["value"]["type"].startswith("image/tiff")
    assert (place.parent / unquote(said["links"][0]["href"])).resolve() == source
    update_catalogue(str(target.parent), "filled scenes")
    raster = open_raster(str(target.parent / "catalog.json"))
    assert str(target) in raster.files


def test_a_link_that_its_writer_did_not_quote_is_read_as_it_stands(tmp_path: Path) -> None:
    for name in ("a%20b.tif", "a b.tif", "a+b.tif"):
        write(tmp_path / name, nodata=0)
        source = save(tmp_path / "item.json", item({"a": data(name)}))
        assert str(tmp_path / name) in open_raster(source).files
        (tmp_path / name).unlink()


AFAR = '{"assets": {"x": {"href": "https://there/a.tif", "roles": ["data"]}}}'


def test_a_catalogue_lists_its_items_and_changes_only_with_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        product(write(tmp_path / f"{name}_2021-03-01.tif", nodata=0), tmp_path / "out" / f"{name}.tif")
        assert update_catalogue(f"{tmp_path}/out", "filled scenes")
        assert not update_catalogue(f"{tmp_path}/out/", "filled scenes")
    made = pystac.Catalog.from_file(f"{tmp_path}/out/catalog.json")
    said = made.to_dict()
    assert JsonSchemaSTACValidator().validate(said, pystac.STACObjectType.CATALOG, said["stac_version"], [])
    assert [found.id for found in made.get_items()] == ["a", "b"]
    assert not list((tmp_path / "out").glob(".*partial"))
    (tmp_path / "out/a.tif").unlink()  # by hand
    assert update_catalogue(f"{tmp_path}/out", "filled scenes")
    assert [found.id for found in pystac.Catalog.from_file(f"{tmp_path}/out/catalog.json").get_items()] == ["b"]
    for name, text in (("theirs", '{"assets": {"x": {"href": "gone.tif"}}}'), ("afar", AFAR), ("broken", "{")):
        (tmp_path / f"out/{name}.stac.json").write_text(text)
    assert update_catalogue(f"{tmp_path}/out", "filled scenes")
    listed = json.loads((tmp_path / "out/catalog.json").read_text())["links"]
    assert [link["title"] for link in listed[1:]] == ["afar", "b", "broken", "theirs"]


def test_a_link_to_the_source_holds_no_secret_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", "hunter2")
    source = str(write(tmp_path / "hunter2" / "a_2021-03-01.tif", nodata=0))
    job = FillJob.build(source=source, target=str(tmp_path / "a.tif"), stac=str(tmp_path / "a.json"), filler="idw")
    expanded("https://host/?k=${GEODIFF_TEST_TOKEN}")
    run(job)
    (link,) = pystac.Item.from_file(str(tmp_path / "a.json")).get_links("derived_from")
    assert link.get_href().endswith("***/a_2021-03-01.tif")
