"""Weights go into models as they are in the file, all of them, or an error names what is wrong and nothing changes."""

import pytest
import torch
from torch import Tensor, nn

from lib.engine.checkpoint import CheckpointError, save_tensors
from lib.engine.weights import load_backbone, load_flow, load_weights
from lib.models.flownet_s import FlowNetS
from tests.models.small import small_rfcn


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("whole", [True, False])
def test_weights_come_back(tmp_path, whole):
    """From a checkpoint of a training, and from a file that holds only weights."""
    model, other = small_rfcn(seed=1), small_rfcn(seed=2)
    state = model.state_dict()
    path = save_tensors({"model": state, "epoch": 1} if whole else state, tmp_path / "a.pth")
    assert not same(state_of(other), state_of(model))
    load_weights(other, path)
    assert same(state_of(other), state_of(model))


def test_parts_come_back(tmp_path):
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_backbone(other, save_tensors({"model": model.state_dict()}, tmp_path / "a.pth"))
    assert same(state_of(other), state_of(model))
    flow, other = FlowNetS(0.05), FlowNetS(0.05)
    load_flow(other, save_tensors(flow.state_dict(), tmp_path / "flow.pth"))
    assert same(state_of(other), state_of(flow))


def test_every_misfit_is_named_and_nothing_is_loaded(tmp_path):
    def net(**layers):
        return nn.ModuleDict(layers)

    theirs = net(both=nn.Linear(2, 2), wide=nn.Linear(5, 2), theirs=nn.Linear(1, 1))
    path = save_tensors(theirs.state_dict(), tmp_path / "other.pth")
    model = net(both=nn.Linear(2, 2), wide=nn.Linear(4, 2), ours=nn.Linear(1, 1))
    before = state_of(model)
    for load in (load_backbone, load_flow):
        with pytest.raises(CheckpointError) as error:
            load(model, path)
        message = str(error.value)
        assert message.startswith(str(path))
        assert "2 missing in the file: ours.weight, ours.bias" in message
        assert "2 in the file, but not in the model: theirs.weight, theirs.bias" in message
        assert "1 of another shape: wide.weight (file (2, 5), model (2, 4))" in message
    assert same(state_of(model), before)


def test_a_detector_of_another_size_is_refused(tmp_path):
    path = save_tensors(small_rfcn("network.WIDTH=8").state_dict(), tmp_path / "narrow.pth")
    model = small_rfcn()
    before = state_of(model)
    with pytest.raises(CheckpointError, match=r"narrow\.pth: does not fit this model.*\n.*conv1\.weight"):
        load_weights(model, path)
    assert same(state_of(model), before)


def test_long_lists_are_counted(tmp_path):
    path = save_tensors({}, tmp_path / "empty.pth")
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)])
    with pytest.raises(CheckpointError, match=r"40 missing in the file: 0\.weight, .*, 9\.bias and 20 more"):
        load_backbone(model, path)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(CheckpointError, match=r"a\.pth: there is no such file; give a file that training wrote"):
        load_weights(small_rfcn(), path)
    with pytest.raises(CheckpointError, match=r"no such file; .*--preset configs/presets/torchvision_backbone\.yaml"):
        load_backbone(small_rfcn().features.resnet, path)
    for something in ([1, 2], {"a": 1}, {1: torch.zeros(1)}, 7):
        save_tensors(something, path)
        with pytest.raises(CheckpointError, match=r"a\.pth: holds no weights by name"):
            load_weights(small_rfcn(), path)


@pytest.mark.parametrize(
    "change",
    [Tensor.to_sparse, lambda value: value.to("meta"), lambda value: value + 0j],
    ids=["sparse", "meta", "complex"],
)
def test_weights_that_are_no_plain_numbers_are_refused(tmp_path, change):
    model = small_rfcn()
    before, state = state_of(model), state_of(small_rfcn(seed=1))
    state["features.resnet.conv1.weight"] = change(state["features.resnet.conv1.weight"])
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(
        CheckpointError, match=r"odd\.pth: '?features\.resnet\.conv1\.weight'? is no plain array|cannot be"
    ):
        load_weights(model, tmp_path / "odd.pth")
    assert same(state_of(model), before)


def test_code_in_a_file_is_never_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": nn.Linear(1, 1)}, path)  # a whole module: needs arbitrary classes
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_backbone(nn.Linear(1, 1), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model = small_rfcn()
    before = state_of(model)
    for name in ("detector.head.rfcn_cls.weight", "features.resnet.bn_conv1.running_var"):
        state = state_of(small_rfcn(seed=1))
        state[name].view(-1)[3] = value
        path = save_tensors({"model": state}, tmp_path / "broken.pth")
        with pytest.raises(CheckpointError, match=rf"broken\.pth: NaN or infinite values in {name}; take another file"):
            load_weights(model, path)
    assert same(state_of(model), before)
