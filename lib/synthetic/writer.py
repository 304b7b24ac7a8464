"""Write clips in the layout of ILSVRC2015: images, annotations, lists (docs/rules.md, section 4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from lib.synthetic import flow
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.catalogue import annotation_name, class_names
from lib.synthetic.objects import Objects, motion_ious

DATABASE = "synthetic_vid"
FRAMES_LISTED = 15  # frames of each training video in the list VID_train_15frames
_FOLDER_SIZE = 1000  # videos or stills in one folder


@dataclass
class Tally:
    """Counts of the annotated objects written: `motion` by speed (videos only), `classes` by label."""

    videos: int = 0
    stills: int = 0
    frames: int = 0
    objects: int = 0
    occluded: int = 0
    tracks: int = 0
    motion: Counter = field(default_factory=Counter)
    classes: Counter = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add up, field by field."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)


def video_stem(split: str, index: int) -> str:
    """The folder of a video below `Data/VID` and `Annotations/VID`."""
    if split == "train":
        return f"train/ILSVRC2015_VID_train_{index // _FOLDER_SIZE:04d}/syn_train_{index:08d}"
    return f"{split}/syn_{split}_{index:08d}"


def video_of_stem(stem: str) -> tuple[str, int]:
    """Split and index of the video that `video_stem` calls `stem`. Raises ValueError for any other name."""
    name, split, number = stem.rpartition("/")[2].split("_")
    if name != "syn" or video_stem(split, int(number)) != stem:
        raise ValueError(f"'{stem}' is no synthetic video")
    return split, int(number)


def still_stem(index: int) -> str:
    """The path of a still below `Data/DET` and `Annotations/DET`, without suffix."""
    return f"train/syn_train_{index // _FOLDER_SIZE:04d}/syn_still_{index:08d}"


def write_item(root: Path, settings: Settings, split: str, index: int, with_flow: bool) -> Tally:
    """Make item `index` of a split and write its images, annotations and, `with_flow`, its flow under `root`."""
    clip = make_clip(settings, split, index)
    still = split == "stills"
    kind, stem = ("DET", still_stem(index)) if still else ("VID", video_stem(split, index))
    folder, first = stem.rsplit("/", 1) if still else (stem, "")
    data, notes = root / "Data" / kind / folder, root / "Annotations" / kind / folder
    for place in (data, notes):
        place.mkdir(parents=True, exist_ok=True)
    tally = Tally(videos=0 if still else 1, stills=1 if still else 0, frames=clip.frames)
    for number, objects in enumerate(clip.objects):
        name = first if still else f"{number:06d}"
        (data / f"{name}.JPEG").write_bytes(clip.jpeg(number))
        text = annotation_xml(folder.partition("/")[2], name, clip.height, clip.width, objects, tracked=not still)
        (notes / f"{name}.xml").write_text(text, encoding="utf-8")
        tally.objects += len(objects)
        tally.occluded += int(objects.occluded.sum())
        tally.classes.update(objects.labels.tolist())
    if not still:
        tally.tracks = len({track for objects in clip.objects for track in objects.track_ids.tolist()})
        ious = motion_ious(clip.objects)
        tally.motion.update(fast=int((ious < 0.7).sum()), slow=int((ious > 0.9).sum()))
        tally.motion["medium"] = len(ious) - tally.motion["fast"] - tally.motion["slow"]
    if with_flow and not still:
        place = root / "Flow" / "VID" / folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(clip.frames - 1):
            (place / f"{number:06d}.png").write_bytes(flow.encoded(clip.flow(number, number + 1)))
    return tally


def annotation_xml(folder: str, name: str, height: int, width: int, objects: Objects, tracked: bool) -> str:
    """One annotation file with the fields of ImageNet VID, or with `tracked` False of DET (no track, no flags)."""
    lines = [
        "<annotation>",
        f"\t<folder>{escape(folder)}</folder>",
        f"\t<filename>{escape(name)}</filename>",
        f"\t<source>\n\t\t<database>{DATABASE}</database>\n\t</source>",
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t</size>",
    ]
    for box, label, track, occluded in zip(
        objects.boxes.tolist(), objects.labels, objects.track_ids, objects.occluded, strict=True
    ):
        x1, y1, x2, y2 = box
        lines.append("\t<object>")
        if tracked:
            lines.append(f"\t\t<trackid>{track}</trackid>")
        lines.append(f"\t\t<name>{annotation_name(int(label))}</name>")
        lines.append(
            f"\t\t<bndbox>\n\t\t\t<xmax>{x2}</xmax>\n\t\t\t<xmin>{x1}</xmin>\n"
            f"\t\t\t<ymax>{y2}</ymax>\n\t\t\t<ymin>{y1}</ymin>\n\t\t</bndbox>"
        )
        if tracked:
            # In ImageNet VID `generated` marks boxes interpolated between hand-drawn ones; here every box is exact.
            lines.append(f"\t\t<occluded>{int(occluded)}</occluded>\n\t\t<generated>0</generated>")
        lines.append("\t</object>")
    return "\n".join([*lines, "</annotation>", ""])


def write_lists(root: Path, settings: Settings, train_videos: int, val_videos: int, stills: int) -> None:
    """The image sets and `classes.txt`."""
    frames = settings.frames
    listed = sorted({int((k + 0.5) * frames / FRAMES_LISTED) for k in range(FRAMES_LISTED)})
    train = [video_stem("train", v) for v in range(train_videos)]
    val = [video_stem("val", v) for v in range(val_videos)]
    lists = {
        "VID_train_15frames": [f"{stem} 1 {number} {frames}" for stem in train for number in listed],
        "VID_val_videos": [f"{stem} {v * frames + 1} 0 {frames}" for v, stem in enumerate(val)],
        "VID_val_frames": [f"{stem}/{n:06d} {v * frames + n + 1}" for v, stem in enumerate(val) for n in range(frames)],
        "DET_train_30classes": [f"{still_stem(i)} 1" for i in range(stills)],
    }
    folder = root / "ImageSets"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names = enumerate(class_names(settings.classes), 1)
    text = "".join(f"{annotation_name(label)} {name}\n" for label, name in names)
    (root / "classes.txt").write_text(text, encoding="utf-8")
