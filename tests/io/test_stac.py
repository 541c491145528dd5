"""STAC in: what an Item says is taken, what it must not name is refused. STAC out: Items that a validator accepts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geodiff.errors import GridError, SourceError
from geodiff.identity import source_identity
from geodiff.inspection import describe, render
from geodiff.io import OpenOptions, open_raster
from geodiff.io.stac import item_places
from geodiff.io.stacitem import update_catalogue
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.pipeline import run

EXTENSIONS = "https://stac-extensions.github.io"


def write(path: Path, value: int = 1000, *, pixel: float = 30, crs: str | None = "EPSG:32633", **options: Any) -> Path:
    """Write a raster of one 960 m square with a hole of nodata 0 in it."""
    size = int(960 / pixel)
    values = np.full((1, size, size), value, options.pop("dtype", "uint16"))
    values[:, 4:9, 5:10] = 0
    place = options.pop("transform", Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000))
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=size, width=size, count=1, dtype=values.dtype, crs=crs, transform=place,
        **options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def item(
    assets: dict[str, Any], name: str = "scene", when: str | None = "2021-03-01T10:00:00Z", **more: Any
) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [], "stac_extensions": [],
        "properties": {"datetime": when, **more}, "assets": assets,
    }  # fmt: skip


def save(path: Path, document: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def data(href: str, name: str = "", **raster: Any) -> dict[str, Any]:
    asset: dict[str, Any] = {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]}
    return asset | ({"eo:bands": [{"name": name}]} if name else {}) | ({"raster:bands": [raster]} if raster else {})


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    """Give an Item as archives write them: bands, a coarser flag band, pictures, the same band in another format."""
    for band in ("B02", "B03"):
        write(tmp_path / f"S2_{band}.tif")
    write(tmp_path / "S2_SCL.tif", 4, pixel=60, dtype="uint8")
    return item(
        {
            "blue-jp2": data("S2_B02.jp2", "B02"),
            "blue": data("S2_B02.tif", "B02", nodata=0, scale=0.0001, offset=-0.1),
            "green": data("./S2_B03.tif", "B03", nodata=0, scale=0.0001, offset=-0.1),
            "scl": data("S2_SCL.tif"),
            "aot": data("S2_AOT.tif"),
            "visual": {"href": "TCI.tif", "roles": ["visual"]},
            "thumbnail": {"href": "x.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        }
    )


# -- an Item


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


# -- several Items


def dates(tmp_path: Path, count: int = 3) -> list[dict[str, Any]]:
    found = []
    for day in range(1, count + 1):
        write(tmp_path / f"d{day}.tif", 100 * day)
        found.append(item({"ndvi": data(f"d{day}.tif", nodata=0)}, f"day-{day}", f"2021-03-{day:02d}T00:00:00Z"))
    return found


def check_stack(source: str) -> None:
    (variable,) = open_raster(source).variables
    assert [str(date)[8:10] for date in variable.dates] == ["01", "02", "03"]
    assert [int(variable.reader.read(n, Window(0, 0, 1, 1))[0, 0, 0]) for n in range(3)] == [100, 200, 300]


def test_an_item_collection_is_a_stack_in_the_order_of_time(tmp_path: Path) -> None:
    source = save(tmp_path / "all.json", {"type": "FeatureCollection", "features": dates(tmp_path)[::-1]})
    check_stack(source)
    assert [place.href for place in item_places(source)] == [f"{source}#day-{n}" for n in (3, 2, 1)]
    assert str(open_raster(f"{source}#day-2").variables[0].dates[0])[:10] == "2021-03-02"


def api(tmp_path: Path, served: str, **said: Any) -> str:
    """The address of an answer of three Items on two pages."""
    features = dates(tmp_path)
    for number, feature in enumerate(features, 1):
        feature["assets"]["ndvi"]["href"] = f"{served}/d{number}.tif"
        feature["links"] = [{"rel": "self", "href": f"{served}/all/items/{feature['id']}"}]
        save(tmp_path / "all/items" / feature["id"], feature)
    following = {"rel": "next", "href": f"{served}/two/items", **said.pop("link", {})}
    answer = {"type": "FeatureCollection", **said}
    save(tmp_path / "one/items", {**answer, "features": features[:2], "links": [following]})
    save(tmp_path / "two/items", {**answer, "features": features[2:], "links": []})
    return f"{served}/one/items"


def test_every_page_of_an_answer_counts_and_an_item_goes_by_its_own_address(tmp_path: Path, served: str) -> None:
    source = api(tmp_path, served, numberMatched=3)
    assert [place.href for place in item_places(source)] == [f"{served}/all/items/day-{n}" for n in (1, 2, 3)]
    check_stack(source)
    (alone,) = open_raster(f"{served}/all/items/day-2").variables
    assert str(alone.dates[0])[:10] == "2021-03-02"
    (named,) = open_raster(f"{source}#day-2").variables
    assert named.dates == alone.dates


def test_an_answer_of_too_many_items_is_refused_before_its_next_page(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"answers with 4,000,000 Items or more, and 10,000 are the most; ask"):
        item_places(api(tmp_path, served, numberMatched=4_000_000))
    monkeypatch.setattr("geodiff.io.catalogue._MOST_ITEMS", 2)
    with pytest.raises(SourceError, match="answers with 3 Items or more, and 2 are"):
        item_places(api(tmp_path, served))


def test_pages_that_are_fetched_otherwise_are_told_of(
    tmp_path: Path, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(item_places(api(tmp_path, served, link={"method": "POST", "body": {"token": "2"}}))) == 2
    assert "the next ones are not fetched like it" in caplog.text


def test_a_secret_in_an_address_comes_from_the_environment(
    tmp_path: Path, scene: dict[str, Any], served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "s3cret" / "item.json", item({"a": data(f"{served}/S2_B02.tif")}))
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", "s3cret")
    (place,) = item_places(served + "/${GEODIFF_TEST_TOKEN}/item.json")
    assert "s3cret" not in place.href
    assert open_raster(place.href).variables[0].reader.read(0, Window(0, 0, 1, 1)).item() == 1000
    with pytest.raises(SourceError, match="NO_SUCH_VARIABLE, which is not set"):
        item_places(served + "/${NO_SUCH_VARIABLE}/item.json")


def catalogue(tmp_path: Path, kind: str = "Catalog") -> str:
    for number, document in enumerate(dates(tmp_path), 1):
        document["assets"]["ndvi"]["href"] = f"../d{number}.tif"
        save(tmp_path / "items" / f"{number}.json", document)
    links = [{"rel": "item", "href": f"./items/{number}.json"} for number in (1, 2, 3)]
    circle = [{"rel": "child", "href": "./catalog.json"}, {"rel": "root", "href": "./catalog.json"}]
    return save(tmp_path / "catalog.json", {"type": kind, "id": "c", "description": "c", "links": [*links, *circle]})


@pytest.mark.parametrize("kind", ["Catalog", "Collection"])
def test_a_catalogue_is_walked_once_even_in_circles(tmp_path: Path, kind: str) -> None:
    check_stack(catalogue(tmp_path, kind))


def test_a_folder_that_holds_nothing_but_a_catalogue_is_that_catalogue(tmp_path: Path) -> None:
    source = Path(catalogue(tmp_path))
    (tmp_path / "moved").mkdir()
    document = json.loads(source.read_text())
    for link in document["links"]:
        link["href"] = f"../{link['href']}"
    save(tmp_path / "moved" / "catalog.json", document)
    check_stack(str(tmp_path / "moved"))


def test_items_on_other_grids_are_no_stack(tmp_path: Path) -> None:
    features = dates(tmp_path)
    write(tmp_path / "d2.tif", pixel=60)
    with pytest.raises(GridError, match="bring all to one grid"):
        open_raster(save(tmp_path / "all.json", {"type": "FeatureCollection", "features": features}))


# -- tiles of a pass


def tile(path: Path, left: int, values: Any, when: str, *, flags: Any = None, **more: Any) -> dict[str, Any]:
    """Write a tile of 30 m pixels whose first column is `left` of a common grid; give its Item."""
    crs, more = more.pop("crs", "EPSG:32633"), {"platform": "sentinel-2a", **more}
    assets = {"red": data(put(path, "red", left, values, crs=crs), nodata=0)}
    if flags is not None:
        assets["scl"] = data(put(path, "scl", left, flags, "uint8"))
    return item(assets, path.name, when, **more)


def put(path: Path, name: str, left: int, values: Any, dtype: str = "uint16", crs: str = "EPSG:32633") -> str:
    numbers = np.asarray(values, dtype)
    file = path.parent / f"{path.name}_{name}.tif"
    with rasterio.open(
        file, "w", driver="GTiff", height=numbers.shape[0], width=numbers.shape[1], count=1, dtype=dtype, crs=crs,
        transform=Affine(30, 0, 500_000 + 30 * left, 0, -30, 5_000_000),
    ) as made:  # fmt: skip
        made.write(numbers[None])
    return file.name


def collection(path: Path, *features: dict[str, Any]) -> str:
    return save(path, {"type": "FeatureCollection", "features": list(features)})


def read(variable: Any, date: int = 0) -> list[list[int]]:
    found: list[list[int]] = variable.reader.read(date, Window(0, 0, *variable.shape[2:]))[0].tolist()
    return found


def test_tiles_of_a_pass_are_one_date_and_the_first_that_knows_a_pixel_gives_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    # a: columns 0 to 3, b: 2 to 5, c: 6 and 7, which only touches b; listed in another order than they were seen in
    a = tile(tmp_path / "a", 0, [[1, 1, 0, 1]] * 2, "2021-03-01T10:00:00Z", flags=[[4, 4, 8, 0]] * 2)
    b = tile(tmp_path / "b", 2, [[2, 2, 2, 0]] * 2, "2021-03-01T10:00:10Z", flags=[[4, 5, 9, 0]] * 2)
    c = tile(tmp_path / "c", 6, [[3, 3]] * 2, "2021-03-01T10:00:20Z", flags=[[4, 3]] * 2)
    raster = open_raster(collection(tmp_path / "all.json", c, b, a))
    red, scl = raster.variables
    assert [str(date)[:19] for date in red.dates] == ["2021-03-01T10:00:00"]
    assert (red.geobox.shape, red.geobox.affine) == ((2, 8), Affine(30, 0, 500_000, 0, -30, 5_000_000))
    assert read(red) == [[1, 1, 2, 2, 2, 0, 3, 3]] * 2  # column 3 of a has a number, but its flags say fill
    assert read(scl) == [[4, 4, 8, 5, 9, 0, 4, 3]] * 2
    assert read(raster.quality[0].variable) == read(scl)
    part = Window(0, 3, 1, 4)
    assert red.reader.read(0, part)[0].tolist() == [[2, 2, 0, 3]]
    assert red.reader.valid(0, part).all()
    assert "3 Items are tiles of 1 pass" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_flags_of_a_tile_that_call_a_pixel_fill_hold_for_its_other_flags_and_values(tmp_path: Path) -> None:
    features = []
    for name, left, red, pixel, saturated in (
        ("a", 0, [[7, 7, 0]], [[21824, 21824, 1]], [[0, 0, 0]]),  # 0 is no nodata here, and fill has no saturation
        ("b", 2, [[8, 8]], [[21824, 21824]], [[8, 0]]),
    ):
        at = tmp_path / name
        assets = {
            "red": data(put(at, "SR_B4", left, red)),
            "qa_pixel": data(put(at, "QA_PIXEL", left, pixel)),
            "qa_radsat": data(put(at, "QA_RADSAT", left, saturated)),
        }
        features.append(item(assets, name))
    raster = open_raster(collection(tmp_path / "all.json", *features))
    found = {variable.name: read(variable)[0] for variable in raster.variables}
    assert found == {"red": [7, 7, 8, 8], "qa_pixel": [21824] * 4, "qa_radsat": [0, 0, 8, 0]}
    assert {band.variable.name: read(band.variable)[0] for band in raster.quality} == {
        name: found[name] for name in ("qa_pixel", "qa_radsat")
    }


def test_info_counts_items_files_and_passes(tmp_path: Path) -> None:
    at = [(day, name, left) for day in (1, 2) for name, left in (("a", 0), ("b", 2))]
    tiles = [tile(tmp_path / f"{name}{day}", left, [[1, 1]], f"2021-03-0{day}T10:00:00Z") for day, name, left in at]
    said = render(describe(collection(tmp_path / "all.json", *tiles)))
    assert "all.json: stack, 4 Items, 4 files" in said
    assert "2 from 2021-03-01" in said


def test_passes_are_dates_on_one_grid_wherever_their_tiles_lie(tmp_path: Path) -> None:
    features = [
        tile(tmp_path / "a1", 0, [[1, 1]], "2021-03-01T10:00:00Z"),
        tile(tmp_path / "b1", 2, [[2, 2]], "2021-03-01T10:00:10Z"),
        tile(tmp_path / "b2", 2, [[3, 3]], "2021-03-02T10:00:00Z"),  # alone, and nothing of what the first one shows
        tile(tmp_path / "a3", 0, [[4, 4]], "2021-03-02T10:05:00Z", platform="sentinel-2b"),  # another satellite
    ]
    (red,) = open_raster(collection(tmp_path / "all.json", *features)).variables
    assert [str(date)[8:16] for date in red.dates] == ["01T10:00", "02T10:00", "02T10:05"]
    assert [read(red, date) for date in range(3)] == [[[1, 1, 2, 2]], [[0, 0, 3, 3]], [[4, 4, 0, 0]]]


def test_the_same_ground_minutes_later_is_another_date(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Geostationary imagers look again at once; one scene cut in two at the same moment is one."""
    at = [tile(tmp_path / f"s{n}", 0, [[n, n, 0]], f"2021-03-01T10:0{n}:00Z", platform="goes-16") for n in (1, 2)]
    (red,) = open_raster(collection(tmp_path / "all.json", *at)).variables
    assert [read(red, date) for date in range(len(red.dates))] == [[[1, 1, 0]], [[2, 2, 0]]]
    half = tile(tmp_path / "s3", 0, [[0, 3, 3]], "2021-03-01T10:01:00Z", platform="goes-16")
    (red,) = open_raster(collection(tmp_path / "all.json", *at, half)).variables
    assert [read(red, date) for date in range(len(red.dates))] == [[[1, 1, 3]], [[2, 2, 0]]]
    assert "s3 shows what another Item shows at the same moment (1 such Items)" in caplog.text


def test_all_tiles_make_the_identity_in_any_order(tmp_path: Path) -> None:
    def identity(*features: dict[str, Any]) -> str:
        return source_identity(open_raster(collection(tmp_path / "all.json", *features)))

    a, b = (tile(tmp_path / name, left, [[1, 1]], "2021-03-01T10:00:00Z") for name, left in (("a", 0), ("b", 2)))
    first = identity(a, b)
    assert identity(b, a) == first
    apart = {**b, "properties": {**b["properties"], "platform": "sentinel-2b"}}  # no tile of that pass, but a date
    assert identity(a, apart) != first
    tile(tmp_path / "b", 2, [[1, 9]], "2021-03-01T10:00:00Z")
    assert identity(a, b) != first


@pytest.mark.parametrize(
    ("left", "crs", "said"),
    [(9, "EPSG:32633", "b shows no ground that touches"), (2, "EPSG:32634", "b has the CRS EPSG:32634 .*gdalwarp")],
)
def test_tiles_that_cannot_lie_on_one_grid_are_refused(tmp_path: Path, left: int, crs: str, said: str) -> None:
    a = tile(tmp_path / "a", 0, [[1, 1]], "2021-03-01T10:00:00Z")
    b = tile(tmp_path / "b", left, [[1, 1]], "2021-03-01T10:00:00Z", crs=crs)
    with pytest.raises(GridError, match=f"all.json#{said}"):
        open_raster(collection(tmp_path / "all.json", a, b))


def test_products_of_passes_have_a_name_a_date_and_are_derived_from_every_item(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    features = []
    for day in (1, 2):
        for name, left in (("a", 0), ("b", 12)):
            values = rng.integers(900, 1100, (16, 16))
            values[3 * day : 3 * day + 3, 6:9] = 0
            features.append(tile(tmp_path / f"{name}{day}", left, values, f"2021-03-0{day}T10:00:00Z"))
    source = collection(tmp_path / "all.json", *features)
    made = product(source, f"{tmp_path}/out/")
    assert sorted(path.name for path in (tmp_path / "out").glob("*00.tif")) == [
        f"all_2021030{day}T100000.tif" for day in (1, 2)
    ]
    links = [link["href"] for link in made.to_dict()["links"] if link["rel"] == "derived_from"]
    assert links == [f"./all.json#{name}{day}" for day in (1, 2) for name in "ab"]
    for day in (1, 2):
        with rasterio.open(tmp_path / f"out/all_2021030{day}T100000.tif") as file:
            red = file.read(1)
        assert red.shape == (16, 28)
        assert (red > 0).all()
        for name, left, skipped in (("a", 0, 0), ("b", 16, 4)):  # columns 12 to 15 are in both
            with rasterio.open(tmp_path / f"{name}{day}_red.tif") as file:
                given = file.read(1)[:, skipped:]
            seen = given > 0
            np.testing.assert_array_equal(red[:, left : left + given.shape[1]][seen], given[seen])


def test_an_item_beside_a_raster_tells_its_date(tmp_path: Path) -> None:
    for number, day in ((1, "2021-05-02"), (2, "2021-05-01")):
        write(tmp_path / f"scene_{number}.tif", number)
        save(tmp_path / f"scene_{number}.json", item({}, when=f"{day}T00:00:00Z"))
    found = open_raster(str(tmp_path)).variables[0].dates
    assert [str(date)[:10] for date in found] == ["2021-05-01", "2021-05-02"]


# -- what is refused


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "Polygon", "coordinates": []}, "belong to --mask"),
        ({"type": "Feature", "id": "x"}, "no valid STAC Item"),
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


# -- elsewhere


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


# -- out


def fields(prefix: str, **known: Any) -> dict[str, Any]:
    """A schema that knows these fields of a prefix, and no others of it."""
    named = {f"{prefix}:{name}": schema for name, schema in known.items()}
    return {
        "type": "object",
        "properties": named,
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }


def extension(name: str, version: str, known: dict[str, Any], bands: dict[str, Any] | None = None) -> tuple[str, Any]:
    """What an extension asks of an Item, as far as products use it; the published schemas are online only."""
    url = f"{EXTENSIONS}/{name}/v{version}/schema.json"
    asset = known if bands is None else {"allOf": [known, {"properties": {"bands": {"type": "array", "items": bands}}}]}
    properties = {
        "stac_extensions": {"contains": {"const": url}},
        "properties": known,
        "assets": {"additionalProperties": asset},
    }
    return url, {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": url,
        "type": "object",
        "properties": properties,
    }


NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 6, "maxItems": 9}
SCHEMAS = dict(
    [
        extension(
            "projection", "2.0.0",
            fields(
                "proj", code={"type": ["string", "null"]}, wkt2={"type": ["string", "null"]}, transform=NUMBERS,
                shape={"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            ),
        ),
        extension(
            "raster", "2.0.0", fields("raster"), fields("raster", scale={"type": "number"}, offset={"type": "number"})
        ),
        extension(
            "processing", "1.2.0",
            fields(
                "processing", lineage={"type": "string"},
                software={"type": "object", "additionalProperties": {"type": "string"}},
            ),
        ),
        extension(
            "file", "2.1.0",
            fields("file", size={"type": "integer"}, checksum={"type": "string", "pattern": "^1220[a-f0-9]{64}$"}),
        ),
        extension("ssys", "1.1.0", fields("ssys", targets={"type": "array", "items": {"type": "string"}})),
    ]
)  # fmt: skip


def valid(path: Path) -> pystac.Item:
    """Read an Item that pystac's validator accepts: the core by its own schemas, the extensions by the above."""
    found = pystac.Item.from_file(str(path))
    validator = JsonSchemaSTACValidator()
    validator.schema_cache |= SCHEMAS
    said = json.loads(path.read_text())
    checked = validator.validate(
        said, pystac.STACObjectType.ITEM, said["stac_version"], said["stac_extensions"], str(path)
    )
    assert len(checked) == 1 + len(said["stac_extensions"])
    return found


def product(source: Path | str, target: Path | str, **options: Any) -> pystac.Item:
    place = Path(f"{str(target).rstrip('/').removesuffix('.tif').removesuffix('.zarr')}.stac.json")
    run(FillJob.build(source=str(source), target=str(target), filler="laplace", stac=str(place), **options), quiet=True)
    return valid(place)


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
