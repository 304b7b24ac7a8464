import struct
from collections import OrderedDict
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from lib.checkpoints.plain_pickle import PickleError, read_pickle


def written(tmp_path, content):
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    return path


def text(value):
    """SHORT_BINSTRING: the `str` of Python 2."""
    value = value if isinstance(value, bytes) else value.encode()
    return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value


def python2_array(array):
    """How Python 2 pickles an array with protocol 2, instruction by instruction."""
    shape = b"(" + b"".join(b"M" + struct.pack("<H", n) for n in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + text(array.dtype.str[1:]) + b"K\0K\1\x87R(K\3" + text("<") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\0tb"
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    return head + b"(K\1" + shape + dtype + b"\x89" + text(array.tobytes()) + b"tb"


def python2_dict(entries):
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


ARRAYS = {
    "conv1_w": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) - 3.5,
    "long": np.arange(400, dtype=np.int64),
    "half": np.linspace(0, 1, 5, dtype=np.float16),
}


def test_files_of_python_2(tmp_path):
    blobs = python2_dict({name: python2_array(array) for name, array in ARRAYS.items()})
    content = b"\x80\2" + python2_dict({"blobs": blobs, "cfg": text("A: 1")}) + b"."
    found = read_pickle(written(tmp_path, content))
    assert found["cfg"] == "A: 1"
    assert found["blobs"].keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found["blobs"][name].dtype == array.dtype
        np.testing.assert_array_equal(found["blobs"][name], array)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_what_python_writes_now(tmp_path, protocol):
    content = {
        "blobs": OrderedDict(ARRAYS),
        "fortran": np.asfortranarray(ARRAYS["conv1_w"]),
        "big": np.arange(3, dtype=">f4"),
        "scalar": np.float32(1.5),
        "plain": [1, -(2**40), 2.5, None, True, b"bytes", ("a", {"b": [()]})],
    }
    content["again"] = content["plain"]
    found = read_pickle(written(tmp_path, bytes(ForkingPickler.dumps(content, protocol))))
    assert found.keys() == content.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found["blobs"][name], array)
    np.testing.assert_array_equal(found["fortran"], ARRAYS["conv1_w"])
    np.testing.assert_array_equal(found["big"], [0, 1, 2])
    assert found["scalar"] == 1.5
    assert found["plain"] == content["plain"] == found["again"]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    pass


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_run(tmp_path, protocol):
    made = tmp_path / "made"
    for evil, said in (
        (Evil(open, str(made), "w"), r"wants to call (_?io|__builtin__|builtins)\.open"),
        (Evil(eval, f"open({str(made)!r}, 'w')"), r"wants to call (builtins|__builtin__)\.eval"),
        (Plain(), r"wants (the instruction NEWOBJ|to call copy_reg|to set the state)"),
        (np.dtype([("a", "f4")]), "wants an array of type"),
        (np.array([Plain()], dtype=object), "wants an array of type 'O8'|wants the instruction|wants to call copy_reg"),
        (open, r"wants to hand over"),
    ):
        path = written(tmp_path, bytes(ForkingPickler.dumps({"blobs": [1, evil]}, protocol)))
        with pytest.raises(PickleError, match=said):
            read_pickle(path)
        assert not made.exists()


def test_old_instructions_that_call_are_refused(tmp_path):
    made = tmp_path / "made"
    for content in (
        b"cos\nsystem\n(S'touch " + str(made).encode() + b"'\ntR.",
        b"(S'touch " + str(made).encode() + b"'\nios\nsystem\n.",
        b"\x80\2cos\nsystem\nU\1a\x85\x81.",
        b"\x80\2U\1aQ.",  # a persistent identifier
    ):
        with pytest.raises(PickleError, match="nothing in it was run"):
            read_pickle(written(tmp_path, content))
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a readable pickle"),
        (b"\x80\2}", "not a readable pickle"),
        (b"\x80\2.", "not a readable pickle"),
        (b"\x80\2a.", "not a readable pickle"),
        (b"\x80\2h\7.", "not a readable pickle"),
        (b"\x80\2}(}}u.", "neither text nor numbers"),
        (b"\x80\2]q\0h\0a.", "contains itself"),
        (b"\x80\2" + b"]" * 5000 + b"a" * 4999 + b".", "not a readable pickle"),  # deep
        (
            b"\x80\2" + python2_array(np.ones((2, 2), np.float32)).replace(b"M\2\0M\2\0", b"M\2\0M\3\0") + b".",
            "does not",
        ),
        (b"\x80\2cnumpy.core.multiarray\n_reconstruct\n)R.", "an array without values"),
        (b"\x80\4\x8d" + struct.pack("<Q", 2**62) + b"abc.", "not a readable pickle"),
    ],
)
def test_damage_is_one_error(tmp_path, content, said):
    with pytest.raises(PickleError, match=said):
        read_pickle(written(tmp_path, content))


def test_random_damage_is_one_error(tmp_path):
    whole = bytes(ForkingPickler.dumps({"blobs": ARRAYS}, 2))
    rng = np.random.default_rng(2)
    refused = 0
    for index in range(200):
        content = bytearray(whole[: rng.integers(len(whole))] if index % 2 else whole)
        if content:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        try:
            read_pickle(written(tmp_path, bytes(content)))
        except PickleError:
            refused += 1
    assert refused >= 100


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    encode = b"c_codecs\nencode\nh\0U\6latin1\x86R0"  # the same text as bytes, thrown away
    content = b"\x80\2" + b"X" + struct.pack("<I", 10_000) + b"a" * 10_000 + b"q\0" + encode * 1000 + b"."
    with pytest.raises(PickleError, match="again and again"):
        read_pickle(written(tmp_path, content))
    for missing in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(PickleError):
            read_pickle(missing)
