"""The Python API: the same detections from every kind of source, frame by frame and streaming, of every method."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import lib
from lib import load_detector
from lib.checkpoints.mxnet_params import write_params
from lib.checkpoints.mxnet_state import BoxRule, params_from_state
from lib.config import ConfigError
from lib.data.transforms import ImageError, Preprocessing
from lib.data.video import SourceError, SourceFrame, network_frames, open_frames
from lib.engine.checkpoint import CheckpointError
from lib.engine.device import DeviceError
from lib.engine.inference import Timing, detect_frames, with_seq_nms
from lib.models.build import build_postprocess
from lib.models.inference_form import prepare_for_inference
from lib.models.mxnet_names import mxnet_names
from lib.models.postprocess import PostProcess
from tests.models.small import assert_same_detections
from tests.models.small_checkpoints import (
    CLASSES,
    METHODS,
    clip,
    small_method_config,
    small_model,
    write_checkpoint,
    write_old_checkpoint,
)

ALL = pytest.mark.parametrize("method", METHODS)
LENGTH = 7
SEQ_NMS = "TEST.SEQ_NMS=true"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A function: method -> its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda method: (
        next(iter(folder.glob(f"{method}.pth")), None) or write_checkpoint(folder / f"{method}.pth", method)
    )


@pytest.fixture(scope="module")
def detectors(checkpoint):
    return {method: load_detector(checkpoint(method), device="cpu") for method in METHODS}


def test_precision_is_an_argument(checkpoint):
    reduced, plain = (load_detector(checkpoint("rfcn"), device="cpu", precision=name) for name in ("bfloat16", ""))
    assert (reduced.cfg.PRECISION, plain.cfg.PRECISION) == ("bfloat16", "float32")
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    maps = [next(iter(one([frame], inside=True)))[0].inside.features.float() for one in (reduced, plain)]
    difference = float((maps[0] - maps[1]).abs().max() / maps[1].abs().max())
    assert 0 < difference < 0.1
    with pytest.raises(ConfigError, match="'PRECISION' must be one of"):
        load_detector(checkpoint("rfcn"), device="cpu", precision="int8")


@pytest.fixture(scope="module")
def expected(detectors):
    """A function: (method, frames, overrides) -> (frame, detections) of the inference loop alone."""

    def run(method, frames=None, *overrides, threshold=0.05):
        cfg = small_method_config(method, *overrides)
        sources = (SourceFrame(f"{i:06d}", image) for i, image in enumerate(clip(LENGTH) if frames is None else frames))
        rule = PostProcess(threshold, cfg.TEST.NMS, cfg.TEST.max_per_image)
        return list(detect_frames(ready_model(method), network_frames(sources, Preprocessing.from_config(cfg)), rule))

    return run


def ready_model(method):
    """In the form that models are brought into for detection."""
    return prepare_for_inference(small_model(method))


def assert_equal(answers, wanted, found_something=True):
    """The same frames and, bit for bit, the same detections."""
    answers, wanted = list(answers), list(wanted)
    assert [frame.index for frame, _ in answers] == [frame.index for frame, _ in wanted] == list(range(len(answers)))
    for (_, found), (_, other) in zip(answers, wanted, strict=True):
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(found, name), getattr(other, name))
    assert not found_something or sum(len(found) for _, found in answers) > len(answers)


def better_half(answers):
    """A threshold between two of the scores, and what is left of the answers above it."""
    scores = torch.cat([found.scores for _, found in answers]).unique()
    assert len(scores) > 4
    threshold = scores[len(scores) // 2 - 1 : len(scores) // 2 + 1].mean().item()
    return threshold, [(frame, found[found.scores > threshold]) for frame, found in answers]


def write_images(folder, images):
    folder.mkdir()
    paths = [folder / f"frame{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        assert cv2.imwrite(str(path), image)
    return paths


SOURCES = {
    "folder": lambda folder, images, paths: folder,
    "text": lambda folder, images, paths: str(folder),
    "pattern": lambda folder, images, paths: f"{folder}/*.png",
    "shuffled paths": lambda folder, images, paths: random.Random(1).sample(paths, len(paths)),
    "list": lambda folder, images, paths: images,
    "array": lambda folder, images, paths: np.stack(images),
    "generator": lambda folder, images, paths: (image for image in images),
    "open source": lambda folder, images, paths: open_frames(folder),
}


@ALL
def test_every_source_gives_the_same_as_the_inference_loop(detectors, expected, tmp_path, method):
    images = clip(LENGTH)
    paths = write_images(tmp_path / "clip", images)
    wanted = expected(method)
    for kind, source in SOURCES.items():
        answers = list(detectors[method](source(tmp_path / "clip", images, paths)))
        assert_equal(answers, wanted)
        for i, (frame, _) in enumerate(answers):
            assert np.array_equal(frame.pixels, images[i]), kind
            assert frame.name == (f"{i:06d}" if kind in ("list", "array", "generator") else f"frame{i}.png")
            assert (frame.first, frame.inside, frame.seconds) == (i == 0, None, None)
    turned = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
    assert_equal(detectors[method](turned, rgb=True), wanted)
    assert_equal(detectors[method](np.stack(images)[..., ::-1], rgb=True), wanted)


@ALL
def test_a_video_file_is_its_frames(detectors, tmp_path, method):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 8.0, (128, 96))
    for image in clip(LENGTH):
        writer.write(image)
    writer.release()
    capture, decoded = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        decoded.append(read[1])
    assert len(decoded) == LENGTH
    answers = list(detectors[method](path))
    assert_equal(answers, detectors[method](decoded), found_something=False)
    assert [frame.seconds for frame, _ in answers] == pytest.approx([i / 8 for i in range(LENGTH)])
    assert [frame.name for frame, _ in answers] == [f"{i:06d}" for i in range(LENGTH)]


@ALL
def test_frame_by_frame(detectors, expected, method):
    """FGFA answers two frames late, and every method exactly once."""
    live = detectors[method].live()
    answers = [live.add(image, seconds=i / 4) for i, image in enumerate(clip(LENGTH))]
    assert [len(ready) for ready in answers] == ([0, 0, 1, 1, 1, 1, 1] if method == "fgfa" else [1] * LENGTH)
    last = live.close()
    assert len(last) == (2 if method == "fgfa" else 0)
    answers = [*sum(answers, []), *last]
    assert_equal(answers, expected(method))
    assert [frame.seconds for frame, _ in answers] == [i / 4 for i in range(LENGTH)]
    assert live.close() == []


def test_a_causal_fgfa_answers_at_once(checkpoint):
    live = load_detector(checkpoint("fgfa"), device="cpu", overrides=["TEST.CAUSAL=true"]).live()
    assert [len(live.add(image)) for image in clip(4)] == [1, 1, 1, 1]


@ALL
def test_videos_do_not_know_of_each_other(detectors, expected, method):
    detector, one, other = detectors[method], clip(5), clip(4, seed=1)
    wanted = [expected(method, images) for images in (one, other)]
    assert_equal(detector(one), wanted[0])
    assert_equal(detector(other), wanted[1])
    both = [], []
    for pair in zip(detector(one), detector(other), strict=False):  # by turns
        for answers, answer in zip(both, pair, strict=True):
            answers.append(answer)
    assert_equal(both[0], wanted[0][: len(both[0])])
    assert_equal(both[1], wanted[1])
    next(detector(one))  # left at its first frame
    assert_equal(detector(other), wanted[1])
    live = detector.live()
    for images, answers in zip((one, other), wanted, strict=True):
        assert_equal([*sum((live.add(image) for image in images), []), *live.close()], answers)


@ALL
def test_a_change_of_size_begins_anew(detectors, expected, method):
    parts = [clip(3), clip(3, seed=1, height=80, width=112), clip(2, seed=2)]
    answers = list(detectors[method](sum(parts, [])))
    wanted = [answer for part in parts for answer in expected(method, part)]
    for (frame, found), (_, other) in zip(answers, wanted, strict=True):
        assert torch.equal(found.boxes, other.boxes)
        assert frame.first == (frame.index == 0)


@ALL
def test_inside(detectors, method):
    answers = list(detectors[method](clip(LENGTH), inside=True))
    assert_equal(answers, detectors[method](clip(LENGTH)))
    for i, (frame, _) in enumerate(answers):
        inside = frame.inside
        assert inside.features.shape == (32, 6, 8)
        if method == "rfcn":
            assert inside.references == []
            assert inside.flow is inside.weights is inside.scale is None
        elif method == "dff":
            key = i - i % 3
            assert inside.references == ([] if i == key else [key])
            assert (inside.flow is None) == (inside.scale is None) == (i == key)
            assert inside.weights is None
            if i != key:
                assert (inside.flow.shape, inside.scale.shape) == ((1, 2, 6, 8), (32, 6, 8))
        else:
            assert sorted(inside.references) == list(range(max(0, i - 2), min(LENGTH, i + 3)))
            count = len(inside.references)
            assert inside.flow.shape == (count, 2, 6, 8)
            torch.testing.assert_close(inside.weights.sum(dim=0), torch.ones(6, 8))
            assert (inside.weights > 0).all()
    live = detectors[method].live(inside=True)
    answers = [*sum((live.add(image) for image in clip(2)), []), *live.close()]
    assert all(frame.inside.features.shape == (32, 6, 8) for frame, _ in answers)


@ALL
def test_seq_nms_answers_when_the_video_is_over(checkpoint, tmp_path, method):
    images = clip(LENGTH)
    write_images(tmp_path / "clip", images)
    cfg = small_method_config(method, SEQ_NMS)
    raw = build_postprocess(cfg, METHODS[method].score_threshold)
    sources = (SourceFrame("", image) for image in images)
    frames = network_frames(sources, Preprocessing.from_config(cfg))
    rescored = list(with_seq_nms(detect_frames(ready_model(method), frames, raw), cfg))
    threshold, wanted = better_half(rescored)
    detector = load_detector(checkpoint(method), device="cpu", overrides=[SEQ_NMS], score_threshold=threshold)
    answers = list(detector(tmp_path / "clip"))
    assert_equal(answers, wanted)
    assert all(np.array_equal(frame.pixels, image) for (frame, _), image in zip(answers, images, strict=True))
    assert [frame.name for frame, _ in answers] == [f"frame{i}.png" for i in range(LENGTH)]

    taken = []

    def counted():
        for image in images:
            taken.append(1)
            yield image

    answers = detector(counted(), limit=LENGTH)
    first = next(answers)
    assert len(taken) == LENGTH
    rest = [first, *answers]
    assert_equal(rest, wanted)
    assert all(frame.pixels is None for frame, _ in rest), "they can be had only once"
    assert all(np.array_equal(frame.pixels, image) for (frame, _), image in zip(detector(images), images, strict=True))


def test_seq_nms_needs_an_end(checkpoint):
    detector = load_detector(checkpoint("rfcn"), device="cpu", overrides=[SEQ_NMS])
    with pytest.raises(SourceError, match="this one has no known end; give a limit, or TEST.SEQ_NMS=false"):
        next(detector(image for image in clip(2)))
    with pytest.raises(SourceError, match="not live; set TEST.SEQ_NMS=false"):
        detector.live()


def test_classes_and_settings_come_from_the_checkpoint(detectors, checkpoint):
    for method, detector in detectors.items():
        assert detector.class_names[0] == "background"
        assert tuple(detector.class_names[1:]) == CLASSES.names
        assert detector.method == method
        assert detector.cfg == small_method_config(method)
        assert detector.device == torch.device("cpu")
        assert not detector.model.training
        labels = {d.label for _, found in detector(clip(2)) for d in found}
        assert labels <= set(range(1, 6))
    assert lib.load_detector is load_detector
    assert isinstance(detectors["rfcn"], lib.VideoDetector)
    changed = load_detector(checkpoint("dff"), device="cpu", overrides=["TEST.KEY_FRAME_INTERVAL=2"])
    assert [f.inside.references for f, _ in changed(clip(4), inside=True)] == [[], [0], [], [2]]


@ALL
def test_threshold_and_nms(checkpoint, expected, method):
    plain = expected(method)
    threshold, kept = better_half(plain)
    strict = load_detector(checkpoint(method), device="cpu", score_threshold=threshold)
    assert_equal(strict(clip(LENGTH)), kept)
    loose = load_detector(checkpoint(method), device="cpu", nms=0.7)
    wanted = expected(method, None, "TEST.NMS=0.7")
    assert sum(len(found) for _, found in wanted) > sum(len(found) for _, found in plain)
    assert_equal(loose(clip(LENGTH)), wanted)


def test_no_threshold_is_the_methods_own(checkpoint, expected):
    everything = load_detector(checkpoint("dff"), device="cpu", score_threshold=0.0)
    assert_equal(everything(clip(2)), expected("dff", clip(2), threshold=1e-4))


@ALL
@pytest.mark.parametrize("batch_images", [2, 16])
def test_a_batch_gives_the_same(checkpoint, expected, method, batch_images):
    detector = load_detector(checkpoint(method), device="cpu", batch_images=batch_images)
    answers = list(detector(clip(LENGTH)))
    assert [frame.index for frame, _ in answers] == list(range(LENGTH))
    assert_same_detections([found for _, found in answers], [found for _, found in expected(method)])


@ALL
def test_limit_and_timing(detectors, expected, method):
    timing = Timing()
    answers = list(detectors[method](clip(LENGTH), limit=4, timing=timing))
    assert_equal(answers, expected(method, clip(LENGTH)[:4]))
    assert timing.frames == 4
    assert timing.net > 0
    list(detectors[method](clip(2), timing=timing))
    assert timing.frames == 6


def test_answers_stream_and_an_abandoned_video_stops_its_threads(detectors):
    closed = []

    def endless():
        try:
            while True:
                yield from clip(3)
        finally:
            closed.append(True)

    threads = threading.active_count()
    answers = detectors["rfcn"](endless())
    assert [next(answers)[0].index for _ in range(5)] == [0, 1, 2, 3, 4]
    answers.close()
    assert closed == [True]
    assert threading.active_count() == threads


@ALL
def test_memory_does_not_grow_with_the_video(checkpoint, method):
    """At any moment only the frames live that the window covers, that are read ahead, and that are in hand."""
    detector = load_detector(checkpoint(method), device="cpu", overrides=["SCALES=[[32, 32]]"])
    alive, answered, most = [], [], 0

    def images():
        for i in range(300):
            image = np.full((32, 32, 3), 100 + i % 20, np.uint8)
            alive.append(weakref.ref(image))
            yield image
            del image

    for frame, _ in detector(images()):
        assert frame.index == len(answered)
        answered.append(frame.index)
        most = max(most, sum(reference() is not None for reference in alive))
    assert len(answered) == len(alive) == 300
    window = {"rfcn": 1, "dff": 2, "fgfa": 5}[method]  # the key frame is kept, too
    assert most <= window + 5 + 4  # 1 + 4 read ahead; in the hands of generator, reader, loop and caller
    del frame
    gc.collect()
    assert sum(reference() is not None for reference in alive) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((96, 128), np.uint8), r"frame 2: must be a \(H, W, 3\) uint8 array, not \(96, 128\) of uint8"),
        (np.zeros((96, 128, 3)), r"frame 2: .* of float64"),
        (torch.zeros(96, 128, 3, dtype=torch.uint8), "frame 2: .* not Tensor"),
        (None, "frame 2: .* not NoneType"),
    ],
)
def test_a_wrong_array_is_named(detectors, wrong, message):
    with pytest.raises(SourceError, match=message):
        list(detectors["rfcn"]([*clip(2), wrong]))
    live = detectors["rfcn"].live()
    for image in clip(2):
        live.add(image)
    with pytest.raises(SourceError, match=message):
        live.add(wrong)
    assert len(live.add(clip(1)[0])) == 1, "and the video goes on"


def test_an_image_that_cannot_be_read_is_named(detectors, tmp_path):
    paths = write_images(tmp_path / "clip", clip(4))
    paths[2].write_bytes(b"no image")
    answers = detectors["rfcn"](tmp_path / "clip")
    assert next(answers)[0].index == 0
    with pytest.raises(ImageError, match=r"frame2\.png"):
        list(answers)


@pytest.mark.parametrize(
    ("source", "message"), [("nowhere.mp4", "no such file or folder"), ([], "empty"), (7, "not frames")]
)
def test_a_source_that_is_none_is_named(detectors, source, message):
    with pytest.raises(SourceError, match=message):
        list(detectors["rfcn"](source))


def test_weights_of_another_method_are_refused(checkpoint):
    with pytest.raises(CheckpointError, match=r"rfcn\.pth: holds a detector of method 'rfcn', not 'dff'"):
        load_detector(checkpoint("rfcn"), device="cpu", method="dff")


def test_a_file_can_name_only_our_methods(checkpoint, tmp_path):
    """It must not be able to have any module imported."""
    content = torch.load(checkpoint("rfcn"), weights_only=True) | {"method": "tests.conftest"}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is for method 'tests.conftest', which is not one of ours"):
        load_detector(tmp_path / "a.pth", device="cpu")
    mine = replace(METHODS["rfcn"], name="tests.conftest")
    assert load_detector(tmp_path / "a.pth", device="cpu", method=mine).method == "tests.conftest"


@ALL
def test_files_that_do_not_say_what_they_are(expected, tmp_path, method):
    """Older checkpoints, and MXNet's."""
    old = write_old_checkpoint(tmp_path / "old.pth", method)
    state = small_model(method).state_dict()
    params, _ = params_from_state(state, mxnet_names(small_model(method)), BoxRule())
    mxnet = write_params(tmp_path / "my.params", params)
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"{a} {n}" for a, n in zip(CLASSES.annotation_names, CLASSES.names, strict=True)))
    cfg = tmp_path / "cfg.yaml"
    interval = {"rfcn": 0, "dff": 3, "fgfa": 2}[method]
    cfg.write_text(
        "SCALES: [[96, 128]]\n"
        "network: {DEPTH: 18, WIDTH: 16, FEAT_DIM: 32, ANCHOR_RATIOS: [0.5, 1], ANCHOR_SCALES: [2, 4],\n"
        "          FLOW_WIDTH: 0.125, FGFA_FEAT_DIM: 48, PIXEL_MEANS: [110, 110, 110]}\n"
        f"TEST: {{RPN_POST_NMS_TOP_N: 50, KEY_FRAME_INTERVAL: {interval}}}\n"
        f"dataset: {{CLASSES: {classes}}}\n"
    )
    for path in (old, mxnet):
        with pytest.raises(CheckpointError, match=rf"{path.name}: does not say which method it is for; give method="):
            load_detector(path, device="cpu")
        with pytest.raises(ConfigError, match=rf"{path.name}: no configuration; .*"):
            load_detector(path, device="cpu", method=method)
        detector = load_detector(path, device="cpu", method=method, cfg=cfg)
        assert tuple(detector.class_names) == ("background", *CLASSES.names)
        answers = list(detector(clip(3)))
        assert_same_detections([f for _, f in answers], [f for _, f in expected(method, clip(3))])


def test_what_cannot_be_loaded_is_named(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth: there is no such file"):
        load_detector(tmp_path / "none.pth", device="cpu")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.pth: cannot be read as a checkpoint"):
        load_detector(tmp_path / "text.pth", device="cpu")
    with pytest.raises(DeviceError, match="toaster"):
        load_detector(checkpoint("rfcn"), device="toaster")
    with pytest.raises(ConfigError, match="TEST.NMS"):
        load_detector(checkpoint("rfcn"), device="cpu", nms=3.0)
    with pytest.raises(ConfigError, match="TRAIN.nothing"):
        load_detector(checkpoint("rfcn"), device="cpu", overrides=["TRAIN.nothing=1"])
