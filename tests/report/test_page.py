"""The page: one file, no network, safe against what metadata says, complete in its figures."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

import geodiff
from geodiff.cli import app
from geodiff.errors import InputError, JobError, TargetError
from geodiff.job import FillJob
from geodiff.record import FEW_TRIALS
from geodiff.report import report_path, run_and_report, write_report
from geodiff.report.figures import Worth, _percent, answers, lead, sections
from geodiff.report.markup import as_script_json, number, number_range, spelt_units, table, text
from geodiff.report.plots import coverage_plot, pit_plot
from geodiff.report.product import open_product

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element with its attributes, and whether tags match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br", "link", "img", "rect", "line", "circle", "path", "polyline"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html(filled: Path) -> str:
    return Path(write_report(str(filled))).read_text(encoding="utf-8")


def test_it_is_one_file_that_asks_for_nothing(html: str) -> None:
    elements = Elements(html)
    assert elements.open == []
    links = [v for _, attributes in elements.found for k, v in attributes.items() if k in {"src", "href", "srcset"}]
    assert set(links) <= {"#facts"}
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org)", html) == []
    policy = next(a["content"] for tag, a in elements.found if tag == "meta" and "http-equiv" in a)
    assert policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy


def test_it_tells_the_figures(html: str) -> None:
    plain = re.sub(r"<[^>]+>", " ", html)
    for words in (
        "What is measured and what is invented", "Why values of band_data were missing", "nodata", "seam", "Versions",
        "Coverage of band_data", "(PIT)", "errors at the same hidden values", "laplace", "finding gaps and fitting",
    ):  # fmt: skip
        assert words in plain, words
    assert "--filler nearest" in plain


def test_a_self_check_of_few_places_says_so_before_everything_else(filled: Path) -> None:
    product = open_product(str(filled))
    facts = product.record["variables"]["band_data"]

    def said(trials: int) -> str:
        told = {**facts, "self_check": {**facts["self_check"], "trials": trials}}
        return answers(replace(product, record={**product.record, "variables": {"band_data": told}}))

    assert "intervals held" in said(FEW_TRIALS)
    assert f"in {FEW_TRIALS} places; the standard errors look" in said(FEW_TRIALS)
    assert "in 40 places; the standard errors are" in said(40)
    assert "too few to rely on" not in said(FEW_TRIALS)
    assert "in 2 places only: too few to rely on" in said(2)


def test_what_could_not_be_checked_is_said_before_everything_else(filled: Path) -> None:
    product = open_product(str(filled))
    told = {**product.record["variables"]["band_data"], "self_check": {}}
    unchecked = replace(product, record={**product.record, "variables": {"band_data": told}, "gates": {}})
    assert "not checked" in answers(unchecked)


def test_the_error_is_told_in_the_units_of_its_band(filled: Path) -> None:
    product = open_product(str(filled))
    red = Worth("t", "red", "K", low=271.3, high=301.4, error=1.234)
    one, two = (answers(product, [red, *others]) for others in ([], [replace(red, band="green", error=2.5)]))
    assert "<strong>1.23\u00a0K</strong>" in one
    assert "90\u00a0% of the values of red lie between 271.3 and 301.4\u00a0K" in one
    assert "<strong>1.23 to 2.5\u00a0K</strong>" in two
    assert "<strong>4.1\u00a0% to 8.2\u00a0%</strong>" in answers(product, [red, replace(red, units="m", error=2.468)])
    plain = re.sub(r"<[^>]+>", " ", sections(product, [red]))
    assert "271.3 to 301.4" in plain
    assert "4.1\u00a0%" in plain


def test_values_that_were_not_to_be_filled_count_among_the_missing(filled: Path) -> None:
    product = open_product(str(filled))
    told = {**product.record["variables"]["band_data"], "missing": 90, "filled": 6, "values": 100}
    said = lead(replace(product, record={**product.record, "variables": {"band_data": told}}))
    assert said.startswith("90 of 100 values (90.0\u00a0%) were missing; 6 (6.0\u00a0%) are now estimated, the others")


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (3, 122_848, "0.0024\u00a0%"), (122_845, 122_848, "99.9976\u00a0%"), (0, 5, "0\u00a0%"),
        (5, 5, "100.0\u00a0%"), (995, 1000, "99.5\u00a0%"), (10**7 - 1, 10**7, ">\u00a099.99\u00a0%"),
    ],
)  # fmt: skip
def test_a_share_is_none_or_all_only_where_it_is(part: int, whole: int, words: str) -> None:
    assert _percent(part, whole) == words


@pytest.mark.parametrize(
    ("value", "span", "words"),
    [
        (101325.4, 500, "101325"), (0.12341, 0.05, "0.1234"), (4.56e-5, 4.56e-5, "4.56 × 10⁻⁵"), (-0.0001, 50, "0"),
        (2.5e8, 1e8, "2.50 × 10⁸"), (0.0, 0.0, "0"), (70.0, 60, "70"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_say_something(value: float, span: float, words: str) -> None:
    assert number(value, span) == words


def test_both_ends_of_a_range_have_a_power_of_ten_or_neither() -> None:
    assert number_range(8.1e-4, 1.596e-3) == ("0.00081", "0.001596")
    assert number_range(1.5e-5, 2.5e-4) == ("1.50 × 10⁻⁵", "2.50 × 10⁻⁴")


def test_where_nothing_was_filled_the_page_promises_no_check(filled: Path) -> None:
    product = open_product(str(filled))
    told = {**product.record["variables"]["band_data"], "filled": 0, "values": 100}

    def page(missing: int) -> str:
        facts = {"band_data": {**told, "missing": missing}}
        emptied = replace(product, record={**product.record, "variables": facts})
        return lead(emptied) + sections(emptied)

    assert "Nothing was filled: none of the 100 values was missing." in page(0)
    assert "Nothing was filled: 20 of 100 values (20.0\u00a0%) are missing and were left as they are." in page(20)
    assert "known pixels were hidden" not in page(0)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ("sr-1", "sr⁻¹"), ("m s-1", "m s⁻¹"), ("kg m**2", "kg m**2"), ("W m-2 sr-1", "W m⁻² sr⁻¹"), ("mg/m3", "mg/m³"),
        ("degree_Celsius", "°C"), ("degree Celsius", "°C"), ("degrees", "°"), (HOSTILE, HOSTILE),
        ("days since 2000-1-1", "days since 2000-1-1"), ("K", "K"), ("cm2 m-2", "cm² m⁻²"),
        ("degrees_north", "degrees_north"), ("ppm CO2", "ppm CO2"),
    ],
)  # fmt: skip
def test_units_are_spelt_as_people_write_them(units: str, words: str) -> None:
    assert spelt_units(units) == words


def test_the_script_knows_the_picture(html: str, facts_of: Callable[[str], dict[str, Any]]) -> None:
    facts = facts_of(html)
    (picture,) = facts["pictures"]
    assert picture["composite"] == [0, 1, 2]
    assert (picture["rows"], picture["columns"]) == (300, 420)
    assert len(picture["gaps"]["0"]) == 5
    row, column, extent = picture["gaps"]["0"][0]
    assert (row, column) == pytest.approx((200, 300), abs=3)
    assert extent == pytest.approx(60, abs=2)
    assert facts["sources"]["1"] == "nearest"


def test_hostile_names_stay_text(tmp_path: Path, made: Callable[..., Path], facts_of: Callable[..., Any]) -> None:
    source = made(tmp_path / "scene.tif", bands=2, shape=(90, 90), names=(HOSTILE, "'\"&<b>"))
    geodiff.fill(source, tmp_path / "a<b>&'.tif", filler="nearest")
    record = tmp_path / "a<b>&'.geodiff.json"
    facts = json.loads(record.read_text())
    facts["variables"] = {HOSTILE: facts["variables"]["band_data"]}
    facts["command"] = f"geodiff fill {HOSTILE}"
    facts["model"], facts["versions"] = {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}
    facts["failed_blocks"] = {HOSTILE: HOSTILE}
    record.write_text(json.dumps(facts))
    html = Path(write_report(str(tmp_path / "a<b>&'.tif"))).read_text(encoding="utf-8")
    elements = Elements(html)
    assert elements.open == []
    assert not [tag for tag, _ in elements.found if tag in {"img", "b", "iframe"}]
    assert [tag for tag, _ in elements.found].count("script") == 3
    assert not [a for _, attributes in elements.found for a in attributes if a.startswith("on")]
    assert facts_of(html)["pictures"][0]["bands"][0]["name"] == HOSTILE


@settings(max_examples=25)
@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_in_a_script_reads_back_and_never_ends_it(value: Any) -> None:
    written = as_script_json(value)
    assert json.loads(written) == value
    assert not re.search(r"[<>&\u2028\u2029]", written)


@given(st.text())
def test_text_reads_back_and_holds_no_tag(words: str) -> None:
    assert not re.search(r"[<>\"']", text(words))
    ours = r"</?(div|table|caption|thead|tbody|tr|th|td)\b[^>]*>"
    assert "<" not in re.sub(ours, "", table(words, (words,), [(words,)]))


def test_without_a_record_the_page_says_so(tmp_path: Path, made: Callable[..., Path]) -> None:
    geodiff.fill(made(tmp_path / "scene.tif", bands=1, shape=(90, 90)), tmp_path / "filled.tif", filler="nearest")
    (tmp_path / "filled.geodiff.json").unlink()
    html = Path(write_report(str(tmp_path / "filled.tif"))).read_text(encoding="utf-8")
    assert "is not beside" in html
    assert "geodiff fill" in html


def test_a_restored_frame_is_not_called_measured(
    tmp_path: Path, made: Callable[..., Path], facts_of: Callable[..., Any]
) -> None:
    geodiff.fill(made(tmp_path / "scene.tif", bands=1), tmp_path / "filled.tif", filler="nearest")
    record = tmp_path / "filled.geodiff.json"
    facts = json.loads(record.read_text())
    facts["command"] = "geodiff restore scene.tif filled.tif --task denoise"
    next(iter(facts["variables"].values()))["noise"] = {"band_1": 20.25}
    facts["peak_memory_bytes"] = 0
    record.write_text(json.dumps(facts))
    with rasterio.open(tmp_path / "filled_source.tif") as layer:
        profile, source, names = layer.profile, layer.read(), layer.descriptions
    with rasterio.open(tmp_path / "filled_source.tif", "w", **{**profile, "driver": "GTiff"}) as layer:
        layer.write(np.where(source == 0, 20, source))
        layer.descriptions = names
    html = Path(write_report(str(tmp_path / "filled.tif"))).read_text(encoding="utf-8")
    assert "values were restored" in html
    assert "20.25" in html
    for words in ("bit for bit", "Known pixels are untouched", "pixels were hidden", "peak memory", ">before<"):
        assert words not in html
    assert ">gaps marked<" in html
    assert len(facts_of(html)["pictures"][0]["gaps"]["0"]) == 5, "what was denoised was no gap"


def test_counts_and_shares_stand_right_and_words_left() -> None:
    html = table("t", ("what", "n", "words"), [("a", "1,204 (3.1\u00a0%)", "3.11.7+cpu"), ("b", "–", "none")])
    assert '<td class="number">1,204 (3.1\u00a0%)</td><td class="words">3.11.7+cpu</td>' in html


def test_plots_are_labelled_and_stay_in_their_frame() -> None:
    histograms = [pit_plot(counts, "place <") for counts in ([0, 500, 0], [0, 0])]
    for drawing in (coverage_plot([(0.5, 0.2), (0.9, 1.0)], "held <"), *histograms):
        elements = Elements(drawing)
        assert elements.open == []
        assert elements.found[0][1]["role"] == "img"
        tall = float(str(elements.found[0][1]["viewbox"]).split()[-1])
        for _, attributes in elements.found:
            assert 0 <= float(attributes.get("y") or attributes.get("cy") or 0) <= tall


# -- where it goes, and who asks for it


def test_where_the_report_goes(tmp_path: Path) -> None:
    assert report_path("a/filled.tif") == "a/filled.report.html"
    assert report_path("a/scenes/") == "a/scenes.report.html"
    assert report_path("a/filled.tif", "b/page.html") == "b/page.html"
    assert report_path("a/filled.tif", "pages/") == "pages/filled.report.html"
    assert report_path("a/filled.tif", str(tmp_path)) == f"{tmp_path}/filled.report.html"


def test_fill_writes_the_report_it_was_asked_for(tmp_path: Path, made: Callable[..., Path]) -> None:
    source = made(tmp_path / "scene.tif", bands=1, shape=(90, 90))
    options = {"filler": "nearest", "report": str(tmp_path / "pages") + "/"}
    place = tmp_path / "pages" / "filled.report.html"
    first = geodiff.fill(source, tmp_path / "filled.tif", **options)
    assert first.products[-1] == str(place)
    place.unlink()
    again = geodiff.fill(source, tmp_path / "filled.tif", **options)
    assert again.status == "up to date"
    assert place.exists(), "the report of a product that already exists is made as well"
    place.unlink()
    assert geodiff.fill(source, tmp_path / "filled.tif", dry_run=True, **options).status == "planned"
    assert not place.exists()


def test_a_job_file_may_ask_for_it(tmp_path: Path, made: Callable[..., Path]) -> None:
    source = made(tmp_path / "scene.tif", bands=1, shape=(90, 90))
    job = tmp_path / "job.toml"
    lines = (f"source = '{source}'", f"target = '{tmp_path / 'f.tif'}'", "filler = 'nearest'")
    job.write_text("\n".join([*lines, f"report = '{tmp_path / 'page.html'}'"]))
    run_and_report(FillJob.from_toml(job), quiet=True)
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_what_cannot_be_written_stops_the_job_before_it_begins(tmp_path: Path, made: Callable[..., Path]) -> None:
    source = made(tmp_path / "scene.tif", bands=1, shape=(90, 90))
    with pytest.raises(JobError, match="the report is HTML"):
        geodiff.fill(source, tmp_path / "filled.tif", filler="nearest", report=str(tmp_path / "page.pdf"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--report"):
        geodiff.fill(source, tmp_path / "filled.tif", filler="nearest", report=str(tmp_path / "file" / "page.html"))
    assert not (tmp_path / "filled.tif").exists()


def test_the_verb_writes_it_beside_the_product(filled: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    told = CliRunner().invoke(app, ["report", str(filled), "--out", str(tmp_path)])
    assert told.exit_code == 0
    assert told.output.strip() == f"wrote {tmp_path}/filled.report.html"
    with pytest.raises(TargetError):
        write_report(str(tmp_path / "nothing.tif"))


def test_a_band_without_values_leaves_no_colour_picture(
    tmp_path: Path, made: Callable[..., Path], facts_of: Callable[[str], dict[str, Any]]
) -> None:
    source = made(tmp_path / "scene.tif", shape=(60, 70), names=("red", "green", "blue"))
    with rasterio.open(source, "r+") as dataset:
        dataset.write(np.zeros((60, 70), np.uint16), 1)
    geodiff.fill(source, tmp_path / "filled.tif", filler="nearest")
    html = Path(write_report(str(tmp_path / "filled.tif"))).read_text(encoding="utf-8")
    (picture,) = facts_of(html)["pictures"]
    assert picture["composite"] is None
    assert [any(band["histogram"]) for band in picture["bands"]] == [False, True, True]
    assert "left empty: their band has no known pixel." in html
