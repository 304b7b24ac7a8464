import pytest
import torch
from torch import nn

from lib.models.features import Features
from lib.models.resnet import FrozenBatchNorm, ResNet, fold_batch_norms, freeze_batch_norms, unit_names


def _randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and gains that a normalisation cannot hide."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith(("running_var", "weight")) and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif name.endswith(("running_mean", "bias")):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return module


@pytest.mark.parametrize(("depth", "channels"), [(18, 64), (34, 64), (50, 256), (101, 256), (152, 256)])
def test_output_is_a_sixteenth_whatever_the_depth(depth, channels):
    net = ResNet(depth, width=8)
    assert net.out_channels == channels
    with torch.no_grad():
        assert net(torch.randn(2, 3, 65, 50)).shape == (2, channels, 5, 4)


def test_units_have_caffes_names():
    assert unit_names(50)[1] == ["res3a", "res3b", "res3c", "res3d"]
    assert unit_names(101)[1] == ["res3a", "res3b1", "res3b2", "res3b3"]
    assert unit_names(152)[2][-1] == "res4b35"
    for depth in (18, 101):
        children = [name for name, _ in ResNet(depth, width=2).named_children()]
        assert children == ["conv1", "bn_conv1", *sum(unit_names(depth), [])]
    assert unit_names(101)[3] == unit_names(18)[3] + ["res5c"]


def test_strides_and_dilations_are_the_msra_ones():
    net = ResNet(101, width=8)
    for name, stride in {"res2a": (1, 1), "res3a": (2, 2), "res4a": (2, 2), "res5a": (1, 1)}.items():
        unit = getattr(net, name)
        assert unit.branch1.stride == stride
        assert unit.branch2a.stride == stride
        assert unit.branch2b.stride == (1, 1)
    for name in ("res5a", "res5b", "res5c"):
        assert getattr(net, name).branch2b.dilation == (2, 2)
        assert getattr(net, name).branch2b.padding == (2, 2)
    small = ResNet(18, width=8)
    assert small.res2a.branch1 is None
    assert small.res3a.branch2a.stride == (2, 2)
    assert {small.res5a.branch2a.dilation, small.res5b.branch2b.dilation} == {(2, 2)}


def test_max_pool_matches_the_recording(golden):
    layers = golden("layers_public")
    net = ResNet(18, width=2, bn_eps=1e-30)  # 1 + this is 1, and torch 2.11 refuses 0
    net.conv1, net.stages = nn.Conv2d(2, 2, 1, bias=False), []
    nn.init.dirac_(net.conv1.weight)
    x = torch.from_numpy(layers["maxpool_x"])
    # the ReLU before the pooling: compare on what it lets through
    torch.testing.assert_close(net(x), torch.from_numpy(layers["maxpool_out"]).relu(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["frozen", "trained"])
def test_folded_and_plain_normalisation_agree(norm):
    net = _randomise(ResNet(50, width=8, norm=norm)).double().eval()
    images = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        plain = net(images)
        folded = fold_batch_norms(net)(images)
    assert not any(isinstance(module, (FrozenBatchNorm, nn.BatchNorm2d)) for module in net.modules())
    torch.testing.assert_close(folded, plain, atol=1e-9, rtol=1e-9)


def test_a_normalisation_beside_something_else_is_not_folded():
    with pytest.raises(TypeError, match="'bn_fc' cannot be folded into a Linear"):
        fold_batch_norms(nn.ModuleDict({"fc": nn.Linear(2, 2), "bn_fc": nn.BatchNorm2d(2)}))


def test_what_is_not_fixed_learns():
    net = _randomise(ResNet(18, width=8)).requires_grad_(False)
    images = torch.randn(1, 3, 64, 48)
    assert not net(images).requires_grad
    net.res5b.requires_grad_()
    net(images).sum().backward()
    assert net.res5b.bn_branch2a.bias.grad.any()


def test_frozen_norm_keeps_its_statistics_and_learns_its_gain():
    norm = _randomise(FrozenBatchNorm(4)).double()
    before = {name: value.clone() for name, value in norm.named_buffers()}
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    out = norm.train()(x)
    mean, var = before["running_mean"], before["running_var"]
    normalised = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(out, normalised * norm.weight[:, None, None] + norm.bias[:, None, None])
    out.sum().backward()
    torch.testing.assert_close(norm.weight.grad, normalised.sum(dim=(0, 2, 3)))
    for name, value in norm.named_buffers():
        assert torch.equal(value, before[name])


def test_trained_net_freezes_to_the_same_function():
    trained = _randomise(ResNet(18, width=8, norm="trained"))
    with torch.no_grad():
        trained(torch.randn(4, 3, 64, 64))  # statistics of its own
    images = torch.randn(2, 3, 64, 48)
    expected = trained.eval()(images).detach()
    loaded = ResNet(18, width=8, norm="frozen")
    loaded.load_state_dict(trained.state_dict())
    frozen = freeze_batch_norms(trained)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    for net in (frozen, loaded):
        torch.testing.assert_close(net.train()(images).detach(), expected, atol=1e-5, rtol=1e-5)


def test_features_are_rectified_and_of_the_wanted_width():
    features = Features(ResNet(18, width=8), out_channels=20)
    nn.init.normal_(features.feat_conv_3x3.weight)
    out = features(torch.randn(1, 3, 64, 96))
    assert out.shape == (1, 20, 4, 6)
    assert out.amin() == 0
    assert out.amax() > 0


@pytest.mark.parametrize("arguments", [{"depth": 20}, {"depth": 18, "norm": "none"}])
def test_unknown_kinds_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        ResNet(**arguments)
