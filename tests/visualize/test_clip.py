"""Videos that read back, contact sheets, pictures side by side."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lib.files import OutputError
from lib.visualize.clip import ContactSheet, VideoError, VideoWriter, fit, grid, side_by_side, write_image


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


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_video_reads_back_as_vp9_with_all_its_frames(tmp_path, ending):
    path = tmp_path / "new" / f"clip{ending}"
    with VideoWriter(path, 12.5) as video:
        for number in range(30):
            video.write(_frame(8 * number))
    frames, fps, code = _read_all(path)
    assert video.count == len(frames) == 30
    assert fps == pytest.approx(12.5)
    assert code in ("vp90", "vp09")
    assert [round(float(frame.mean()) / 8) for frame in frames] == list(range(30))
    assert list(path.parent.iterdir()) == [path]


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


def test_codec_that_is_missing_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.visualize.clip._FOURCC", {".mp4": "none"})
    monkeypatch.setattr(cv2, "VideoWriter", lambda *_: type("Closed", (), {"isOpened": lambda self: False})())
    with pytest.raises(VideoError, match="cannot write VP9"), VideoWriter(tmp_path / "clip.mp4", 5) as video:
        video.write(_frame(1))
    assert not any(tmp_path.iterdir())


def test_lost_frames_are_noticed(tmp_path):
    def write_six_and_claim_twelve():
        with VideoWriter(tmp_path / "a.mp4", 5) as video:
            for _ in range(6):
                video.write(_frame(1))
            video.count = 12

    with pytest.raises(VideoError, match="12 frames were written, 6 can be read"):
        write_six_and_claim_twelve()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("frames", "expected"), [(1, [0]), (3, [0, 1, 2]), (9, [0, 3, 5, 8])])
def test_contact_sheet_takes_evenly_spaced_frames(tmp_path, frames, expected):
    sheet = ContactSheet(4, 64)
    for number in range(frames):
        sheet.add(_frame(10 + 25 * number), str(number))
    sheet.write(tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    found = {int(value) for value in np.unique(picture[:, :, 0]) if (picture == value).mean() > 0.02}
    assert {10 + 25 * number for number in expected} <= found
    assert not {10 + 25 * number for number in set(range(frames)) - set(expected)} & found


def test_contact_sheet_of_a_long_clip_is_bounded_and_even(tmp_path):
    sheet = ContactSheet(4, 16)
    most = 0
    for number in range(1000):
        sheet.add(_frame(0, 8, 16), str(number))
        most = max(most, len(sheet._kept))
    assert most <= 32
    kept = [int(caption) for _, caption in sheet._kept]
    assert kept[0] == 0
    assert len(set(np.diff(kept))) == 1
    assert 1000 - kept[-1] <= 64


def test_empty_contact_sheet(tmp_path):
    with pytest.raises(ValueError, match="no frame was added"):
        ContactSheet().write(tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="at least 1 picture"):
        ContactSheet(0)


def test_side_by_side():
    row = side_by_side([_frame(50), _frame(100, 96, 64)], ["one", "two"])
    assert row.shape == (48, 64 + 32, 3)
    assert (row[:20, :64] == 50).all()
    assert (row[:20, 64:] == 100).all()
    with pytest.raises(ValueError, match="one title for each frame"):
        side_by_side([_frame(50)], [])


def test_grid_places_every_image():
    sheet = grid([_frame(10 * (number + 3)) for number in range(5)], gap=2)
    assert sheet.shape == (3 * 50 + 2, 2 * 66 + 2, 3)
    assert [int(sheet[r * 50 + 10, c * 66 + 10, 0]) for r, c in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))] == [
        30,
        40,
        50,
        60,
        70,
    ]


def test_fit_keeps_the_proportions():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :, 0] = 255
    fitted = fit(image, (40, 40))
    blue = fitted[:, :, 0] > 128
    assert (np.flatnonzero(blue.any(axis=1)) == np.arange(15, 25)).all()
    assert blue[15:25].all()
    assert (fit(image, (9, 39)) == image[:9, :39]).all()


def test_write_image_is_complete_or_not_at_all(tmp_path):
    write_image(tmp_path / "a" / "x.png", _frame(7))
    assert (cv2.imread(str(tmp_path / "a" / "x.png")) == 7).all()
    for name in ("x.nothing", "x"):
        with pytest.raises(OutputError, match=f"{name}: OpenCV writes no images that end in"):
            write_image(tmp_path / name, _frame(7))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
