"""A record prints what the command line says, and shows no more of itself in a notebook."""

from pathlib import Path

import pytest

import geodiff
from geodiff.record import RunRecord
from tests.rasters import round_holes, surface, write

CHECK = {"coverage90": 0.9, "pixels": 400, "trials": 2}
FILLED = {"filled": 7, "to_fill": 9, "refused": 2, "missing": 9, "self_check": CHECK}


def test_a_record_prints_what_was_filled_and_written() -> None:
    record = RunRecord(
        "a.tif", "b.tif", "geodiff fill a.tif b.tif", "done", products=("b.tif",), variables={"v": FILLED}
    )
    assert repr(record) == str(record)
    first, last = str(record).splitlines()
    assert first.startswith("v: filled 7 of 9 missing values (2 left empty: their band has no known pixel); 90 %")
    assert first.endswith("intervals held 90 % of 400 hidden known values (in 2 places only: too few to rely on)")
    assert last == "wrote b.tif"


def test_a_fill_that_could_not_be_checked_says_so() -> None:
    facts = {**FILLED, "self_check": {"coverage90": None, "pixels": 0, "trials": 0}}
    said = str(RunRecord("a.tif", "b.tif", "geodiff fill a.tif b.tif", "done", variables={"v": facts}))
    assert "; not checked: too few known pixels, or gaps too small" in said


@pytest.mark.parametrize(
    ("status", "variables", "said"),
    [
        ("up to date", {}, "b.tif is up to date; nothing to do"),
        ("nothing to append", {}, "b.tif already holds every date of a.tif, unchanged; nothing to append"),
        ("planned", {"text": "the plan"}, "the plan"),
        ("nothing to fill", {"v": {"missing": 0}}, "a.tif has no gap to fill; the product is a copy, with layers"),
        (
            "done",
            {
                "v": {
                    "shape": [1, 1, 4, 5],
                    "missing": 5,
                    "values": 20,
                    "filled": 5,
                    "noise": {"1": 2.5, "2": 2.5},
                }
            },
            "v: 4 x 5 pixels, 25 % missing, 5 values filled\n  noise of 1, 2: standard deviation 2.5",
        ),
    ],
)
def test_every_outcome_is_a_sentence(status: str, variables: dict, said: str) -> None:
    assert str(RunRecord("a.tif", "b.tif", "geodiff fill a.tif b.tif", status, variables=variables)) == said


def test_plans_and_scenes_show_themselves_too(tmp_path: Path) -> None:
    values = surface(60, 50)
    values[round_holes(60, 50, count=2, radius=5)] = 0
    path = write(tmp_path / "scene.tif", values)
    plan = geodiff.plan_fill(path, tmp_path / "filled.tif", filler="laplace")
    assert repr(plan) == str(plan)
    assert repr(plan).startswith(f"fill {path} -> ")
    assert repr(geodiff.open_scene(path)) == f"Scene of {path} (GTiff)\n  band_data: 1 band, 60 x 50 pixels"
