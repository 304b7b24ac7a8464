"""Zero and true flow in place of the learned one: which frames are asked about, and what comes of it."""

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.engine.testing import known_flow
from lib.errors import InputError
from lib.models.video_model import ZeroFlow
from lib.structures import Frame
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.dataset import Plan, make_dataset
from lib.synthetic.flow_pairs import flow_in_cells, things_in_cells
from lib.synthetic.true_flow import TrueFlow, TrueFlowError, with_surroundings
from tests.models.small import assert_same_detections, detect, random_frames
from tests.models.small_video import small_dff, small_fgfa

SETTINGS = Settings(classes=3, width=128, height=96, frames=6, seed=3)


def asked(model, frames, batch_images):
    """(frame, other frame) of every flow that `model` asks for, in order."""
    pairs = []

    def flow(ours, others):
        pairs.extend((frame.index, other.index) for frame, other in zip(ours, others, strict=True))
        return ZeroFlow()(ours, others)

    model.known_flow = flow
    detect(model, frames, batch_images=batch_images)
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
def test_zero_flow_is_a_flow_network_that_says_zero(make):
    frames = random_frames([(96, 128)] * 4)
    model, same = make(), make()
    with torch.no_grad():
        same.flow_net.Convolution5.weight.zero_()
        same.flow_net.Convolution5.bias.zero_()
    learned = detect(model, frames)
    model.known_flow = ZeroFlow()
    found = detect(model, frames)
    assert sum(len(detections.boxes) for detections in found) > 0
    assert_same_detections(found, detect(same, frames))
    assert any(len(a) != len(b) or not torch.equal(a.scores, b.scores) for a, b in zip(found, learned, strict=True))


@pytest.mark.parametrize(("size", "cells"), [((96, 128), (6, 8)), ((97, 113), (7, 8)), ((16, 1), (1, 1))])
def test_zero_flow_has_the_size_of_the_feature_map(size, cells):
    flow = ZeroFlow()(random_frames([size] * 3), random_frames([size] * 3))
    assert flow.shape == (3, 2, *cells)
    assert not flow.any()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_dataset(folder, Plan(SETTINGS, train_videos=1, val_videos=2, stills=1))
    return folder


def frames_of(video, numbers, size=(96, 128)):
    """Frames of a video as the data set gives them."""
    return [Frame(torch.zeros(3, *size), 1.0, 100 + i, index=i, video=video) for i in numbers]


@pytest.mark.parametrize(
    ("name", "split", "index"),
    [("val/syn_val_00000001", "val", 1), ("train/ILSVRC2015_VID_train_0000/syn_train_00000000", "train", 0)],
)
def test_true_flow_is_the_generators(dataset, name, split, index):
    found = make_clip(SETTINGS, split, index).flow(4, 1)
    flow = TrueFlow(dataset)(frames_of(name, [4]), frames_of(name, [1]))[0].numpy()
    plain, objects = flow_in_cells(found.flow, found.layers), things_in_cells(found.layers) > 0
    np.testing.assert_array_equal(flow[:, objects], plain[:, objects])
    np.testing.assert_array_equal(flow, with_surroundings(plain, objects))
    assert np.abs(flow).max() > 0.05, "nothing moves, nothing is compared"


def test_true_flow_takes_pairs_in_their_order_and_videos_in_any(dataset):
    flow_of = TrueFlow(dataset)
    names = ["val/syn_val_00000000", "val/syn_val_00000001"]
    ours = frames_of(names[0], [3, 1]) + frames_of(names[1], [2])
    others = frames_of(names[0], [0, 4]) + frames_of(names[1], [5])
    together = flow_of(ours, others)
    assert together.shape == (3, 2, 6, 8)
    for i, pair in reversed(list(enumerate(zip(ours, others, strict=True)))):
        assert torch.equal(together[i], flow_of([pair[0]], [pair[1]])[0])
    assert not torch.equal(together[0], together[2])


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
    with pytest.raises(InputError, match=r"synthetic.json.*make_synthetic_vid"):
        TrueFlow(tmp_path)
    wide = frames_of("val/syn_val_00000000", [0], (192, 256))
    with pytest.raises(TrueFlowError, match="256x192"):
        TrueFlow(dataset)(wide, wide)
    street = frames_of("val/street", [0])
    with pytest.raises(TrueFlowError, match="'val/street' is no video of the generator"):
        TrueFlow(dataset)(street, street)


def test_what_the_command_line_can_ask_for(dataset, tmp_path):
    cfg = load_config(None, [f"dataset.dataset_path={tmp_path}"])
    assert known_flow("learned", cfg) is None
    assert isinstance(known_flow("zero", cfg), ZeroFlow)
    with pytest.raises(InputError, match=r"synthetic.json.*make_synthetic_vid"):
        known_flow("true", cfg)
    cfg.dataset.dataset_path = str(dataset)
    assert isinstance(known_flow("true", cfg), TrueFlow)
