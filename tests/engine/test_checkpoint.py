"""Checkpoints: written whole, found again, checked, and saying what they are."""

import errno
import struct
import zipfile
from argparse import Namespace
from functools import partial

import pytest
import torch
from torch import nn

from lib.data.classes import IMAGENET_VID
from lib.engine.checkpoint import (
    CheckpointError,
    CheckpointFolder,
    Identity,
    load_checkpoint,
    read_identity,
    read_tensors,
    save_tensors,
)
from lib.files import OutputError
from lib.version import __version__, commit


def content(epoch=0, batch=0, iteration=0, model=None):
    model = model or nn.Linear(2, 3)
    return {
        "model": model.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": epoch,
        "batch": batch,
        "iteration": iteration,
        "config": {"TRAIN": {"lr": 0.1}},
        "metrics": {},
    }


def test_files_are_named_as_the_originals_named_theirs(tmp_path):
    folder = CheckpointFolder(tmp_path / "new" / "run", "rfcn_vid")
    assert folder.newest() is None
    inside = folder.save(content(0, 7, 7))
    assert inside.name == "rfcn_vid-latest.pth"
    done = folder.save(content(1, 0, 10))
    assert done.name == "rfcn_vid-0001.pth"
    assert sorted(p.name for p in done.parent.iterdir()) == ["rfcn_vid-0001.pth"]  # the one inside the epoch has gone
    assert load_checkpoint(done)["iteration"] == 10


def test_newest_counts_updates_not_names(tmp_path):
    folder = CheckpointFolder(tmp_path, "a")
    for epoch in (2, 9, 10):
        folder.save(content(epoch, 0, 5 * epoch))
    (tmp_path / "b-0099.pth").write_bytes(b"of another prefix")
    (tmp_path / "a-0098.pth.part").write_bytes(b"no checkpoint")
    assert folder.newest() == tmp_path / "a-0010.pth"
    save_tensors(content(9, 4, 49), folder.latest)  # left behind by a run that was killed
    assert folder.newest() == tmp_path / "a-0010.pth"
    folder.save(content(10, 1, 51))
    assert folder.newest() == folder.latest


def test_prefixes_are_not_patterns(tmp_path):
    folder = CheckpointFolder(tmp_path, "a.+(b)")
    path = folder.save(content(1, 0, 5))
    CheckpointFolder(tmp_path, "axx(b)").save(content(7, 0, 35))
    assert folder.newest() == path


def test_setting_aside_keeps_every_file(tmp_path):
    folder = CheckpointFolder(tmp_path, "a")
    folder.set_aside()
    assert list(tmp_path.iterdir()) == []
    for number in (1, 2):
        folder.save(content(1, 0, number))
        folder.set_aside()
        assert load_checkpoint(tmp_path / f"earlier-{number}" / "a-0001.pth")["iteration"] == number
    assert folder.newest() is None


@pytest.mark.parametrize(("epoch", "batch", "name"), [(1, 0, "dff-0001.pth"), (0, 3, "dff-latest.pth")])
def test_a_folder_with_another_training_alone_is_refused(tmp_path, epoch, batch, name):
    CheckpointFolder(tmp_path / "none", "fgfa").refuse_others()
    CheckpointFolder(tmp_path, "dff").save(content(epoch, batch, 5))
    CheckpointFolder(tmp_path, "dff").refuse_others()
    with pytest.raises(CheckpointError, match=f"{name}: is of another training, and that of 'fgfa' .* output_path"):
        CheckpointFolder(tmp_path, "fgfa").refuse_others()


@pytest.mark.parametrize("kind", [partial(OSError, errno.ENOSPC), RuntimeError])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, kind):
    """torch's zip writer meets a full disk as a RuntimeError."""
    folder = CheckpointFolder(tmp_path, "a")
    path = folder.save(content(1, 0, 5))
    written = path.read_bytes()

    def half_a_save(values, file):
        file.write(b"half")
        raise kind("no space left on device")

    monkeypatch.setattr(torch, "save", half_a_save)
    with pytest.raises(OutputError, match=r"a-0001\.pth: cannot be written \(no space left on device.*\); "):
        folder.save(content(1, 0, 6))
    assert path.read_bytes() == written
    assert [p.name for p in tmp_path.iterdir()] == ["a-0001.pth"]


@pytest.mark.parametrize("load", [load_checkpoint, read_identity, lambda path: read_tensors(path, "do something")])
def test_missing_and_damaged_files(tmp_path, load):
    path = tmp_path / "a-0001.pth"
    with pytest.raises(CheckpointError, match=r"a-0001\.pth: there is no such file; "):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a-0001\.pth: cannot be read as a checkpoint"):
        load(path)
    CheckpointFolder(tmp_path, "a").save(content(1, 0, 5))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"a-0001\.pth: cannot be read as a checkpoint"):
        load(path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_text("# A page about weights\n"), "is no file of weights that torch.save wrote"),
        (lambda path: path.write_text("hello"), "is no file of weights that torch.save wrote"),
        (lambda path: path.write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."), "is no file of weights"),
        (lambda path: torch.save(nn.Linear(2, 2), path), r"an object of torch\.nn\S+\.Linear beside tensors"),
        (lambda path: torch.save({"args": Namespace(a=1)}, path), r"an object of argparse\.Namespace beside tensors"),
    ],
)
def test_the_reason_gives_no_advice_to_run_code_of_the_file(write, reason, tmp_path):
    write(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=reason) as error:
        read_identity(tmp_path / "a.pth")
    assert "weights_only" not in str(error.value)
    assert str(error.value).endswith(
        "give a file that training wrote, <model_prefix>-0001.pth for example, or MXNet's (.params)"
    )


def test_what_is_no_training_checkpoint_is_not_resumed(tmp_path):
    path = save_tensors([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: not a training checkpoint"):
        load_checkpoint(path)
    save_tensors({"model": nn.Linear(1, 1).state_dict()}, path)
    with pytest.raises(CheckpointError, match="without optimizer, epoch, batch, iteration, config"):
        load_checkpoint(path)


def test_changed_bytes_are_noticed(tmp_path):
    """Every tensor of the file in turn: read as they are, they would be other weights."""
    path = CheckpointFolder(tmp_path, "a").save(content(1, 0, 5, nn.Linear(16, 16)))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if "/data/" in entry.filename]
    assert len(tensors) == 2
    for entry in tensors:
        changed = bytearray(whole)
        lengths = struct.unpack_from("<HH", whole, entry.header_offset + 26)  # of the name and of the padding after it
        changed[entry.header_offset + 30 + sum(lengths) + 5] ^= 1
        path.write_bytes(changed)
        torch.load(path, weights_only=True)  # torch alone notices nothing
        with pytest.raises(CheckpointError, match=r"a-0001\.pth: .*the checksum of '.*' is wrong"):
            load_checkpoint(path)
    path.write_bytes(whole)
    load_checkpoint(path)


def test_code_in_a_file_is_never_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": nn.Linear(1, 1)}, path)  # a whole module: needs arbitrary classes
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


IDENTITY = Identity("dff", {"TRAIN": {"lr": 0.5}, "SCALES": [[600, 1000]]}, IMAGENET_VID, "my_run", "9.9", "abc")


def test_a_checkpoint_says_what_it_is(tmp_path):
    path = save_tensors(content(1, 0, 5) | IDENTITY.to_content(), tmp_path / "a.pth")
    assert read_identity(path) == IDENTITY
    for part in ("dff", "30 classes", "version 9.9", "commit abc"):
        assert part in str(read_identity(path))
    assert read_identity(save_tensors(content(1, 0, 5), path)) is None
    assert read_identity(save_tensors([1, 2], path)) is None
    assert load_checkpoint(save_tensors(content(1, 0, 5) | IDENTITY.to_content(), path))["iteration"] == 5


def test_the_code_that_writes_is_named():
    written = Identity("dff", {}, IMAGENET_VID).to_content()
    assert (written["version"], written["commit"]) == (__version__, commit())


@pytest.mark.parametrize(
    "damage",
    [
        {"classes": None},
        {"classes": {"names": ["a"]}},
        {"classes": {"names": ["a", "a"], "annotation_names": ["b", "c"]}},
        {"classes": {"names": [], "annotation_names": []}},
        {"classes": {"names": 3, "annotation_names": 3}},
        {"config": 7},
        {"config": [1, 2]},
    ],
    ids=str,
)
def test_a_damaged_description_is_one_error(tmp_path, damage):
    path = save_tensors(content(1, 0, 5) | IDENTITY.to_content() | damage, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"a\.pth: its description of itself is damaged \(.+\); take another file"
    ):
        read_identity(path)


@pytest.mark.parametrize("lost", ["config", "classes", "name", "version", "commit"])
def test_an_incomplete_description_is_one_error(tmp_path, lost):
    described = content(1, 0, 5) | IDENTITY.to_content()
    del described[lost]
    with pytest.raises(CheckpointError, match=rf"its description of itself is damaged \('{lost}'\)"):
        read_identity(save_tensors(described, tmp_path / "a.pth"))
