"""What compression took is read from the table in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from geodiff.restoring.jpeg import compression_error, quantisation


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_the_table_is_the_one_of_the_file(tmp_path: Path, quality: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(data.moon()[:64, :64]).save(path, quality=quality)
    with Image.open(path) as opened:
        expected = np.array(opened.quantization[0]).reshape(8, 8)
    np.testing.assert_array_equal(quantisation(path), expected)


def test_no_table_is_none(tmp_path: Path) -> None:
    for name, content in {
        "a.png": b"\x89PNG\r\n\x1a\n",
        "b.jpg": b"\xff\xd8\xff\xd9",
        "c.jpg": b"\xff\xd8\xff\xdb",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert quantisation(tmp_path / name) is None


@pytest.mark.parametrize("quality", [12, 40, 75])
@pytest.mark.parametrize("truth", [data.camera(), data.moon(), data.gravel()], ids=["camera", "moon", "gravel"])
def test_the_error_of_photographs_is_told_within_two_fifths(tmp_path: Path, quality: int, truth: np.ndarray) -> None:
    Image.fromarray(truth).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as opened:
        decoded = np.asarray(opened, np.float64)
    steps = quantisation(tmp_path / "a.jpg")
    assert steps is not None
    assert compression_error(decoded, steps) == pytest.approx((decoded - truth).std(), rel=0.4)


def test_odd_frames_do_no_harm() -> None:
    steps = np.full((8, 8), 16.0)
    assert compression_error(np.zeros((5, 40)), steps) == 0
    assert 0 <= compression_error(np.full((8, 8), 9.0), steps) < 3
    assert 0 < compression_error(np.random.default_rng(0).normal(0, 40, (64, 64)), steps) < 16
