"""The synthetic data set on disk: same bytes whoever makes it, the layout of ILSVRC2015, nothing overwritten."""

import hashlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from lib.data.classes import load_classes
from lib.errors import InputError
from lib.files import OutputError
from lib.synthetic.casting import Settings, make_clip
from lib.synthetic.dataset import Plan, make_dataset, summary
from lib.synthetic.flow import decoded
from lib.synthetic.preview import contact_sheet
from tools import make_synthetic_vid as tool

PLAN = Plan(Settings(width=128, height=96, frames=17, seed=5), train_videos=3, val_videos=2, stills=4, flow=True)


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "set"
    tally, new = make_dataset(out, PLAN)
    assert new
    assert tally.frames == 5 * 17 + 4
    return out


def test_the_bytes_do_not_depend_on_the_number_of_workers_or_on_what_else_is_made(made, tmp_path):
    make_dataset(tmp_path / "two", PLAN, workers=2)
    assert digests(made) == digests(tmp_path / "two")
    make_dataset(tmp_path / "fewer", replace(PLAN, train_videos=1, stills=1, flow=False))
    ours, fewer = digests(made), digests(tmp_path / "fewer")
    same = [name for name in fewer if name.startswith(("Data", "Annotations"))]
    assert len(same) == 2 * (3 * 17 + 1)
    assert all(fewer[name] == ours[name] for name in same)


def test_another_seed_gives_other_pictures():
    a, b = (make_clip(Settings(width=128, height=96, seed=s), "train", 0).image(0) for s in (0, 1))
    assert np.abs(a.astype(int) - b).mean() > 5


def test_the_lists_are_those_of_ilsvrc2015(made):
    lists = {p.stem: p.read_text().splitlines() for p in (made / "ImageSets").glob("*.txt")}
    assert lists["VID_val_videos"] == ["val/syn_val_00000000 1 0 17", "val/syn_val_00000001 18 0 17"]
    assert lists["VID_val_frames"][0] == "val/syn_val_00000000/000000 1"
    assert lists["VID_val_frames"][-1] == "val/syn_val_00000001/000016 34"
    assert len(lists["VID_train_15frames"]) == 3 * 15
    for line in lists["VID_train_15frames"]:
        path, one, number, length = line.split()
        assert (one, length) == ("1", "17")
        assert (made / "Data" / "VID" / path / f"{int(number):06d}.JPEG").is_file()
    for line in lists["DET_train_30classes"]:
        path, one = line.split()
        assert one == "1"
        assert (made / "Data" / "DET" / f"{path}.JPEG").is_file()
        assert (made / "Annotations" / "DET" / f"{path}.xml").is_file()
    assert load_classes("", made).names[0] == "airplane"


def test_annotations_hold_the_clips_objects(made):
    for index, split in ((0, "train"), (1, "train"), (1, "val")):
        clip = make_clip(PLAN.settings, split, index)
        middle = "train/ILSVRC2015_VID_train_0000" if split == "train" else "val"
        for number, objects in enumerate(clip.objects):
            stem = f"VID/{middle}/syn_{split}_{index:08d}/{number:06d}"
            root = ElementTree.parse(made / "Annotations" / f"{stem}.xml").getroot()
            assert [child.tag for child in root][:4] == ["folder", "filename", "source", "size"]
            assert root.findtext("filename") == f"{number:06d}"
            image = cv2.imread(str(made / "Data" / f"{stem}.JPEG"))
            assert image.shape == (int(root.findtext("size/height")), int(root.findtext("size/width")), 3)
            rows = root.findall("object")
            boxes = [[int(row.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] for row in rows]
            assert boxes == objects.boxes.tolist()
            assert [int(row.findtext("trackid")) for row in rows] == objects.track_ids.tolist()
            assert [row.findtext("name") for row in rows] == [f"n{99000000 + label}" for label in objects.labels]
            assert [row.findtext("occluded") for row in rows] == [str(int(o)) for o in objects.occluded]
            assert all(row.findtext("generated") == "0" for row in rows)


def test_the_reader_of_imagenet_vid_reads_it(made, tmp_path):
    imagenet_vid = pytest.importorskip("lib.data.imagenet_vid")
    truth = imagenet_vid.ImageNetVID(made, "VID_val_videos", load_classes("", made), tmp_path).ground_truth()
    clips = [make_clip(PLAN.settings, "val", index) for index in range(2)]
    boxes = np.concatenate([objects.boxes for clip in clips for objects in clip.objects])
    assert truth.num_frames == 34
    assert (truth.boxes == boxes).all()
    assert (truth.track_ids == np.concatenate([o.track_ids for clip in clips for o in clip.objects])).all()
    stills = imagenet_vid.ImageNetVID(made, "DET_train_30classes", load_classes("", made), tmp_path).ground_truth()
    assert stills.num_frames == 4
    assert len(stills.boxes) == sum(len(make_clip(PLAN.settings, "stills", i).objects[0]) for i in range(4))


def test_flow_files_lie_beside_the_frames(made):
    folder = made / "Flow" / "VID" / "val" / "syn_val_00000000"
    assert sorted(p.name for p in folder.iterdir()) == [f"{n:06d}.png" for n in range(16)]
    values, visible = decoded((folder / "000004.png").read_bytes())
    expected = make_clip(PLAN.settings, "val", 0).flow(4, 5)
    assert np.abs(values - expected.flow).max() < 0.01
    assert (visible == expected.visible).all()


def test_the_same_again_does_nothing_and_reports_the_same(made):
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    tally, new = make_dataset(made, PLAN)
    assert not new
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == before
    table = summary(tally, 10)
    assert "89" in table
    assert "airplane" in table
    assert tally.objects == sum(tally.classes.values())


def test_nothing_is_overwritten_unasked(made, tmp_path):
    other = replace(PLAN, settings=replace(PLAN.settings, seed=6), train_videos=1, val_videos=0, stills=0, flow=False)
    before = digests(made)
    with pytest.raises(OutputError, match="other parameters"):
        make_dataset(made, other)
    assert digests(made) == before

    mine = tmp_path / "holiday"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not a synthetic data set"):
            make_dataset(mine, other, overwrite=overwrite)
    assert (mine / "photo.jpg").read_bytes() == b"precious"

    out = tmp_path / "set"
    out.mkdir()
    make_dataset(out, other)  # an empty folder may be filled
    make_dataset(out, replace(other, stills=1), overwrite=True)
    assert (out / "ImageSets" / "DET_train_30classes.txt").read_text() == "train/syn_train_0000/syn_still_00000000 1\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["holiday", "set"]


def test_a_broken_run_leaves_no_data_set_behind(tmp_path):
    plan = replace(PLAN, train_videos=2, val_videos=0, stills=0, flow=False)

    def stopped(items, total):
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "set", plan, progress=stopped)
    assert not (tmp_path / "set").exists()
    assert make_dataset(tmp_path / "set", plan)[1]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


SMALLEST = Plan(Settings(width=96, height=80, frames=3, seed=2), train_videos=1, val_videos=0, stills=0)


def test_folders_with_names_like_our_own_stay_as_they_are(tmp_path):
    """What a user may have beside the data set, called as temporary folders often are."""
    for name in ("set.old", "set.part", "set.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_bytes(b"precious")
    make_dataset(tmp_path / "set", SMALLEST)
    make_dataset(tmp_path / "set", replace(SMALLEST, stills=1), overwrite=True)
    for name in ("set.old", "set.part", "set.bak"):
        assert (tmp_path / name / "photo.jpg").read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.bak", "set.old", "set.part"]


def test_what_comes_to_the_place_meanwhile_is_not_replaced(tmp_path):
    def another_program_is_faster(items, total):
        yield from items
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "photo.jpg").write_bytes(b"precious")

    with pytest.raises(OutputError, match="not a synthetic data set"):
        make_dataset(tmp_path / "set", SMALLEST, progress=another_program_is_faster)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["set", "set/photo.jpg"]


def test_a_users_files_in_a_data_set_are_not_overwritten(tmp_path):
    make_dataset(tmp_path / "set", SMALLEST)
    (tmp_path / "set" / "notes").mkdir()
    (tmp_path / "set" / "notes" / "a.txt").write_text("precious")
    before = digests(tmp_path)
    with pytest.raises(OutputError, match="holds 'notes' beside a synthetic data set"):
        make_dataset(tmp_path / "set", replace(SMALLEST, stills=1), overwrite=True)
    assert digests(tmp_path) == before


def test_a_link_to_a_folder_on_another_disk_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk" / "set")
    make_dataset(tmp_path / "set", SMALLEST)
    assert (tmp_path / "set").is_symlink()
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["set"]


@pytest.mark.parametrize("record", ["{", "[]", "3", '{"parameters": {}}'])
def test_a_record_of_something_else_is_an_error_that_names_it(tmp_path, record):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "synthetic.json").write_text(record)
    with pytest.raises(OutputError, match=r"set/synthetic\.json: not "):
        make_dataset(tmp_path / "set", SMALLEST, overwrite=True)
    assert (tmp_path / "set" / "synthetic.json").read_text() == record


def test_the_command_makes_it_and_draws_it(tmp_path, capsys):
    command = ["--out", str(tmp_path / "set"), "--train-videos", "1", "--val-videos", "1"]
    command += ["--frames", "3", "--stills", "1", "--size", "96x80", "--classes", "30", "--workers", "1"]
    tool.main([*command, "--preview", str(tmp_path / "new" / "sheet.png")])
    printed = capsys.readouterr().out
    assert "7 images" in printed
    assert "windmill" in printed
    assert cv2.imread(str(tmp_path / "new" / "sheet.png")) is not None
    tool.main(command)
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "--size is like 320x240"),
        (["--motion-mix", "a,b"], "--motion-mix like 27,35,37"),
        (["--classes", "31"], "31"),
        (["--preview", "sheet.gif5"], "sheet.gif5: OpenCV writes no images"),
        (["--preview", "/dev/null.png/x.png"], "/dev/null.png"),
    ],
)
def test_mistakes_on_the_command_line_are_named_before_anything_is_made(tmp_path, arguments, message):
    (tmp_path / "null.png").touch()
    arguments = [argument.replace("/dev", str(tmp_path)) for argument in arguments]
    with pytest.raises(InputError, match=message.replace("/dev", str(tmp_path))):
        tool.main(["--out", str(tmp_path / "set"), *arguments])
    assert not (tmp_path / "set").exists()


def test_the_contact_sheet_has_a_tile_for_every_frame_asked_for():
    sheet = contact_sheet(Settings(width=96, height=80, frames=4), columns=3, rows=1, clip_rows=1)
    assert sheet.shape == (2 * 84, 3 * 100, 3)
