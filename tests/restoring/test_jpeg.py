"""What compression took is read from the table in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from geodiff.restoring.jpeg import compression_error, quantisation, steps_of_blocks


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


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("truth", [data.camera(), data.moon()], ids=["camera", "moon"])
def test_a_decoded_frame_tells_its_table_and_where_its_blocks_begin(
    tmp_path: Path, quality: int, truth: np.ndarray
) -> None:
    Image.fromarray(truth).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as opened:
        decoded = np.asarray(opened, np.float64)
    known = np.ones((300, 300), bool)
    known[40:43], decoded[43:46, 6:306] = False, 0
    found, table = steps_of_blocks(decoded[3:303, 6:306], known), quantisation(tmp_path / "a.jpg")
    assert found is not None
    assert table is not None
    steps, begin = found
    assert begin == (5, 2)
    assert (steps == table).sum() >= 8
    error = compression_error(decoded[8:303, 8:306], steps, known[5:, 2:])
    assert error == pytest.approx((decoded - truth)[103:303, 6:306].std(), rel=0.45)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_what_was_not_compressed_has_no_steps(noise: float) -> None:
    for truth in (data.camera()[:300, :300], data.moon()[:300, :300], data.astronaut()[:300, :300, 0]):
        grainy = np.rint(truth + np.random.default_rng(5).normal(0, noise, truth.shape))
        assert steps_of_blocks(grainy, np.ones(truth.shape, bool)) is None
        for factor in (2, 4, 8):
            repeated = np.kron(grainy[:96, :96], np.ones((factor, factor)))
            assert steps_of_blocks(repeated, np.ones(repeated.shape, bool)) is None
    for odd in (np.zeros((64, 64)), np.ones((5, 40)), np.kron(np.arange(64.0).reshape(8, 8), np.ones((8, 8)))):
        assert steps_of_blocks(odd, np.ones(odd.shape, bool)) is None
    assert steps_of_blocks(np.ones((64, 64)), np.zeros((64, 64), bool)) is None


def test_odd_frames_do_no_harm() -> None:
    steps = np.full((8, 8), 16.0)
    assert compression_error(np.zeros((5, 40)), steps) == 0
    assert 0 <= compression_error(np.full((8, 8), 9.0), steps) < 3
    assert 0 < compression_error(np.random.default_rng(0).normal(0, 40, (64, 64)), steps) < 16
