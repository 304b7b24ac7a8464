"""What describes a data set: XML annotations, lists, class lists, and the cache that is made of them."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

import numpy as np

from lib.data.annotations import AnnotationIndex, read_annotation
from lib.data.classes import IMAGENET_VID, load_classes
from lib.data.image_sets import load_image_set
from lib.data.imagenet_vid import ImageNetVID
from lib.data.roidb import load_roidb
from tools.fuzzing.attempts import Input, Kind, WrongError
from tools.fuzzing.mutations import TOKENS, as_bytes, damaged_bytes, damaged_text
from tools.fuzzing.small_dataset import link_dataset, small_dataset

_XML = """<annotation>
 <size><width>320</width><height>240</height></size>
 <object><trackid>7</trackid><name>n02691156</name>
  <bndbox><xmax>100</xmax><xmin>20</xmin><ymax>90</ymax><ymin>30</ymin></bndbox>
  <occluded>0</occluded><generated>1</generated></object>
 <object><name>n01503061</name><bndbox><xmax>9.5</xmax><xmin>1</xmin><ymax>8</ymax><ymin>2</ymin></bndbox></object>
</annotation>
"""
_XML_VALUES = ("320", "240", "7", "n02691156", "100", "20", "0</occluded", "9.5")


def _annotate(folder: Path) -> str:
    annotation = read_annotation(folder / "a.xml")
    index = AnnotationIndex.cat([AnnotationIndex.of([annotation]), AnnotationIndex.of([annotation])])
    boxes, usable = index.training_boxes()
    frames = index.frame_of_object()
    inside = (boxes[:, 2] < index.widths[frames]) & (boxes[:, 3] < index.heights[frames]) & (boxes[:, :2] >= 0).all(1)
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all(1)
    if not (inside & ordered)[usable].all() or not np.isfinite(index.boxes).all():
        raise WrongError(f"boxes {boxes[usable].tolist()}")
    index.labels(IMAGENET_VID)
    return f"{len(annotation.names)} objects"


def _xml(what: str, content: bytes) -> Input:
    return Input(what, _annotate, {"a.xml": content}, names="a.xml")


def _fixed_annotations() -> list[Input]:
    cases = [_xml("good XML", _XML.encode())]
    for value in _XML_VALUES:
        cases += [
            _xml(f"{token[:20]!r} for {value}", _XML.replace(value, token, 1).encode("utf-8", "surrogateescape"))
            for token in TOKENS
        ]
    entity = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 20}'>" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    bomb = entity + "]>" + _XML.replace("n02691156", "&k;")
    outside = "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" + _XML.replace("n02691156", "&a;")
    odd = {
        "entity bomb": bomb.encode(),
        "entity from a file": outside.encode(),
        "deep nesting": b"<a>" * 100_000,
        "utf-16": _XML.encode("utf-16"),
        "wrong encoding": b"<?xml version='1.0' encoding='utf-7'?>" + _XML.encode(),
        "ten thousand objects": (_XML[:75] + _XML[75:-14] * 2000 + "</annotation>").encode(),
        "a huge attribute": f"<annotation a='{'x' * 1_000_000}'/>".encode(),
    }
    return cases + [_xml(what, content) for what, content in odd.items()]


def _damaged_annotation(rng: Random) -> Input:
    return _xml("damaged XML", as_bytes(rng, damaged_text(rng, _XML)))


def _naive_rows(content: bytes) -> list[list[str]]:
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    return [line.split() for line in text.split("\n") if line.strip()]


def _load_list(content: bytes, name: str, folder: Path) -> str:
    image_set = load_image_set(folder, name)
    rows = _naive_rows(content)
    if [row[0] for row in rows] != image_set.paths:
        raise WrongError(f"paths {image_set.paths[:5]}")
    wanted = [[int(row[1]), 0, 1] if image_set.columns == 2 else [int(n) for n in row[1:]] for row in rows]
    if image_set.numbers.tolist() != wanted:
        raise WrongError(f"numbers {image_set.numbers.tolist()[:5]}")
    classes = load_classes("", folder)
    if name == "VID_train":
        return f"{len(load_roidb(folder, name, classes, folder / 'cache'))} entries"
    truth = ImageNetVID(folder, name, classes, folder / "cache").ground_truth()
    return f"{truth.num_frames} frames"


def _list(what: str, name: str, content: bytes) -> Input:
    files = {f"ImageSets/{name}.txt": content}
    return Input(what, functools.partial(_load_list, content, name), files, name, link_dataset, makes=("cache",))


@functools.cache
def _good_lists() -> dict[str, str]:
    sets = small_dataset() / "ImageSets"
    lists = {path.stem: path.read_text() for path in sets.glob("*.txt")}
    return {
        "VID_train": lists["VID_train_15frames"],
        "VID_val": lists["VID_val_videos"],
        "VID_frames": lists["VID_val_frames"],
    }


def _fixed_lists() -> list[Input]:
    cases = [_list(f"good {name}", name, text.encode()) for name, text in _good_lists().items()]
    for name, text in _good_lists().items():
        first, rest = text.split("\n", 1)
        words = first.split()
        for column in range(len(words)):
            for token in TOKENS:
                line = " ".join([*words[:column], token, *words[column + 1 :]])
                content = f"{line}\n{rest}".encode("utf-8", "surrogateescape")
                cases.append(_list(f"{token[:20]!r} in column {column + 1} of {name}", name, content))
        odd = {"twice": text + text, "backwards": "\n".join(text.split("\n")[::-1]), "empty": "", "one line": first}
        cases += [_list(f"{name} {what}", name, content.encode()) for what, content in odd.items()]
    return cases


def _damaged_list(rng: Random) -> Input:
    name, text = rng.choice(list(_good_lists().items()))
    return _list(f"damaged {name}", name, as_bytes(rng, damaged_text(rng, text)))


_CLASSES = "n1 cat\nn2 wild dog # a comment\nn3\n\n# nothing\nn4 K\u00e4fer\n"


def _load_class_list(content: bytes, folder: Path) -> str:
    classes = load_classes(folder / "classes.txt")
    rows = [row.partition("#")[0].split(None, 1) for row in content.decode("utf-8-sig").splitlines()]
    if any(separator in content.decode("utf-8-sig") for separator in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        return "lines that Python alone would break"
    wanted = [(row[0], row[-1].strip()) for row in rows if row]
    if list(zip(classes.annotation_names, classes.names, strict=True)) != wanted:
        raise WrongError(f"classes {classes}")
    return f"{len(classes.names)} classes"


def _class_list(what: str, content: bytes) -> Input:
    return Input(what, functools.partial(_load_class_list, content), {"classes.txt": content}, "classes.txt")


def _fixed_class_lists() -> list[Input]:
    cases = [_class_list("good classes", _CLASSES.encode())]
    for word in ("n1", "cat", "dog", "n3"):
        cases += [
            _class_list(
                f"{token[:20]!r} for {word}", _CLASSES.replace(word, token, 1).encode("utf-8", "surrogateescape")
            )
            for token in TOKENS
        ]
    return cases


def _damaged_class_list(rng: Random) -> Input:
    return _class_list("damaged classes", as_bytes(rng, damaged_text(rng, _CLASSES)))


@functools.cache
def _good_cache() -> tuple[str, bytes, list[list[float]]]:
    """Name and content of a good cache of the small data set, and the boxes it should give."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        index = _small_set(Path(folder)).index
        (path,) = Path(folder).glob("*.npz")
        return path.name, path.read_bytes(), index.boxes.tolist()


def _small_set(cache: Path) -> ImageNetVID:
    root = small_dataset()
    return ImageNetVID(root, "VID_val_videos", load_classes("", root), cache)


def _use_cache(folder: Path) -> str:
    index = _small_set(folder).index
    if index.boxes.tolist() != _good_cache()[2] or index.num_frames != len(index.offsets) - 1:
        raise WrongError(f"boxes {index.boxes.tolist()[:3]}")
    index.labels(IMAGENET_VID)
    index.training_boxes()
    return "the right annotations"


def _cache(what: str, content: bytes) -> Input:
    name = _good_cache()[0]
    return Input(what, _use_cache, {name: content}, makes=(name,))


def _fixed_caches() -> list[Input]:
    content = _good_cache()[1]
    odd = {"good": content, "empty": b"", "text": b"text", "an empty archive": b"PK\x05\x06" + bytes(18)}
    return [_cache(what, body) for what, body in odd.items()]


def _damaged_cache(rng: Random) -> Input:
    return _cache("damaged cache", damaged_bytes(rng, _good_cache()[1]))


KINDS = (
    Kind("annotation", _fixed_annotations, _damaged_annotation),
    Kind("list", _fixed_lists, _damaged_list),
    Kind("classes", _fixed_class_lists, _damaged_class_list),
    Kind("cache", _fixed_caches, _damaged_cache),
)
