import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lib.checkpoints.mxnet_params import LAYOUTS, ParamsError, ParamsFile, is_params, read_params, write_params
from tests.checkpoints.params_writer import array_bytes, file_bytes, some_arrays
from tests.conftest import SHARED

RECORDED = SHARED / "golden"
COPIES = Path(__file__).resolve().parents[1] / "golden"


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def head(count):
    return struct.pack("<QQQ", 0x112, 0, count)


def written(tmp_path, content):
    path = tmp_path / "a-0000.params"
    path.write_bytes(content)
    return path


def check_recording(folder, name):
    file = read_params(folder / f"{name}-0000.params")
    with np.load(folder / f"{name}.npz", allow_pickle=False) as recorded:
        expected = {key: recorded[f"a{index:02d}"] for index, key in enumerate(recorded["names"].tolist())}
    if "_list_" in name:
        assert file.names == []
        assert all(same(*pair) for pair in zip(file.arrays, expected.values(), strict=True))
    else:
        assert file.named().keys() == expected.keys()
        assert all(same(array, expected[key]) for key, array in file.named().items())


@pytest.mark.parametrize("name", sorted(path.stem for path in COPIES.glob("ckpt_*.npz")))
def test_copied_recordings(name):
    check_recording(COPIES, name)


def test_every_recording(golden_dir):
    names = sorted(path.stem for path in golden_dir.glob("ckpt_*.npz"))
    assert len(names) >= 16
    for name in names:
        check_recording(golden_dir, name)


@pytest.mark.parametrize("device", [(1, 0), (2, 3), (-7, 99)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_each_layout_and_type_wherever_it_was_saved(tmp_path, layout, device):
    arrays = some_arrays()
    file = read_params(written(tmp_path, file_bytes(list(arrays.values()), list(arrays), layout, device)))
    assert (file.names, file.layout) == (list(arrays), layout)
    assert all(same(a, b) for a, b in zip(file.arrays, arrays.values(), strict=True))
    assert file.named().keys() == arrays.keys()
    without = read_params(written(tmp_path, file_bytes(list(arrays.values()), [], layout, device)))
    assert without.names == []
    assert all(same(a, b) for a, b in zip(without.arrays, arrays.values(), strict=True))
    with pytest.raises(ParamsError, match="no names"):
        without.named()


def test_layouts_may_be_mixed(tmp_path):
    value = np.arange(3, dtype=np.float32)
    content = head(4) + b"".join(array_bytes(value, layout) for layout in LAYOUTS) + struct.pack("<Q", 0)
    assert all(same(array, value) for array in read_params(written(tmp_path, content)).arrays)


def test_the_second_word_is_ignored_as_mxnet_does(tmp_path):
    content = file_bytes([np.arange(3, dtype=np.float32)], ["arg:a"], "v2")
    (tmp_path / "a.params").write_bytes(content[:8] + b"\x07" + content[9:])
    assert read_params(tmp_path / "a.params").named()["arg:a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_without_a_value(tmp_path, layout):
    one = np.ones(2, np.float32)
    path = written(tmp_path, file_bytes([None, one, None], ["a", "b", "c"], layout))
    file = read_params(path)
    assert [array.shape for array in file.arrays] == [(0,), (2,), (0,)]
    assert same(file.arrays[1], one)
    if layout != "v3":  # which has empty arrays too
        content = path.read_bytes()
        assert write_params(tmp_path / "b.params", file, layout).read_bytes() == content


def test_scalars_and_empty_arrays_of_numpy_semantics(tmp_path):
    scalar, empty = np.array(2.5, np.float32), np.zeros((0, 3), np.float16)
    file = read_params(written(tmp_path, file_bytes([scalar, empty], ["s", "e"], "v3")))
    assert same(file.arrays[0], scalar)
    assert same(file.arrays[1], empty)
    with pytest.raises(ParamsError, match="'s' is a scalar, which only the layout v3"):
        write_params(tmp_path / "b.params", file)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_writes_what_an_independent_writer_writes(tmp_path, layout):
    arrays = some_arrays()
    path = write_params(tmp_path / "new" / "b.params", ParamsFile(list(arrays), list(arrays.values())), layout)
    assert path.read_bytes() == file_bytes(list(arrays.values()), list(arrays), layout)
    assert [p.name for p in path.parent.iterdir()] == ["b.params"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_memory_orders_are_written_alike(tmp_path, layout):
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    for other in (np.asfortranarray(plain), plain.astype(">f4"), np.repeat(plain, 2, axis=1)[:, ::2]):
        file = read_params(write_params(tmp_path / "b.params", ParamsFile(["a"], [other]), layout))
        assert same(file.arrays[0], plain)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = write_params(tmp_path / "b.params", ParamsFile(["a"], [np.ones(2, np.float32)]))
    before = path.read_bytes()
    for file, said in (
        (ParamsFile(["a"], [np.ones(2, np.complex64)]), "'a' is of type complex64"),
        (ParamsFile([], [np.array(["text"])]), "array 1 is of type"),
        (ParamsFile(["a", "b"], [np.ones(2)]), "1 arrays need as many different names"),
        (ParamsFile(["a", "a"], [np.ones(2), np.ones(2)]), "2 arrays need as many different names"),
    ):
        with pytest.raises(ParamsError, match=said):
            write_params(path, file)
    with pytest.raises(ValueError, match="layout"):
        write_params(path, ParamsFile([], []), "v9")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b.params"]


ONE = np.ones(2, np.float32)
NAMED = file_bytes([ONE, ONE], ["a", "b"], "v2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"byte 0: the file's head needs 16 bytes, but the file of 0 bytes has 0 more"),
        (b"PK\3\4" + bytes(40), r"byte 0: not an MXNet parameter file"),
        (struct.pack("<QQQQ", 0x113, 0, 0, 0), r"byte 0: not an MXNet parameter file"),
        (head(2**60), r"byte 24: a list of \d+ arrays needs \d+ bytes"),
        (NAMED[:-1], rf"byte {len(NAMED) - 1}: name 2 of 2 needs 1 bytes, but the file"),
        (NAMED + b"x", rf"byte {len(NAMED)}: 1 more bytes after the end"),
        (file_bytes([ONE, ONE], ["a"], "v2"), r"byte \d+: 1 names for 2 arrays"),
        (file_bytes([ONE, ONE], ["a", "a"], "v2"), r"byte \d+: name 2 of 2: 'a' is there twice"),
        (NAMED[:-1] + b"\xff", r"byte \d+: name 2 of 2: not UTF-8"),
        (head(1) + array_bytes(ONE, "v2", storage=1), r"byte 28: array 1 of 1: its storage is row-sparse; only dense"),
        (head(1) + array_bytes(ONE, "v3", storage=2), r"byte 28: array 1 of 1: its storage is compressed-sparse-row"),
        (head(1) + array_bytes(ONE, "v3", storage=-1), r"byte 28: array 1 of 1: its storage is unknown \(number -1\)"),
        (head(1) + struct.pack("<I", 77), r"byte 24: array 1 of 1: 77 dimensions, not 0 to 32, nor is 0x4d a known"),
        (head(1) + struct.pack("<Iii", 0xF993FACA, 0, -2), r"byte 32: array 1 of 1: -2 dimensions"),
        (head(1) + struct.pack("<IIq", 0xF993FAC8, 1, -3), r"byte 32: array 1 of 1: a dimension below 0"),
        (
            head(1) + struct.pack("<Iii4q3i", 0xF993FAC9, 0, 4, *[2**62] * 4, 1, 0, 0) + bytes(64),
            r"byte 80: array 1 of 1: an array of shape .* needs \d+ bytes",
        ),
        (
            head(1) + struct.pack("<Iii3q3i", 0xF993FAC9, 0, 3, 0, 2**62, 2**62, 1, 0, 0) + bytes(8),
            r"byte 68: array 1 of 1: no array has the shape",
        ),
        (head(1) + struct.pack("<I2I3i", 2, 2**32 - 1, 2**32 - 1, 1, 0, 1), r"byte 48: .* needs \d+ bytes"),
        (head(1) + struct.pack("<II3i", 1, 2, 1, 0, 12) + bytes(8), r"byte 40: .* bfloat16, which NumPy does not have"),
        (head(1) + struct.pack("<II3i", 1, 2, 1, 0, -1) + bytes(8), r"byte 40: .* unknown \(number -1\)"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, content, said):
    with pytest.raises(ParamsError, match=rf"a-0000\.params: {said}"):
        read_params(written(tmp_path, content))


def test_what_is_no_file(tmp_path):
    loop = tmp_path / "loop.params"
    loop.symlink_to(loop)
    fifo = tmp_path / "pipe.params"
    os.mkfifo(fifo)
    for path, said in (
        (tmp_path / "none.params", r"none\.params: cannot be read \(No such file"),
        (tmp_path, "not a file"),
        (loop, r"loop\.params: cannot be read \(Too many levels of symbolic links\)"),
        (fifo, "not a file"),  # opening it would wait for ever
    ):
        assert not is_params(path)
        with pytest.raises(ParamsError, match=said):
            read_params(path)


def test_known_by_content(tmp_path):
    assert is_params(write_params(tmp_path / "weights.pth", ParamsFile([], [])))
    assert not is_params(written(tmp_path, b"PK\3\4"))


def damaged(content, rng, kind):
    """`content` cut, with some bytes flipped, or with 4 or 8 bytes that become a huge or negative number."""
    content = bytearray(content)
    if kind == "cut":
        return bytes(content[: rng.integers(len(content))])
    if kind == "flipped":
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        return bytes(content)
    number = struct.pack("<q", int(rng.choice([2**62, 2**40, 2**31, -1, -(2**62)])))[: int(rng.choice([4, 8]))]
    at = int(rng.integers(len(content) - 8))
    content[at : at + len(number)] = number
    return bytes(content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_end_in_the_one_error_or_are_read(tmp_path, layout):
    arrays = some_arrays()
    whole = file_bytes(list(arrays.values()), list(arrays), layout)
    rng = np.random.default_rng(11)
    refused = 0
    tracemalloc.start()
    try:
        for index in range(210):
            path = written(tmp_path, damaged(whole, rng, ("cut", "flipped", "huge")[index % 3]))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                file = read_params(path)
            except ParamsError as error:
                refused += 1
                assert str(error).startswith(f"{path}: byte ")  # noqa: PT017 - reading it may also succeed
            else:
                assert sum(array.nbytes for array in file.arrays) <= path.stat().st_size
                assert len(file.names) in (0, len(file.arrays))
            assert tracemalloc.get_traced_memory()[1] - before < 1_000_000  # the file has less than 1 kB
    finally:
        tracemalloc.stop()
    assert refused >= 100


def test_every_cut_is_found(tmp_path):
    arrays = some_arrays()
    for layout in LAYOUTS:
        whole = file_bytes(list(arrays.values()), list(arrays), layout)
        for length in range(0, len(whole), 7):
            with pytest.raises(ParamsError, match="byte"):
                read_params(written(tmp_path, whole[:length]))
