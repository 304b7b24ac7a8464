from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lib.models.flownet_s import FLOW_GAIN, FlowNetS, crop_to, mean_of_blocks, upsampler
from lib.models.resnet import ResNet


def _tensor(array: np.ndarray, grad: bool = False) -> torch.Tensor:
    return torch.from_numpy(array).requires_grad_(grad)


def _pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2 * batch, 3, height, width, generator=generator) * 50
    return images[:batch], images[batch:]


def _net(width: float = 0.125, scale_channels: int = 0) -> FlowNetS:
    torch.manual_seed(0)
    return FlowNetS(width, scale_channels)


@pytest.mark.parametrize("case", ["odd", "even", "mixed"])
def test_mean_of_blocks_is_the_recorded_pooling(golden, case):
    recording = golden("layers_public")
    x = _tensor(recording[f"avgpool_{case}_x"], grad=True)
    out = mean_of_blocks(x)
    np.testing.assert_allclose(out.detach(), recording[f"avgpool_{case}_out"], atol=1e-5)
    out.backward(_tensor(recording[f"avgpool_{case}_head"]))
    np.testing.assert_allclose(x.grad, recording[f"avgpool_{case}_grad"], atol=1e-5)


def test_edge_means_are_of_the_pixels_that_are_there():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert mean_of_blocks(x).flatten().tolist() == [2.0, 3.5, 6.5, 8.0]


@pytest.mark.parametrize("case", ["even", "odd", "small"])
def test_upsampler_and_crop_are_the_recorded_deconvolution(golden, case):
    recording = {
        key.removeprefix(f"deconv_{case}_"): value
        for key, value in golden("layers_public").items()
        if key.startswith(f"deconv_{case}_")
    }
    layer = upsampler(*recording["w"].shape[:2])
    layer.load_state_dict({"weight": _tensor(recording["w"]), "bias": _tensor(recording["b"])})
    x = _tensor(recording["x"], grad=True)
    out = crop_to(layer(x), torch.empty(1, 1, *recording["like_hw"].tolist()))
    np.testing.assert_allclose(out.detach(), recording["out"], atol=1e-5)
    out.backward(_tensor(recording["head"]))
    for gradient, name in ((x.grad, "grad_x"), (layer.weight.grad, "grad_w"), (layer.bias.grad, "grad_b")):
        np.testing.assert_allclose(gradient, recording[name], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 129), (111, 90), (64, 17), (1, 1)])
def test_maps_have_the_size_of_the_features(height, width):
    """Whatever the size, odd at any stage."""
    images, others = _pair(height, width)
    flow, scale = _net(scale_channels=5)(images, others)
    features = ResNet(18, 8)(images)
    assert flow.shape == (1, 2, *features.shape[2:])
    assert scale.shape == (1, 5, *features.shape[2:])


def test_all_flows_are_coarse_to_fine_and_end_with_the_flow():
    images, others = _pair(150, 200)
    net = _net()
    flows = net.all_flows(images, others)
    sides = [tuple(flow.shape[2:]) for flow in flows]
    assert sides == [(math.ceil(150 / stride), math.ceil(200 / stride)) for stride in (128, 64, 32, 16, 16)]
    torch.testing.assert_close(flows[-1], net(images, others)[0])


def test_a_loss_on_all_flows_reaches_every_parameter():
    net = _net()
    sum(flow.square().sum() for flow in net.all_flows(*_pair(64, 96))).backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.any()] == []


def test_flow_is_in_cells():
    """The last convolution's output is in units of 20 pixels of the half-size image, of which a cell has 8."""
    net = _net()
    with torch.no_grad():
        net.Convolution5.weight.zero_()
        net.Convolution5.bias.copy_(torch.tensor([1.0, -2.0]))
    flow, _ = net(*_pair(64, 64))
    assert FLOW_GAIN == 20 / 8
    assert (flow[:, 0] == 2.5).all()
    assert (flow[:, 1] == -5).all()


def test_first_image_comes_first():
    """A net that sees only one of the two images, by the first three or the last three input channels."""
    first, second = _pair(64, 64)
    for sees, blind in ((slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))):
        net = _net()
        with torch.no_grad():
            net.flow_conv1.weight[:, blind].zero_()
        flow, _ = net(first, second)
        seen = torch.zeros_like(first)
        alone, _ = net(first, seen) if sees.start == 0 else net(seen, second)
        torch.testing.assert_close(alone, flow)
        other, _ = net(seen, second) if sees.start == 0 else net(first, seen)
        assert not torch.allclose(other, flow, atol=1e-4)


def test_halves_are_what_the_whole_images_give():
    images, others = _pair(65, 66, batch=2)
    net = _net()
    halves = net.halve(images)
    assert halves.shape == (2, 3, 33, 33)
    torch.testing.assert_close(halves[0, 0, 0, 0], images[0, 0, :2, :2].mean() / 255)
    parts = net.current_part(halves), net.other_part(net.halve(others))
    assert torch.equal(net.between(*parts)[0], net(images, others)[0])


def test_split_first_layer_gives_the_same_flow():
    """One image against two, and two against one; its half of the first layer computed once."""
    images, others = _pair(65, 66, batch=2)
    net = _net(scale_channels=4)
    with torch.no_grad():
        expected = [net(images[:1].expand_as(others), others), net(images, others[:1].expand_as(images))]
        net.split_first_layer()
        currents, pointed_at = net.current_part(net.halve(images)), net.other_part(net.halve(others))
        found = [net.between(currents[:1], pointed_at), net.between(currents, pointed_at[:1])]
    assert currents.shape == pointed_at.shape == (2, net.conv2.in_channels, 17, 17)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 80), (65, 80), (64, 81), (65, 81)])
def test_halves_are_means_of_blocks_before_and_after_the_split(size):
    images, _ = _pair(*size, batch=2)
    images, stds = images.double(), (0.5, 2.0, 3.0)
    net = FlowNetS(0.125, pixel_stds=stds).double()
    padded = np.full((2, 3, 66, 82), np.nan)
    padded[:, :, : size[0], : size[1]] = images.numpy() / 255 * np.array(stds)[:, None, None]
    blocks = padded.reshape(2, 3, 33, 2, 41, 2)[:, :, : (size[0] + 1) // 2, :, : (size[1] + 1) // 2]
    expected = torch.from_numpy(np.nanmean(blocks, axis=(3, 5)))
    for _ in range(2):
        torch.testing.assert_close(net.halve(images), expected, rtol=1e-12, atol=1e-12)
        if net.flow_conv1 is not None:
            net.split_first_layer()


def test_pairs_of_a_batch_do_not_mix():
    images, others = _pair(64, 80, batch=3)
    net = _net(scale_channels=4)
    together = net(images, others)
    for i in range(3):
        for a, b in zip(net(images[i : i + 1], others[i : i + 1]), together, strict=True):
            torch.testing.assert_close(a, b[i : i + 1], atol=1e-5, rtol=1e-5)


def test_scale_map_is_one_at_the_start():
    net = _net(scale_channels=6)
    _, scale = net(*_pair(64, 64))
    assert torch.equal(scale, torch.ones(1, 6, 4, 4))
    assert _net()(*_pair(64, 64))[1] is None


def test_signals_keep_their_size_at_the_start():
    """Initial weights that neither blow up nor put out what goes through ten and more layers."""
    net = _net(0.5)
    seen = {}
    for name, layer in net.named_children():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.std().item()}))
    net(*_pair(256, 256))
    assert 0.2 < seen["conv6_1"] / seen["conv2"] < 5
    assert 0.2 < seen["deconv2"] / seen["conv2"] < 5
    assert seen["Convolution5"] < 0.5


def test_outputs_are_float32_under_autocast():
    images, others = _pair(64, 64)
    net = _net(scale_channels=3)
    expected = net(images, others)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(images, others)
    for output, full in zip(outputs, expected, strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, full, atol=0.02, rtol=0.1)


def test_width_multiplies_channels():
    assert FlowNetS(1.0).conv6_1.out_channels == 1024
    assert FlowNetS(0.25).conv6_1.out_channels == 256
    assert FlowNetS(0.25).deconv2.in_channels == 64 + 32 + 2
    with pytest.raises(ValueError, match="width"):
        FlowNetS(0)
