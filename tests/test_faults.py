"""Detectors find what was broken on purpose, and leave sound frames alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geodiff import gapshapes
from geodiff.errors import GridError, JobError
from geodiff.faults import DETECTORS, TILE, check_names, detect, detect_window
from geodiff.faults.flat import cut_short
from geodiff.gaps import Reason, dilate
from geodiff.lattice import Window


def scene(shape=(192, 256), seed=0, dtype=np.uint8):
    """A textured frame: a smooth random field, finer grain, and noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 12)
    fine = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    frame = 120 + 35 * smooth / smooth.std() + 8 * fine / fine.std() + rng.normal(0, 1.0, shape)
    return np.clip(np.rint(frame), 1, 254).astype(dtype)


def found(frame, name, **options):
    return detect(frame[None], [name], **options)[0] != 0


def recall(truth, flagged):
    return (truth & flagged).sum() / truth.sum()


def precision(truth, flagged):
    return (truth & flagged).sum() / max(flagged.sum(), 1)


@pytest.fixture(scope="module")
def sound_frames(data_dir):
    """Browse frames of the rover's validation sols, as grey uint8."""
    from PIL import Image

    folder = data_dir / "train/mars-msl-surface/dataset/validation/Surface"
    paths = sorted(folder.iterdir())[::12][:40]
    return [np.asarray(Image.open(path).convert("L")) for path in paths]


# The door


def test_names_are_checked_before_anything_is_read():
    assert check_names(["hotpixels", "dropouts", "hotpixels"]) == ("dropouts", "hotpixels")
    with pytest.raises(JobError, match=r"named detector.*s2cloudless.*--qa"):
        check_names(["dropouts", "clouds"])
    with pytest.raises(JobError, match=r"smears.*dropouts, stripes, reseau, hotpixels"):
        check_names(["smears"])
    with pytest.raises(GridError, match=r"\(4, 4\)"):
        detect(np.zeros((4, 4)), ["dropouts"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 9), (40, 33)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_small_flat_and_empty_frames_are_sound(shape, dtype):
    for frame in (np.zeros(shape, dtype), np.arange(np.prod(shape)).reshape(shape).astype(dtype)):
        assert not detect(frame[None], DETECTORS).any()
        assert not detect(frame[None], DETECTORS, np.zeros((1, *shape), bool)).any()


@given(st.integers(0, 30))
@settings(max_examples=10)
def test_missing_pixels_are_neither_judged_nor_witnesses(seed):
    rng = np.random.default_rng(seed)
    frame, gap = scene(seed=seed), gapshapes.draw_clouds((192, 256), rng, share=0.3)
    zeros, noise = frame.copy(), frame.copy()
    zeros[gap], noise[gap] = 0, rng.integers(0, 256, gap.sum())
    flagged = [detect(f[None], DETECTORS, ~gap[None]) for f in (zeros, noise)]
    assert np.array_equal(*flagged)
    assert not flagged[0][0][gap].any()


def test_nan_is_missing_and_infinity_too():
    frame = scene(dtype=np.float32)
    frame[50:60], frame[90] = np.nan, np.inf
    assert not detect(frame[None], DETECTORS)[0, 50:60].any()


def test_bands_are_judged_apart():
    frames = np.stack([scene(seed=1), scene(seed=2)])
    frames[1, 70] = 0
    reason = detect(frames, ["dropouts"])
    assert not reason[0].any()
    assert (reason[1, 70] == Reason.DROPOUT).all()


# Dropouts


@pytest.mark.parametrize("value", [0, 255, 120])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_whole_lines_are_found_whatever_fills_them(value, dtype):
    frame = scene(dtype=dtype)
    frame[40:43] = frame[100] = value
    flagged = found(frame, "dropouts")
    assert flagged[[40, 41, 42, 100]].all()
    assert flagged.sum() == 4 * 256


def test_lines_that_break_off_and_blocks_are_found():
    frame = scene()
    lost = np.zeros(frame.shape, bool)
    lost[20, 90:] = lost[60:62, :70] = lost[96:112, 128:160] = lost[144:160, 64:80] = True
    lost[176:192, 240:] = True
    frame[lost] = 0
    assert np.array_equal(found(frame, "dropouts"), lost)


def test_a_lost_line_through_a_lost_block():
    frame = scene()
    lost = np.zeros(frame.shape, bool)
    lost[100] = lost[80:112, 64:128] = True
    frame[lost] = 0
    assert recall(lost, found(frame, "dropouts")) == 1


@pytest.mark.parametrize("shape", ["whole", "part", "column", "block"])
def test_noise_in_place_of_the_scene_is_found(shape):
    frame, lost = scene(), np.zeros((192, 256), bool)
    where = {
        "whole": np.s_[60:63],
        "part": np.s_[60:62, 100:],
        "column": np.s_[:, 90:92],
        "block": np.s_[96:112, 128:160],
    }[shape]
    lost[where] = True
    frame[lost] = np.random.default_rng(1).integers(0, 256, lost.sum())
    flagged = found(frame, "dropouts")
    assert recall(lost, flagged) > 0.97
    assert precision(lost, flagged) > 0.95


def test_a_line_that_was_repeated_is_found_and_an_enlarged_frame_is_sound():
    frame = scene()
    frame[80:82] = frame[79]
    assert np.array_equal(np.flatnonzero(found(frame, "dropouts").all(axis=1)), [80, 81])
    assert not found(np.repeat(scene(), 2, axis=0), "dropouts").any()


def test_lost_columns_are_found():
    frame = scene()
    frame[:, 50:52] = 0
    flagged = found(frame, "dropouts")
    assert flagged[:, 50:52].all()
    assert flagged.sum() == 2 * 192


def test_a_track_of_a_particle_is_found():
    frame = scene().astype(np.int16)
    frame[np.arange(50, 55), np.arange(70, 75)] = 900
    flagged = found(frame, "hotpixels")
    assert np.array_equal(np.argwhere(flagged), [[50 + i, 70 + i] for i in range(5)])


def test_borders_skies_and_shadows_are_no_dropouts():
    frame = scene().astype(np.int16)
    frame[:12] = 0
    frame[:, :20] = 0
    bright = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(frame.shape), 15)
    frame[bright > np.quantile(bright, 0.8)] = 254
    assert not found(frame, "dropouts").any()


# Stripes


@pytest.mark.parametrize("offset", [-10, 10, 25])
def test_striped_rows_and_columns_are_found(offset):
    frame = scene().astype(np.int16)
    frame[77] += offset
    frame[:, 130] += offset
    flagged = found(frame, "stripes")
    assert flagged[77].all()
    assert flagged[:, 130].all()
    assert flagged.sum() == 256 + 192 - 1


def test_edges_and_half_stripes_are_no_stripes():
    frame = scene().astype(np.int16)
    frame[100:] += 40
    frame[60, :128] += 20
    assert not found(frame, "stripes").any()


# Hot pixels


@pytest.mark.parametrize("length", [1, 3, 7, 12])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_track_is_found_whatever_its_length_and_a_line_of_the_scene_is_not(length, sign):
    frame = scene().astype(np.int16)
    along = np.rint(np.arange(length) * 0.5).astype(int)
    lost = np.zeros(frame.shape, bool)
    lost[60 + along, 80 + np.arange(length)] = True
    frame[lost] += sign * 400
    frame[100, 40:80] += 400
    assert np.array_equal(found(frame, "hotpixels"), lost)


def test_hot_and_cold_pixels_are_found_and_stars_are_not():
    frame = scene().astype(np.int16)
    frame[50, 60], frame[120, 200] = 2000, -500
    star = np.exp(-(np.hypot(*np.mgrid[-4:5, -4:5]) ** 2) / 4)
    frame[150:159, 30:39] += (800 * star).astype(np.int16)
    flagged = found(frame, "hotpixels")
    assert np.argwhere(flagged).tolist() == [[50, 60], [120, 200]]


@pytest.mark.parametrize("spread", [0.85, 1.0, 1.3])
def test_faint_stars_of_a_sharp_lens_are_no_hits_and_hot_pixels_among_them_are(spread):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:192, :256]
    sky = 10 + rng.normal(0, 1.5, (192, 256))
    for row, column, light in rng.uniform((5, 5, 20), (187, 251, 240), (60, 3)):
        sky += light * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / spread**2)
    sky = np.clip(sky, 0, 255).astype(np.uint8)
    hot = np.zeros(sky.shape, bool)
    hot[100, 40] = hot[20, 9] = hot[60, 201] = True
    assert (sky[hot] < 20).all()
    assert np.array_equal(found(np.where(hot, 200, sky), "hotpixels"), hot)


# Reseau marks


@pytest.mark.parametrize("spacing", [24, 37, 61])
def test_a_grid_of_marks_is_found(spacing):
    frame, marks = scene((320, 320)).copy(), np.zeros((320, 320), bool)
    rng = np.random.default_rng(spacing)
    for row in range(15, 310, spacing):
        for column in range(12, 310, spacing):
            top, left = row + rng.integers(-1, 2), column + rng.integers(-1, 2)
            marks[top : top + 4, left : left + 4] = True
    frame[marks] = 4
    flagged = found(frame, "reseau")
    assert recall(marks, flagged) > 0.98
    assert precision(dilate(marks, 2), flagged) > 0.998


def test_a_bent_staggered_grid_is_found_where_marks_are_weak_too():
    """Rows that are shifted by half a spacing, bent by optics, on a frame that fades into shadow."""
    frame, marks = scene((400, 400)).astype(np.float64), np.zeros((400, 400), bool)
    frame *= np.linspace(1, 0.15, 400)
    for number, row in enumerate(range(20, 390, 36)):
        for column in range(16 + 18 * (number % 2), 385, 36):
            bend = 4e-5 * ((row - 200) ** 2 + (column - 200) ** 2)
            top, left = (round(x + bend * (x - 200) / 200) for x in (row, column))
            marks[top : top + 4, left : left + 4] = True
    frame = np.where(marks, 0.45 * frame, frame).astype(np.uint8)
    flagged = found(frame, "reseau")
    assert recall(marks, flagged) > 0.95
    assert precision(dilate(marks, 2), flagged) > 0.98


def test_what_a_mark_hides_in_shadow_is_flagged_where_the_grid_says():
    frame, marks = scene((320, 320)).copy(), np.zeros((320, 320), bool)
    frame[120:200, 110:210] = 4
    for row in range(15, 310, 37):
        for column in range(12, 310, 37):
            marks[row : row + 4, column : column + 4] = True
    frame[marks] = 4
    hidden = marks.copy()
    hidden[:120], hidden[200:], hidden[:, :110], hidden[:, 210:] = False, False, False, False
    assert hidden.sum() >= 4 * 16
    assert recall(hidden, found(frame, "reseau")) > 0.8


def test_spots_without_a_grid_are_the_scenes_own():
    frame, rng = scene((320, 320)).copy(), np.random.default_rng(3)
    for row, column in rng.integers(5, 310, (80, 2)):
        frame[row : row + 4, column : column + 4] = 4
    assert not found(frame, "reseau").any()


# Windows


@pytest.mark.parametrize("name", DETECTORS)
def test_a_window_is_judged_as_the_frame(name):
    frame = scene((TILE + 150, 300), dtype=np.int16)[None].copy()
    frame[0, 500], frame[0, TILE + 5] = 0, 0
    frame[0, 700] += 30
    frame[0, ::40, ::40] = 1
    frame[0, 333, 222] = 3000

    def read(window):
        values = frame[(slice(None), *window.slices)]
        return values, values >= 0

    whole = detect_window(read, frame.shape[1:], Window(0, 0, *frame.shape[1:]), [name])
    for window in (Window(480, 0, 64, 300), Window(TILE - 9, 77, 30, 50), Window(0, 200, TILE + 150, 100)):
        part = detect_window(read, frame.shape[1:], window, [name])
        assert np.array_equal(part, whole[(slice(None), *window.slices)])


def test_small_frames_are_judged_whole():
    frame = scene()[None].copy()
    frame[0, 50] = 0
    window = Window(48, 10, 8, 8)
    part = detect_window(lambda w: (frame[(slice(None), *w.slices)], frame >= 0), frame.shape[1:], window, ["dropouts"])
    assert np.array_equal(part, detect(frame, ["dropouts"])[(slice(None), *window.slices)])
    assert part[0, 2].all()


# Real frames


def test_sound_frames_of_the_rover_stay_sound(sound_frames):
    flagged = [detect(frame[None], DETECTORS) != 0 for frame in sound_frames]
    assert np.mean([f.mean() for f in flagged]) < 1e-5
    assert sum(f.any() for f in flagged) <= 1


@pytest.mark.parametrize(
    ("name", "least"), [("dropouts", 0.9), ("stripes", 0.7), ("hotpixels", 0.6)], ids=["dropouts", "stripes", "hot"]
)
def test_faults_put_into_frames_of_the_rover(sound_frames, name, least):
    hits = truths = flags = 0
    for number, frame in enumerate(sound_frames):
        broken, rng = frame.astype(np.int16), np.random.default_rng(number)
        if name == "dropouts":
            broken[gapshapes.dead_lines(frame.shape, rng) | gapshapes.dead_blocks(frame.shape, rng)] = 0
        elif name == "stripes":
            broken[rng.integers(10, frame.shape[0] - 10)] += 12
        else:
            broken[tuple(rng.integers(0, frame.shape, (10, 2)).T)] += 100
        truth, flagged = broken != frame, found(broken, name)
        hits, truths, flags = hits + (truth & flagged).sum(), truths + truth.sum(), flags + flagged.sum()
    assert hits / truths > least
    assert hits / flags > 0.98


# What the frame's ends, flat surroundings and weak contrast ask for


@pytest.mark.parametrize("end", ["bottom", "top"])
@pytest.mark.parametrize("value", [0, 255, 90])
def test_a_frame_that_was_cut_short_is_lost_from_there_on(end, value):
    frame = scene()
    lost = np.zeros(frame.shape, bool)
    lost[-60:] = True
    lost = lost if end == "bottom" else lost[::-1]
    frame[lost] = value
    assert np.array_equal(found(frame, "dropouts"), lost)
    assert not detect(frame[None], ["dropouts"], ends=False).any()  # a map's collar


@pytest.mark.parametrize("end", ["bottom", "top"])
@pytest.mark.parametrize("lines", [1, 8, 16])
@pytest.mark.parametrize("kept", [0.05, 0.5])
def test_a_frame_that_breaks_off_within_a_line_or_a_row_of_blocks_is_lost_from_there_on(end, lines, kept):
    lost = np.zeros((192, 256), bool)
    lost[int(kept * 192) + 16 :] = True
    lost[int(kept * 192) + 16 - lines : int(kept * 192) + 16, 96:] = True
    lost = lost if end == "bottom" else lost[::-1, ::-1]
    frame = np.where(lost, 0, scene())
    assert np.array_equal(found(frame, "dropouts"), lost)


def test_lines_lost_amid_a_frame_from_within_a_line_to_within_another():
    frame = scene()
    lost = np.zeros(frame.shape, bool)
    lost[50:140], lost[49, 70:], lost[140, :200] = True, True, True
    assert np.array_equal(found(np.where(lost, 90, frame), "dropouts"), lost)


def test_columns_through_many_lost_lines_are_no_noise():
    calm = np.abs(np.arange(256) - 115) < 15
    frame = np.where(calm, scene() / 20 + 200, scene()).astype(np.uint8)
    lost = np.zeros(frame.shape, bool)
    lost[6:-6:6] = lost[7:-6:6] = True
    assert np.array_equal(found(np.where(lost, 0, frame), "dropouts"), lost)


def test_what_is_left_of_a_saturated_sky_between_lost_lines_is_sound():
    frame = scene()
    frame[:, 200:] = 255
    lost = np.zeros(frame.shape, bool)
    lost[9:-2:2] = True
    frame[lost] = 0
    assert np.array_equal(found(frame, "dropouts"), lost)


@pytest.mark.parametrize("value", [0, 255, 90])
def test_half_the_lines_of_a_frame_lost_amid_the_scene_are_found(value):
    frame = scene()
    frame[50:140] = value
    lost = np.zeros(frame.shape, bool)
    lost[50:140] = True
    assert np.array_equal(found(frame, "dropouts"), lost)
    assert not detect(frame[None], ["dropouts"], ends=False).any()  # swaths of a map, far apart


def test_a_belt_of_shadow_amid_the_scene_is_not_lost():
    frame = scene()
    rim = (60 + 8 * np.sin(np.arange(256) / 9)).astype(int)
    rows = np.arange(192)[:, None]
    frame[(rows >= rim) & (rows < rim + 70)] = 0
    assert not cut_short(frame.astype(float), np.ones(frame.shape, bool)).any()


def test_borders_skies_and_space_are_not_cut_short():
    border = scene()
    border[-8:] = border[:8] = 0
    sky = scene()
    rim = (60 + 8 * np.sin(np.arange(256) / 9)).astype(int)
    sky[np.arange(192)[:, None] < rim] = 255
    space = np.where(np.hypot(*np.mgrid[-150:42, -128:128]) < 120, scene(), 0)
    for frame in (border, sky, space):
        assert not cut_short(frame.astype(float), np.ones(frame.shape, bool)).any()


def test_the_end_of_a_tile_is_not_the_end_of_a_frame():
    frame = np.zeros((1, TILE + 200, 300), np.uint8)
    frame[0, : TILE - 300] = scene((TILE - 300, 300))
    read = lambda w: (frame[(slice(None), *w.slices)], np.ones((1, *w.shape), bool))  # noqa: E731
    assert not detect_window(read, frame.shape[1:], Window(0, 0, *frame.shape[1:])).any()
    shown = frame[:, :TILE]
    read_whole = lambda w: (shown[(slice(None), *w.slices)], np.ones((1, *w.shape), bool))  # noqa: E731
    whole = Window(0, 0, *shown.shape[1:])
    assert detect_window(read_whole, shown.shape[1:], whole)[0, TILE - 300 :].all()
    assert not detect_window(read_whole, shown.shape[1:], whole, ends=False).any()


def test_a_lost_block_in_a_saturated_sky_and_one_of_a_middling_value_are_found():
    frame = scene()
    sky = np.arange(192)[:, None] < (90 + 8 * np.sin(np.arange(256) / 9)).astype(int)
    frame[sky] = 255
    frame[40:56, 64:112] = 0
    frame[144:160, 64:112] = int(np.median(frame[144:160, 64:112]))
    flagged = found(frame, "dropouts")
    assert flagged[40:56, 64:112].all()
    assert flagged[144:160, 64:112].all()
    assert flagged.sum() == 2 * 16 * 48


def test_a_lost_packet_at_the_first_line_is_found_and_a_border_there_is_not():
    packet, border = scene(), scene()
    packet[:16, 96:] = 0
    border[:7, :] = 0
    assert np.array_equal(found(packet, "dropouts"), packet == 0)
    assert not found(border, "dropouts").any()


def test_a_stretch_of_the_value_of_the_scene_is_lost_between_lively_rows():
    frame = scene()
    frame[80, :100] = int(np.median(frame[80, :100]))
    assert found(frame, "dropouts")[80, :100].mean() > 0.95


def test_a_stripe_that_runs_into_a_black_collar_is_found():
    frame = scene()
    frame[:, 150:] = 0
    frame[70, :150] += 24
    assert found(frame, "stripes")[70, :150].all()


def compressed(frame, quality):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_blocks_of_a_strongly_compressed_frame_are_no_dropouts_and_a_lost_one_among_them_is():
    soft = ndimage.gaussian_filter(scene().astype(float), 4)
    frame = compressed(np.rint(soft + np.random.default_rng(1).normal(0, 1, soft.shape)).astype(np.uint8), 20)
    assert not found(frame, "dropouts").any()
    broken = frame.copy()
    broken[64:80, 96:144] = 0
    assert np.array_equal(found(broken, "dropouts"), broken != frame)


@pytest.mark.parametrize("drawn", ["bars", "checkers"])
def test_an_exact_pattern_over_the_whole_frame_is_no_damage(drawn):
    row, column = np.mgrid[:256, :256]
    frame = 15 * (column // 16) if drawn == "bars" else 30 + 180 * ((row // 32 + column // 32) % 2)
    assert not found(frame.astype(np.uint8), "dropouts").any()
    assert not found(frame.astype(np.uint8).T, "dropouts").any()
