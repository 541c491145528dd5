"""`geodiff info` counts what the plan counts, says what it reads, and draws what is there."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from geodiff.errors import FlagError, SourceError
from geodiff.inspection import counting, describe, picture, render, thumbnail

HERE = Affine(30, 0, 400000, 0, -30, 5000000)


def write(path: Path, values: NDArray[Any], place: Affine | None = HERE, **profile: Any) -> str:
    bands, rows, columns = values.shape
    where = {} if place is None else {"transform": place, "crs": profile.pop("crs", "EPSG:32633")}
    options = {"driver": "GTiff", "count": bands, "height": rows, "width": columns, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **{**options, **where, **profile}) as dataset:
        dataset.write(values)
    return str(path)


@pytest.fixture
def scene(tmp_path: Path, rng: np.random.Generator) -> str:
    """Three bands of int16 with a collar of 50 columns and a hole of 20 x 10 in the middle."""
    values = rng.integers(1, 1000, (3, 120, 160)).astype(np.int16)
    values[:, :, :50] = -1
    values[:, 50:70, 100:110] = -1
    return write(tmp_path / "scene.tif", values, nodata=-1)


def only(facts: dict[str, Any]) -> dict[str, Any]:
    (variable,) = facts["variables"]
    return dict(variable)


def test_gaps_are_counted_and_the_collar_is_left_out(scene: str) -> None:
    gaps = only(describe(scene))["gaps"]
    assert gaps["exact"]
    assert gaps["values"] == 3 * 120 * 160
    assert gaps["missing"] == 3 * (120 * 50 + 200)
    assert gaps["to_fill"] == 3 * 200
    assert gaps["left_out"] == {"collar": 3 * 120 * 50}
    assert gaps["reasons"] == {"nodata": pytest.approx(gaps["missing"] / gaps["values"])}


def test_the_thumbnail_is_of_a_date_with_gaps_where_one_has_some() -> None:
    counts = np.zeros((5, 2, 3), int)
    assert counting._typical_date(SimpleNamespace(gap_counts=counts)) == 2
    counts[3] = 1
    assert counting._typical_date(SimpleNamespace(gap_counts=counts)) == 3
    counts[:, 0, 0] += [5, 1, 1, 2, 9]  # now the one in the middle
    assert counting._typical_date(SimpleNamespace(gap_counts=counts)) == 0


def test_the_counts_are_those_of_the_plan(scene: str, tmp_path: Path) -> None:
    from geodiff.job import FillJob
    from geodiff.pipeline import plan

    planned = plan(FillJob.build(source=scene, target=str(tmp_path / "f.tif"), filler="laplace"))
    (of_plan,) = planned.facts()["variables"].values()
    gaps = only(describe(scene))["gaps"]
    for name in ("values", "missing", "to_fill", "reasons"):
        assert gaps[name] == of_plan[name]
    assert gaps["left_out"] == {cause: n for cause, n in of_plan["left_out"].items() if n}


def test_what_is_missing_can_be_said_as_for_fill(scene: str, tmp_path: Path) -> None:
    with rasterio.open(scene) as opened:
        numbers = opened.read()
    marked = np.zeros((1, 120, 160), np.uint8)
    marked[0, 90:100, 80:90] = 1
    mask = write(tmp_path / "mask.tif", marked)
    plain, told = only(describe(scene)), only(describe(scene, mask=(mask,), valid_range=(100, 1e4), fillable="all"))
    assert told["gaps"]["missing"] == int(((numbers < 100) | (marked > 0)).sum()) > plain["gaps"]["missing"]
    assert told["gaps"]["to_fill"] == told["gaps"]["missing"]
    assert only(describe(scene, nodata=7))["gaps"]["missing"] > plain["gaps"]["missing"] or not (numbers == 7).any()


def test_grid_and_encoding_are_told(scene: str) -> None:
    facts = only(describe(scene))
    grid = facts["grid"]
    assert grid["crs"] == "EPSG:32633 (WGS 84 / UTM zone 33N)"
    assert grid["affine"] == [30, 0, 400000, 0, -30, 5000000]
    assert grid["bounds"] == [400000, 5000000 - 120 * 30, 400000 + 160 * 30, 5000000]
    assert grid["pixel"] == [30, 30]
    assert [band["dtype"] for band in facts["bands"]] == ["int16"] * 3
    assert facts["bands"][0]["nodata"] == -1
    assert facts["dates"] is None


def test_scale_offset_and_units_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tif", np.ones((1, 8, 8), np.int16), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.units = (0.01,), (273.15,), ("K",)
    text = render(describe(path))
    assert "physical = stored x 0.01 +273.15" in text
    assert ", in K" in text


@pytest.mark.parametrize(
    ("place", "word"),
    [(Affine(30, 0, 0, 0, 30, 0), "south-up"), (Affine(21, 21, 0, 21, -21, 0), "rotated"), (HERE, "30 x 30 metre\n")],
)
def test_the_grid_s_turn_is_told(tmp_path: Path, place: Affine, word: str) -> None:
    assert word in render(describe(write(tmp_path / "t.tif", np.ones((1, 9, 9), np.uint8), place)))


def test_a_frame_without_georeferencing_has_no_place(tmp_path: Path) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        frame = write(tmp_path / "frame.png", np.full((1, 40, 60), 9, np.uint8), None, driver="PNG")
    facts = describe(frame)
    assert only(facts)["grid"] == {"rows": 40, "columns": 60, "georeferenced": False, "crs": None}
    assert "camera frame" in render(facts)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ground_control_points_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "sar.tif", np.full((1, 40, 60), 9, np.uint8), None)
    with rasterio.open(path, "r+") as dataset:
        places = [(0, 0, 10.0, 46.0), (0, 60, 10.1, 46.0), (40, 0, 10.0, 45.9)]
        dataset.gcps = [GroundControlPoint(*place) for place in places], rasterio.CRS.from_epsg(4326)
    facts = describe(path)
    assert only(facts)["grid"]["control_points"] == 3
    assert "place     3 ground control points" in render(facts)


def test_a_source_of_which_nothing_is_known_says_so(tmp_path: Path) -> None:
    shown = render(describe(write(tmp_path / "empty.tif", np.zeros((1, 40, 60), np.uint8), nodata=0)))
    assert "no value is known, so nothing can be filled" in shown
    assert "would fill it" not in shown


def test_palettes_are_shown_and_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    write(path, np.ones((1, 16, 16), np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0, 255)})
    facts = describe(str(path))
    assert only(facts)["bands"][0]["kind"] == "palette"
    assert "gaps" not in only(facts)
    assert "no continuous band" in render(facts)


@pytest.mark.parametrize("nodata", [float("nan"), -3.4028234663852886e38])
def test_json_holds_no_nan(tmp_path: Path, nodata: float) -> None:
    values = np.full((1, 40, 40), 2.5, np.float32)
    values[0, 10:20, 10:20] = nodata
    facts = describe(write(tmp_path / "f.tif", values, nodata=nodata))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert only(facts)["gaps"]["to_fill"] == 100


def test_no_gaps_are_said_in_a_word(tmp_path: Path) -> None:
    assert "gaps      none" in render(describe(write(tmp_path / "f.tif", np.ones((1, 9, 9), np.uint8))))


def test_what_cannot_be_read_or_is_not_known_is_refused(scene: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        describe(str(tmp_path / "missing.tif"))
    with pytest.raises(FlagError, match="landsat-c2"):
        describe(scene, qa=("nonsense",))


def test_a_source_too_large_is_looked_at_in_parts_and_says_so(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = only(describe(scene))["gaps"]
    monkeypatch.setattr(counting, "_EXACT", 1000)
    facts = describe(scene)
    rough = only(facts)["gaps"]
    assert not rough["exact"]
    assert rough["missing"] == pytest.approx(exact["missing"], rel=0.1)
    assert "estimated from" in render(facts)
    assert "×" in render(facts)
    assert rough["left_out"] == {"collar": pytest.approx(exact["left_out"]["collar"], rel=0.1)}
    assert rough["to_fill"] == pytest.approx(exact["to_fill"], rel=0.2)
    assert rough["to_fill"] + rough["left_out"]["collar"] == rough["missing"]
    assert "the scene's collar" in render(facts)
    everything = only(describe(scene, fillable="all"))["gaps"]
    assert (everything["to_fill"], everything["left_out"]) == (everything["missing"], {})


def test_a_large_stack_is_looked_at_for_what_no_date_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dates"
    folder.mkdir()
    for day in (1, 2, 3):
        values = np.full((1, 90, 120), 7, np.int16)
        values[:, :, :40] = -1
        values[:, 20 * day : 20 * day + 10, 60:100] = -1
        write(folder / f"2024-06-0{day}.tif", values, nodata=-1)
    exact = only(describe(str(folder)))["gaps"]
    monkeypatch.setattr(counting, "_EXACT", 1000)
    facts = describe(str(folder))
    rough = only(facts)["gaps"]
    assert rough["left_out"] == {"never_seen": pytest.approx(exact["left_out"]["never_seen"], rel=0.1)}
    assert "at most: none of the dates looked at saw it" in render(facts)


def test_looking_at_parts_reads_little_of_a_large_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = write(tmp_path / "large.tif", np.ones((1, 4000, 4000), np.uint8), tiled=True, compress="deflate")
    monkeypatch.setattr(counting, "_EXACT", 1000)
    monkeypatch.setattr(counting, "_PROBE", 8)
    assert only(describe(large))["gaps"]["looked_at"] <= 64 * 28 * 64


def test_it_writes_nothing(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working store for each of 500 variables took most of the time, and room where a disk is full."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    before = sorted(Path(scene).parent.iterdir())
    describe(scene)
    assert sorted(Path(scene).parent.iterdir()) == before
    assert logging.getLogger("geodiff").level == logging.NOTSET


def test_the_thumbnail_marks_hole_and_collar(scene: str) -> None:
    lines = only(describe(scene))["thumbnail"]["lines"]
    width = len(lines[0])
    assert all(line[: round(width * 45 / 160)] == "·" * round(width * 45 / 160) for line in lines)
    marked = [(i / len(lines), j / width) for i, line in enumerate(lines) for j, c in enumerate(line) if c == "×"]
    rows, columns = zip(*marked, strict=True)
    assert 50 / 120 - 0.05 <= min(rows) <= max(rows) <= 70 / 120 + 0.05
    assert 100 / 160 - 0.05 <= min(columns) <= max(columns) <= 110 / 160 + 0.05


@given(st.integers(1, 400), st.integers(1, 400))
def test_the_thumbnail_has_at_most_64_by_28_characters(rows: int, columns: int) -> None:
    height, width = picture.picture_shape((rows, columns))
    assert 1 <= height <= min(28, rows)
    assert 1 <= width <= min(64, columns)


@given(st.integers(1, 300), st.integers(1, 300))
def test_probes_lie_inside_the_raster(rows: int, columns: int) -> None:
    cells = picture.picture_shape((rows, columns))
    for _, window in counting._probes((rows, columns), cells):
        assert 0 <= window.row < window.stop[0] <= rows
        assert 0 <= window.column < window.stop[1] <= columns


def test_brighter_is_fuller() -> None:
    ramp = np.linspace(0, 1, 20)[None, :]
    nothing = np.zeros_like(ramp)
    (line,) = thumbnail(ramp, nothing, nothing)
    order = [" ░▒▓█".index(c) for c in line]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2, 3, 4}


def test_an_unknown_or_flat_picture_is_drawn_all_the_same() -> None:
    flat, nothing = np.full((2, 3), 7.0), np.zeros((2, 3))
    assert thumbnail(flat, nothing, nothing) == ["   "] * 2
    assert thumbnail(flat * np.nan, nothing, nothing) == ["···"] * 2
    assert thumbnail(flat, nothing + 1, nothing) == ["×××"] * 2


def test_real_cubes_tell_dates_and_land(data_dir: Path) -> None:
    found = sorted((data_dir / "train" / "iris-sample-data").rglob("ostia_monthly.nc"))
    if not found:
        pytest.skip("needs ostia_monthly.nc in GEODIFF_DATA/train/iris-sample-data")
    facts = next(v for v in describe(str(found[0]))["variables"] if v["name"] == "surface_temperature")
    assert facts["dates"]["count"] == 54
    assert facts["gaps"]["to_fill"] == 0
    assert facts["gaps"]["left_out"] == {"never_seen": facts["gaps"]["missing"]}
    assert 28 < facts["dates"]["median_step_days"] < 32


def test_a_crs_without_a_name_is_told_by_its_projection(tmp_path: Path) -> None:
    crs = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
    path = write(tmp_path / "tile.tif", np.ones((1, 8, 8), np.float32), crs=crs)
    assert only(describe(path))["grid"]["crs"] == "unnamed, Sinusoidal"


def _stack(path: Path, time: Any, **attributes: Any) -> str:
    """A cube whose time axis holds these numbers, with what `info` says of its dates."""
    axes = {"time": ("time", time, attributes), "lat": [1.0, 2.0, 3.0], "lon": [4.0, 5.0, 6.0]}
    low = {"valid_min": np.float32(-1.8)}
    xr.Dataset({"v": (("time", "lat", "lon"), np.ones((len(time), 3, 3), "f4"), low)}, axes).to_netcdf(path)
    text = render(describe(str(path)))
    assert "valid -1.8 to inf" in text
    return next((line.strip() for line in text.splitlines() if line.startswith("  dates")), "")


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([0, 1, 2, 4], "4 from 2020-01-01 to 2020-01-05, 1 day apart in the median"),
        ([4, 0, 2, 3], "4 from 2020-01-01 to 2020-01-05, 1 day apart in the median, not in the order of time"),
        ([7], "2020-01-08"),
    ],
)
def test_dates_are_told_from_first_to_last_in_any_order(tmp_path: Path, days: list[int], expected: str) -> None:
    assert _stack(tmp_path / "cube.nc", days, units="days since 2020-01-01") == f"dates     {expected}"


def test_dates_without_a_time_are_told(tmp_path: Path) -> None:
    said = _stack(tmp_path / "cube.nc", [1, 2, 3], long_name="month")
    assert said == "dates     3 without a time that could be read; taken for evenly spaced, in the order of the file"


def test_a_south_up_map_has_its_north_above(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(1, 1000, (1, 120, 160)).astype(np.int16)
    values[:, 10:40, 60:100] = -1
    name = write(tmp_path / "scene.tif", values, Affine(30, 0, 400000, 0, 30, 5000000), nodata=-1)
    lines = only(describe(name))["thumbnail"]["lines"]
    marked = [i / len(lines) for i, line in enumerate(lines) if "×" in line]
    assert min(marked) > 0.6
