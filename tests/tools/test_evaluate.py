"""tools/evaluate.py: the recorded APs from annotations on disk, several files, read-only data, errors in one line."""

import json
import tarfile

import numpy as np
import pytest

from lib.errors import InputError
from lib.evaluation.results_file import RAW_DECIMALS, DetectionTable, ResultsWriter
from lib.files import OutputError
from tools import evaluate as tool
from tools import export_coco

OBJECT = """<annotation><size><width>99</width><height>99</height></size><object><trackid>{track}</trackid>
<name>n02691156</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>49</xmax><ymax>49</ymax></bndbox></object>
</annotation>"""


def run(tmp_path, *arguments):
    """The tool's JSON; its cache and output below `tmp_path`."""
    out = tmp_path / "out" / "figures.json"
    options = ["--cache", tmp_path / "cache", "--json", out]
    tool.main([str(argument) for argument in (*arguments, *options)])
    return json.loads(out.read_text())


@pytest.fixture
def recorded_set(golden_dir, tmp_path):
    """The data set of the recordings: annotations and lists; there is no image, and none is needed."""
    with tarfile.open(golden_dir / "eval_public_annotations.tar.gz") as archive:
        archive.extractall(tmp_path / "data", filter="data")
    return tmp_path / "data"


@pytest.fixture
def small_set(tmp_path):
    """Two frames of one video with an airplane that stands still."""
    root = tmp_path / "small"
    folder = root / "Annotations" / "VID" / "val" / "clip"
    folder.mkdir(parents=True)
    for frame in range(2):
        (folder / f"{frame:06d}.xml").write_text(OBJECT.format(track=7))
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "VID_val_videos.txt").write_text("val/clip 1 0 2\n")
    return root


@pytest.mark.parametrize("scores", ["unique", "ties"])
def test_recorded_aps_from_annotations_on_disk(tmp_path, golden, golden_dir, recorded_set, scores):
    before = sorted(recorded_set.rglob("*"))
    figures = run(
        tmp_path,
        *("--dataset-path", recorded_set, "--results", golden_dir / f"eval_public_dets_{scores}.txt"),
        *("--motion-iou", golden_dir / "eval_public_motion_iou.mat"),
    )
    recorded = golden("eval_public")
    plain = recorded[f"{scores}_ap_stable_sort"]
    by_motion = recorded[f"{scores}_ap_motion_stable_sort"][:, 0]
    by_motion = np.where(by_motion < 0, np.nan, by_motion)
    np.testing.assert_allclose(np.array(figures["ap"], float), plain, rtol=0, atol=1e-9)
    assert figures["mean_ap"] == pytest.approx(np.nanmean(plain), abs=1e-9)
    assert [entry["range"] for entry in figures["motion"]] == [[0, 1], [0, 0.7], [0.7, 0.9], [0.9, 1]]
    for entry, expected in zip(figures["motion"], by_motion, strict=True):
        np.testing.assert_allclose(np.array(entry["ap"], float), expected, rtol=0, atol=1e-9)
        assert entry["mean_ap"] == pytest.approx(np.nanmean(expected), abs=1e-9)
    assert sorted(recorded_set.rglob("*")) == before, "the data set's folder may be read-only"


def test_parts_of_a_run_and_motion_from_track_ids(tmp_path, small_set, capsys):
    parts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    parts[0].write_text("2 1 0.9 10 10 49 49\n")
    parts[1].write_text("1 2 0.8 10 10 49 49\n1 1 0.7 60 60 99 99\n")
    figures = run(tmp_path, "--dataset-path", small_set, "--results", *parts)
    assert figures["ap"] == [0.5, *[None] * 29]
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.5, None, None, 0.5]
    assert figures["class_names"][:2] == ["airplane", "antelope"]
    assert (figures["frames"], figures["frames_with_detections"], figures["detections"]) == (2, 2, 3)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[-5:] == ["objects", "all", "fast", "medium", "slow"]
    assert printed[1].split() == ["airplane", "2", "50.00", "-", "-", "50.00"]
    assert printed[31].split() == ["mean", "2", "50.00", "-", "-", "50.00"]
    assert "100.0% slow" in printed[-1]


def test_an_empty_file_and_a_class_list(tmp_path, small_set):
    (tmp_path / "none.txt").touch()
    (tmp_path / "classes.txt").write_text("n02691156 plane\nn02084071 dog\n")
    arguments = ("--results", tmp_path / "none.txt", "--classes", tmp_path / "classes.txt")
    figures = run(tmp_path, "--dataset-path", small_set, *arguments)
    assert figures["ap"] == [0.0, None]
    assert figures["class_names"] == ["plane", "dog"]


def test_without_track_ids_only_all_objects_have_an_ap(tmp_path, small_set, caplog):
    (small_set / "Annotations" / "VID" / "val" / "clip" / "000001.xml").write_text(OBJECT.format(track=-1))
    (tmp_path / "a.txt").write_text("2 1 0.9 10 10 49 49\n")
    figures = run(tmp_path, "--dataset-path", small_set, "--results", tmp_path / "a.txt")
    assert [entry["mean_ap"] for entry in figures["motion"]] == [0.5, None, None, None]
    assert "1 of 2 objects have no track id" in caplog.text


def test_errors_name_the_line(tmp_path, small_set):
    (tmp_path / "a.txt").write_text("1 1 0.9 10 10 49 49\n3 1 0.9 10 10 49 49\n")
    with pytest.raises(InputError, match=r"a.txt:2: frame_id 3 is not a whole number from 1 to 2"):
        run(tmp_path, "--dataset-path", small_set, "--results", tmp_path / "a.txt")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("option", ["--json", "--csv", "--save-results"])
@pytest.mark.parametrize("target", ["a folder", "a device", "below a file"])
def test_outputs_are_checked_before_anything_is_read(tmp_path, option, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    path, message = {
        "a folder": (tmp_path / "folder", "folder: is a folder, not a file that can be replaced"),
        "a device": ("/dev/null", "/dev/null: is a device"),
        "below a file": (tmp_path / "file" / "out.txt", r"out.txt: cannot be written"),
    }[target]
    arguments = ["--dataset-path", tmp_path / "none", "--results", tmp_path / "none.txt", "--seq-nms", option, path]
    with pytest.raises(OutputError, match=message):
        tool.main([str(argument) for argument in arguments])
    assert (tmp_path / "file").read_text() == "precious"


def test_results_and_ground_truth_with_byte_order_marks(tmp_path, small_set):
    """As editors on Windows save them: every line and every class counts."""
    (tmp_path / "plain.txt").write_text("1 1 0.9 10 10 49 49\n2 1 0.8 10 10 49 49\n")
    wanted = run(tmp_path, "--dataset-path", small_set, "--results", tmp_path / "plain.txt")
    export_coco.main(
        [str(a) for a in ("--dataset-path", small_set, "--results", tmp_path / "plain.txt", "--out", tmp_path / "coco")]
        + ["--cache", str(tmp_path / "cache")]
    )
    marked = {}
    for path in (tmp_path / "plain.txt", *(tmp_path / "coco").iterdir()):
        marked[path.name] = tmp_path / f"marked_{path.name}"
        marked[path.name].write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert wanted["ap"][0] == 1.0
    for results in ("plain.txt", "detections.json"):
        for source in (("--dataset-path", small_set), ("--ground-truth", marked["ground_truth.json"])):
            figures = run(tmp_path, *source, "--results", marked[results])
            assert {**figures, "results": None} == {**wanted, "results": None}


AIRPLANE = "10.00 10.00 49.00 49.00"


@pytest.fixture
def three_videos(tmp_path):
    """Clips of 2, 3 and 1 frames with the airplane that stands still; frame 000001 of the second has no object."""
    root = tmp_path / "three"
    for name, length in (("a", 2), ("b", 3), ("c", 1)):
        folder = root / "Annotations" / "VID" / "val" / name
        folder.mkdir(parents=True)
        for frame in range(length):
            (folder / f"{frame:06d}.xml").write_text(OBJECT.format(track=7))
    empty = OBJECT.format(track=7)
    empty = empty[: empty.index("<object>")] + "</annotation>"
    (root / "Annotations" / "VID" / "val" / "b" / "000001.xml").write_text(empty)
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "VID_val_videos.txt").write_text("val/a 1 0 2\nval/b 3 0 3\nval/c 6 0 1\n")
    return root


def write_unfinished(path, done_lines, more, done):
    """What a test leaves behind that is in the middle of a video."""
    part, progress = (path.with_name(path.name + suffix) for suffix in (".part", ".progress"))
    part.write_text(done_lines + more)
    progress.write_text(json.dumps({"run": "x", "done": done, "size": len(done_lines)}))
    return part


@pytest.mark.parametrize("name", ["run.txt", "run.txt.part"])
def test_an_unfinished_run_is_evaluated_on_its_finished_videos(tmp_path, three_videos, capsys, name):
    done = f"1 1 0.9000 {AIRPLANE}\n3 1 0.8000 {AIRPLANE}\n5 1 0.7000 {AIRPLANE}\n"
    write_unfinished(tmp_path / "run.txt", done, "6 1 0.9500 60.00 60.00 9", done=2)
    figures = run(tmp_path, "--dataset-path", three_videos, "--results", tmp_path / name)
    assert figures["ap"][0] == pytest.approx(3 / 4)  # of the four objects in the videos that are done
    assert (figures["frames"], figures["detections"]) == (5, 3)
    assert figures["part"] == {"videos": 2, "of_videos": 3, "frames": 5, "of_frames": 6}
    # 4 still objects and the empty frame, which counts as one that is fast
    printed = capsys.readouterr().out
    assert "has finished 2 of 3 videos so far" in printed
    assert "2 of 3 videos, 5 of 6 frames (83.3%)" in printed
    assert "20.0% fast, 0.0% medium, 80.0% slow" in printed


def test_a_run_without_a_finished_video_and_a_note_that_lies(tmp_path, three_videos):
    (tmp_path / "run.txt.part").write_text("1 1 0.9")
    arguments = ("--dataset-path", three_videos, "--results", tmp_path / "run.txt")
    with pytest.raises(InputError, match=r"run.txt.part: its run has not finished a video yet"):
        run(tmp_path, *arguments)
    write_unfinished(tmp_path / "run.txt", "", "", done=0)
    with pytest.raises(InputError, match="no video of those asked for is done yet"):
        run(tmp_path, *arguments)
    (tmp_path / "run.txt.progress").write_text(json.dumps({"run": "x", "done": 1, "size": 99}))
    with pytest.raises(InputError, match="shorter than the 99 bytes"):
        run(tmp_path, *arguments)
    (tmp_path / "run.txt.progress").write_text("{")
    with pytest.raises(InputError, match=r"run.txt.progress: not the note of a run"):
        run(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("which", "ap", "frames"), [("1", 0.5, 2), ("val/b,c", 2 / 3, 4), ("c", 0.0, 1), ("3", 3 / 5, 6)]
)
def test_a_subset_of_the_videos(tmp_path, three_videos, which, ap, frames):
    (tmp_path / "run.txt").write_text("".join(f"{i} 1 0.{10 - i}000 {AIRPLANE}\n" for i in (1, 3, 5)))
    arguments = ("--dataset-path", three_videos, "--results", tmp_path / "run.txt", "--videos", which)
    figures = run(tmp_path, *arguments)
    assert figures["ap"][0] == pytest.approx(ap)
    assert figures["frames"] == frames
    assert (figures["part"] is None) == (frames == 6)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("0", "0 videos asked for; the image set has 1 to 3"),
        ("4", "4 videos"),
        ("val/x", "'val/x': the image set has no such"),
        (",", "no video in ','"),
        ("9" * 5000, "the image set has no such"),
    ],
)
def test_videos_that_are_not_there(tmp_path, three_videos, which, message):
    (tmp_path / "run.txt").touch()
    with pytest.raises(InputError, match=message):
        run(tmp_path, "--dataset-path", three_videos, "--results", tmp_path / "run.txt", "--videos", which)


@pytest.mark.parametrize("workers", [1, 3])
def test_recorded_seq_nms_of_raw_results(tmp_path, golden, recorded_set, workers):
    recorded = golden("eval_public")
    given, wanted = recorded["seqnms_in"], recorded["seqnms_out_nms03"]
    lengths = [int(line.split()[3]) for line in (recorded_set / "ImageSets" / "VID_val_videos.txt").open()]
    first = np.cumsum([0, *lengths])
    with ResultsWriter(tmp_path / "raw.txt", decimals=(12, 9)) as raw:
        raw.add_table(
            DetectionTable(
                (first[given[:, 0].astype(int)] + given[:, 1]).astype(np.int32),
                given[:, 2].astype(int),
                given[:, 7],
                given[:, 3:7],
            ).sorted_by_frame()
        )
    out = tmp_path / "rescored.txt"
    figures = run(
        tmp_path,
        *("--dataset-path", recorded_set, "--results", tmp_path / "raw.txt"),
        *("--seq-nms", "--save-results", out, "--workers", workers),
    )
    found = np.loadtxt(out)
    wanted = np.column_stack((first[wanted[:, 0].astype(int)] + wanted[:, 1] + 1, wanted[:, [2, 7, 3, 4, 5, 6]]))
    # Frame, class and box, which the recordings have in hundredths of a pixel, tell the rows apart
    order = [np.lexsort(rows[:, [6, 5, 4, 3, 1, 0]].T) for rows in (found, wanted)]
    found, wanted = found[order[0]], wanted[order[1]]
    np.testing.assert_allclose(np.delete(found, 2, axis=1), np.delete(wanted, 2, axis=1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], wanted[:, 2], rtol=0, atol=0.5e-4 + 1e-9)  # four decimals
    again = run(tmp_path, "--dataset-path", recorded_set, "--results", out)
    assert figures["results"] == [f"{tmp_path / 'raw.txt'} with Seq-NMS"]
    assert {**figures, "results": None} == {**again, "results": None}


def test_seq_nms_is_the_same_for_any_number_of_workers_and_any_blocks(tmp_path, three_videos, monkeypatch):
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(6, dtype=np.int32), 40)
    corners = rng.integers(0, 60, (240, 2))
    table = DetectionTable(
        frames,
        rng.integers(1, 4, 240),
        rng.integers(1, 100, 240) / 100,
        np.hstack((corners, corners + 30)).astype(float),
    )
    with ResultsWriter(tmp_path / "raw.txt", decimals=RAW_DECIMALS) as raw:
        raw.add_table(table)
    texts = set()
    for workers, block in ((1, 1 << 23), (1, 100), (2, 300), (4, 1000)):
        monkeypatch.setattr("lib.evaluation.results_file._BLOCK", block)
        out = tmp_path / f"{workers}_{block}.txt"
        arguments = ("--results", tmp_path / "raw.txt", "--seq-nms", "--save-results", out, "--workers", workers)
        run(tmp_path, "--dataset-path", three_videos, *arguments)
        texts.add(out.read_text())
    assert len(texts) == 1
    assert 0 < texts.pop().count("\n") < 240


def test_seq_nms_of_one_video_is_the_same_as_of_all(tmp_path, three_videos):
    (tmp_path / "raw.txt").write_text("".join(f"{f} 1 0.{f}00 {AIRPLANE}\n" for f in (1, 2, 3, 4, 5, 6)))
    for name, more in (("all", ()), ("b", ("--videos", "b"))):
        arguments = ("--results", tmp_path / "raw.txt", "--seq-nms", "--save-results", tmp_path / f"{name}.txt")
        run(tmp_path, "--dataset-path", three_videos, *arguments, *more)
    lines = (tmp_path / "all.txt").read_text().splitlines()
    assert (
        (tmp_path / "b.txt").read_text().splitlines() == lines[2:5] == [f"{f} 1 0.4000 {AIRPLANE}" for f in (3, 4, 5)]
    )


def test_seq_nms_refuses_videos_in_pieces_and_its_own_input(tmp_path, three_videos, capsys):
    raw = tmp_path / "raw.txt"
    raw.write_text(f"1 1 0.5000 {AIRPLANE}\n3 1 0.5000 {AIRPLANE}\n2 1 0.5000 {AIRPLANE}\n")
    arguments = ("--dataset-path", three_videos, "--results", raw, "--seq-nms")
    with pytest.raises(InputError, match="frame 2 comes after another video"):
        run(tmp_path, *arguments)
    with pytest.raises(SystemExit):
        run(tmp_path, *arguments, "--save-results", raw)
    assert "would overwrite the raw results" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path, *arguments[:-1], "--save-results", tmp_path / "x.txt")
    assert sorted(p.name for p in tmp_path.glob("*.txt")) == ["raw.txt"]
