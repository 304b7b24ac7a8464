"""Clips side by side: every frame of each, in order, and an error for clips that do not belong together."""

import os
import signal

import cv2
import numpy as np
import pytest

from lib.data.video import FrameSource, SourceFrame
from lib.engine import shipped
from lib.errors import InputError
from tests.models.small_checkpoints import METHODS, clip, write_checkpoint
from tools.side_by_side import main


@pytest.fixture
def clips(tmp_path):
    for name, colour, frames in (("a", (255, 0, 0), 3), ("b", (0, 0, 255), 3), ("short", (0, 255, 0), 2)):
        (tmp_path / name).mkdir()
        for number in range(frames):
            picture = np.full((48, 64, 3), np.uint8(80 * number), np.uint8)
            picture[:24] = colour
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), picture)
    return tmp_path


def test_frames_stand_side_by_side_in_order(clips):
    out = clips / "joined.mp4"
    main([f"A={clips / 'a'}", f"B={clips / 'b'}", "--out", str(out), "--fps", "5"])
    reader = cv2.VideoCapture(str(out))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        assert frame.shape == (48, 128, 3)
        left, right = frame[8, 32].astype(int), frame[8, 96].astype(int)
        assert left[0] - left[2] > 150
        assert right[2] - right[0] > 150
        assert abs(int(frame[28, 60, 1]) - 80 * number) < 25
    assert cv2.imread(str(clips / "joined.png")) is not None


def test_clips_of_other_lengths_are_refused_and_nothing_is_left(clips):
    out = clips / "joined.mp4"
    with pytest.raises(InputError, match="S: ends before the others"):
        main([f"A={clips / 'a'}", f"S={clips / 'short'}", "--out", str(out)])
    assert not list(clips.glob("*joined*"))
    with pytest.raises(InputError, match="'nothing' is not TITLE=FILE"):
        main(["nothing", "--out", str(out)])


def grey_frames(signals):
    """A source of 30 grey frames that sends the process SIGINT before frame N, `signals[N]` times."""

    def read():
        for number in range(30):
            for _ in range(signals.get(number, 0)):
                os.kill(os.getpid(), signal.SIGINT)
            yield SourceFrame(str(number), np.full((48, 64, 3), 8 * number, np.uint8))

    return FrameSource("made-up frames", None, 30, read)


@pytest.mark.parametrize(("signals", "kept"), [({3: 1}, 4), ({3: 2}, 3)], ids=["once", "twice"])
def test_an_interrupt_keeps_the_frames_that_are_there(signals, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tools.side_by_side.open_frames", lambda file: grey_frames(signals if file == "b" else {}))
    main(["A=a", "B=b", "--out", str(tmp_path / "joined.mp4")])
    out = capsys.readouterr().out
    assert f"interrupted: keeping the first {kept} frames\n" in out
    assert f"written: {tmp_path / 'joined.mp4'}, {tmp_path / 'joined.png'}" in out
    assert round(cv2.VideoCapture(str(tmp_path / "joined.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == kept
    assert cv2.imread(str(tmp_path / "joined.png")) is not None


def test_an_interrupt_before_the_first_frame_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.side_by_side.open_frames", lambda file: grey_frames({0: 2}))
    with pytest.raises(KeyboardInterrupt):
        main(["A=a", "B=b", "--out", str(tmp_path / "joined.mp4")])
    assert not list(tmp_path.iterdir())


def test_outputs_are_checked_first(clips):
    (clips / "joined.png").mkdir()
    with pytest.raises(InputError, match=r"joined.png: is a folder"):
        main(["A=/none", "--out", str(clips / "joined.mp4")])
    with pytest.raises(SystemExit):
        main(["A=/none", "--out", str(clips / "joined.mp4"), "--sheet", "0"])


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    return {method: write_checkpoint(folder / f"demo_{method}.pth", method) for method in METHODS}


def test_methods_run_on_the_same_frames(clips, detectors, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "DETECTORS", detectors["rfcn"].parent)
    out = clips / "methods.mp4"
    (clips / "frames").mkdir()
    for number, image in enumerate(clip(4)):
        cv2.imwrite(str(clips / "frames" / f"{number}.png"), image)
    source = ["--source", str(clips / "frames"), "--device", "cpu", "--min-score", "1"]
    main(["--methods", "rfcn", f"dff={detectors['dff']}", "fgfa", *source, "--limit", "3", "--out", str(out)])
    reader = cv2.VideoCapture(str(out))
    assert round(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    frame = reader.read()[1]
    assert frame.shape == (480, 3 * 640, 3)
    np.testing.assert_allclose(frame[:400, :640].mean(), frame[:400, 1280:].mean(), atol=2)  # no boxes: the same frame
    limits, *lines = capsys.readouterr().out.splitlines()
    assert "ten kinds of drawn objects only (model/README.md); for other objects give a detector of yours" in limits
    assert [line.split()[0] for line in lines[:3]] == ["R-FCN", "DFF", "FGFA"]
    assert lines[0].endswith("1.00x")
    main(["--methods", f"dff={detectors['dff']}", *source, "--limit", "1", "--out", str(out)])
    assert "drawn objects" not in capsys.readouterr().out
    with pytest.raises(InputError, match="the source is an empty name"):
        main(["--methods", "rfcn", "--source", "", "--out", str(out)])


def test_methods_that_cannot_be_run_are_named(clips, detectors, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "DETECTORS", clips / "model")
    out, source = ["--out", str(clips / "x.mp4")], ["--source", str(clips / "a"), "--device", "cpu"]
    with pytest.raises(InputError, match=r"demo_rfcn\.pth: there is no such file"):
        main(["--methods", "rfcn", *source, *out])
    with pytest.raises(InputError, match="--methods ssd: is none of rfcn, dff, fgfa"):
        main(["--methods", "ssd", *source, *out])
    with pytest.raises(InputError, match="holds a detector of method 'rfcn', not 'dff'"):
        main(["--methods", f"dff={detectors['rfcn']}", *source, *out])
    camera = FrameSource("camera:0", None, None, lambda: iter(()), repeatable=False)
    monkeypatch.setattr("tools.side_by_side.open_frames", lambda _: camera)
    with pytest.raises(InputError, match="camera:0: each method reads the frames for itself"):
        main(["--methods", "rfcn", *source, *out])
    for wrong in (["A=a", "--methods", "rfcn"], []):
        with pytest.raises(SystemExit):
            main([*wrong, *out])
    assert "either clips as TITLE=FILE, or --methods" in capsys.readouterr().err
    assert not (clips / "x.mp4").exists()
