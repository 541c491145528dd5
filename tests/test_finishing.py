"""The judgement of a run: what its blocks counted, and seams that chance does not make."""

from types import SimpleNamespace

import numpy as np
import pytest

from geodiff.blocks import _steps
from geodiff.errors import GateError
from geodiff.finishing import _seam, judge
from geodiff.job import parse_gates
from geodiff.lattice import STRIDE, Lattice, Window
from geodiff.seams import seam, steps_by_line

SIDE, ORIGIN = 400, (13, 40)
CUBE = SimpleNamespace(lattice=Lattice((SIDE, SIDE), ORIGIN))


def steps_of(field: np.ndarray, kept: np.ndarray, row: int = 0) -> tuple[list[float], list[int]]:
    return _steps(CUBE, Window(row, 0, *field.shape), field[None].astype(np.float32), kept[None])


def test_what_blocks_counted_is_judged_as_the_whole(rng):
    field, kept = rng.normal(size=(SIDE, SIDE)), rng.random((SIDE, SIDE)) < 0.8
    field += (np.arange(SIDE) // STRIDE % 2)[:, None]
    kept[200] = False  # nothing across the blocks' border
    whole = seam(*steps_by_line(field, kept, ORIGIN))
    parts = [steps_of(field[:200], kept[:200]), steps_of(field[200:], kept[200:], 200)]
    assert _seam(parts) == pytest.approx(whole, rel=1e-5)


def test_blocks_that_filled_nothing_say_nothing():
    assert steps_of(np.zeros((9, 9)), np.zeros((9, 9), bool)) == ([], [])
    assert _seam([]) == (None, None)


def test_a_gate_leaves_out_what_chance_makes_of_a_seam():
    job = SimpleNamespace(gates=parse_gates("seam<=1.05"))
    judge(job, {"seam": 1.3, "seam_chance": 0.3}, "kept")
    with pytest.raises(GateError, match=r"seam is 1\.4, of which chance makes 0\.3; kept"):
        judge(job, {"seam": 1.4, "seam_chance": 0.3}, "kept")
    with pytest.raises(GateError, match=r"seam is 1\.1; kept"):
        judge(job, {"seam": 1.1}, "kept")
