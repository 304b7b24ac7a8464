"""Zero and true flow in place of the learned one: which frames are asked about, and what comes of it."""

import numpy as np
import pytest
import torch
from lib.engine.known_flow import (
    KnownFlow,
    KnownFlowError,
    check_flow,
    replace_flow,
    true_flow,
    with_surroundings,
    zero_flow,
)

from lib.errors import InputError
from lib.models.postprocess import PostProcess
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.dataset import Plan, make_dataset
from lib.synthetic.flow_pairs import flow_in_cells, things_in_cells
from tests.models.small import assert_same_detections, random_frames, small_rfcn
from tests.models.small_video import small_dff, small_fgfa

POSTPROCESS = PostProcess(1e-3, 0.3, 300)
SETTINGS = Settings(classes=3, width=128, height=96, frames=6, seed=3)


def asked(model, frames, batch_images):
    """(frame, other frame) of every flow that `model` asks for, in order."""
    pairs = []

    def flow_of(name, height, width):
        nothing = zero_flow(name, height, width)
        return lambda frame, other: pairs.append((frame, other)) or nothing(frame, other)

    model.flow_net = KnownFlow(model.flow_net, flow_of)
    model.flow_net.begin("clip")
    list(model.detect(frames, POSTPROCESS, batch_images))
    return pairs


@pytest.mark.parametrize("batch_images", [1, 2, 5])
def test_deep_feature_flow_asks_from_each_frame_to_its_key_frame(batch_images):
    pairs = asked(small_dff(interval=3), random_frames([(96, 128)] * 5), batch_images)
    assert pairs == [(1, 0), (2, 0), (4, 3)]


@pytest.mark.parametrize("batch_images", [1, 3])
def test_fgfa_asks_from_each_frame_to_its_neighbours(batch_images):
    pairs = asked(small_fgfa(reach=1), random_frames([(96, 128)] * 3), batch_images)
    assert sorted(set(pairs)) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("make", [small_dff, small_fgfa], ids=["dff", "fgfa"])
def test_zero_flow_is_a_flow_network_that_says_zero(make, tmp_path):
    frames = random_frames([(96, 128)] * 4)
    model, same = make(), make()
    with torch.no_grad():
        same.flow_net.Convolution5.weight.zero_()
        same.flow_net.Convolution5.bias.zero_()
    replace_flow(model, "zero", tmp_path)("clip")
    found = list(model.detect(frames, POSTPROCESS))
    assert sum(len(detections.boxes) for detections in found) > 0
    assert_same_detections(found, same.detect(frames, POSTPROCESS))


def test_a_second_video_counts_from_its_own_first_frame(tmp_path):
    model = small_dff()
    begin = replace_flow(model, "zero", tmp_path)
    frames = random_frames([(96, 128)] * 4)
    begin("a")
    first = list(model.detect(frames, POSTPROCESS))
    begin("b")
    assert_same_detections(model.detect(frames, POSTPROCESS), first)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_dataset(folder, Plan(SETTINGS, train_videos=1, val_videos=2, stills=1))
    return folder


@pytest.mark.parametrize(
    ("name", "split", "index"),
    [("val/syn_val_00000001", "val", 1), ("train/ILSVRC2015_VID_train_0000/syn_train_00000000", "train", 0)],
)
def test_true_flow_is_the_generators(dataset, name, split, index):
    found = make_clip(SETTINGS, split, index).flow(4, 1)
    between = true_flow(dataset)(name, 96, 128)
    plain, objects = flow_in_cells(found.flow, found.layers), things_in_cells(found.layers) > 0
    np.testing.assert_array_equal(between(4, 1)[:, objects], plain[:, objects])
    np.testing.assert_array_equal(between(4, 1), with_surroundings(plain, objects))
    assert np.abs(between(4, 1)).max() > 0.05, "nothing moves, nothing is compared"


def test_surroundings_move_with_the_nearest_object():
    random = np.random.default_rng(0)
    flow = random.standard_normal((2, 9, 11)).astype(np.float32)
    objects = np.zeros((9, 11), bool)
    objects[1, 2] = objects[6, 8] = True
    found = with_surroundings(flow, objects, reach=2.0)
    for y in range(9):
        for x in range(11):
            near = [(np.hypot(y - i, x - j), i, j) for i, j in ((1, 2), (6, 8))]
            distance, i, j = min(near)
            expected = flow[:, i, j] if distance <= 2 else flow[:, y, x]
            np.testing.assert_array_equal(found[:, y, x], expected)
    assert with_surroundings(flow, np.zeros_like(objects)) is flow


def test_what_cannot_be_known_is_said(dataset, tmp_path):
    with pytest.raises(KnownFlowError, match="no flow"):
        replace_flow(small_rfcn(), "zero", dataset)
    with pytest.raises(InputError, match=r"synthetic.json.*make_synthetic_vid"):
        replace_flow(small_dff(), "true", tmp_path)
    with pytest.raises(KnownFlowError, match="256x192"):
        true_flow(dataset)("val/syn_val_00000000", 192, 256)
    with pytest.raises(KnownFlowError, match="'val/street' is no video of the generator"):
        true_flow(dataset)("val/street", 96, 128)
    for model, kind, folder in ((small_rfcn(), "zero", dataset), (small_dff(), "true", tmp_path)):
        with pytest.raises(InputError):
            check_flow(model, kind, folder)
    check_flow(small_rfcn(), "learned", tmp_path)
    check_flow(small_dff(), "true", dataset)
