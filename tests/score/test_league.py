"""Figures of the league against numbers worked out by hand, and against the plain scores of the same pixels."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from geodiff import metrics
from geodiff.metrics import Interval
from geodiff.score.league import LEAST_CASES, external, league, ratio, remarks
from geodiff.score.moments import STRATA, Answer, Ground, Outcome, octaves, squares, summed
from geodiff.score.table import _number, as_csv, as_text


def ground_of(truth, hidden=None, days=np.inf, share=0.3, distance=None):
    hidden = np.ones(truth.shape, bool) if hidden is None else hidden
    away = np.ones(truth.shape, np.float32) if distance is None else distance
    return Ground(truth, hidden, away, np.full(truth.shape, days), share, squares(hidden, 16), 16)


def outcome_of(ground, answers, place="here"):
    methods = {name: summed(answer, ground) for name, answer in answers.items()}
    return Outcome(
        place, "", "clouds", int(ground.hidden.sum()), octaves(ground.truth, ground.corners, ground.side), methods
    )


@pytest.fixture
def league_of_two(rng):
    """Ten gaps; `auto` errs by 0.5, gdal by 1, pykrige by 0.8 and says so."""
    outcomes, parts = [], []
    for _ in range(10):
        truth = rng.normal(size=(1, 20, 20)).astype(np.float32)
        noise = rng.normal(size=(5, 1, 20, 20)).astype(np.float32)
        ones = np.ones_like(truth)
        auto = Answer(truth + 0.5 * noise[0], 0.5 * ones, truth + 0.5 * (noise[0] - noise[1:]), 2.0, 10)
        others = {
            "gdal": Answer(truth + noise[0], seconds=0.001),
            "pykrige": Answer(truth + 0.8 * noise[0], 0.8 * ones),
        }
        parts.append((truth, auto))
        outcomes.append(outcome_of(ground_of(truth), {"auto": auto, **others}))
    return outcomes, parts


def row_of(rows, method, stratum="all"):
    return next(r for r in rows if (r.method, r.stratum) == (method, stratum))


def test_a_row_is_the_plain_scores_of_all_pixels(league_of_two):
    outcomes, parts = league_of_two
    truth, value = (
        np.concatenate([x.ravel() for x in xs]) for xs in zip(*((t, a.value) for t, a in parts), strict=True)
    )
    error = np.concatenate([a.standard_error.ravel() for _, a in parts])
    draws = np.concatenate([a.draws.reshape(4, -1) for _, a in parts], axis=1)
    row = row_of(league(outcomes), "auto")
    assert row.rmse == pytest.approx(metrics.rmse(value, truth))
    assert row.mae == pytest.approx(metrics.mae(value, truth))
    assert row.bias == pytest.approx(metrics.bias(value, truth))
    assert row.r2 == pytest.approx(metrics.r2(value, truth))
    assert row.crps == pytest.approx(metrics.crps_ensemble(draws, truth))
    assert row.crps_from == "draws (4)"
    assert row.spread_skill == pytest.approx(metrics.spread_skill(draws, truth))
    assert row.member_value == pytest.approx(metrics.rmse(draws[0], truth) / metrics.rmse(value, truth))
    for level, share in row.coverage.items():
        assert share == pytest.approx(metrics.coverage(value, error, truth, float(level) / 100))
    assert row.seconds_per_megapixel == pytest.approx(2.0 * 10 / 4000 * 1e6)


def test_points_and_gaussians_are_named_for_what_they_are(league_of_two):
    rows = league(league_of_two[0])
    assert row_of(rows, "gdal").crps_from == "point"
    assert row_of(rows, "gdal").crps == pytest.approx(row_of(rows, "gdal").mae)
    assert math.isnan(row_of(rows, "gdal").coverage["90"])
    assert row_of(rows, "pykrige").crps_from == "gaussian"
    assert row_of(rows, "pykrige").coverage["90"] == pytest.approx(0.9, abs=0.02)


def test_everyone_is_compared_with_the_best_peer_on_the_same_gaps(league_of_two):
    outcomes, _ = league_of_two
    row = row_of(league(outcomes), "auto")
    assert row.rmse_peer == row.crps_peer == "pykrige"
    assert row.rmse_ratio.estimate == pytest.approx(0.5 / 0.8, rel=1e-4)
    assert row.rmse_ratio.low == pytest.approx(row.rmse_ratio.high, rel=1e-4), "the same noise: nothing varies"
    assert row.crps_ratio.low <= row.crps_ratio.estimate <= row.crps_ratio.high
    sure = ratio(outcomes, "pykrige", "gdal", 0, "crps", 0, "absolute")
    assert sure.estimate == pytest.approx(0.8 / np.sqrt(2), rel=0.03), "a calibrated Gaussian's CRPS / MAE is .707"


def of_ten_gaps(rng, answers):
    truths = [rng.normal(size=(1, 20, 20)).astype(np.float32) for _ in range(10)]
    return league([outcome_of(ground_of(truth), answers(truth)) for truth in truths])


def test_an_exact_peer_is_no_chance_and_exact_intervals_are_not_too_wide(rng):
    exact = of_ten_gaps(rng, lambda t: {"auto": Answer(t + 1, np.ones_like(t)), "gdal": Answer(t)})
    row = row_of(exact, "auto")
    assert (row.rmse_peer, row.rmse_ratio, row.crps_ratio) == ("gdal", None, None)
    assert "chance" not in as_text("T", exact)
    assert "nan" not in as_text("T", exact)
    flat = as_text("T", of_ten_gaps(rng, lambda t: {"auto": Answer(t, np.zeros_like(t)), "gdal": Answer(t)}))
    assert "hold 100 %" in flat
    assert "too wide" not in flat


def test_answers_that_are_no_numbers_are_neither_the_best_filler_nor_the_best_peer(rng):
    rows = of_ten_gaps(
        rng,
        lambda t: {
            "mine": Answer(t * np.nan), "auto": Answer(t + 1), "gdal": Answer(t * np.nan), "pykrige": Answer(t + 2)
        },
    )  # fmt: skip
    own = [row for row in rows if row.stratum == "all"]
    assert [row.method for row in own][:2] == ["auto", "pykrige"]
    assert own[0].rmse_peer == "pykrige"
    assert own[0].rmse_ratio.estimate == pytest.approx(0.5)
    assert row_of(rows, "mine").rmse_ratio is None
    assert "best filler  auto" in as_text("T", rows)


def test_strata_partition_the_pixels(rng):
    truth = rng.normal(size=(2, 30, 30)).astype(np.float32)
    away = rng.uniform(1, 100, truth.shape).astype(np.float32)
    ground = ground_of(truth, rng.random(truth.shape) < 0.5, days=7.0, share=0.5, distance=away)
    member = ground.strata
    names = list(STRATA)
    assert member[0].all()
    assert (member[1:5].sum(axis=0) == 1).all()
    assert (member[5:9].sum(axis=0) == 1).all()
    assert member[names.index("40-80 % missing")].all()
    assert member[names.index("5-15 d")].all()
    assert np.array_equal(member[names.index("<=4 px")], away[ground.hidden] <= 4)
    assert not ground_of(truth).strata[-3:].any(), "without other dates there is no nearest one"


def test_texture_compares_power_inside_the_gap_alone(rng):
    truth = rng.normal(size=(1, 40, 40)).astype(np.float32)
    hidden = np.zeros(truth.shape, bool)
    hidden[:, 4:36, 4:36] = True
    twice = np.where(hidden, 2 * truth, 77).astype(np.float32)
    outcome = outcome_of(ground_of(truth, hidden), {"auto": Answer(twice, None, twice[None])})
    row = row_of(league([outcome]), "auto")
    assert row.texture_value == row.texture_member == pytest.approx(10 * np.log10(4), abs=1e-4)


def test_squares_are_hidden_and_apart():
    hidden = np.zeros((1, 50, 64), bool)
    hidden[0, 3:40, 2:60] = True
    found = squares(hidden, 16)
    taken = np.zeros(hidden.shape, int)
    for band, row, column in found:
        taken[band, row : row + 16, column : column + 16] += 1
    assert len(found) >= 4
    assert taken.max() == 1
    assert hidden[taken > 0].all()


def test_the_seam_sums_count_lattice_lines(rng):
    truth = np.zeros((1, 100, 50), np.float32)
    step = truth.copy()
    step[:, 32:] = 1.0
    ground = ground_of(truth)
    across, lines, elsewhere, others = summed(Answer(step), ground).seam
    assert (across, lines) == (50, 2 * 50 + 100), "rows 32 and 96, column 32"
    assert elsewhere == 0
    assert others == 99 * 50 + 49 * 100 - 200


def test_a_small_sample_and_short_answers_are_said(league_of_two):
    outcomes, _ = league_of_two
    few = outcomes[: LEAST_CASES - 1]
    assert "too small to conclude from: 7 gaps with 2,800 hidden pixels" in remarks(few)[0]
    assert not any("too small" in text for text in remarks(outcomes))
    assert not any("one date at a time" in text for text in remarks(outcomes))
    answered = {**outcomes[0].methods, "repaint": outcomes[0].methods["gdal"]}
    mixed = [Outcome("x", "", "", 400, outcomes[0].truth_power, answered), *outcomes[1:]]
    assert any(text.startswith("repaint: hundreds of network calls") for text in remarks(mixed))
    assert row_of(league(mixed), "repaint").cases == 1
    assert row_of(league(mixed), "auto").rmse_peer != "repaint", "a peer that answered some is not the best of all"


def test_the_table_and_the_csv_hold_every_method(league_of_two):
    rows = league(league_of_two[0])
    text = as_text("title", rows)
    assert "title" in text
    for name in ("auto", "gdal", "pykrige"):
        assert name in text
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert len(read) == len(rows)
    first = next(r for r in read if r["method"] == "auto" and r["stratum"] == "all")
    assert float(first["rmse_ratio_low"]) <= float(first["rmse_ratio"]) <= float(first["rmse_ratio_high"])
    alone = league(league_of_two[0][:1])
    assert re.search(r"auto .* 0\.\d+ \(-\)", as_text("title", alone)), "of one gap there is no interval"
    assert json.dumps([row.facts() for row in alone], allow_nan=False)
    assert external("gdal")
    assert external("spectral-null")
    assert not external("auto")


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_the_table_fits_the_terminal(league_of_two, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = as_text("a title of some words " * 8, league(league_of_two[0]))
    assert max(map(len, text.splitlines())) <= width
    head = next(line for line in text.splitlines() if line.startswith("method"))
    assert re.search(r"RMSE .* / best peer \(95 %\) .* cov 90 .* s/Mpx", head), "these are on every screen"
    assert ("MAE" in head) == (width == 150)


def test_what_to_conclude_stands_above_the_table(league_of_two) -> None:
    rows = league(league_of_two[0])
    head = as_text("title", rows, width=200).partition("\nmethod")[0]
    first = next(row for row in rows if not external(row.method))
    assert f"best filler  {first.method}, RMSE" in head
    assert re.search(r"best peer +(gdal|pykrige), RMSE", head)
    assert re.search(r"90 % intervals of auto hold \d+ %", head)
    narrow = [replace(row, coverage={**row.coverage, "90": 0.7}) for row in rows]
    assert "hold 70 %: too narrow here" in as_text("title", narrow, width=200)
    better = [replace(row, rmse_ratio=Interval(0.8, 0.7, 0.9)) for row in rows]
    assert "0.800 (0.700 to 0.900) of the best peer's, better" in as_text("title", better, width=200)


def test_who_answered_only_some_gaps_is_not_first(league_of_two) -> None:
    """RePaint and DPS answer the first gaps alone, and stood above all where these were easy."""
    outcomes, _ = league_of_two
    answered = {**outcomes[0].methods, "repaint": outcomes[0].methods["gdal"]}
    rows = league([Outcome("x", "", "", 400, outcomes[0].truth_power, answered), *outcomes[1:]])
    assert [row.method for row in rows if row.stratum == "all"][-1] == "repaint"


def test_peers_of_a_stack_are_said_to_see_one_date(rng):
    truth = rng.normal(size=(1, 20, 20)).astype(np.float32)
    ground, answer = ground_of(truth, days=4.0), Answer(truth)
    assert any("one date at a time" in text for text in remarks([outcome_of(ground, {"auto": answer, "gdal": answer})]))
    assert not any("one date at a time" in text for text in remarks([outcome_of(ground, {"auto": answer})]))


@pytest.mark.parametrize(
    ("value", "words"),
    [(7.8, "7.80"), (0.78, "0.780"), (53.7, "53.7"), (417, "417"), (1967, "1,967"), (999.7, "1,000"), (math.nan, "-")],
)
def test_figures_of_a_column_have_the_same_digits(value: float, words: str) -> None:
    assert _number(value) == words
