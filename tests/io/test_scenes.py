"""Scene folders: bands by name, quality bands with their presets, coarse bands on their own grid or all on one."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff import fill
from geodiff.errors import GeodiffError, SourceError, TargetError
from geodiff.flags import decode
from geodiff.gaps import Reason
from geodiff.io import Kind, OpenOptions, Product, ProductVariable, open_raster, write_product
from geodiff.io.scenes import is_scene, scene_files
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.scene import open_scene

CORNER = (399_960.0, 4_900_020.0)


def write(path: Path, values: np.ndarray, pixel: float, **profile: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1])
    driver = "JP2OpenJPEG" if path.suffix == ".jp2" else "GTiff"
    quality = {"quality": 100, "reversible": "yes"} if driver == "JP2OpenJPEG" else {}
    rows, columns = values.shape
    with rasterio.open(
        path,
        "w",
        driver=driver,
        height=rows,
        width=columns,
        count=1,
        dtype=values.dtype,
        crs="EPSG:32633",
        transform=affine,
        **quality,
        **profile,
    ) as file:
        file.write(values, 1)


def landsat(folder: Path, rng: np.random.Generator) -> Path:
    stem = "LC08_L2SP_190030_20210131_20210302_02_T1"
    for band in ("SR_B2", "SR_B10", "SR_B4"):
        write(folder / f"{stem}_{band}.TIF", rng.integers(1, 999, (60, 70)).astype("u2"), 30, nodata=0)
    write(folder / f"{stem}_QA_PIXEL.TIF", rng.choice(np.array([1, 21824, 22280], "u2"), (60, 70)), 30, nodata=1)
    write(folder / f"{stem}_QA_RADSAT.TIF", np.zeros((60, 70), "u2"), 30)
    (folder / f"{stem}_MTL.txt").write_text("GROUP = LANDSAT_METADATA_FILE\n")
    return folder


SAFE = "S2A_MSIL2A_20210131T101251_N0214_R022_T33TVK_20210131T114354.SAFE"


def sentinel(folder: Path, rng: np.random.Generator) -> Path:
    data = folder / SAFE / "GRANULE/L2A_T33TVK_A029300_20210131T101248/IMG_DATA"
    for band, pixel, size in (("B02", 10, 120), ("B8A", 20, 60), ("B01", 60, 20), ("SCL", 20, 60)):
        values = rng.integers(1, 11, (size, size)).astype("u1" if band == "SCL" else "u2")
        write(data / f"R{pixel}m/T33TVK_20210131T101251_{band}_{pixel}m.jp2", values, pixel)
    write(data / "R20m/T33TVK_20210131T101251_B02_20m.jp2", np.ones((60, 60), "u2"), 20)
    write(data / "R10m/T33TVK_20210131T101251_TCI_10m.jp2", np.ones((120, 120), "u1"), 10)
    return folder / SAFE


def hls(folder: Path, rng: np.random.Generator) -> Path:
    for band in ("B03", "B04", "Fmask"):
        values = (
            rng.integers(0, 64, (50, 50)).astype("u1")
            if band == "Fmask"
            else rng.integers(-9, 999, (50, 50)).astype("i2")
        )
        write(
            folder / f"HLS.S30.T33TVK.2021031T101251.v2.0.{band}.tif",
            values,
            30,
            nodata=255 if band == "Fmask" else -9999,
        )
    return folder


def test_landsat_bands_by_name_and_quality_found(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(str(landsat(tmp_path / "scene", rng)))
    assert raster.driver == "scene folder"
    bands = next(v for v in raster.variables if v.name == "bands")
    assert [b.name for b in bands.bands] == ["SR_B2", "SR_B4", "SR_B10"]
    assert bands.bands[0].encoding.nodata == 0
    assert [str(d) for d in bands.dates] == ["2021-01-31T00:00:00.000000000"]
    assert {(q.preset, q.layer) for q in raster.quality} == {("landsat-c2", "QA_PIXEL"), ("landsat-c2", "QA_RADSAT")}
    flags = {v.name: v for v in raster.variables if v.name != "bands"}
    assert all(b.kind is Kind.FLAGS for v in flags.values() for b in v.bands)
    window = Window(3, 5, 20, 30)
    stacked = bands.reader.read(0, window)
    for place, band in enumerate(("SR_B2", "SR_B4", "SR_B10")):
        with rasterio.open(next((tmp_path / "scene").glob(f"*_{band}.TIF"))) as file:
            np.testing.assert_array_equal(stacked[place], file.read(1)[window.slices])
    decode(flags["QA_PIXEL"].reader.read(0, window), "landsat-c2")
    assert len(raster.files) == 5


@pytest.mark.parametrize("stem", ["LC81900302016031LGN00", "LE71900302016031EDC00"])
def test_landsat_from_before_there_were_collections(tmp_path: Path, rng: np.random.Generator, stem: str) -> None:
    values = rng.integers(1, 999, (60, 70)).astype("u2")
    values[:, :9] = 0
    for band in ("B2", "B10", "B6_VCID_1"):
        write(tmp_path / f"{stem}_{band}.TIF", values, 30)
    write(tmp_path / f"{stem}_B8.TIF", values.repeat(2, 0).repeat(2, 1), 15)
    if stem.startswith("LC8"):
        write(tmp_path / f"{stem}_BQA.TIF", rng.choice(np.array([1, 20480, 53248], "u2"), (60, 70)), 30)
    (tmp_path / f"{stem}_MTL.txt").write_text("GROUP = L1_METADATA_FILE\n")
    raster = open_raster(str(tmp_path))
    held = {v.name: [b.name for b in v.bands] for v in raster.variables if v.name != "BQA"}
    assert held == {"bands_30m": ["B2", "B6_VCID_1", "B10"], "bands_15m": ["B8"]}
    assert [str(d)[:10] for d in raster.variables[0].dates] == ["2016-01-31"]
    assert all(b.encoding.nodata == 0 for v in raster.variables for b in v.bands if v.name != "BQA")
    found = [(q.preset, q.layer) for q in raster.quality]
    assert found == ([("landsat-c1", "BQA until 2017")] if stem.startswith("LC8") else [])


def test_sentinel_keeps_coarse_bands_on_their_own_grid(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(str(sentinel(tmp_path, rng)))
    shapes = {v.name: ([b.name for b in v.bands], v.shape[2:]) for v in raster.variables}
    assert shapes == {
        "bands_10m": (["B02"], (120, 120)),
        "bands_20m": (["B8A"], (60, 60)),
        "bands_60m": (["B01"], (20, 20)),
        "SCL": (["SCL"], (60, 60)),
    }
    assert [(q.preset, q.variable.name) for q in raster.quality] == [("sentinel2-scl", "SCL")]
    assert raster.variables[0].dates[0] == np.datetime64("2021-01-31T10:12:51")
    assert {b.encoding.nodata for v in raster.variables for b in v.bands if b.kind is Kind.CONTINUOUS} == {0}


@pytest.mark.parametrize("resolution", [10.0, 20.0])
def test_a_resolution_brings_all_bands_to_one_grid(tmp_path: Path, rng: np.random.Generator, resolution: float) -> None:
    source = str(sentinel(tmp_path, rng))
    own = {b.name: v for v in open_raster(source).variables for b in v.bands}
    raster = open_raster(source, OpenOptions(resolution=resolution))
    size = int(1200 / resolution)
    assert {v.shape[2:] for v in raster.variables} == {(size, size)}
    assert {tuple(v.geobox.affine)[:6] for v in raster.variables} == {
        (resolution, 0, CORNER[0], 0, -resolution, CORNER[1])
    }
    bands = next(v for v in raster.variables if v.name == "bands")
    assert [b.name for b in bands.bands] == ["B01", "B02", "B8A"]
    classes = next(v for v in raster.variables if v.name == "SCL").reader.read(0, Window(0, 0, size, size))[0]
    factor = int(20 / resolution)
    np.testing.assert_array_equal(
        classes, np.repeat(np.repeat(own["SCL"].reader.read(0, Window(0, 0, 60, 60))[0], factor, 0), factor, 1)
    )
    whole = bands.reader.read(0, Window(0, 0, size, size))
    native = own["B02" if resolution == 10 else "B8A"]
    np.testing.assert_array_equal(
        whole[1 if resolution == 10 else 2], native.reader.read(0, Window(0, 0, size, size))[0]
    )
    part = Window(7, 11, 30, 25)
    np.testing.assert_array_equal(bands.reader.read(0, part), whole[(slice(None), *part.slices)])


def test_hls_has_fmask_and_ordinal_dates(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(str(hls(tmp_path / "hls", rng)))
    assert [(q.preset, q.variable.name) for q in raster.quality] == [("hls-fmask", "Fmask")]
    assert raster.variables[0].dates[0] == np.datetime64("2021-01-31T10:12:51")


@pytest.mark.parametrize("target", ["filled/", "filled.zarr"])
def test_angles_are_known_under_clouds(tmp_path: Path, rng: np.random.Generator, target: str) -> None:
    """Where the sun stands and how far the next cloud is, no cloud hides: copied, never estimated."""
    folder = hls(tmp_path / "scene", rng)
    for angle in ("SZA", "VAA"):
        values = rng.integers(3000, 5000, (50, 50)).astype("u2")
        write(folder / f"HLS.S30.T33TVK.2021031T101251.v2.0.{angle}.tif", values, 30, nodata=40000)
    record = fill(str(folder), f"{tmp_path}/{target}", filler="nearest")
    assert list(record.variables) == ["bands"]
    found = {v.name: v for v in open_raster(str(folder)).variables}
    assert found["SZA"].bands[0].kind is not Kind.CONTINUOUS
    names = {b.name for v in open_raster(f"{tmp_path}/{target}").variables for b in v.bands}
    assert target == "filled/" or {"SZA", "VAA"} <= names


@pytest.mark.parametrize("names", ["B02 B04 B11 SCL", "blue red swir16 scl"])
@pytest.mark.parametrize("resolution", [None, 10])
def test_sentinel_cogs_in_their_items_folder_are_a_scene(
    tmp_path: Path, rng: np.random.Generator, names: str, resolution: int | None
) -> None:
    """As they come from Earth Search: the tile and the day stand in the folder's name, the files are called by band."""
    folder = tmp_path / "S2B_33TVK_20210131_0_L2A"
    for band, pixel, size in zip(names.split(), (10, 10, 20, 20), (60, 60, 30, 30), strict=True):
        values = rng.choice([4, 9], (size, size)).astype("u1" if band in ("SCL", "scl") else "u2")
        write(folder / f"{band}.tif", values, pixel, nodata=0)
    write(folder / "visual.tif", np.ones((60, 60), "u1"), 10)
    raster = open_raster(str(folder), OpenOptions(resolution=resolution))
    assert raster.driver == "scene folder"
    assert {str(date)[:10] for v in raster.variables for date in v.dates} == {"2021-01-31"}
    assert [q.preset for q in raster.quality] == ["sentinel2-scl"]
    continuous = [b.name for v in raster.variables for b in v.bands if b.kind is Kind.CONTINUOUS]
    assert continuous == names.split()[:3]
    flags = raster.quality[0].variable
    assert set(np.unique(flags.reader.read(0, Window(0, 0, *flags.shape[2:])))) == {4, 9}  # never averaged


def test_landsat_tiles_of_the_united_states_are_scenes(tmp_path: Path, rng: np.random.Generator) -> None:
    stem = "LC08_CU_029006_20210601_20210618_02"
    for band in ("SR_B2", "QA_PIXEL"):
        write(tmp_path / f"{stem}_{band}.TIF", rng.choice(np.array([21824], "u2"), (20, 20)), 30)
    raster = open_raster(str(tmp_path))
    assert [q.preset for q in raster.quality] == ["landsat-c2"]
    assert {str(date)[:10] for v in raster.variables for date in v.dates} == {"2021-06-01"}


def test_a_folder_of_other_things_is_no_scene(tmp_path: Path) -> None:
    (tmp_path / "LC08_notes.TIF").touch()
    assert not is_scene(str(tmp_path))
    with pytest.raises(GeodiffError):
        open_raster(str(tmp_path))


def test_two_scenes_in_one_folder_are_refused_and_in_two_are_a_stack(tmp_path: Path, rng: np.random.Generator) -> None:
    first = landsat(tmp_path / "one", rng)
    for path in list(first.iterdir()):
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / "two" / path.name.replace("20210131", "20210216")).write_bytes(path.read_bytes())
    raster = open_raster(str(tmp_path))
    assert raster.driver == "stack"
    assert [str(d)[:10] for d in raster.variables[0].dates] == ["2021-01-31", "2021-02-16"]
    assert all(len(q.variable.dates) == 2 for q in raster.quality)
    for path in (tmp_path / "two").iterdir():
        path.rename(first / path.name)
    with pytest.raises(SourceError, match="2 scenes"):
        open_raster(str(first))


def test_shifted_scenes_are_a_stack_with_their_quality_bands(tmp_path: Path, rng: np.random.Generator) -> None:
    for day, shift in (("20210131", 0), ("20210216", 90)):
        stem = f"LC08_L2SP_190030_{day}_20210302_02_T1"
        place = Affine(30, 0, CORNER[0] + shift, 0, -30, CORNER[1])
        cloud = np.full((60, 70), 21824, "u2")
        cloud[10:14, 30:36] = 22280
        for band, values in (("SR_B4", rng.integers(1, 999, (60, 70)).astype("u2")), ("QA_PIXEL", cloud)):
            path = tmp_path / "in" / stem / f"{stem}_{band}.TIF"
            write(path, values, 30, nodata=1 if band == "QA_PIXEL" else 0)
            with rasterio.open(path, "r+") as file:
                file.transform = place
    scene = open_scene(FillJob.build(source=f"{tmp_path}/in", target="out.zarr"))
    (cube,) = scene.cubes
    assert cube.shape == (60, 73)
    for date, left in ((0, 0), (1, 3)):
        reason = cube.reason(date, Window(0, 0, 60, 73))[0]
        assert (reason[10:14, left + 30 : left + 36] & Reason.CLOUD).all()
        outside = np.ones((60, 73), bool)
        outside[:, left : left + 70] = False
        assert (reason[outside] & Reason.NODATA).all()
        assert np.count_nonzero(reason) == 24 + 180
    fill(f"{tmp_path}/in", f"{tmp_path}/out/", filler="linear-time")
    with rasterio.open(tmp_path / "out/LC08_L2SP_190030_20210216_20210302_02_T1_SR_B4.tif") as file:
        given = read_of(tmp_path, "20210216")
        known = cube.reason(1, Window(0, 0, 60, 73))[0][:, 3:] == 0
        np.testing.assert_array_equal(file.read(1)[:, 3:][known], given[known])


def read_of(folder: Path, day: str) -> np.ndarray:
    with rasterio.open(next(folder.glob(f"in/LC08*{day}*/*_SR_B4.TIF"))) as file:
        values: np.ndarray = file.read(1)
    return values


def test_bands_are_sorted_as_people_count(tmp_path: Path) -> None:
    for band in ("B10", "B8A", "B2", "B8"):
        (tmp_path / f"LC08_L1TP_190030_20210131_20210302_02_T1_{band}.TIF").touch()
    assert [file.band for file in scene_files(tmp_path)] == ["B2", "B8", "B8A", "B10"]


def test_a_scene_is_written_as_a_folder_or_its_bands_as_one_file(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(str(landsat(tmp_path / "scene", rng)))
    bands = next(v for v in raster.variables if v.name == "bands")
    values = bands.reader.read(0, Window(0, 0, 60, 70))[None]
    filled = ProductVariable(
        bands, values, np.zeros(values.shape, "u1"), np.zeros(values.shape, "u2"), np.zeros(values.shape, "f4")
    )
    product = Product(raster, (filled,), {"geodiff_fingerprint": "7"}, {"observed": 0}, {"nodata": 1})
    write_product(product, str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.descriptions == ("SR_B2", "SR_B4", "SR_B10")
        np.testing.assert_array_equal(file.read(), values[0])
    write_product(product, f"{tmp_path}/out/")
    with rasterio.open(next((tmp_path / "out").glob("*_QA_PIXEL.tif"))) as file:
        np.testing.assert_array_equal(file.read(), raster.quality[0].variable.reader.read(0, Window(0, 0, 60, 70)))
    several = open_raster(str(sentinel(tmp_path / "s2", rng)))
    with pytest.raises(TargetError, match="several grids"):
        write_product(Product(several, (), {}, {}, {}), str(tmp_path / "s2.tif"))


def test_a_real_landsat_scene(data_dir: Path) -> None:
    raster = open_raster(str(data_dir / "train/stactools-landsat/tests/data-files/assets3"))
    bands = next(v for v in raster.variables if v.name == "bands")
    assert [b.name for b in bands.bands] == [f"SR_B{n}" for n in range(1, 8)]
    flags = next(q for q in raster.quality if q.layer == "QA_PIXEL").variable
    reason = decode(flags.reader.read(0, Window(0, 0, 512, 512)), "landsat-c2")
    assert 0 < (reason != 0).mean() < 1


@pytest.mark.parametrize("target", ["product.zarr", "product/"])
def test_flags_stay_flags_in_the_product(tmp_path: Path, target: str) -> None:
    import geodiff

    folder = tmp_path / "LC08_L2SP_015033_20240611_20240612_02_T1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, dtype, values in (
        ("SR_B4", "uint16", rng.integers(8000, 9000, (60, 70))),
        ("QA_PIXEL", "uint16", np.where(np.arange(70) < 20, 22280, 21824) * np.ones((60, 1), int)),
    ):
        with rasterio.open(
            folder / f"{folder.name}_{name}.TIF", "w", driver="GTiff", height=60, width=70, count=1, dtype=dtype,
            crs="EPSG:32618", transform=rasterio.Affine(30, 0, 3e5, 0, -30, 4e6), nodata=0 if name == "SR_B4" else 1,
        ) as out:  # fmt: skip
            out.write(values.astype(dtype), 1)
    where = f"{tmp_path}/{target}"
    geodiff.fill(folder, where, filler="nearest")
    kinds = {band.name: band.kind for variable in open_raster(where).variables for band in variable.bands}
    flags = {name: kind for name, kind in kinds.items() if "QA_PIXEL" in name}
    assert set(flags.values()) == {Kind.FLAGS}


def test_a_folder_keeps_the_names_of_the_scenes_of_a_stack(tmp_path: Path, rng: np.random.Generator) -> None:
    from geodiff.io.writing import _files

    for name in ("LC08_L2SP_190030_20210131_20210302_02_T1", "LC09_L2SP_190030_20210208_20210302_02_T1"):
        for band in ("SR_B2", "SR_B4"):
            values = rng.integers(1, 99, (20, 30)).astype("u2")
            write(tmp_path / "many" / name / f"{name}_{band}.TIF", values, 30, nodata=0)
    raster = open_raster(str(tmp_path / "many"))
    stems = {stem for stem, _, _ in _files(Product(raster, (), {}, {}, {}))}
    assert stems == set(raster.names) == {path.name for path in (tmp_path / "many").iterdir()}
