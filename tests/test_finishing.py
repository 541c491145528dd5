"""The judgement of a run: seams that chance does not make."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.blocks import _steps
from geodiff.errors import GateError
from geodiff.finishing import _seam, judge
from geodiff.job import parse_gates
from geodiff.lattice import STRIDE, Lattice, Window

SIDE = 400
CUBE = SimpleNamespace(lattice=Lattice((SIDE, SIDE)))


def steps_of(field: np.ndarray, kept: np.ndarray, row: int = 0) -> tuple[list[float], list[int]]:
    return _steps(CUBE, Window(row, 0, *field.shape), field[None].astype(np.float32), kept[None])


def smooth(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A field without seams, and blobs of it that were filled."""
    rng = np.random.default_rng(seed)
    rough, field = (gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (12, 3))
    return field / field.std(), rough > np.quantile(rough, 0.85)


def judged(field: np.ndarray, kept: np.ndarray) -> float:
    """What a gate sees."""
    ratio, chance = _seam([steps_of(field, kept)])
    assert ratio is not None
    assert chance is not None
    return ratio - chance


def test_chance_makes_no_seam():
    found = [(_seam([steps_of(*smooth(seed))])[0], judged(*smooth(seed))) for seed in range(30)]
    assert np.mean([ratio > 1.05 for ratio, _ in found if ratio]) > 0.1, "chance moves the index itself"
    assert np.mean([beyond > 1.05 for _, beyond in found]) <= 0.05


def test_a_step_where_windows_begin_is_one():
    field, kept = smooth(3)
    step = (np.arange(SIDE) // STRIDE % 2)[:, None]
    assert judged(field + step, kept) > 1.5


def test_blocks_add_up():
    field, kept = smooth(4)
    kept[200] = False  # nothing across the blocks' border
    whole = _seam([steps_of(field, kept)])
    parts = [steps_of(field[:200], kept[:200]), steps_of(field[200:], kept[200:], 200)]
    assert _seam(parts) == pytest.approx(whole, rel=1e-5)


def test_too_little_says_nothing():
    field, kept = smooth(5)
    assert steps_of(field, np.zeros_like(kept)) == ([], [])
    assert _seam([]) == (None, None)
    assert _seam([steps_of(field[:20, :20], np.ones((20, 20), bool))]) == (None, None)


def test_a_gate_leaves_out_what_chance_makes_of_a_seam():
    job = SimpleNamespace(gates=parse_gates("seam<=1.05"))
    judge(job, {"seam": 1.3, "seam_chance": 0.3}, "kept")
    with pytest.raises(GateError, match=r"seam is 1\.4, of which chance makes 0\.3; kept"):
        judge(job, {"seam": 1.4, "seam_chance": 0.3}, "kept")
    with pytest.raises(GateError, match=r"seam is 1\.1; kept"):
        judge(job, {"seam": 1.1}, "kept")
