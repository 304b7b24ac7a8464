"""tools/report.py: the page is whole, needs nothing else, and survives what runs and data sets can lack."""

import base64
import html.parser
import json
import re

import cv2
import numpy as np
import pytest

from lib.data.classes import load_classes
from lib.data.imagenet_vid import ImageNetVID
from lib.errors import InputError
from lib.evaluation.coco_files import write_coco_results, write_coco_truth
from lib.evaluation.results_file import read_results
from lib.report import theme
from lib.report.page import SECTIONS
from tests.data.toy_vid import AIRPLANE, BIRD, write_frame, write_list
from tests.report.made_up import made_up_detections, write_results
from tools import report as tool
from tools.evaluate import main as evaluate

EMPTY_TAGS = {"meta", "img", "source", "br", "link"}
CLASSES = f"{AIRPLANE} plane<&>\n{BIRD} bird\nn02084071 dog\n"  # no dog is in the data


class Page(html.parser.HTMLParser):
    """Reads a page: ids, addresses it refers to, text, and whether every element is closed where it must be."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.addresses, self.text, self.tags = [], [], [], [], []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [attributes[name] for name in ("src", "srcset", "href") if name in attributes]
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """Half the time of these tests goes into pixels that nobody looks at."""
    monkeypatch.setattr(theme, "_DPI", 48)


@pytest.fixture
def data(tmp_path):
    """Three tracked clips of 6, 4 and 1 frames with a slow plane and a fast bird."""
    root = tmp_path / "data"
    for video, length in (("a&<b>", 6), ("c", 4), ("d", 1)):
        for i in range(length):
            objects = [
                (AIRPLANE, (4 + i, 5, 30 + i, 40), "<trackid>0</trackid>"),
                (BIRD, (2 + 9 * i, 20, 12 + 9 * i, 30), "<trackid>1</trackid>"),
            ]
            write_frame(root, f"VID/val/{video}/{i:06d}", objects[: 1 + (video != "d")])
    write_list(root, "VID_val_videos", ["val/a&<b> 1 0 6", "val/c 7 0 4", "val/d 11 0 1"])
    (root / "classes.txt").write_text(CLASSES)
    return root


def results_of(data, tmp_path, seed):
    path = tmp_path / f"run{seed}" / "VID_val_videos" / "detections.txt"
    path.parent.mkdir(parents=True)
    truth = ImageNetVID(data, "VID_val_videos", load_classes("", data), tmp_path / "cache").ground_truth()
    write_results(path, made_up_detections(truth, seed))
    return path


def make(tmp_path, data, *arguments):
    out = tmp_path / "out" / "report.html"
    tool.main([str(a) for a in ("--dataset-path", data, "--cache", tmp_path / "cache", "-o", out, *arguments)])
    return Page(out.read_text(encoding="utf-8"))


def words_of(page):
    return re.sub(r"\s+", " ", " ".join(page.text))


def check_whole(page):
    """Every section is there, and nothing is asked of the network or the disk."""
    anchors = [anchor for anchor, _, _ in SECTIONS]
    assert page.ids == ["summary", *anchors]
    assert [a for a in page.addresses if a.startswith("#")] == ["#summary", *(f"#{anchor}" for anchor in anchors)]
    assert all(re.match(r"#|data:image/(png|jpeg);base64,", address) for address in page.addresses)
    style = "".join(page.text)
    assert "url(" not in style
    assert "@import" not in style
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_runs_side_by_side(tmp_path, data, count, capsys):
    runs = [results_of(data, tmp_path, seed) for seed in range(count)]
    page = make(tmp_path, data, *(run.parent for run in runs), "--save-pngs", tmp_path / "pngs")
    check_whole(page)
    shown = words_of(page)
    assert "plane<&>" in shown
    assert "val/a&<b>" in shown
    printed = capsys.readouterr().out
    for seed, run in enumerate(runs):
        evaluate(
            [str(a) for a in ("--dataset-path", data, "--cache", tmp_path / "cache", "--results", run)]
            + ["--json", str(tmp_path / "figures.json")]
        )
        figures = json.loads((tmp_path / "figures.json").read_text())
        assert f"run{seed}: mean AP {100 * figures['mean_ap']:.2f}" in printed
        for entry in figures["motion"]:
            assert entry["mean_ap"] is None or f"{100 * entry['mean_ap']:.1f}" in page.text
    assert ("− run0" in shown) == (count > 1)
    assert ("Where the runs differ most" in shown) == (count > 1)

    pictures = [a for a in page.addresses if a.startswith("data:")]
    saved = sorted((tmp_path / "pngs").iterdir())
    assert {base64.b64decode(p.partition(",")[2]) for p in pictures} == {path.read_bytes() for path in saved}
    assert all(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), 1) is not None for path in saved)
    assert {f"confusion_{i + 1}.png" for i in range(count)} <= {path.name for path in saved}
    assert (tmp_path / "pngs" / "class_difference.png").is_file() == (count > 1)
    assert (tmp_path / "pngs" / "clip_1.jpg").is_file()


def test_no_detections_at_all(tmp_path, data):
    (tmp_path / "none.txt").touch()
    page = make(tmp_path, data, tmp_path / "none.txt")
    check_whole(page)
    assert "missed objects (100.0 points)" in words_of(page)


def test_beside_a_run_without_detections(tmp_path, data):
    (tmp_path / "none.txt").touch()
    check_whole(make(tmp_path, data, tmp_path / "none.txt", results_of(data, tmp_path, 1)))


def test_no_objects_at_all(tmp_path, data):
    """Classes that no annotation has."""
    (tmp_path / "other.txt").write_text("n02084071 dog\nn02121808 cat\n")
    (tmp_path / "a.txt").write_text("1 1 0.9 10 10 40 40\n")
    page = make(tmp_path, data, tmp_path / "a.txt", "--classes", tmp_path / "other.txt")
    check_whole(page)
    assert "No class has objects" in words_of(page)


def test_missing_images_are_said(tmp_path, data):
    run = results_of(data, tmp_path, 0)
    for image in (data / "Data").rglob("*.JPEG"):
        image.unlink()
    page = make(tmp_path, data, run, "--save-pngs", tmp_path / "pngs")
    check_whole(page)
    assert len(re.findall(r"val/\S+/00000\d\.JPEG is missing\.", words_of(page))) == 2  # the worst and the best
    assert "2 clips without a picture" in words_of(page)
    assert not list((tmp_path / "pngs").glob("clip_*"))
    for image in (data / "Annotations").rglob("*.xml"):  # any file that is no image
        target = data / "Data" / image.relative_to(data / "Annotations").with_suffix(".JPEG")
        target.write_bytes(image.read_bytes())
    assert "not a readable image" in words_of(make(tmp_path, data, run))


def test_missing_motion_is_said(tmp_path, data):
    run = results_of(data, tmp_path, 0)
    annotation = data / "Annotations" / "VID" / "val" / "c" / "000001.xml"
    annotation.write_text(annotation.read_text().replace("<trackid>0</trackid>", "<trackid>-1</trackid>"))
    page = make(tmp_path, data, run, run, "--names", "one", "<two>")
    check_whole(page)
    assert "Motion is not known, as objects lack track ids." in words_of(page)
    assert "<two>" in words_of(page)


def test_an_unfinished_run_is_compared_on_its_finished_clips(tmp_path, data, capsys):
    whole, going = results_of(data, tmp_path, 0), results_of(data, tmp_path, 1)
    lines = going.read_text().splitlines(keepends=True)
    done = "".join(line for line in lines if int(line.split()[0]) <= 6)
    part = going.with_name("detections.txt.part")
    part.write_text(done + lines[-1])  # begun with the second video
    going.unlink()
    going.with_name("detections.txt.progress").write_text(json.dumps({"run": "", "done": 1, "size": len(done)}))
    page = make(tmp_path, data, whole, going.parent)
    check_whole(page)
    shown = words_of(page)
    assert "1 of 3 videos, 6 of 11 frames" in shown
    assert "55 % of the image set done" in shown
    by_report = re.search(r"run0: mean AP (\S+)", capsys.readouterr().out)[1]
    figures = tmp_path / "figures.json"
    arguments = ("--dataset-path", data, "--cache", tmp_path / "cache", "--results", whole, "--videos", 1, "--json")
    evaluate([str(a) for a in (*arguments, figures)])
    assert by_report == f"{100 * json.loads(figures.read_text())['mean_ap']:.2f}"


def test_coco_files_give_the_same_figures_without_pictures(tmp_path, data, capsys):
    run = results_of(data, tmp_path, 0)
    classes = load_classes("", data)
    truth = ImageNetVID(data, "VID_val_videos", classes, tmp_path / "cache").ground_truth()
    sizes = np.full((truth.num_frames, 2), 64)
    write_coco_truth(tmp_path / "truth.json", truth, ["a", "c", "d"], [str(f) for f in range(11)], sizes)
    write_coco_results(tmp_path / "run.json", [read_results(run, 11, 3)])
    out = tmp_path / "coco.html"
    tool.main([str(a) for a in (tmp_path / "run.json", "--ground-truth", tmp_path / "truth.json", "-o", out)])
    page = Page(out.read_text(encoding="utf-8"))
    check_whole(page)
    assert "No picture: its image file is not known." in words_of(page)
    make(tmp_path, data, run)
    assert len(set(re.findall(r"mean AP (\S+)", capsys.readouterr().out))) == 1


def test_names_of_runs(tmp_path):
    def names(*paths):
        return tool.run_names([tmp_path / path for path in paths])

    assert names("out/rfcn_small/VID_val_videos/detections.txt") == ["rfcn_small"]
    assert names("mine.txt") == ["mine"]
    assert names("a/rfcn/VID/detections.txt", "a/fgfa/VID/detections.txt") == ["rfcn", "fgfa"]
    assert names("s0/c/V/detections.txt", "s1/c/V/detections.txt") == ["s0", "s1"]
    assert names("a/x.txt", "a/y.txt") == ["x", "y"]
    assert names("a/x.txt", "a/x.txt") == ["x", "x"]


def test_errors_are_one_line(tmp_path, data):
    run = results_of(data, tmp_path, 0)
    with pytest.raises(InputError, match="there is no such results file"):
        make(tmp_path, data, tmp_path / "absent.txt")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        make(tmp_path, data, run, "-o", tmp_path / "file" / "report.html")
    (tmp_path / "pngs").touch()
    for option in (("-o", "/dev/null"), ("--save-pngs", tmp_path / "pngs")):
        with pytest.raises(InputError, match="is a device|cannot be written"):  # before the results are looked for
            make(tmp_path, data, tmp_path / "absent.txt", *option)
    with pytest.raises(SystemExit):
        make(tmp_path, data, run, "--names", "a", "b")


def test_speeds_measured_in_turns_take_the_place_of_each_test_s_own(tmp_path, data):
    runs = [results_of(data, tmp_path, seed) for seed in range(2)]
    for run, ms in zip(runs, (11.0, 22.0), strict=True):
        (run.parent / "timing.json").write_text(json.dumps({"ms_per_frame": ms}))
    names = ["--names", "R-FCN", "DFF"]
    shown = words_of(make(tmp_path, data, *runs, *names))
    assert "ms a frame, its own test 11.0" in shown
    assert "ms a frame, its own test 22.0" in shown
    speeds = tmp_path / "speeds.json"
    rows = [("R-FCN", 0, 33.0), ("DFF", 0, 44.0), ("FGFA", 0, 55.0)]
    speeds.write_text(json.dumps([{"method": m, "seed": s, "ms_per_frame": ms} for m, s, ms in rows]))
    shown = words_of(make(tmp_path, data, *runs, *names, "--speeds", speeds))
    assert "ms a frame, in turns 33.0" in shown
    assert "ms a frame, in turns 44.0" in shown
    assert "11.0" not in shown
    rows = [{"method": "R-FCN", "seed": seed, "ms_per_frame": 1.0} for seed in (1, 2)]
    for content, said in (
        (
            json.dumps(rows),
            r"has no speed of a run 'R-FCN' with seed None, but of 'R-FCN' \(seed 1\), 'R-FCN' \(seed 2",
        ),
        ("{}", r"has no speed of a run 'R-FCN' with seed None, but of none"),
        ('[{"method": "R-FCN"}]', "not a file of rows with method, seed and ms_per_frame"),
    ):
        speeds.write_text(content)
        with pytest.raises(InputError, match=said):
            make(tmp_path, data, *runs, *names, "--speeds", speeds)
