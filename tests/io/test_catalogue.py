"""Several Items: collections, pages of an answer, and catalogues that are walked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geodiff.errors import GridError, SourceError
from geodiff.io import open_raster
from geodiff.io.stac import item_places
from geodiff.lattice import Window
from tests.io.items import catalogue, data, dates, item, save, write


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


@pytest.mark.parametrize("name", ["a.tif", "a.nc", "a.json"])
def test_a_document_cannot_have_a_secret_sent_to_it(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`${NAME}` belongs to whoever gives an address: a stranger's Item had whatever variable it named sent to it."""
    monkeypatch.setenv("GEODIFF_TEST_TOKEN", "s3cret")
    href = f"http://127.0.0.1:9/{name}?k=${{GEODIFF_TEST_TOKEN}}"
    if name == "a.json":
        links = [{"rel": "item", "href": href}]
        document = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "c", "links": links}
    else:
        document = item({"a": data(href)})
    save(tmp_path / "strange.json", document)
    for source in (str(tmp_path / "strange.json"), f"{served}/strange.json"):
        with pytest.raises(SourceError, match="only an address that you give yourself may") as caught:
            open_raster(source)
        assert "s3cret" not in str(caught.value)
