"""The results file: what the writer writes, what the reader accepts, and how it names what it does not."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import files
from lib.evaluation import results_file as module
from lib.evaluation.results_file import DetectionTable, ResultsError, ResultsWriter, find_results, read_results
from lib.files import FileInUseError, OutputError, hold_file
from lib.structures import Detections

ROOT = Path(__file__).resolve().parents[2]


def found(*rows):
    """Detections from rows (label, score, x1, y1, x2, y2)."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(rows[:, 2:], rows[:, 1], rows[:, 0].long())


def test_writes_the_originals_text(tmp_path):
    path = tmp_path / "new" / "detections.txt"
    with ResultsWriter(path) as writer:
        writer.add(3, found((30, 0.98765, 1.004, 2.5, -3.126, 400), (1, 1e-5, 0, 0, 0, 0)))
        writer.add(4, found())
        assert not path.exists()
    assert path.read_text() == "3 30 0.9876 1.00 2.50 -3.13 400.00\n3 1 0.0000 0.00 0.00 0.00 0.00\n"
    assert [p.name for p in path.parent.iterdir()] == ["detections.txt"]


def test_an_interrupted_run_leaves_the_earlier_results_alone(tmp_path):
    path = tmp_path / "detections.txt"
    path.write_text("1 1 0.5000 0.00 0.00 9.00 9.00\n")

    def interrupted():
        with ResultsWriter(path) as writer:
            writer.add(2, found((1, 0.25, 0, 0, 1, 1)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text().startswith("1 1 0.5")
    assert (tmp_path / "detections.txt.part").read_text() == "2 1 0.2500 0.00 0.00 1.00 1.00\n"


def interrupt_after_a_checkpoint(path, run):
    with contextlib.suppress(KeyboardInterrupt), ResultsWriter(path, run) as writer:
        writer.add(1, found((1, 0.25, 0, 0, 1, 1)))
        writer.checkpoint(7)
        writer.add(2, found((1, 0.5, 0, 0, 1, 1)))  # after the checkpoint: to be done again
        raise KeyboardInterrupt


def test_the_same_run_goes_on_at_its_last_checkpoint(tmp_path):
    path = tmp_path / "detections.txt"
    interrupt_after_a_checkpoint(path, "a")
    with ResultsWriter(path, "a") as writer:
        assert writer.done == 7
        writer.add(2, found((1, 0.75, 0, 0, 1, 1)))
    assert path.read_text() == "1 1 0.2500 0.00 0.00 1.00 1.00\n2 1 0.7500 0.00 0.00 1.00 1.00\n"
    assert [p.name for p in tmp_path.iterdir()] == ["detections.txt"]


@pytest.mark.parametrize("damage", ["other run", "no note", "broken note", "short file"])
def test_anything_else_begins_anew(tmp_path, damage):
    path = tmp_path / "detections.txt"
    interrupt_after_a_checkpoint(path, "b" if damage == "other run" else "a")
    if damage == "no note":
        (tmp_path / "detections.txt.progress").unlink()
    elif damage == "broken note":
        (tmp_path / "detections.txt.progress").write_text("{")
    elif damage == "short file":
        (tmp_path / "detections.txt.part").write_text("1 1")
    with ResultsWriter(path, "a") as writer:
        assert writer.done == 0
        writer.add(9, found((1, 0.75, 0, 0, 1, 1)))
    assert path.read_text() == "9 1 0.7500 0.00 0.00 1.00 1.00\n"


LINE = "1 1 0.2500 0.00 0.00 1.00 1.00\n"
SECOND_WRITER = """
import sys
from lib.command_line import run_script
from lib.evaluation.results_file import ResultsWriter
def main():
    with ResultsWriter(sys.argv[1]):
        pass
run_script(main)
"""


def in_another_process(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(tmp_path):
    path = tmp_path / "detections.txt"
    with ResultsWriter(path) as writer:
        writer.add(1, found((1, 0.25, 0, 0, 1, 1)))
        with pytest.raises(FileInUseError, match=r"detections.txt.part: this process is writing"), ResultsWriter(path):
            pass
        other = in_another_process(SECOND_WRITER, path)
        assert other.returncode == 2
        assert other.stderr.startswith(f"error: {path}.part: another run is writing this file")
        writer.add(1, found((1, 0.25, 0, 0, 1, 1)))
    assert path.read_text() == 2 * LINE
    assert in_another_process(SECOND_WRITER, path).returncode == 0
    assert path.read_text() == ""


def test_a_file_renamed_before_the_lock_is_not_reused(tmp_path, monkeypatch):
    """Between the opening and the lock the other run may end: its results must not be cut off."""
    part, lock, calls = tmp_path / "a.part", files._lock, []
    part.write_text(LINE)

    def other_run_ends(file):
        if not calls:
            part.rename(tmp_path / "a")
        calls.append(file)
        return lock(file)

    monkeypatch.setattr(files, "_lock", other_run_ends)
    with hold_file(part) as file:
        file.truncate(0)
        file.write(b"new")
    assert len(calls) == 2
    assert (tmp_path / "a").read_text() == LINE
    assert part.read_text() == "new"


def test_a_full_disk_is_one_line_and_what_was_finished_stays(tmp_path):
    """A limit on the size of files stands in for a full disk: both fail in the same system calls."""
    script = """
import resource, sys
import numpy as np
from lib.command_line import run_script
from lib.evaluation.results_file import DetectionTable, ResultsWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
def main():
    table = DetectionTable(np.zeros(100, int), np.ones(100, int), np.full(100, 0.25), np.tile([0.0, 0, 1, 1], (100, 1)))
    with ResultsWriter(sys.argv[1], "a") as writer:
        for done in range(1, 100):
            writer.add_table(table)
            writer.checkpoint(done)
run_script(main)
"""
    ended = in_another_process(script, tmp_path / "detections.txt")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {tmp_path / 'detections.txt'}: cannot be written (File too large)")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "detections.txt").exists()
    unfinished = find_results(tmp_path / "detections.txt")
    assert unfinished.done == 100_000 // (100 * len(LINE))
    assert len(read_results(unfinished, 1, 1)) == 100 * unfinished.done


def test_what_is_no_file_is_refused_before_the_work_begins(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, reason in ((tmp_path / "folder", "is a folder"), (Path("/dev/null"), "is a device")):
        with pytest.raises(OutputError, match=reason), ResultsWriter(path):
            pytest.fail("the block begins")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "detections.txt")
    with ResultsWriter(tmp_path / "link.txt") as writer:
        writer.add(1, found((1, 0.25, 0, 0, 1, 1)))
        writer.checkpoint(1)
        assert find_results(tmp_path / "link.txt").done == 1
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there" / "detections.txt").read_text() == LINE


@pytest.mark.parametrize("block", [16, 1 << 20])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    path = tmp_path / "detections.txt"
    path.write_text("\ufeff" + 3 * LINE, encoding="utf-8")
    table = read_results(path, 1, 1)
    np.testing.assert_array_equal(table.scores, [0.25] * 3)
    path.write_text(LINE + "\ufeff" + LINE, encoding="utf-8")
    with pytest.raises(ResultsError, match="detections.txt:2: not a number"):
        read_results(path, 1, 1)


@pytest.mark.parametrize("block", [16, 64, 1000, 1 << 20])
def test_reads_every_number_as_python_does(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.RandomState(block)
    lines = [
        f"{rng.randint(1, 51)} {rng.randint(1, 4)} {rng.rand():.4f} "
        + " ".join(f"{x:.2f}" for x in rng.uniform(-5, 2000, 4))
        for _ in range(300)
    ]
    path = tmp_path / "detections.txt"
    path.write_text("\n".join(lines))  # without a newline at the end
    table = read_results(path, 50, 3)
    expected = np.array([[float(field) for field in line.split()] for line in lines])
    np.testing.assert_array_equal(table.frames, expected[:, 0] - 1)
    np.testing.assert_array_equal(table.labels, expected[:, 1])
    np.testing.assert_array_equal(table.scores, expected[:, 2])
    np.testing.assert_array_equal(table.boxes, expected[:, 3:])


@pytest.mark.parametrize("digits", range(1, 21))
def test_a_number_of_any_length_is_the_double_nearest_to_it(tmp_path, digits):
    """Up to 15 digits are read by the compiled loop, more by Python."""
    rng = np.random.RandomState(digits)
    numbers = []
    for _ in range(300):
        text = "".join(map(str, rng.randint(0, 10, digits)))
        point = rng.randint(1, digits + 1)
        numbers.append(f"{'-' * rng.randint(2)}{text[:point]}{'.' * (point < digits)}{text[point:]}")
    (tmp_path / "detections.txt").write_text("".join(f"1 1 0.5 0 {x} 9 9\n" for x in numbers))
    table = read_results(tmp_path / "detections.txt", 1, 1)
    np.testing.assert_array_equal(table.boxes[:, 1], [float(x) for x in numbers])


def test_raw_results_have_more_decimals(tmp_path):
    with ResultsWriter(tmp_path / "raw.txt", decimals=module.RAW_DECIMALS) as writer:
        writer.add(3, found((30, 0.1234567, 1.23456, 2.5, -3.126, 400)))
    assert (tmp_path / "raw.txt").read_text() == "3 30 0.12345670 1.2346 2.5000 -3.1260 400.0000\n"


def test_reads_other_forms_of_the_same_numbers(tmp_path):
    path = tmp_path / "detections.txt"
    path.write_bytes(b"\r\n  1\t1 5e-1 0 0 9 9\r\n\n2 2 +.25 -1. 0 9.125 9 \n")
    table = read_results([path], 2, 2)
    np.testing.assert_array_equal(table.scores, [0.5, 0.25])
    np.testing.assert_array_equal(table.boxes, [[0, 0, 9, 9], [-1, 0, 9.125, 9]])


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_a_run_that_found_nothing(tmp_path, content):
    path = tmp_path / "detections.txt"
    path.write_text(content)
    table = read_results([path], 5, 5)
    assert len(table) == 0
    assert table.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 0.5 0 0 9", "6 columns; a line is 'frame_id class score x1 y1 x2 y2'"),
        ("1 1 0.5 0 0 9 9 9", "8 columns"),
        ("1 1 0.5 0 0 9 x", "not a number among '1 1 0.5 0 0 9 x'"),
        ("1 1 0.5 0 0 9 1.2.3", "not a number"),
        ("1 1 0.5 0 0 9 1-2", "not a number"),
        ("1 1 0.5 0 0 9 -", "not a number"),
        ("1 1 nan 0 0 9 9", "not finite"),
        ("1 1 0.5 0 0 inf 9", "not finite"),
        ("0 1 0.5 0 0 9 9", "frame_id 0 is not a whole number from 1 to 4"),
        ("5 1 0.5 0 0 9 9", "frame_id 5 .* the image set has 4 frames"),
        ("1.5 1 0.5 0 0 9 9", "frame_id 1.5"),
        ("1 0 0.5 0 0 9 9", "class 0 is not a whole number from 1 to 3"),
        ("1 4 0.5 0 0 9 9", "class 4 .* 3 classes"),
    ],
)
@pytest.mark.parametrize("block", [20, 1 << 20])
def test_a_line_that_cannot_be_used_is_named(tmp_path, monkeypatch, block, line, message):
    monkeypatch.setattr(module, "_BLOCK", block)
    good = "2 1 0.5000 0.00 0.00 9.00 9.00\n"
    path = tmp_path / "detections.txt"
    path.write_text(good * 5 + line + "\n" + good * 3)
    with pytest.raises(ResultsError, match=f"detections.txt:6: .*{message}"):
        read_results([path], 4, 3)


def test_lines_that_make_up_for_one_another_are_still_wrong(tmp_path):
    path = tmp_path / "detections.txt"
    path.write_text("1 1 0.5 0 0 9\n1 1 0.5 0 0 9 9 9\n")
    with pytest.raises(ResultsError, match="detections.txt:1: 6 columns"):
        read_results([path], 4, 3)


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ResultsError, match="none.txt: cannot be read"):
        read_results([tmp_path / "none.txt"], 4, 3)
    path = tmp_path / "detections.txt"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ResultsError, match="detections.txt:1: "):
        read_results([path], 4, 3)


def test_the_parts_of_a_run_are_joined_and_may_not_overlap(tmp_path):
    parts = [tmp_path / f"{i}.txt" for i in range(3)]
    for part, frame in zip(parts, (3, 1, 3), strict=True):
        part.write_text(f"{frame} 1 0.5 0 0 9 9\n" * 2)
    table = read_results(parts[:2], 4, 3)
    np.testing.assert_array_equal(table.frames, [2, 2, 0, 0])
    np.testing.assert_array_equal(table.sorted_by_frame().frames, [0, 0, 2, 2])
    with pytest.raises(ResultsError, match="2.txt: frame 3 is in .*0.txt too"):
        read_results(parts, 4, 3)


@pytest.mark.parametrize("name", ["/", ".", "folder"])
def test_a_folder_is_no_results_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResultsError, match=f"{name}: is a folder; give a results file"):
        find_results(name)


def test_nothing_joined_is_an_empty_table():
    assert len(DetectionTable.cat([])) == 0
