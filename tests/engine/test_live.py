"""A live video: which frames are taken and which are dropped, with a clock and a display of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from lib import load_detector
from lib.data.video import FrameSource, SourceError, SourceFrame
from lib.engine import live
from lib.engine.live import DisplayError, LiveSummary, NewestFrames, PacedFrames, Window, show_live
from tests.models.small_checkpoints import clip, write_checkpoint


class Clock:
    """Time passes only when the test says so, or somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Screen:
    """Remembers what it was shown; each picture takes `cost` seconds, and at `stop` pictures the user has enough."""

    def __init__(self, clock=None, cost=0.0, stop=0):
        self.clock, self.cost, self.stop, self.pictures, self.titles = clock, cost, stop, [], []

    def show(self, picture, title):
        self.pictures.append(picture)
        self.titles.append(title)
        if self.clock:
            self.clock.now += self.cost
        return len(self.pictures) != self.stop


def file_of(images, fps=10.0):
    frames = [SourceFrame(f"{n:06d}", image, n / fps) for n, image in enumerate(images)]
    return FrameSource("a file", fps, len(frames), lambda: iter(frames))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return load_detector(write_checkpoint(tmp_path_factory.mktemp("live") / "rfcn.pth", "rfcn"), device="cpu")


@pytest.mark.parametrize(
    ("cost", "taken"),
    [
        (0.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0.1, [0, 1, 2, 3, 4, 5, 6, 7]),  # as fast as the video
        (0.2, [0, 2, 4, 6]),
        (0.36, [0, 3, 7]),
        (5.0, [0]),
    ],
)
def test_frames_of_a_file_come_when_they_are_due_and_late_ones_are_dropped(cost, taken):
    clock = Clock()
    frames = PacedFrames(file_of(clip(8)), clock, clock.sleep)
    found, times = [], []
    for frame in frames:
        found.append(int(frame.name))
        times.append(clock.now - 100)
        clock.now += cost
    assert found == taken
    assert frames.dropped == 8 - len(taken)
    for number, time in zip(found, times, strict=True):
        assert number / 10 - 1e-9 <= time < (number + 1) / 10, "shown while it is the current one"


def test_of_a_camera_the_newest_frame_is_taken():
    """The reader is held after frames 0, 4 and 5, until the frame that is newest then has been taken."""
    reached, go_on = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]

    def read():
        for number in range(6):
            yield SourceFrame(str(number), np.zeros((4, 4, 3), np.uint8))
            if number in (0, 4, 5):  # resumed: the frame has been put where it is taken from
                place = (0, 4, 5).index(number)
                reached[place].set()
                assert go_on[place].wait(30)

    frames = NewestFrames(FrameSource("camera:0", None, None, read, repeatable=False))
    taken, found = iter(frames), []
    for place in range(3):
        if place:
            go_on[place - 1].set()
            assert reached[place].wait(30)
        found.append(next(taken).name)
    go_on[2].set()
    assert next(taken, None) is None
    assert found == ["0", "4", "5"]
    assert frames.dropped == 3


def test_an_error_of_the_camera_is_raised_where_frames_are_taken():
    def read():
        yield SourceFrame("0", np.zeros((4, 4, 3), np.uint8))
        raise SourceError("camera:0: unplugged")

    frames = NewestFrames(FrameSource("camera:0", None, None, read, repeatable=False))
    with pytest.raises(SourceError, match="unplugged"):
        list(frames)


def test_the_answers_are_shown_with_what_was_dropped(detector):
    clock, images = Clock(), clip(6)
    screen = Screen(clock, cost=0.2)
    source = file_of(images)
    frames = PacedFrames(source, clock, clock.sleep)
    summary = show_live(detector, source, screen, min_score=0.3, clock=clock, frames=frames)
    assert (summary.shown, summary.dropped, summary.stopped) == (3, 3, False)
    assert len(screen.pictures) == 3
    assert screen.pictures[0].shape == (480, 640, 3)
    assert "dropped to keep up" in screen.titles[-1]
    assert summary.line() == f"3 frames shown, {3 / summary.seconds:.1f} a second; 3 dropped to keep up (50 %)"
    # The picture is that of the frame itself: nothing was drawn where the score is too low
    plain = Screen(clock)
    show_live(detector, source, plain, min_score=1.0, limit=1, clock=clock, frames=PacedFrames(source, clock))
    enlarged = cv2.resize(images[0], (640, 480), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(plain.pictures[0], enlarged)


@pytest.mark.parametrize(("stop", "limit"), [(2, 0), (0, 2)])
def test_the_user_and_the_limit_end_it(detector, stop, limit):
    clock, screen = Clock(), Screen(stop=stop)
    source = file_of(clip(6))
    frames = PacedFrames(source, clock, clock.sleep)
    summary = show_live(detector, source, screen, limit=limit, clock=clock, frames=frames)
    assert (len(screen.pictures), summary.shown, summary.stopped) == (2, 2, bool(stop))


def test_late_answers_are_shown_at_the_end(tmp_path):
    fgfa = load_detector(write_checkpoint(tmp_path / "fgfa.pth", "fgfa"), device="cpu")
    clock, screen, source = Clock(), Screen(), file_of(clip(5))
    frames = PacedFrames(source, clock, clock.sleep)
    assert show_live(fgfa, source, screen, show=("weights",), clock=clock, frames=frames).shown == 5
    assert {picture.shape for picture in screen.pictures} == {(560, 640, 3)}


def test_no_frame_at_all():
    assert LiveSummary().line() == "0 frames shown, 0.0 a second; 0 dropped to keep up (0 %)"


def test_without_windows_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: pytest.fail("would end the process"))
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(DisplayError, match="no windows; pip install opencv-python, not -headless.*leave out --live"):
        Window()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.setattr(live.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DisplayError, match="no screen here"):
        Window()

    def fails(*_):
        raise cv2.error("cannot connect")

    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(cv2, "namedWindow", fails)
    with pytest.raises(DisplayError, match="cannot open a window.*leave out --live"):
        Window()


@pytest.mark.parametrize(
    ("picture", "window"),
    [((480, 360), (480, 360)), ((1280, 720), (1280, 720)), ((3840, 2160), (1280, 720)), ((720, 1440), (360, 720))],
)
def test_the_window_has_the_picture_s_size_as_far_as_it_fits(picture, window):
    assert live.window_size(*picture) == window


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="no Xvfb: sudo apt install xvfb")
@pytest.mark.skipif(not live._has_windows(cv2.getBuildInformation()), reason="this OpenCV has no windows")
def test_a_real_window_shows_the_frames(tmp_path):
    """`--live` on a virtual screen, in a process of its own: Qt ends the whole process where something is wrong."""
    for number, image in enumerate(clip(4)):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    script = (
        "import cv2; from lib.engine.live import Window; window = Window();"
        f"picture = cv2.imread({str(tmp_path / '0.png')!r});"
        "assert all(window.show(picture, 'title') for _ in range(20));"
        "print(cv2.getWindowImageRect(Window._NAME)[2:], picture.shape[1::-1])"
    )
    read, write = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    try:
        os.close(write)
        with os.fdopen(read) as number:
            display = f":{number.readline().strip()}"
        env = os.environ | {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)
    finally:
        screen.terminate()
        screen.wait()
    assert done.returncode == 0, done.stderr
    shown, picture = done.stdout.strip().split(") (")
    assert shown.strip("()") == picture.strip("()")
