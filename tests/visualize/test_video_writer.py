"""Videos that read back: every encoder, every ending, and the errors."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from lib.files import OutputError
from lib.visualize.clip import write_image
from lib.visualize.video_writer import CODECS, VideoError, VideoWriter


@pytest.fixture(params=["PyAV", "OpenCV"], autouse=True)
def encoder(request, monkeypatch):
    """Each test runs with each of the two encoders."""
    if request.param == "PyAV":
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)  # its import fails
    return request.param


def _frame(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def _read_all(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(frame)
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii").lower()
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, fps, code


@pytest.mark.parametrize(("ending", "codec"), [(".webm", "vp9"), (".mp4", "vp9"), (".mp4", "h264"), (".webm", "h264")])
def test_video_reads_back_with_all_its_frames(tmp_path, encoder, ending, codec):
    path = tmp_path / "new" / f"clip{ending}"
    with VideoWriter(path, 12.5, codec) as video:
        for number in range(30):
            video.write(_frame(8 * number))
    frames, fps, code = _read_all(path)
    assert video.count == len(frames) == 30
    assert fps == pytest.approx(12.5)
    is_h264 = (ending, codec, encoder) == (".mp4", "h264", "PyAV")  # a .webm holds VP9, and OpenCV has nothing else
    assert code in (("h264", "avc1") if is_h264 else ("vp90", "vp09"))
    assert [round(float(frame.mean()) / 8) for frame in frames] == list(range(30))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (40, 200, 240)])
def test_colours_survive(tmp_path, codec, colour):
    with VideoWriter(tmp_path / "clip.mp4", 10, codec) as video:
        for _ in range(3):
            video.write(np.full((64, 96, 3), colour, np.uint8))
    frames, _, _ = _read_all(tmp_path / "clip.mp4")
    np.testing.assert_allclose(frames[1].mean(axis=(0, 1)), colour, atol=8)


@pytest.mark.parametrize("fps", [0.5, 23.976, 25, 29.97, 59.94, 120])
def test_frame_rates(tmp_path, fps):
    with VideoWriter(tmp_path / "clip.mp4", fps) as video:
        for number in range(4):
            video.write(_frame(50 * number))
    assert _read_all(tmp_path / "clip.mp4")[1] == pytest.approx(fps, rel=1e-3)


def test_odd_and_changing_sizes_are_fitted(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as video:
        video.write(_frame(200, 49, 65))
        video.write(_frame(200, 49, 65))
        video.write(_frame(200, 48, 32))
        video.write(_frame(200, 400, 600))
    frames, _, _ = _read_all(path)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert frames[2][:, 20:44].mean() > 180  # the narrow one in the middle,
    assert frames[2][:, :8].mean() < 60  # grey beside it


def test_error_inside_the_block_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the old one")

    def write_and_stop():
        with VideoWriter(path, 10) as video:
            video.write(_frame(1))
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write_and_stop()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"the old one"


def test_name_rate_and_emptiness_are_checked(tmp_path):
    with pytest.raises(VideoError, match=r"clip\.avi: .*\.webm or \.mp4"):
        VideoWriter(tmp_path / "clip.avi", 10)
    with pytest.raises(VideoError, match=r"clip\.mp4: .*frames a second"):
        VideoWriter(tmp_path / "clip.mp4", 0)
    with pytest.raises(VideoError, match="no frame was written"), VideoWriter(tmp_path / "clip.mp4", 10):
        pass
    assert not any(tmp_path.iterdir())


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match=r"clip\.mp4: cannot be written"), VideoWriter(tmp_path / "taken/clip.mp4", 5):
        pytest.fail("the block begins")


def test_a_device_is_not_replaced(tmp_path):
    (tmp_path / "clip.mp4").symlink_to("/dev/null")
    with pytest.raises(OutputError, match="/dev/null: is a device"), VideoWriter(tmp_path / "clip.mp4", 5):
        pytest.fail("the block begins")
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(OutputError, match=r"sheet\.png: is a folder"):
        write_image(tmp_path / "sheet.png", _frame(1))


def test_the_ending_may_be_written_in_capitals(tmp_path):
    with VideoWriter(tmp_path / "CLIP.MP4", 5) as video:
        video.write(_frame(1))
    assert len(_read_all(tmp_path / "CLIP.MP4")[0]) == 1


def test_codec_that_is_missing_is_a_clear_error(tmp_path, encoder, monkeypatch):
    with pytest.raises(VideoError, match="'theora' is no codec here; take one of h264, vp9"):
        VideoWriter(tmp_path / "clip.mp4", 5, "theora")
    if encoder == "OpenCV":
        monkeypatch.setattr(cv2, "VideoWriter", lambda *_: type("Closed", (), {"isOpened": lambda self: False})())
        with pytest.raises(VideoError, match="cannot write VP9"), VideoWriter(tmp_path / "clip.mp4", 5) as video:
            video.write(_frame(1))
    assert not any(tmp_path.iterdir())


def test_a_build_without_the_encoder_leaves_it_to_opencv(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("lib.visualize.video_writer._ENCODERS", {"h264": (("no_such_encoder", {}),)})
    with VideoWriter(tmp_path / "clip.mp4", 5, "h264") as video:
        video.write(_frame(1))
    assert _read_all(tmp_path / "clip.mp4")[2] in ("vp90", "vp09")
    assert "as VP9 and slowly" in caplog.text


def test_what_an_encoder_refuses_is_a_clear_error(tmp_path, encoder, monkeypatch):
    if encoder == "OpenCV":
        pytest.skip("it has no settings")
    bad = {"h264": (("libx264", {"preset": "no such preset"}),)}
    monkeypatch.setattr("lib.visualize.video_writer._ENCODERS", bad)
    with (
        pytest.raises(VideoError, match=r"clip\.mp4: cannot be encoded"),
        VideoWriter(tmp_path / "clip.mp4", 5) as video,
    ):
        video.write(_frame(1))
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no /proc")
def test_a_folder_that_takes_no_files_is_an_error_before_the_work(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: True)  # as for root
    with pytest.raises(OutputError, match=r"^/proc/clip\.mp4: the folder /proc cannot be written to"):
        VideoWriter("/proc/clip.mp4", 5).__enter__()


def test_lost_frames_are_noticed(tmp_path):
    def write_six_and_claim_twelve():
        with VideoWriter(tmp_path / "a.mp4", 5) as video:
            for _ in range(6):
                video.write(_frame(1))
            video.count = 12

    with pytest.raises(VideoError, match="12 frames were written, 6 can be read"):
        write_six_and_claim_twelve()
    assert not any(tmp_path.iterdir())
