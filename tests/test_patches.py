"""Cutting patches and blending answers."""

from __future__ import annotations

import numpy as np

from geodiff.encoding import Encoding, Normalisation
from geodiff.fillers import Filled
from geodiff.io import Band
from geodiff.lattice import Lattice, Window
from geodiff.noise import ground_noise
from geodiff.patches import OVERLAP_CORRELATION, Cells, EdgeAnswers, blend, cut_patch, gap_windows, read_ground

SHAPE = (300, 260)
PLAIN = Lattice(SHAPE)


def _ground_patch(window: Window, halo: int, lattice: Lattice = PLAIN) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, (2, *SHAPE))
    missing = rng.random((2, *SHAPE)) < 0.2
    bands = [Band(str(b), Encoding(np.dtype("float64"))) for b in range(2)]
    recipes = [Normalisation(50.0, 10.0), Normalisation(0.0, 1.0)]
    ground = read_ground(
        [window], halo, lattice, [(0, 0)], bands, recipes,
        lambda _, w: values[(slice(None), *w.slices)],
        lambda _, w: (missing[(slice(None), *w.slices)], np.ones((2, *w.shape), bool)),
    )  # fmt: skip
    patch = cut_patch(ground, window, halo, lattice, Cells(np.zeros((1, 2, 38, 33)), 8), (0,))
    assert np.isfinite(patch.values).all()
    return patch, np.where(missing, 0.0, (values - [[[50]], [[0]]]) / [[[10]], [[1]]])


def test_a_patch_is_normalised_finite_and_mirrored() -> None:
    patch, truth = _ground_patch(Window(-96, 200, 128, 128), 32)
    padded = np.pad(truth, [(0, 0), (200, 200), (200, 200)], mode="symmetric")
    expected = padded[:, 200 - 96 - 32 : 200 - 96 + 160, 200 + 200 - 32 : 200 + 200 + 160]
    assert patch.values.shape == (1, 2, 192, 192)
    assert np.allclose(patch.values[0], expected, atol=1e-5)
    assert patch.missing.shape == (1, 2, 128, 128)
    assert patch.missing[..., 96:, :60].any()
    assert not patch.missing[..., :96, :].any()  # nobody asks for what is mirrored
    assert not patch.missing[..., 60:].any()
    assert patch.real == (slice(128, 192), slice(0, 92))


def test_around_the_globe_a_patch_goes_on_at_the_other_side() -> None:
    around = Lattice(SHAPE, periodic=True)
    for column in (-60, 200):
        patch, truth = _ground_patch(Window(96, column, 128, 128), 32, around)
        wrapped = np.pad(truth, [(0, 0), (0, 0), (200, 200)], mode="wrap")
        assert np.allclose(patch.values[0], wrapped[:, 64:256, 200 + column - 32 : 200 + column + 160], atol=1e-5)
        assert patch.real[1] == slice(None), "no column of the globe is mirrored"


def test_only_windows_that_hold_gaps_run() -> None:
    lattice, core = Lattice(SHAPE), Window(0, 0, 256, 256)
    gaps = np.zeros(core.shape, bool)
    assert gap_windows(lattice, core, gaps) == []
    gaps[150, 150] = True
    windows = gap_windows(lattice, core, gaps)
    assert all(w.row <= 150 < w.stop[0] and w.column <= 150 < w.stop[1] for w in windows)
    assert len(windows) == 1


def _answer(value: np.ndarray, members: np.ndarray | None = None) -> Filled:
    plane = value[None, None].astype("float32")
    drawn = None if members is None else members[:, None, None].astype("float32")
    return Filled(plane, np.ones_like(plane), drawn, np.full(plane.shape, 3, "uint8"))


def test_what_is_left_for_other_blocks_is_bounded_and_the_oldest_makes_way() -> None:
    plane = np.zeros((1, 1, 128, 128), np.float32)
    filled, core = Filled(plane, plane, None, plane.astype(np.uint8)), Window(0, 0, 256, 256)
    inside, *across = (Window(0, column, 128, 128) for column in (0, 192, 224, 160))
    edges = EdgeAnswers(2 * 9 * 128 * 128)
    edges.keep("v", 0, core, dict.fromkeys([inside, *across], filled))
    assert set(edges.find("v", 0, [inside, *across])) == set(across[1:])
    assert not edges.find("v", 1, across)
    assert not edges.find("u", 0, across)


def test_blending_answers_that_agree_changes_nothing() -> None:
    lattice, core = Lattice(SHAPE), Window(0, 0, *SHAPE)
    windows = list(lattice.windows())
    field = ground_noise((700, 700), row=-200, column=-200, seed=0)
    answers = [_answer(field[w.row + 200 : w.row + 328, w.column + 200 : w.column + 328]) for w in windows]
    blended = blend(core, windows, answers)
    assert np.allclose(blended.value[0, 0], field[200 : 200 + SHAPE[0], 200 : 200 + SHAPE[1]], atol=1e-6)
    assert np.allclose(blended.standard_error, 1, atol=1e-6)
    assert (blended.source == 3).all()


def test_the_spread_of_members_survives_blending() -> None:
    """Residuals of neighbouring windows that correlate as assumed keep unit variance in the overlaps."""
    lattice, core = Lattice((800, 800)), Window(0, 0, 800, 800)
    windows = list(lattice.windows())
    shared = np.sqrt(OVERLAP_CORRELATION)
    own = np.sqrt(1 - OVERLAP_CORRELATION)
    ground = ground_noise((1100, 1100), row=-150, column=-150, seed=1)
    answers = []
    for number, w in enumerate(windows):
        common = ground[w.row + 150 : w.row + 278, w.column + 150 : w.column + 278]
        member = shared * common + own * ground_noise((128, 128), row=0, column=0, seed=2 + number)
        answers.append(_answer(np.zeros((128, 128)), member[None]))
    members = blend(core, windows, answers).members
    assert members is not None
    position = np.arange(800) % 96 < 32
    overlap = members[0, 0, 0][np.ix_(position, position)]
    assert abs(overlap.std() - 1) < 0.03
    assert abs(members.std() - 1) < 0.03
