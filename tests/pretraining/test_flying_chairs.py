import cv2
import numpy as np
import pytest

from lib.data.image_sets import DatasetError
from lib.data.transforms import ImageError
from lib.pretraining.flying_chairs import FlyingChairs, read_flo


def write_flo(path, flow):
    """As the Middlebury page describes the format: "PIEH", width, height, then u and v row by row."""
    _, height, width = flow.shape
    header = b"PIEH" + width.to_bytes(4, "little") + height.to_bytes(4, "little")
    path.write_bytes(header + flow.transpose(1, 2, 0).astype("<f4").tobytes())


@pytest.fixture
def chairs(tmp_path):
    """Forty pairs of 24 x 32 pixels: pair n is of brightness n and has the flow (column, n + 100 * row)."""
    folder = tmp_path / "FlyingChairs_release" / "data"
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:24, 0:32]
    for n in range(40):
        for i in (1, 2):
            cv2.imwrite(
                str(folder / f"{n:05d}_img{i}.ppm"), np.dstack((x + i, y, np.full((24, 32), n))).astype(np.uint8)
            )
        write_flo(folder / f"{n:05d}_flow.flo", np.stack((x, n + 100 * y)).astype(np.float32))
    return folder.parent


def test_parts_of_images_and_flow_are_those_of_one_place(chairs):
    source = FlyingChairs(chairs, 16, 20)
    places = set()
    for seed in range(40):
        pair = source.pair(0, np.random.default_rng(seed))
        assert pair.layers is None
        assert pair.current.shape == pair.reference.shape == (16, 20, 3)
        number = int(pair.current[0, 0, 2])
        np.testing.assert_array_equal(pair.flow[0], pair.current[..., 0] - 1)
        np.testing.assert_array_equal(pair.flow[0], pair.reference[..., 0] - 2)
        np.testing.assert_array_equal(pair.flow[1], number + 100.0 * pair.current[..., 1])
        assert number not in (0, 20), "held out"
        places.add((int(pair.flow[0, 0, 0]), int(pair.current[0, 0, 1])))
    columns, rows = zip(*places, strict=True)
    assert (min(columns), max(columns), min(rows), max(rows)) == (0, 12, 0, 8)


def test_middles_of_some_pairs_are_held_out(chairs):
    held_out = FlyingChairs(chairs / "data", 16, 20).held_out(5)
    assert [int(pair.current[0, 0, 2]) for pair in held_out] == [0, 20]
    assert (held_out[0].flow[0, 0, 0], held_out[0].current[0, 0, 1]) == (6, 4)


def test_a_folder_without_pairs_is_named(tmp_path):
    with pytest.raises(DatasetError, match=rf"^{tmp_path}: 0 files"):
        FlyingChairs(tmp_path, 16, 16)


def test_pairs_that_cannot_serve_are_named(chairs):
    first = chairs / "data" / "00000_flow.flo"
    with pytest.raises(DatasetError, match=rf"^{first}: 32x24, smaller than the --size of 64x16"):
        FlyingChairs(chairs, 16, 64).held_out(1)
    (chairs / "data" / "00000_img2.ppm").write_bytes(b"P6")
    with pytest.raises(ImageError, match=r"00000_img2\.ppm: not a readable image"):
        FlyingChairs(chairs, 16, 16).held_out(1)
    cv2.imwrite(str(chairs / "data" / "00000_img2.ppm"), np.zeros((24, 30, 3), np.uint8))
    with pytest.raises(DatasetError, match=rf"^{first}: of another size than its images"):
        FlyingChairs(chairs, 16, 16).held_out(1)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (b"PIEH", "not a .flo file"),
        (b"JUNK" + bytes(16), "not a .flo file"),
        (b"PIEH" + bytes(8), "0x0"),
        (b"PIEH\x02\x00\x00\x00\x02\x00\x00\x00" + bytes(31), "2x2 flow; is the file complete"),
    ],
)
def test_files_that_are_no_flow_are_named(tmp_path, content, what):
    path = tmp_path / "a.flo"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"^{path}: .*{what}"):
        read_flo(path)
