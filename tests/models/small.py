"""A small R-FCN and made-up batches for tests of shapes and rules."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from lib.config import Config, load_config
from lib.engine.inference import detect_frames
from lib.models.flownet_s import FlowNetS
from lib.models.postprocess import PostProcess
from lib.models.video_model import VideoModel
from lib.structures import Detections, Frame, TrainingBatch
from rfcn.model import RFCN, build_rfcn

NUM_CLASSES = 6
POSTPROCESS = PostProcess(score_threshold=0.05, nms_threshold=0.3, max_per_image=300)
EVERY_BOX = PostProcess(score_threshold=0.0, nms_threshold=None, max_per_image=None)


def small_config(*overrides: str):
    """Depth 18, width 16, four anchors, everything trained; the rest is the originals', with OHEM."""
    return load_config(
        None,
        [
            "network.DEPTH=18",
            "network.WIDTH=16",
            "network.FEAT_DIM=32",
            "network.ANCHOR_RATIOS=[0.5, 1]",
            "network.ANCHOR_SCALES=[2, 4]",
            "network.FIXED_PARAMS=[]",
            "TRAIN.RPN_POST_NMS_TOP_N=60",
            "TEST.RPN_POST_NMS_TOP_N=50",
            *overrides,
        ],
    )


def small_rfcn(*overrides: str, seed: int = 0) -> RFCN:
    torch.manual_seed(seed)
    model = build_rfcn(small_config(*overrides), NUM_CLASSES)
    with torch.no_grad():  # weights of 0.01 would make all scores alike
        for conv in (model.detector.rpn.rpn_cls_score, model.detector.head.rfcn_cls, model.features.feat_conv_3x3):
            conv.weight.mul_(5)
    return model


def with_video_keys(cfg: Config, interval: int, flow_width: float = 0.125, map_channels: int = 32 + 16) -> Config:
    """`cfg` with what DFF and FGFA read besides; map_channels is FGFA_FEAT_DIM."""
    cfg.network.FLOW_WIDTH, cfg.network.FGFA_FEAT_DIM = flow_width, map_channels
    cfg.TEST.KEY_FRAME_INTERVAL = interval
    return cfg


def let_flow(net: FlowNetS) -> None:
    """Give a new flow network a flow of cells, and a scale map away from 1, over random images of this file."""
    with torch.no_grad():
        net.flow_conv1.weight.mul_(255)  # the images' pixels are of the order of 1
        torch.nn.init.normal_(net.Convolution5.weight, std=0.1)
        if net.Convolution5_scale is not None:
            torch.nn.init.normal_(net.Convolution5_scale.weight, std=0.1)


def random_batch(objects: list[int], height: int = 96, width: int = 128, seed: int = 0) -> TrainingBatch:
    """One image per entry of `objects`, with that many boxes."""
    rng = np.random.RandomState(seed)
    boxes, labels = [], []
    for n in objects:
        corner = rng.uniform(0, (width / 2, height / 2), (n, 2))
        sides = rng.uniform(20, 45, (n, 2))
        boxes.append(torch.from_numpy(np.hstack((corner, corner + sides))).float())
        labels.append(torch.from_numpy(rng.randint(1, NUM_CLASSES, n)))
    images = torch.from_numpy(rng.standard_normal((len(objects), 1, 3, height, width))).float()
    im_info = torch.tensor([[height, width, 1.0]]).repeat(len(objects), 1)
    return TrainingBatch(images, im_info, boxes, labels, torch.zeros(len(objects), 0, dtype=torch.bool))


def random_frames(sizes: list[tuple[int, int]], scale: float = 2.0, seed: int = 0) -> list[Frame]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Frame(torch.randn(3, h, w, generator=generator), scale, i + 1, first=i == 0, index=i)
        for i, (h, w) in enumerate(sizes)
    ]


def detect(
    model: VideoModel, frames: Iterable[Frame], postprocess: PostProcess = POSTPROCESS, batch_images: int = 1
) -> list[Detections]:
    """What the inference loop says about each frame."""
    return [found for _, found in detect_frames(model, frames, postprocess, batch_images)]


def assert_same_detections(found: Iterable[Detections], expected: Iterable[Detections]) -> None:
    """Frame by frame, up to what the order of additions changes."""
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.labels, b.labels)
        torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(a.boxes, b.boxes, atol=1e-2, rtol=0)
