"""What an evaluation reads: results as text and JSON, ground truth as JSON, motion as a MATLAB file."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from lib.evaluation.coco_files import read_coco_results, read_coco_truth
from lib.evaluation.evaluate import KnownMotion, evaluate_table
from lib.evaluation.motion import motion_from_file, motion_of, write_motion
from lib.evaluation.results_file import DetectionTable, find_results, read_results
from lib.structures import GroundTruth
from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.mutations import TOKENS, as_bytes, damaged_bytes, damaged_text

_FRAMES, _CLASSES = 6, 3


@functools.cache
def _truth() -> GroundTruth:
    """Two objects in each of six frames of two videos."""
    rng = np.random.RandomState(0)
    corners = rng.uniform(0, 50, (2 * _FRAMES, 2)).round(2)
    return GroundTruth(
        class_names=["a", "b", "c"],
        videos=np.repeat([0, 1], _FRAMES // 2),
        offsets=2 * np.arange(_FRAMES + 1),
        boxes=np.hstack((corners, corners + 20)),
        labels=np.tile([1, 3], _FRAMES),
        track_ids=np.tile([0, 1], _FRAMES),
    )


def _rows() -> list[tuple]:
    """Detections on the objects of `_truth`: frame id, class, score, box."""
    truth, frames = _truth(), _truth().frame_of_object()
    return [
        (int(frames[i]) + 1, int(truth.labels[i]), round(0.9 - 0.05 * i, 4), *truth.boxes[i].round(2).tolist())
        for i in range(len(frames))
    ]


def _text() -> str:
    return "".join("%d %d %.4f %.2f %.2f %.2f %.2f\n" % row for row in _rows())  # noqa: UP031 (as results files are)


def _check_table(table: DetectionTable, wanted: np.ndarray) -> str:
    """wanted: (n, 7) as in the file."""
    found = np.column_stack((table.frames + 1, table.labels, table.scores, table.boxes)).reshape(-1, 7)
    if found.shape != wanted.shape or not np.array_equal(found, wanted):
        raise WrongError(f"{found[:3].tolist()} where {wanted[:3].tolist()} is written")
    figures = evaluate_table(_truth(), table, KnownMotion(motion_of(_truth()), ""))
    for result in figures.results:
        if not (math.isnan(result.mean_ap) or 0 <= result.mean_ap <= 1):
            raise WrongError(f"a mean AP of {result.mean_ap}")
    figures.table(), figures.to_json(), figures.to_csv()
    return f"{len(table)} detections"


def _read_text(content: bytes, folder: Path) -> str:
    table = read_results(find_results(folder / "a.txt"), _FRAMES, _CLASSES)
    lines = [line.split() for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    return _check_table(table, np.array([[float(word) for word in line] for line in lines if line]).reshape(-1, 7))


def _results(what: str, content: bytes) -> Input:
    return Input(what, functools.partial(_read_text, content), {"a.txt": content}, names="a.txt")


def _fixed_results() -> list[Input]:
    good = _text()
    first, rest = good.split("\n", 1)
    words = first.split()
    cases = [
        _results("good results", good.encode()),
        _results("nothing", b""),
        _results("no last line feed", good[:-1].encode()),
    ]
    for column in range(7):
        for token in TOKENS:
            line = " ".join([*words[:column], token, *words[column + 1 :]])
            cases.append(
                _results(f"{token[:20]!r} in column {column + 1}", f"{line}\n{rest}".encode("utf-8", "replace"))
            )
    odd = {
        "Windows": good.replace("\n", "\r\n").encode(),
        "a mark": b"\xef\xbb\xbf" + good.encode(),
        "utf-16": good.encode("utf-16"),
        "tabs": good.replace(" ", "\t").encode(),
        "six columns": good.replace(" 0.9", "", 1).encode(),
        "a header": b"frame_id class score\n" + good.encode(),
        "commas": good.replace(" ", ",").encode(),
        "a long line": b"1 " * 100_000 + b"\n",
        "inverted boxes": b"1 1 0.5 50 50 10 10\n",
        "huge boxes": b"1 1 0.5 -1e300 -1e300 1e300 1e300\n",
        "many frames": b"".join(b"%d 1 0.5 1 1 2 2\n" % i for i in range(1, 999)),
    }
    return cases + [_results(what, content) for what, content in odd.items()]


def _damaged_results(rng: Random) -> Input:
    return _results("damaged results", as_bytes(rng, damaged_text(rng, _text())))


def _coco_truth() -> dict[str, Any]:
    truth = _truth()
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2] + 1
    return {
        "videos": [{"id": 1, "name": "v"}, {"id": 2, "name": "w"}],
        "images": [{"id": f + 1, "video_id": int(truth.videos[f]) + 1, "frame_id": f % 3} for f in range(_FRAMES)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.class_names, 1)],
        "annotations": [
            {
                "id": i,
                "image_id": i // 2 + 1,
                "category_id": int(truth.labels[i]),
                "instance_id": int(truth.track_ids[i]),
                "bbox": [*truth.boxes[i, :2].tolist(), *sides[i].tolist()],
                "iscrowd": 0,
            }
            for i in range(len(sides))
        ],
    }


def _coco_results() -> list[dict[str, Any]]:
    return [
        {"image_id": f, "category_id": k, "score": s, "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1]}
        for f, k, s, x1, y1, x2, y2 in _rows()
    ]


def _read_coco(folder: Path) -> str:
    coco = read_coco_truth(folder / "truth.json")
    truth = coco.truth
    labels_fit = ((truth.labels >= 1) & (truth.labels <= len(truth.class_names))).all()
    if not np.isfinite(truth.boxes).all() or not labels_fit or truth.offsets[-1] != len(truth.boxes):
        raise WrongError(f"labels {truth.labels.tolist()}")
    table = read_coco_results(folder / "results.json", coco.image_ids, coco.category_ids)
    content = json.loads((folder / "results.json").read_text(encoding="utf-8-sig"))
    if len(table) != len(content) or not np.array_equal(table.scores, [float(item["score"]) for item in content]):
        raise WrongError(f"scores {table.scores[:5].tolist()}")
    known = motion_of(truth) if len(truth.track_ids) and (truth.track_ids >= 0).all() else None
    figures = evaluate_table(truth, table.sorted_by_frame(), KnownMotion(known, ""))
    for result in figures.results:
        if not (math.isnan(result.mean_ap) or 0 <= result.mean_ap <= 1):
            raise WrongError(f"a mean AP of {result.mean_ap}")
    return f"{len(table)} detections"


def _coco(what: str, truth: bytes | None = None, results: bytes | None = None) -> Input:
    files = {
        "truth.json": json.dumps(_coco_truth()).encode() if truth is None else truth,
        "results.json": json.dumps(_coco_results()).encode() if results is None else results,
    }
    return Input(what, _read_coco, files, names=".json" if truth is None or results is None else "json")


_JSON_VALUES = (
    *(None, True, "", "a", [], {}, [1], {"a": 1}, -1, 0, 1.5, 1e300, -1e300, 2**31, 2**63, 10**400, float("nan")),
    *(
        float("inf"),
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [None] * 4,
        ["1"] * 4,
        [float("nan")] * 4,
        [1e308] * 4,
        [-5, -5, -5, -5],
    ),
)


def _with(content: Any, path: tuple, value: Any) -> Any:
    """A copy of `content` with `value` at `path`."""
    copy = json.loads(json.dumps(content))
    place = copy
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return copy


def _fixed_coco() -> list[Input]:
    truth_paths = [("videos",), ("images",), ("annotations",), ("categories",), ("videos", 0), ("images", 0)]
    truth_paths += [
        ("videos", 0, "id"),
        ("videos", 0, "name"),
        *(("images", 0, key) for key in ("id", "video_id", "frame_id")),
    ]
    truth_paths += [("annotations", 0, key) for key in ("image_id", "category_id", "instance_id", "bbox", "iscrowd")]
    truth_paths += [("categories", 0, "id"), ("categories", 0, "name"), ("categories", 0), ("annotations", 0)]
    result_paths = [(0,), *((0, key) for key in ("image_id", "category_id", "score", "bbox"))]
    cases = [_coco("good")]
    for value in _JSON_VALUES:
        name = repr(value)[:20]
        cases += [
            _coco(f"{name} at {path}", truth=json.dumps(_with(_coco_truth(), path, value)).encode())
            for path in truth_paths
        ]
        cases += [
            _coco(f"{name} at {path}", results=json.dumps(_with(_coco_results(), path, value)).encode())
            for path in result_paths
        ]
    odd = (
        b"",
        b"text",
        b"null",
        b"5",
        b'"a"',
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"[1e999]",
        b"[" + b"9" * 5000 + b"]",
        b"[nan]",
    )
    cases += [_coco(f"results {content[:20]!r}", results=content) for content in odd]
    return cases + [_coco(f"truth {content[:20]!r}", truth=content) for content in odd]


def _damaged_coco(rng: Random) -> Input:
    content = json.dumps(_coco_truth() if rng.random() < 0.5 else _coco_results(), indent=0)
    damaged = as_bytes(rng, damaged_text(rng, content))
    return (
        _coco("damaged truth", truth=damaged) if content.startswith("{") else _coco("damaged results", results=damaged)
    )


@functools.cache
def _good_motion() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mat")
        write_motion(path, motion_of(_truth()).values, _truth().offsets)
        return path.read_bytes()


@functools.cache
def _plain_motion() -> bytes:
    """The same without compression."""
    import io

    import scipy.io

    cells = np.empty((_FRAMES, 1), object)
    for frame in range(_FRAMES):
        cells[frame, 0] = motion_of(_truth()).values[2 * frame : 2 * frame + 2, None]
    file = io.BytesIO()
    scipy.io.savemat(file, {"other": np.zeros(3), "motion_iou": cells})
    return file.getvalue()


def _read_motion(folder: Path) -> str:
    motion = motion_from_file(folder / "a.mat", _truth())
    if len(motion.values) != 2 * _FRAMES or not ((motion.values >= 0) & (motion.values <= 1)).all():
        raise WrongError(f"motion {motion.values.tolist()}")
    return "values from 0 to 1"


def _motion(what: str, content: bytes) -> Input:
    return Input(what, _read_motion, {"a.mat": content}, names="a.mat")


def _fixed_motion() -> list[Input]:
    cases = []
    for what, good in (("compressed", _good_motion()), ("plain", _plain_motion())):
        cases.append(_motion(f"good, {what}", good))
        cases += [
            _motion(f"{what}, cut off at {share:g}", good[: int(len(good) * share)])
            for share in (0, 0.2, 0.5, 0.9, 0.99)
        ]
    odd = {
        "text": b"text",
        "zeros": bytes(999),
        "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(999),
    }
    return cases + [_motion(what, content) for what, content in odd.items()]


def _damaged_motion(rng: Random) -> Input:
    return _motion("damaged motion", damaged_bytes(rng, rng.choice((_good_motion(), _plain_motion()))))


KINDS = (
    Kind("results", _fixed_results, _damaged_results),
    Kind("coco", _fixed_coco, _damaged_coco),
    Kind("motion", _fixed_motion, _damaged_motion),
)
