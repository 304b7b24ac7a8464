"""Boxes, flow, motion and tracks of synthetic clips, each against something that does not come from the same code."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lib.synthetic import flow as flow_files
from lib.synthetic import render
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.catalogue import DRAWINGS, annotation_name, class_names
from lib.synthetic.geometry import motion_iou
from lib.synthetic.motion import Steps, Trajectory, Waves
from lib.synthetic.objects import motion_ious
from lib.synthetic.scene import Clip
from lib.synthetic.sprites import make_sprite

SETTINGS = Settings(frames=20, motion_mix=(1, 1, 1), seed=11)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(SETTINGS, "train", index) for index in range(12)]


def test_boxes_are_the_extents_of_the_rendered_silhouettes_cut_to_the_frame(clips):
    checked, pad = 0, 200
    for clip in clips:
        for index in (0, 9, 19):
            objects = clip.objects[index]
            for box, number in zip(objects.boxes, objects.layers, strict=True):
                layer = clip.layers[number]
                moved = replace(
                    layer, trajectory=replace(layer.trajectory, home=layer.trajectory.home + (pad, pad, 0, 0, 0, 0))
                )
                size = (clip.height + 2 * pad, clip.width + 2 * pad)
                rows, columns = np.nonzero(render.layer_map([clip.layers[0], moved], index, *size) == 1)
                whole = np.array((columns.min(), rows.min(), columns.max(), rows.max())) - pad
                extents = np.clip(whole, 0, (clip.width - 1, clip.height - 1) * 2)
                assert np.abs(box - extents).max() <= 1, (box, extents)
                checked += 1
    assert checked > 40


def test_boxes_lie_in_the_frame_and_have_both_flags(clips):
    boxes = np.concatenate([objects.boxes for clip in clips for objects in clip.objects])
    occluded = np.concatenate([objects.occluded for clip in clips for objects in clip.objects])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] < SETTINGS.width).all()
    assert (boxes[:, 3] < SETTINGS.height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert occluded.any()
    assert not occluded.all()


@pytest.mark.parametrize("other", [8, 1, 19])
def test_reading_one_frame_where_the_flow_says_gives_the_other(clips, other):
    errors, compared_objects = [], 0
    for clip in clips[:6]:
        found = clip.flow(9, other)
        y, x = np.mgrid[0 : clip.height, 0 : clip.width].astype(np.float32)
        here, there = clip.image(9, clean=True), clip.image(other, clean=True)
        read = cv2.remap(there, x + found.flow[0], y + found.flow[1], cv2.INTER_LINEAR).astype(np.float32)
        # Next to an edge a pixel is a mixture of two layers, which move apart.
        edge = cv2.morphologyEx(found.layers.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
        there_edge = cv2.morphologyEx(
            clip.layer_map(other).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)
        )
        far = cv2.remap(there_edge, x + found.flow[0], y + found.flow[1], cv2.INTER_NEAREST) == 0
        compared = found.visible & ~edge & far
        compared_objects += int((compared & (found.layers > 0)).sum())
        errors.append(np.abs(read - here)[compared].mean(1))
        shifted = np.abs(there.astype(np.float32) - here)[compared].mean()
        assert errors[-1].mean() < 0.5 * shifted + 1, "no better than no flow at all"
    errors = np.concatenate(errors)
    assert compared_objects > 5000
    assert np.median(errors) < 2.5  # grey values; two interpolations of fine grain differ by that
    assert np.mean(errors > 25) < 0.005


def test_flow_to_the_same_frame_is_zero_and_all_visible(clips):
    found = clips[0].flow(4, 4)
    assert np.abs(found.flow).max() < 1e-4
    assert found.visible.all()
    assert found.flow.shape == (2, SETTINGS.height, SETTINGS.width)
    assert found.flow.dtype == np.float32


def test_what_is_covered_later_is_marked_invisible():
    clip = next(
        c for c in (make_clip(SETTINGS, "val", i) for i in range(40)) if len(c.layers) == 2 and c.layers[1].label
    )
    layer = clip.layers[1]
    still = np.zeros((1, 6))
    home = np.array((80, 120, np.log(100.0), 0, 0, 0))
    jump = Steps(np.array([0.2]), np.array([0.5]), np.array([[120.0, 0, 0, 0, 0, 0]]))
    moved = replace(layer, trajectory=Trajectory(home, Waves(np.ones(1), still, still), trips=jump))
    back = replace(clip.layers[0], trajectory=replace(clip.layers[0].trajectory, gain=0.0))
    clip = replace(clip, layers=[back, moved])
    there = clip.layer_map(1) == 1
    found = clip.flow(0, 1)
    assert not found.visible[there & (found.layers == 0)].any()  # background that the object moves onto
    assert found.visible[~there & (found.layers == 0)].all()
    on_object = found.layers == 1
    assert np.allclose(found.flow[0][on_object], 120, atol=1e-4)
    assert found.visible[on_object].mean() > 0.97


def test_flow_files_keep_a_sixty_fourth_of_a_pixel(clips):
    found = clips[1].flow(3, 4)
    values, visible = flow_files.decoded(flow_files.encoded(found))
    assert np.abs(values - found.flow).max() <= 0.5 / 64 + 1e-4
    assert (visible == found.visible).all()
    with pytest.raises(ValueError, match="16-bit"):
        flow_files.decoded(b"no picture")


def test_motion_iou_is_the_mean_over_ten_frames_each_way():
    generator = np.random.default_rng(3)
    boxes = generator.integers(0, 30, (25, 2))
    boxes = np.concatenate((boxes, boxes + generator.integers(20, 40, (25, 2))), 1).astype(np.float64)
    present = generator.random(25) < 0.8

    def overlap(a, b):  # by counting pixels
        masks = np.zeros((2, 80, 80), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, (a, b), strict=True):
            mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = True
        return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()

    for t, value in enumerate(motion_iou(boxes, present)):
        others = [o for o in range(25) if o != t and abs(o - t) <= 10 and present[o]]
        expected = np.mean([overlap(boxes[t], boxes[o]) for o in others]) if present[t] else np.nan
        assert np.isclose(value, expected, equal_nan=True)


def test_motion_mix_is_near_the_wanted_one_without_rendering():
    settings = Settings(width=160, height=120, seed=2)
    ious = np.concatenate([motion_ious(make_clip(settings, "train", i).objects) for i in range(110)])
    mix = np.array([(ious < 0.7).mean(), ((ious >= 0.7) & (ious <= 0.9)).mean(), (ious > 0.9).mean()])
    assert len(ious) > 3000
    assert np.abs(mix - (0.27, 0.35, 0.37)).max() < 0.09, mix


@pytest.mark.parametrize(("mix", "low", "high"), [((1, 0, 0), 0.0, 0.7), ((0, 1, 0), 0.7, 0.9), ((0, 0, 1), 0.9, 1.0)])
def test_each_kind_of_motion_is_what_it_is_called(mix, low, high):
    settings = Settings(width=160, height=120, motion_mix=mix, seed=4)
    ious = np.concatenate([motion_ious(make_clip(settings, "train", i).objects) for i in range(20)])
    assert ((ious >= low) & (ious <= high)).mean() > 0.7


def test_an_object_that_leaves_comes_back_with_its_track():
    settings = Settings(width=160, height=120, frames=30, motion_mix=(1, 0, 0), seed=6)
    returned = 0
    for clip in (make_clip(settings, "train", i) for i in range(30)):
        assert clip.objects[0].track_ids.dtype == np.int64
        for layer in (la for la in clip.layers if la.label):
            seen = np.array([layer.track_id in objects.track_ids for objects in clip.objects])
            gone = np.flatnonzero(~seen)
            if len(gone) and seen[: gone[0]].any() and seen[gone[-1] :].any():
                returned += 1
            for objects in clip.objects:
                rows = objects.track_ids == layer.track_id
                assert (objects.labels[rows] == layer.label).all()
                assert rows.sum() <= 1
    assert returned >= 3


def test_fast_objects_are_blurred_and_slow_ones_are_not():
    def sharpness(mix):
        values = []
        for clip in (make_clip(Settings(motion_mix=mix, seed=8, frames=12), "train", i) for i in range(8)):
            back = replace(clip.layers[0], trajectory=replace(clip.layers[0].trajectory, gain=0.0))
            picture = render.light([back, *clip.layers[1:]], 6.0, 1.0, clip.height, clip.width)
            clean = render.light([back, *clip.layers[1:]], 6.0, 0.0, clip.height, clip.width)
            there = clip.layer_map(6) > 0
            values.append(
                cv2.Laplacian(picture, cv2.CV_32F)[there].std() / cv2.Laplacian(clean, cv2.CV_32F)[there].std()
            )
        return np.mean(values)

    assert sharpness((1, 0, 0)) < 0.75 < 0.85 < sharpness((0, 0, 1))


def test_blur_over_a_still_background_is_the_mean_of_many_short_exposures():
    clip = next(
        c
        for c in (make_clip(replace(SETTINGS, motion_mix=(1, 0, 0)), "val", i) for i in range(40))
        if len(c.layers) == 2
    )
    back = replace(clip.layers[0], trajectory=replace(clip.layers[0].trajectory, gain=0.0))
    layers = [back, clip.layers[1]]
    blurred = render.light(layers, 7.0, 0.8, clip.height, clip.width)
    moments = 7.0 + 0.8 * ((np.arange(96) + 0.5) / 96 - 0.5)
    expected = np.mean([render.light(layers, t, 0.0, clip.height, clip.width) for t in moments], axis=0)
    assert np.abs(blurred - expected).mean() < 1.0
    assert np.percentile(np.abs(blurred - expected), 99) < 12


def test_thirty_classes_have_names_and_differ_in_silhouette():
    assert len(set(class_names(30))) == len(DRAWINGS) == 30
    assert len({annotation_name(label) for label in range(1, 31)}) == 30
    silhouettes = [make_sprite(np.random.default_rng([label]), label, 96).alpha >= 128 for label in range(1, 31)]
    for a in range(30):
        assert 0.04 < silhouettes[a].mean() < 0.85
        for b in range(a):
            overlap = (silhouettes[a] & silhouettes[b]).sum() / (silhouettes[a] | silhouettes[b]).sum()
            assert overlap < 0.85, (class_names(30)[a], class_names(30)[b])
    assert make_clip(Settings(classes=30, frames=2), "train", 29).layers


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 31}, "classes"),
        ({"frames": 0}, "frames"),
        ({"width": 20}, "size"),
        ({"motion_mix": (0, 0, 0)}, "motion mix"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_odd_sizes_and_very_short_videos_work():
    for settings in (Settings(frames=1, width=101, height=77), Settings(frames=2, width=90, height=200)):
        for split in ("train", "stills"):
            clip = make_clip(settings, split, 3)
            assert clip.image(clip.frames - 1).shape == (clip.height, clip.width, 3)
