"""Reading and resizing: the recorded numbers of the originals, and an independent reading of the rules."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
import torch

from lib.config import default_config, load_config
from lib.data.transforms import ImageError, Preprocessing, flip_boxes, read_image, resize, scale_boxes, to_tensor
from lib.models.frame_batches import stack_images


@pytest.mark.parametrize("case", ["up", "down", "maxed", "stride"])
def test_resize_is_the_originals(golden, case):
    layers = golden("layers_public")
    target, longest, stride = (int(value) for value in layers[f"resize_{case}_args"])
    resized, scale = resize(layers[f"resize_{case}_in"], target, longest, stride)
    assert (resized == layers[f"resize_{case}_out"]).all()
    assert abs(scale - layers[f"resize_{case}_scale"][0]) < 1e-12


def test_tensor_is_the_originals(golden):
    layers = golden("layers_public")
    tensor = to_tensor(layers["resize_up_out"], tuple(layers["transform_means_bgr"]))
    assert (tensor.numpy() == layers["transform_out"][0]).all()


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"),
    [((720, 1280), (562, 1000)), ((480, 640), (600, 800)), ((500, 375), (800, 600)), ((100, 400), (250, 1000))],
)
def test_sizes_at_600_1000(size_hw, expected_hw):
    resized, scale = resize(np.zeros((*size_hw, 3), np.uint8), 600, 1000)
    assert resized.shape[:2] == expected_hw
    assert scale == pytest.approx(min(600 / min(size_hw), 1000 / max(size_hw)))


def test_channels_become_rgb_and_lose_their_means():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1] = (10, 20, 30)  # B, G, R
    tensor = to_tensor(image, (1.5, 2.5, 3.5))
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 0, 1].tolist() == [26.5, 17.5, 8.5]
    assert tensor[:, 1, 2].tolist() == [-3.5, -2.5, -1.5]


def test_stride_pads_with_black_pixels_that_count_as_image():
    cfg = default_config()
    cfg.SCALES, cfg.network.PIXEL_MEANS, cfg.network.IMAGE_STRIDE = [[20, 100]], [1.0, 2.0, 3.0], 16
    frame = Preprocessing.from_config(cfg)(np.full((10, 15, 3), 200, np.uint8), frame_id=9, first=True)
    assert frame.im_info.tolist() == [32, 32, 2]
    assert (frame.frame_id, frame.first) == (9, True)
    assert (frame.image[:, :20, :30] == frame.image[:, :1, :1]).all()
    for part in (frame.image[:, 20:], frame.image[:, :, 30:]):
        assert (part.permute(1, 2, 0) == -part.new_tensor([3.0, 2.0, 1.0])).all()


def test_boxes_are_snapped_for_rfcn_only():
    boxes = np.array([[1, 3, 5, 7], [0, 0, 63, 47]], np.int32)
    # 0.5 * 1, 3, 5, 7 = 0.5, 1.5, 2.5, 3.5: numpy rounds halves to even
    assert scale_boxes(boxes, 0.5, 24, 32, snap=True).tolist() == [[0, 2, 2, 4], [0, 0, 31, 23]]
    assert scale_boxes(boxes, 0.5, 24, 32, snap=False).tolist() == [[0.5, 1.5, 2.5, 3.5], [0, 0, 31.5, 23.5]]
    assert scale_boxes(boxes[:0], 0.5, 24, 32, snap=True).shape == (0, 4)


def test_flipped_boxes_cover_the_flipped_pixels():
    image = np.zeros((20, 30), np.uint8)
    image[3:8, 4:11] = 1
    assert flip_boxes(np.array([[4, 3, 10, 7]]), 30).tolist() == [[19, 3, 25, 7]]
    ys, xs = np.nonzero(image[:, ::-1])
    assert [xs.min(), ys.min(), xs.max(), ys.max()] == [19, 3, 25, 7]
    widths = np.array([30, 40])
    assert flip_boxes(np.array([[0, 0, 5, 5], [0, 0, 5, 5]], np.int32), widths).tolist() == [
        [24, 0, 29, 5],
        [34, 0, 39, 5],
    ]


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """`jpeg` with an EXIF segment whose only tag is the orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_exif_orientation_is_ignored(tmp_path):
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    path = tmp_path / "turned.JPEG"
    path.write_bytes(_with_orientation(jpeg, 6))
    assert cv2.imread(str(path)).shape == (30, 20, 3), "the file must be one that OpenCV would turn"
    assert read_image(path).shape == (20, 30, 3)


def test_grey_image_has_three_channels(tmp_path):
    assert cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 77, np.uint8))
    assert (read_image(tmp_path / "grey.png") == 77).all()
    assert read_image(tmp_path / "grey.png").shape == (4, 5, 3)


def test_bad_image_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.JPEG: no such image file"):
        read_image(tmp_path / "none.JPEG")
    (tmp_path / "bad.JPEG").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.JPEG: not a readable image \(13 bytes\); replace the file"):
        read_image(tmp_path / "bad.JPEG")


@pytest.mark.gpu
def test_images_for_a_gpu_are_made_in_memory_that_it_reads_by_itself(cuda):
    cfg = load_config()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), np.uint8)
    pinned, plain = Preprocessing.from_config(cfg, cuda), Preprocessing.from_config(cfg)
    frames = [pinned(picture) for picture in pictures]
    assert all(frame.image.is_pinned() for frame in frames)
    torch.cuda.set_sync_debug_mode("error")
    try:
        images = stack_images(frames, cuda)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert images.cpu().equal(torch.stack([plain(picture).image for picture in pictures]))
