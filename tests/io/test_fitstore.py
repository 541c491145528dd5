"""Laws of the fit store."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from geodiff.errors import TargetError
from geodiff.fillers import Fitted
from geodiff.io.fitstore import has_fit, load_fit, save_fit
from geodiff.io.groups import new_group


def _fit():
    rng = np.random.default_rng(1)
    inner = Fitted("laplace", {"weight": 0.1 + 0.2, "nan": float("nan")}, {"empty": np.zeros((0, 3), "f8")})
    return Fitted(
        "auto",
        {"bands": ["a", "b"], "big": 2**60, "scale": np.float32(0.5), "deep": {"x": [1, None, True]}},
        {
            "eof/1": rng.normal(size=(5, 7)),
            "flag": rng.random(9) > 0.5,
            "number": np.array(3, "u2"),
            "when": np.array(["2020-01-01", "NaT"], "M8[s]"),
            "label": np.array(["é", "long"]),
            "noise": rng.normal(size=4).astype("f4"),
        },
        {"laplace": inner, "odd/name": Fitted("nearest")},
    )


def _same(a, b):
    assert a.filler == b.filler
    assert json.dumps(dict(a.facts), default=float) == json.dumps(dict(b.facts), default=float)
    assert list(a.arrays) == list(b.arrays)
    for name, array in a.arrays.items():
        assert array.dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(array, b.arrays[name])
    assert list(a.parts) == list(b.parts)
    for name, part in a.parts.items():
        _same(part, b.parts[name])


def test_a_fit_comes_back_as_it_was(path):
    save_fit(path, _fit(), {"fingerprint": "abc", "n": 3})
    loaded, extra = load_fit(path)
    _same(_fit(), loaded)
    assert extra == {"fingerprint": "abc", "n": 3}
    save_fit(path, Fitted("nearest"))
    assert load_fit(path) == (Fitted("nearest"), {})


def test_a_fit_replaces_only_a_fit(path):
    with pytest.raises(TargetError, match="no fit"):
        load_fit(path)
    new_group(path, "work")
    with pytest.raises(TargetError, match="not replaced"):
        save_fit(path, Fitted("nearest"))
    with pytest.raises(TargetError, match="no fit"):
        load_fit(path)


def test_a_fit_that_cannot_be_stored_leaves_the_old_one(tmp_path):
    path = tmp_path / "fit.zarr"
    save_fit(str(path), Fitted("nearest"))
    with pytest.raises(TypeError, match="Python objects"):
        save_fit(str(path), Fitted("bad", {}, {"o": np.array([{}], object)}))
    assert load_fit(str(path))[0].filler == "nearest"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]


@pytest.mark.parametrize("damaged", ["c/0", "zarr.json"])
def test_a_damaged_fit_is_told_with_its_place(tmp_path, damaged):
    path = tmp_path / "a.geodiff-fit.zarr"
    save_fit(str(path), Fitted("auto", {}, {"weights": np.arange(1, 9)}))
    os.truncate(path / "arrays" / "weights" / damaged, 3)
    with pytest.raises(TargetError, match=rf"the fit at {path} is damaged .*--overwrite"):
        load_fit(str(path))


def test_a_fit_that_lost_a_chunk_is_damaged_and_not_full_of_zeros(path):
    from geodiff.io.places import delete

    numbers = {"zeros": np.array([0.0, -0.0]), "weights": np.arange(9), "when": np.array(["2024-01-01"], "M8[D]")}
    save_fit(path, Fitted("auto", {}, {}, {"x": Fitted("part", {}, numbers)}))
    assert np.signbit(load_fit(path)[0].parts["x"].arrays["zeros"]).tolist() == [False, True]
    delete(f"{path}/parts/x/arrays/weights/c/0")
    with pytest.raises(TargetError, match=r"damaged .*not those that were written"):
        load_fit(path)


def test_a_fit_of_which_little_was_written_is_made_anew(path):
    """On an object store nothing hides what a kill left half written."""
    new_group(path, "fit")
    assert not has_fit(path)
    save_fit(path, Fitted("mean", {"of": 3}, {}, {}))
    assert load_fit(path)[0].facts == {"of": 3}
    assert has_fit(path)
