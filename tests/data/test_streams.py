"""Streams as OpenCV opens them: a clip on a server of the test's own, and the errors."""

from __future__ import annotations

import http.server
import socket
import threading
from functools import partial

import cv2
import numpy as np
import pytest

from lib.data import video
from lib.data.video import SourceError, open_frames


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """An HTTP server with clip.avi (5 frames, 10 a second) and text.mp4."""
    folder = tmp_path_factory.mktemp("server")
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (32, 24))
    for value in range(5):
        writer.write(np.full((24, 32, 3), 40 * value, np.uint8))
    writer.release()
    (folder / "text.mp4").write_text("not a video")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_clip_on_a_server(address):
    source = open_frames(f"http://{address}/clip.avi")
    assert (source.length, source.repeatable) == (5, True)
    assert source.fps == pytest.approx(10)
    for _ in range(2):
        read = list(source)
        assert [frame.name for frame in read] == [f"{number:06d}" for number in range(5)]
        assert [round(float(frame.pixels.mean()) / 40) for frame in read] == list(range(5))
        assert [frame.seconds for frame in read] == pytest.approx([number / 10 for number in range(5)])


def test_no_password_in_results_and_messages(address):
    assert open_frames(f"http://me:secret@{address}/clip.avi").description == f"http://***@{address}/clip.avi"
    with pytest.raises(SourceError) as error:
        open_frames(f"http://me:secret@{address}/absent.mp4")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.mp4", "text.mp4"])
def test_what_cannot_be_opened_is_one_clear_error(address, name):
    with pytest.raises(SourceError, match=rf"http://{address}/{name}: OpenCV cannot open this stream"):
        open_frames(f"http://{address}/{name}")


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_says_nothing_does_not_hold_the_program(scheme, monkeypatch):
    """It accepts the connection and never answers: only the time limit ends the attempt."""
    monkeypatch.setattr(video, "STREAM_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live"
        with pytest.raises(SourceError, match=rf"{address}: .*nothing came in 1 s"):
            open_frames(address)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceError, match="cannot open this stream"):
        open_frames(f"rtsp://127.0.0.1:{port}/live")


def test_an_unknown_scheme_is_named():
    with pytest.raises(SourceError, match=r"^gopher://x: 'gopher://' is no stream; give rtsp, .*http.* or a path"):
        open_frames("gopher://x")
