"""Tiles of a pass are one date, on one grid wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.errors import GridError
from geodiff.identity import source_identity
from geodiff.inspection import describe, render
from geodiff.io import open_raster
from geodiff.lattice import Window
from tests.io.items import data, item, product, save, write


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
    [(9, "EPSG:32633", "b does not touch the other rasters"), (2, "EPSG:32634", "b has the CRS EPSG:32634 .*gdalwarp")],
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
