"""Each method learns two frames of a clip by heart: its losses and its inference are about the same network."""

import numpy as np
import pytest
import torch

from dff.model import build_dff
from fgfa.model import build_fgfa
from lib.boxes import overlaps
from lib.models.postprocess import PostProcess
from lib.structures import Frame, TrainingBatch
from lib.synthetic.casting import Settings, make_clip
from rfcn.model import build_rfcn
from tests.models.small import detect, small_config, with_video_keys

SETTINGS = Settings(classes=3, width=128, height=96, frames=4, motion_mix=(1, 0, 0), seed=1)
FRAMES = (1, 2)
REFERENCES = {"rfcn": 0, "dff": 1, "fgfa": 2}
BUILD = {"rfcn": build_rfcn, "dff": build_dff, "fgfa": build_fgfa}


def trained_config():
    cfg = small_config(
        "network.NORM=trained",
        "network.ANCHOR_RATIOS=[0.5, 1, 2]",
        "network.ANCHOR_SCALES=[3, 6]",
    )
    return with_video_keys(cfg, interval=2)


def two_frames():
    """Images (2, 3, H, W) as networks read them, and the boxes and labels of each."""
    clip = make_clip(SETTINGS, "train", 4)
    images = np.stack([clip.image(frame)[..., ::-1].transpose(2, 0, 1) for frame in FRAMES]).astype(np.float32) - 110
    objects = [clip.objects[frame] for frame in FRAMES]
    boxes = [torch.from_numpy(o.boxes.astype(np.float32)) for o in objects]
    labels = [torch.from_numpy(o.labels.astype(np.int64)) for o in objects]
    return torch.from_numpy(images), boxes, labels


def batch_of(images, boxes, labels, references):
    """Both frames as current ones; the references of each are the first frame, then the second."""
    others = images.expand(2, *images.shape)[:, :references]
    same = torch.eye(2, dtype=torch.bool)[:, :references]
    im_info = torch.tensor([[*images.shape[2:], 1.0]]).repeat(2, 1)
    return TrainingBatch(torch.cat((images[:, None], others), dim=1), im_info, boxes, labels, same)


@pytest.mark.parametrize("method", BUILD)
def test_two_frames_are_learnt_by_heart(method):
    torch.manual_seed(0)
    model = BUILD[method](trained_config(), SETTINGS.classes + 1)
    images, boxes, labels = two_frames()
    assert sum(map(len, labels)) >= 2
    batch = batch_of(images, boxes, labels, REFERENCES[method])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for step in range(120):
        losses = model.losses(batch, np.random.RandomState(step))
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if name.endswith("_loss")).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    frames = [Frame(image, 1.0, number + 1, number == 0, number) for number, image in enumerate(images)]
    found = detect(model.eval(), frames, PostProcess(0.05, 0.3, 100))
    for detections, true_boxes, true_labels in zip(found, boxes, labels, strict=True):
        sure = detections[detections.scores > 0.5]
        assert sorted(sure.labels.tolist()) == sorted(true_labels.tolist())
        iou = overlaps(true_boxes, sure.boxes)
        same_class = true_labels[:, None] == sure.labels
        assert ((iou * same_class).amax(dim=1) > 0.6).all()
