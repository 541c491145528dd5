"""Shapes of gaps: what the names promise, from every seed."""

import numpy as np
import pytest

from geodiff.diffusion.shapes import SHAPES, blobs, blocks, draw_gap, lines, real_masks, specks, swath, wedges

DRAWN = {"blobs": blobs, "wedges": wedges, "swath": swath, "lines": lines, "blocks": blocks, "specks": specks}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("shape", [(64, 64), (40, 96)])
def test_a_gap_has_the_images_shape_and_leaves_something(name, shape) -> None:
    gaps = [DRAWN[name](shape, np.random.default_rng(seed)) for seed in range(20)]
    assert all(g.shape == shape and g.dtype == bool for g in gaps)
    assert any(g.any() for g in gaps)
    assert np.mean([g.mean() for g in gaps]) < 0.8


def test_all_shapes_are_drawn_and_whole_frames_only_beside_other_dates() -> None:
    mask = np.zeros((200, 200), bool)
    mask[50:150, 50:120] = True
    rng = np.random.default_rng(0)
    alone = {draw_gap((48, 48), rng, [mask])[0] for _ in range(300)}
    assert alone == set(SHAPES) - {"whole"}
    assert "whole" in {draw_gap((48, 48), rng, [mask], dates=True)[0] for _ in range(400)}
    assert "transplanted" not in {draw_gap((48, 48), rng, [])[0] for _ in range(50)}


def test_the_same_seed_draws_the_same_gap() -> None:
    one, two = (draw_gap((64, 64), np.random.default_rng(5), []) for _ in "ab")
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])


def test_real_masks_are_clouds_of_the_training_part(data_dir) -> None:
    masks = real_masks(data_dir / "train")
    assert len(masks) > 10
    assert all(0.02 < m.mean() < 0.98 for m in masks)
