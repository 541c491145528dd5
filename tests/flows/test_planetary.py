"""Damaged frames are found, restored once, shown and merged; sound ones are left alone."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from flows import frames
from flows.frames import FrameRecord, clashes, frame_jobs, merge_new, reconstruct
from flows.planetary import FramesFailedError, main, reconstruct_planetary
from geodiff.errors import JobError, TargetError
from geodiff.fillers import load_filler
from geodiff.io.gdal import read_header
from geodiff.restoring import RestoreJob
from geodiff.restoring.mosaic import _Grid, mosaic, mosaics
from tests.rasters import write

MOON = "+proj=eqc +R=1737400 +units=m"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills is no matter here."""
    monkeypatch.setattr("geodiff.blocks.filler_of", lambda _: load_filler("laplace"))


def frame(path: Path, *, damaged: bool = True, seed: int = 0, east: float | None = None) -> Path:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :80]
    values = (120 + 50 * np.sin(y / 7) * np.cos(x / 9) + rng.normal(0, 3, (64, 80))).astype("uint8")
    if damaged:
        values[30:34] = 0
    place: dict[str, Any] = {} if east is None else {"crs": MOON, "transform": Affine(50, 0, east, 0, -50, 0)}
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, height=64, width=80, count=1, dtype="uint8", **place) as out:
            out.write(values, 1)
    return path


def job(source: Path | str, target: Path | str, **options: Any) -> RestoreJob:
    given = {"task": "inpaint", "detect": ("dropouts",), "members": 0, **options}
    return RestoreJob.build(source=str(source), target=str(target), **given)


def one(source: Path, folder: Path) -> RestoreJob:
    (found,) = frame_jobs(job(source, f"{folder}/"))
    return found


def test_frames_become_png_or_geotiff_and_never_lie_among_their_sources(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.img", "c.lbl", "d.cub", "e.nc"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    jobs = frame_jobs(job(tmp_path / "in", f"{tmp_path}/out/"))
    assert [Path(each.target).name for each in jobs] == ["a.png", "b.png", "c.tif", "d.tif", "e.tif"]
    assert {Path(j.target).suffix for j in frame_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), ".tif")} == {".tif"}
    with pytest.raises(JobError, match="frames become"):
        frame_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), ".zarr")
    with pytest.raises(JobError, match="name another folder"):
        frame_jobs(job(tmp_path / "in", f"{tmp_path}/in/"))
    (tmp_path / "in" / "d.tif").touch()
    assert {Path(r.frame).name for r in clashes(frame_jobs(job(tmp_path / "in", f"{tmp_path}/out/")))} == {
        "d.cub", "d.tif",
    }  # fmt: skip


def test_a_sound_frame_is_left_alone_and_a_damaged_one_restored_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert reconstruct(one(frame(tmp_path / "sound.png", damaged=False), out)).status == "sound"
    assert not list(out.glob("*.png"))
    each = one(frame(tmp_path / "hurt.png"), out)
    first = reconstruct(each)
    assert (first.status, first.filled, first.damaged) == ("done", 320, 320 / 5120)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(first.picture) as shown:
            assert shown.width == 3 * 80 + 2 * 6  # before, after, and how sure
            before = shown.read()[:3, 31, 40]
    assert tuple(before) == (214, 39, 131)
    assert first.page == str(out / "hurt.report.html")
    assert "<html" in Path(first.page).read_text()
    made = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert json.loads((out / "hurt.geodiff.json").read_text())["status"] == "done"
    assert reconstruct(each).status == "up to date"
    assert {path: path.stat().st_mtime_ns for path in made} == made
    frame(tmp_path / "hurt.png", seed=1)
    assert reconstruct(each).status == "done"
    with pytest.raises(TargetError, match="--overwrite"):
        reconstruct(each.model_copy(update={"buffer": 1}))


def test_a_sound_frame_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = one(frame(tmp_path / "a.png", damaged=False), tmp_path / "out")
    first = reconstruct(each)
    plan, planned = frames.plan, []
    monkeypatch.setattr(frames, "plan", lambda job: planned.append(job.source) or plan(job))
    assert reconstruct(each) == first
    assert planned == []
    assert reconstruct(each, every=True, pages=False).status == "done"
    for path in (tmp_path / "out").glob("a*"):
        path.unlink()
    assert reconstruct(each).status == "sound"
    frame(tmp_path / "a.png")
    assert reconstruct(each).status == "done"
    assert len(planned) == 2
    assert not list((tmp_path / "out").glob("*verdict*"))


def test_every_frame_is_restored_where_that_is_asked_for(tmp_path: Path) -> None:
    each = one(frame(tmp_path / "sound.png", damaged=False), tmp_path / "out")
    record = reconstruct(each, every=True, pages=False)
    assert (record.status, record.filled, record.page) == ("done", 0, "")
    assert not list((tmp_path / "out").glob("*.html"))


def test_noise_is_told_in_three_digits() -> None:
    assert frames._shown(2.031249876) == "2.03"
    assert frames._shown([0.00412345, 12.0]) == "0.00412 12"


def test_products_of_one_ground_become_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    records = [
        reconstruct(one(frame(tmp_path / name, seed=n, east=n * 2000.0), out))
        for n, name in enumerate(("a.tif", "b.tif"))
    ]
    records.append(reconstruct(one(frame(tmp_path / "camera.png"), out)))
    assert {Path(path).name for path in merge_new(records, str(out))} == {
        "mosaic.tif", "mosaic_source.tif", "mosaic_standard_error.tif",
    }  # fmt: skip
    with rasterio.open(out / "mosaic.tif") as merged, rasterio.open(out / "a.tif") as first:
        assert merged.crs == first.crs
        assert merged.shape == (64, 120)  # the second begins 40 pixels further east
        np.testing.assert_array_equal(merged.read()[:, :, :80], first.read())
    with rasterio.open(out / "mosaic_source.tif") as codes:
        assert set(np.unique(codes.read()[0, 30:34])) == {3}
    assert merge_new([r for r in records if r.status == "up to date"], str(out)) == []


def test_a_product_that_fits_no_mosaic_is_named_and_a_second_ground_leaves_no_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def product(name: str, crs: str, nodata: float, east: float) -> str:
        values, place = np.full((1, 4, 4), 7, "int16"), Affine(50, 0, east, 0, -50, 0)
        return str(write(tmp_path / name, values, nodata, crs=crs, transform=place))

    first = [product(f"m{n}.tif", MOON, -1, 200.0 * n) for n in (1, 2)]
    first.append(product("m3.tif", MOON, -9, 400.0))
    assert [Path(path).name for path in mosaics(first, tmp_path)] == ["mosaic.tif"]
    assert "m3.tif stays out of the mosaic: no other product on its CRS is int16 with nodata -9" in caplog.text
    later = [product(f"a{n}.tif", MOON.replace("1737400", "3396190"), -1, 200.0 * n) for n in (1, 2)]
    assert [Path(path).name for path in mosaics([*first, *later], tmp_path)] == ["mosaic.tif", "mosaic_2.tif"]
    assert {path.name for path in tmp_path.glob("mosaic*")} == {"mosaic.tif", "mosaic_2.tif"}


def on_the_moon(path: Path, values: np.ndarray, *, east: float = 0, scale: float = 1, **profile: Any) -> str:
    rows, columns = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=columns, count=1, dtype=values.dtype, crs=MOON,
        transform=Affine(50, 0, east, 0, -50, 0), **profile,
    ) as out:  # fmt: skip
        out.write(values, 1)
        out.scales, out.descriptions = [scale], ["radiance"]
    return str(path)


@pytest.mark.parametrize("nodata", [-9, None])
def test_all_layers_of_a_mosaic_tell_of_the_same_product(tmp_path: Path, nodata: int | None) -> None:
    products = []
    for number, name in enumerate("ab"):
        value, source = np.full((8, 8), 100 + 100 * number, "int16"), np.full((8, 8), 3 * number, "uint8")
        if not number:
            value[0, 5:], source[0, 5:] = -9, 255  # not filled, and known to the second
            value[1, :3], source[1, :3] = -9, 255  # and to nobody
            value[2, 5:] = 0  # black, and observed
            source[3, 5:] = 254  # a collar
        east = 200.0 * number
        products.append(on_the_moon(tmp_path / f"{name}.tif", value, east=east, scale=0.5, nodata=nodata))
        on_the_moon(tmp_path / f"{name}_source.tif", source, east=east, nodata=254)
        error = np.where(source == 255, np.nan, source).astype("float32")
        on_the_moon(tmp_path / f"{name}_standard_error.tif", error, east=east, nodata=np.nan)
    mosaics(products, tmp_path)
    merged = {}
    for layer in ("", "_source", "_standard_error"):
        with rasterio.open(tmp_path / f"mosaic{layer}.tif") as file:
            merged[layer] = file.read(1)
            assert (file.shape, file.scales, file.descriptions) == ((8, 12), (1.0 if layer else 0.5,), ("radiance",))
    second = np.isin(merged["_source"], [3])
    assert second[0, 5:8].all()
    assert second[3, 5:8].all()
    assert not second[2, 5:8].any()
    assert (merged[""][second] == 200).all()
    assert (merged["_standard_error"][second] == 3).all()
    assert (merged[""][2, 5:8] == 0).all()
    assert (merged[""][1, :3] == -9).all()
    assert (merged["_source"][1, :3] == 255).all()


def test_products_of_other_scales_are_not_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ones = np.ones((4, 4), "int16")
    one, other = (on_the_moon(tmp_path / f"s{s}.tif", ones, scale=s, nodata=0) for s in (0.5, 0.25))
    assert mosaics([one, other], tmp_path) == []
    assert "no other product on its CRS is int16 with nodata 0, stored x 0.5 +0" in caplog.text


def test_a_mosaic_keeps_the_pixels_of_its_first_product(tmp_path: Path) -> None:
    grey = np.arange(16, dtype="int16").reshape(4, 4)
    fine = on_the_moon(tmp_path / "a.tif", grey, east=120.0)
    mosaic([fine, on_the_moon(tmp_path / "b.tif", grey)], tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as merged:
        assert merged.transform.c == -30
        assert merged.read(1)[:, 3:7].tolist() == grey.tolist()
    turned = replace(read_header(fine), affine=Affine.rotation(30))
    with pytest.raises(TargetError, match="warp it first"):
        _Grid.of([turned], tmp_path / "t.tif")


def test_the_flow_tells_what_failed_and_delivers_the_others(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr("flows.telling.create_markdown_artifact", lambda text, **_: texts.append(text))
    frame(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    with pytest.raises(FramesFailedError, match=r"1 of 2 frames failed\nb\.png: ") as failed:
        reconstruct_planetary(job(tmp_path / "in", f"{tmp_path}/out/"), retries=0)
    assert {Path(r.frame).name: r.status for r in failed.value.records} == {"a.png": "done", "b.png": "failed"}
    assert (tmp_path / "out" / "a_before_after.png").is_file()
    assert f"| [a.png]({(tmp_path / 'out' / 'a.report.html').as_uri()}) | done | 6.25 % | 320 |" in texts[0]


def test_the_command_line_prints_a_line_a_frame_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(job: RestoreJob, **options: Any) -> list[FrameRecord]:
        assert (job.task, job.detect, options["every"]) == (("denoise", "inpaint"), ("dropouts", "hotpixels"), True)
        return [FrameRecord("in/a.png", "out/a.png", "done", 3, 0.05, picture="out/a_before_after.png")]

    monkeypatch.setattr("flows.planetary.reconstruct_planetary", told)
    monkeypatch.setattr("flows.telling.local_prefect", _nothing)
    given = ["in", "out", "--task", "denoise,inpaint", "--detect", "dropouts,hotpixels", "--every"]
    assert main(given) == 0
    assert capsys.readouterr().out == "a.png: done, 5 % damaged; out/a_before_after.png\n"
    assert main(["in", "out", "--task", "polish"]) == 2
    assert "there is no task 'polish'" in capsys.readouterr().err


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_the_list_of_deployments_names_the_flow() -> None:
    import yaml

    entries = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]
    (found,) = [e for e in entries if e["entrypoint"] == "flows/planetary.py:reconstruct_planetary"]
    given = reconstruct_planetary.validate_parameters(found["parameters"])
    assert given["job"].inpaints
    assert isinstance(given["job"], RestoreJob)


def test_frames_become_pds4_where_asked(tmp_path: Path) -> None:
    for number in range(2):
        frame(tmp_path / "in" / f"{number}.tif", seed=number, east=2000.0 * number)
    records = reconstruct_planetary(job(tmp_path / "in", f"{tmp_path}/out/"), kind=".xml")
    made = [(Path(r.target).name, r.status, r.filled) for r in records]
    assert made == [("0.xml", "done", 320), ("1.xml", "done", 320)]
    with rasterio.open(tmp_path / "out/0.xml") as product:
        assert product.driver == "PDS4"
        assert product.read(1).min() > 0
    assert (tmp_path / "out/0_before_after.png").exists()
    with rasterio.open(tmp_path / "out/mosaic.tif") as merged:
        assert merged.shape == (64, 120)
    again = reconstruct_planetary(job(tmp_path / "in", f"{tmp_path}/out/"), kind=".xml")
    assert {r.status for r in again} == {"up to date"}
