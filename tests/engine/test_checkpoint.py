import pytest
import torch
from torch import nn

from lib.engine import snapshot
from lib.engine.checkpoint import CheckpointError, CheckpointFolder, load_backbone, load_checkpoint, load_weights


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
    snapshot.save_tensors(content(9, 4, 49), folder.latest)  # left behind by a run that was killed
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


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path, "a")
    path = folder.save(content(1, 0, 5))
    written = path.read_bytes()

    def half_a_save(values, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(snapshot.torch, "save", half_a_save)
    with pytest.raises(OSError, match="no space"):
        folder.save(content(1, 0, 6))
    assert path.read_bytes() == written
    assert [p.name for p in tmp_path.iterdir()] == ["a-0001.pth"]


def test_weights_come_back(tmp_path):
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    whole = CheckpointFolder(tmp_path, "a").save(content(1, 0, 5, model))
    load_weights(other, whole)
    assert torch.equal(other.weight, model.weight)
    bare = snapshot.save_tensors(nn.Linear(2, 3).state_dict(), tmp_path / "bare.pth")
    load_backbone(model, bare)
    assert not torch.equal(other.weight, model.weight)


def test_every_misfit_is_named_and_nothing_is_loaded(tmp_path):
    def net(**layers):
        return nn.ModuleDict(layers)

    path = tmp_path / "other.pth"
    snapshot.save_tensors(net(both=nn.Linear(2, 2), wide=nn.Linear(5, 2), theirs=nn.Linear(1, 1)).state_dict(), path)
    model = net(both=nn.Linear(2, 2), wide=nn.Linear(4, 2), ours=nn.Linear(1, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for load in (load_weights, load_backbone):
        with pytest.raises(CheckpointError) as error:
            load(model, path)
        message = str(error.value)
        assert message.startswith(str(path))
        assert "2 missing in the file: ours.weight, ours.bias" in message
        assert "2 in the file, but not in the model: theirs.weight, theirs.bias" in message
        assert "1 of another shape: wide.weight (file (2, 5), model (2, 4))" in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_long_lists_are_counted(tmp_path):
    path = snapshot.save_tensors({}, tmp_path / "empty.pth")
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)])
    with pytest.raises(CheckpointError, match=r"40 missing in the file: 0\.weight, .*, 9\.bias and 20 more"):
        load_weights(model, path)


@pytest.mark.parametrize("load", [load_checkpoint, lambda path: load_weights(nn.Linear(1, 1), path)])
def test_missing_damaged_and_foreign_files(tmp_path, load):
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
    snapshot.save_tensors([1, 2], path)
    with pytest.raises(CheckpointError, match=r"a-0001\.pth: (not a training checkpoint|holds no weights)"):
        load(path)


def test_code_in_a_file_is_never_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": nn.Linear(1, 1)}, path)  # a whole module: needs arbitrary classes
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(nn.Linear(1, 1), path)


def test_weights_alone_cannot_be_resumed(tmp_path):
    path = snapshot.save_tensors({"model": nn.Linear(1, 1).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="without optimizer, epoch, batch, iteration, config"):
        load_checkpoint(path)
