"""loops_<method>_*: reading a data set, the order of an epoch, reference frames, and the loops of testing."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dff.key_frames import KeyFrameRule
from dff.model import DFF
from fgfa.model import FGFA
from lib.data.classes import IMAGENET_VID
from lib.data.imagenet_vid import ImageNetVID
from lib.data.roidb import Roidb, load_roidb
from lib.data.sampling import epoch_order, one_reference, two_references
from lib.data.transforms import Preprocessing, scale_boxes
from lib.engine.inference import detect_frames
from lib.models.postprocess import RawDetections
from lib.models.video_model import VideoModel
from lib.structures import Frame
from rfcn.model import RFCN
from tools.parity.original_rules import TESTING, TRAINING
from tools.parity.rows import Recording, RecordingError, Tolerance

_LISTS = {"list_det": "DET_train_30classes", "list_train": "VID_train_15frames", "list_val": "VID_val_videos"}
_STILL_NUMBER = 50  # what the recordings show as the frame of a still
_SCALES = (48, 80)  # of getimage_* and getpair_*
_BOXES = Tolerance(absolute=1e-4)


def compare_loops(recording: Recording, method: str) -> None:
    """Every array of a loops_* set; one for R-FCN need not have what only the others do (references, key frames)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_dataset(recording, root)
        roidb = load_roidb(root, f"{_LISTS['list_det']}+{_LISTS['list_train']}", IMAGENET_VID, root / "cache")
        _compare_roidb(recording, roidb, root)
        if method != "rfcn" or "sampling_roidb_seg" in recording:
            recording.compare("sampling_roidb_seg", _segments(roidb))
        if method != "rfcn":
            _compare_sampling(recording, roidb, method)
        boxes = ("getimage_boxes", "getpair_boxes")
        _compare_loading(recording, roidb, [a for a in boxes if method != "rfcn" or a == boxes[0] or a in recording])
        videos = ImageNetVID(root, _LISTS["list_val"], IMAGENET_VID, root / "cache").videos()
        lengths = [video.length for video in videos]
        recording.compare("lengths", np.array(lengths))
        ids = [video.first_frame_id + i for video in videos for i in range(video.length)]
        recording.compare("loop_frame_ids", np.array(ids))
    orders = recording.matching(r"order_n(\d+)_batch(\d+)_seed(\d+)")
    for match in orders:
        _compare_order(recording, match[0], *map(int, match.groups()))
    if not orders:
        recording.fail("order_*", "the set has no order of an epoch")
    if method != "rfcn":
        trace = dff_trace if method == "dff" else fgfa_trace
        recording.compare("loop_trace", trace(lengths, int(recording.number("key_frame_interval"))))
    elif "loop_trace" in recording:
        recording.compare("loop_trace", rfcn_trace(lengths))


def _write_dataset(recording: Recording, root: Path) -> None:
    """Write annotations and lists as recorded, and empty files for images, whose pixels are not read here."""
    for text in recording.input("annotation_files").tolist():
        relative, _, content = text.partition("\n")
        annotation, image = root / "Annotations" / relative, (root / "Data" / relative).with_suffix(".JPEG")
        for path, data in ((annotation, content), (image, "")):
            if not path.resolve().is_relative_to(root.resolve()):
                raise RecordingError(f"{recording.name}: annotation file {relative} lies outside the data set")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data, encoding="utf-8")
    (root / "ImageSets").mkdir()
    for array, name in _LISTS.items():
        lines = "".join(f"{line}\n" for line in recording.input(array).tolist())
        (root / "ImageSets" / f"{name}.txt").write_text(lines, encoding="utf-8")


def _compare_roidb(recording: Recording, roidb: Roidb, root: Path) -> None:
    """Entries before and after the filter, mirrored copies included. Ours holds only those that are left."""
    entries = []  # (image, mirrored, from a video) in the originals' order
    for name in (_LISTS["list_det"], _LISTS["list_train"]):
        frames = ImageNetVID(root, name, IMAGENET_VID, root / "cache", training=True).frame_paths()
        for flipped in (False, True):
            entries += [(str(Path(path).relative_to(root)), flipped, name.startswith("VID")) for path in frames]
    left = [(_image_of(roidb, i, root), bool(roidb.flipped[i])) for i in range(len(roidb))]
    kept, position = np.zeros(len(entries), bool), 0
    for i, (image, flipped, _) in enumerate(entries):
        kept[i] = position < len(left) and left[position] == (image, flipped)
        position += kept[i]
    images, flipped, patterns = zip(*entries, strict=True)
    recording.compare("roidb_image", np.array(images))
    recording.compare("roidb_flipped", np.array(flipped))
    recording.compare("roidb_has_pattern", np.array(patterns))
    recording.compare("roidb_kept", kept)
    owners = np.flatnonzero(kept)[np.repeat(np.arange(len(roidb)), np.diff(roidb.offsets))]
    rows = np.column_stack((owners, np.array(flipped)[owners], roidb.boxes, roidb.labels))
    recording.compare("roidb_boxes", rows)


def _image_of(roidb: Roidb, entry: int, root: Path) -> str:
    return str(Path(roidb.image_path(entry, roidb.position(entry)[0])).relative_to(root))


def _segments(roidb: Roidb) -> np.ndarray:
    """(entries, 3): frame number and length of the video, -1 both for a still; whether it is mirrored."""
    lengths = np.where(roidb.numbers < 0, -1, roidb.lengths)
    return np.stack((roidb.numbers, lengths, roidb.flipped), axis=1)


def _compare_sampling(recording: Recording, roidb: Roidb, method: str) -> None:
    """The reference frames of several passes from one generator; stills draw nothing in the originals."""
    rng = np.random.RandomState(int(recording.number("sampling_seed")))
    recorded, rows = recording["sampling_after_numpy_seed"], []
    for row in range(len(recorded)):
        entry = row % len(roidb)
        rows.append(_sample(roidb, entry, method, rng))
    recording.compare("sampling_after_numpy_seed", np.array(rows))


def _moves(roidb: Roidb, entry: int) -> bool:
    return roidb.numbers[entry] >= 0


def _sample(roidb: Roidb, entry: int, method: str, rng: np.random.RandomState) -> list[int]:
    """One recorded row: entry, video and frame, then video and frame of each reference; for DFF whether it is equal."""
    choose, references = (one_reference, 1) if method == "dff" else (two_references, 2)
    frame, length = roidb.position(entry)
    numbers = [frame, *choose(frame, length, rng)] if _moves(roidb, entry) else [_STILL_NUMBER] * (1 + references)
    video = _video_number(roidb, entry)
    row = [entry, *(value for number in numbers for value in (video, number))]
    return [*row, int(numbers[1] == numbers[0])] if method == "dff" else row


def _video_number(roidb: Roidb, entry: int) -> int:
    """The number at the end of a video's or a still's name."""
    path = Path(roidb.image_path(entry, 0))
    return int(re.findall(r"\d+", path.parent.name if _moves(roidb, entry) else path.stem)[-1])


def _compare_loading(recording: Recording, roidb: Roidb, arrays: list[str]) -> None:
    """The last entry as R-FCN loads it (getimage_*), and as DFF and FGFA do (getpair_*). arrays: those with boxes."""
    last = len(roidb) - 1
    size = int(roidb.heights[last]), int(roidb.widths[last])
    frame = Preprocessing(*_SCALES, (0.0, 0.0, 0.0))(np.zeros((*size, 3), np.uint8))
    recording.compare("getimage_im_info", frame.im_info, Tolerance(relative=1e-6))
    boxes, _ = roidb.objects(last)
    for array in arrays:
        snap = array == "getimage_boxes"
        recording.compare(array, scale_boxes(boxes, frame.scale, *frame.image.shape[1:], snap), _BOXES)


def _compare_order(recording: Recording, array: str, n: int, batch: int, seed: int) -> None:
    """Landscape and portrait images by turns, the first is landscape; the last of an odd number is square."""
    landscape = np.arange(n) % 2 == 0
    widths, heights = np.where(landscape, 100, 50), np.where(landscape, 50, 100)
    if n % 2:
        widths[-1] = heights[-1] = 60
    recording.compare(array, epoch_order(widths, heights, batch, np.random.RandomState(seed)))


class _Pixel(nn.Module):
    """Stands in for a network: hands on the images (B, 3, h, w), whose pixels are the number of their frame."""

    def __init__(self) -> None:
        super().__init__()
        self.device = nn.Parameter(torch.zeros(1))  # the methods ask their first parameter for the device
        self.out_channels, self.seen = 3, []

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images[:, 0, 0, 0].int().tolist()
        return images


class _NoFlow(nn.Module):
    """Stands in for the flow network: zero flow."""

    def halve(self, images: Tensor) -> Tensor:
        return images

    current_part = other_part = halve

    def between(self, currents: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        pairs = max(len(currents), len(others))
        return torch.zeros(pairs, 2, *currents.shape[2:]), torch.ones(pairs, *currents.shape[1:])


class _Reader(nn.Module):
    """Stands in for the detector: its one box and class of an image is the number in the features."""

    anchors = torch.zeros(1)  # say on which device and in which dtype it computes

    def predict(self, features: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor]:
        numbers = features[:, :1, :1, 0]  # (B, 1, 1)
        return numbers, numbers


def _numbered(lengths: list[int]) -> tuple[list[Frame], np.ndarray]:
    """Frames whose pixels are their number, counted over all videos; and (frames, 2): video and number in it."""
    places = [(video, frame) for video, length in enumerate(lengths) for frame in range(length)]
    frames = [
        Frame(torch.full((3, 4, 4), float(number)), 1.0, number + 1, first=frame == 0, index=frame)
        for number, (_, frame) in enumerate(places)
    ]
    return frames, np.array(places)


def _numbers(raw: RawDetections) -> list[int]:
    """Stands in for post-processing: what `_Reader` read in each frame."""
    return [round(number) for number in raw.boxes[:, 0, 0].tolist()]


def _answers(model: VideoModel, frames: list[Frame]) -> list[int]:
    return [number for _, number in detect_frames(model, frames, _numbers)]


def rfcn_trace(lengths: list[int]) -> np.ndarray:
    """(frames, 2): video and frame of each answer."""
    frames, places = _numbered(lengths)
    return places[_answers(RFCN(_Pixel(), _Reader()), frames)]


def dff_trace(lengths: list[int], interval: int) -> np.ndarray:
    """(frames, 5): 0 for a key frame and 2 for another, video, frame, video and frame of its key frame."""
    frames, places = _numbered(lengths)
    features = _Pixel()
    keys = _answers(DFF(features, _NoFlow(), _Reader(), KeyFrameRule(interval)), frames)
    kinds = [0 if number in set(features.seen) else 2 for number in range(len(frames))]
    return np.column_stack((kinds, places, places[keys]))


class _TracedFGFA(FGFA):
    """Notes which frames are averaged for each answer."""

    def _average_pool(self, pool, neighbourhoods, slots, flow, counts) -> tuple[Tensor, Tensor]:
        for one, times in zip(slots, counts.int(), strict=True):
            numbers = pool[one, 0, 0, 0].int().repeat_interleave(times)
            self.trace.append(sorted(numbers.tolist()))
        return pool[[one.centre.slot for one in neighbourhoods]], counts


def fgfa_trace(lengths: list[int], reach: int) -> np.ndarray:
    """(frames, 2 + 2K): for each answer its video and the frames of the window, one standing in for those missing."""
    frames, places = _numbered(lengths)
    model = _TracedFGFA(_Pixel(), _NoFlow(), nn.Identity(), _Reader(), reach, train_rule=TRAINING, test_rule=TESTING)
    model.trace = []
    _answers(model, frames)
    return np.column_stack((places[:, 0], places[np.array(model.trace), 1]))
