"""Scoring as a whole: what every league has to obey, on scenes small enough to know the answer."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from typer.testing import CliRunner

from geodiff.cli import app
from geodiff.encoding import Normalisation
from geodiff.errors import InputError, JobError, NothingKnownError
from geodiff.fillers import FillerSettings
from geodiff.job import FillJob
from geodiff.score import Budget, fillers_for, league, score, score_cube
from geodiff.score.pictures import as_table
from geodiff.score.places import Units
from tests.score.cubes import cube_of

SMALL = Budget(trials=2, draws=3, tuning=1, rounds=2)


@pytest.fixture
def waves(rng):
    y, x = np.mgrid[:110, :100]
    return (np.sin(y / 9) + np.cos(x / 7) + 0.05 * rng.normal(size=y.shape))[None, None]


def rows_of(scored):
    return {row.method: row for row in league(scored.outcomes) if row.stratum == "all"}


def test_everyone_answers_every_gap_and_figures_are_in_the_rasters_units(waves):
    scored = [
        score_cube(cube_of(gain * waves), SMALL, fillers=["laplace"], peers=["gdal", "spectral-null"])
        for gain in (1, 10)
    ]
    assert scored[0].masks == scored[1].masks
    for plain, tenfold in zip(*(rows_of(s).values() for s in scored), strict=True):
        assert plain.cases == 2
        assert 0 < plain.rmse < 1
        assert tenfold.rmse == pytest.approx(10 * plain.rmse, rel=1e-3)
        assert tenfold.rmse_ratio.estimate == pytest.approx(plain.rmse_ratio.estimate, rel=1e-3)
    rows = rows_of(scored[0])
    assert rows["spectral-null"].rmse == rows["laplace"].rmse, "the null is the value, with noise"
    assert rows["spectral-null"].crps_from == "draws (3)"
    assert rows["gdal"].rmse_ratio.estimate == 1


def test_the_units_are_named_as_the_numbers_are(waves):
    rain = np.maximum(waves, 0) ** 3
    told = {
        transform: score_cube(replace(cube_of(rain + lift), transform=transform), SMALL, fillers=["nearest"], peers=[])
        for transform, lift in (("linear", 0), ("cbrt", 0), ("log10", 1))
    }
    assert {k: s.units for k, s in told.items()} == {
        "linear": "those of the raster", "cbrt": "cube roots of the raster", "log10": "log10 of the raster",
    }  # fmt: skip
    none = score_cube(replace(cube_of(rain - 1), transform="log10"), SMALL, fillers=["nearest"], peers=[])
    assert none.units == "those of the raster", "of what is negative no logarithm was taken"


def test_what_is_judged_is_within_the_bounds_of_what_is_delivered():
    ours = [Normalisation(5.0, 2.0, lowest=4.0, highest=None), Normalisation(0.0, 1.0)]
    common = [Normalisation(5.0, 4.0), Normalisation(0.0, 1.0)]
    said = np.full((2, 1, 3), (-3.0, 0.0, 9.0), np.float32)
    np.testing.assert_allclose(Units.of(ours, common).answer(said), [[[-0.25, 0.0, 4.5]], [[-3.0, 0.0, 9.0]]])
    np.testing.assert_allclose(Units.of(ours[:1], common[:1]).answer(said[:1]), [[[4.0, 5.0, 23.0]]])


def test_a_league_is_the_same_twice_and_another_with_another_seed(waves):
    cube = cube_of(waves)
    first, again, other = (
        rows_of(score_cube(cube, SMALL, fillers=["nearest"], peers=["gdal"], seed=seed)) for seed in (0, 0, 5)
    )
    assert first["nearest"].rmse == again["nearest"].rmse != other["nearest"].rmse


def test_what_is_hidden_is_not_looked_at():
    plane = np.zeros((1, 1, 100, 100))
    plane[..., ::2, :] = 1.0
    scored = score_cube(cube_of(plane), SMALL, fillers=["laplace"], peers=["gdal"])
    inside = [o.methods[m] for o in scored.outcomes for m in ("laplace", "gdal")]
    assert all(s.sums[0, 3] > 0.02 * s.sums[0, 0] for s in inside), "stripes cannot be guessed without errors"


def test_the_diffusion_gives_independent_draws(waves):
    budget = Budget(trials=1, draws=2, tuning=1, rounds=1)
    settings = FillerSettings(steps=4)
    scored = score_cube(cube_of(waves[..., :64, :64]), budget, fillers=["diffusion"], peers=[], settings=settings)
    row = rows_of(scored)["diffusion"]
    assert row.crps_from == "draws (2)"
    assert row.calls == 4
    assert row.member_value > 1
    assert np.isfinite(row.spread_skill)


def test_stacks_have_temporal_fillers_and_strata_of_the_nearest_date(rng):
    y, x = np.mgrid[:60, :60]
    stack = np.stack([np.sin(y / 9 + t / 3) + np.cos(x / 7) for t in range(4)])[:, None]
    cube = cube_of(stack, ["2024-01-01", "2024-01-04", "2024-01-08", "2024-02-20"])
    assert "linear-time" in fillers_for(cube, None)
    scored = score_cube(cube, SMALL, fillers=["linear-time", "laplace"], peers=["opencv-ns"])
    strata = {row.stratum for row in league(scored.outcomes)}
    assert strata & {"<=5 d", "5-15 d", ">15 d"}


def test_what_cannot_be_scored_is_said(waves):
    with pytest.raises(JobError, match=r"--fillers dineof: it works on several dates and field has one"):
        fillers_for(cube_of(waves), ["dineof"])
    with pytest.raises(JobError, match="no filler is called"):
        fillers_for(cube_of(waves), ["magic"])
    with pytest.raises(NothingKnownError, match="none of its 11,000 values is known"):
        score_cube(cube_of(np.full_like(waves, np.nan)), SMALL, fillers=["laplace"], peers=[])
    sparse = np.where(np.random.default_rng(0).random(waves.shape) < 0.05, waves, np.nan)
    with pytest.raises(InputError, match="no place of its 110 x 100 pixels has enough known pixels"):
        score_cube(cube_of(sparse), SMALL, fillers=["laplace"], peers=[])


def test_a_filler_that_cannot_be_imported_stops_those_alone_who_name_it(waves, monkeypatch, caplog):
    def broken():
        raise ModuleNotFoundError("No module named 'gone'")

    monkeypatch.setattr("geodiff.fillers._registered", lambda: {"gone": SimpleNamespace(load=broken)})
    assert fillers_for(cube_of(waves), ["laplace"]) == ["laplace"]
    assert not caplog.text
    assert "gone" not in fillers_for(cube_of(waves), None)
    assert "left out: filler 'gone' cannot be imported" in caplog.text
    with pytest.raises(JobError, match="install its package again"):
        fillers_for(cube_of(waves), ["gone"])


def write(path, values):
    import rasterio

    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[-2], width=values.shape[-1], count=1, dtype="float32",
        nodata=-9, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as out:  # fmt: skip
        out.write(values[0].astype("float32"))


def test_the_verb_prints_the_league_and_writes_its_files(tmp_path, waves):
    source, out = tmp_path / "scene.tif", tmp_path / "league"
    write(source, waves)
    options = ["--fillers", "laplace", "--peers", "gdal,spectral-null", "--trials", "2", "--members", "2", "-q"]
    run = CliRunner().invoke(app, ["score", str(source), *options, "--out", str(out)])
    assert run.exit_code == 0, run.output
    for word in ("laplace", "gdal", "spectral-null", "masks ", "too small to conclude from"):
        assert word in run.stdout
    assert {p.name for p in out.iterdir()} == {
        "score.json",
        "league.csv",
        "reliability.png",
        "spectrum.png",
        "error-distance.png",
    }
    facts = json.loads((out / "score.json").read_text())
    (variable,) = facts["variables"].values()
    assert len(variable["masks_sha256"]) == 16
    assert variable["masks_sha256"] in run.stdout
    assert variable["peer_settings"]["0"]["gdal"]["max_search_distance"] > 0


def test_a_job_without_peers_is_allowed_and_an_unknown_peer_is_not(tmp_path, waves):
    source = tmp_path / "scene.tif"
    write(source, waves)
    job = FillJob.build(source=str(source), target="none.tif")
    found = score(job, budget=SMALL, fillers=["nearest"], peers=[], quiet=True)
    assert next(row.rmse_ratio for row in found.tables[found.scored[0].name]) is None
    with pytest.raises(InputError, match="no peer is called 'magic'"):
        score(job, budget=SMALL, fillers=["nearest"], peers=["magic"], quiet=True)


def test_realism_tells_a_smooth_fill_from_the_truth_and_an_unknown_encoder_at_once(rng):
    plane = rng.normal(size=(1, 1, 200, 200))

    def block(shape, rng):
        hole = np.zeros(shape, bool)
        hole[8:72, 8:72] = True
        return "block", hole

    budget = Budget(trials=2, draws=0, tuning=0, rounds=2, encoder="texture")
    scored = score_cube(cube_of(plane), budget, fillers=["laplace", "nearest"], peers=[], drawer=block)
    assert [row.name for row in scored.realism] == ["nearest", "laplace"], "copies of noise are nearer than a blur"
    assert [row.places for row in scored.realism] == [2, 2]
    assert "in 2 gaps" in as_table(scored.realism)
    assert "intervals of 2 gaps hold less" in as_table(scored.realism)
    with pytest.raises(InputError, match="no encoder"):
        score_cube(cube_of(plane), Budget(encoder="vgg"), fillers=["laplace"], peers=[])
