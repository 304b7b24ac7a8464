"""The common PyTorch form of FlowNet-S, written here from its description, against this project's with its weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.checkpoints.conversion import WeightsError, misfits
from lib.checkpoints.first_layer import OURS, ImageForm
from lib.checkpoints.flownet_import import FLOWNET_IMAGES, flownet_from
from lib.models.flownet_s import FLOW_GAIN, FlowNetS

C = {64: 4, 128: 8, 256: 16, 512: 32, 1024: 64}  # a sixteenth of the channels
SHARED_MEANS = ImageForm(OURS.means, (255.0,) * 3)  # zeros around the image are then the same colour for both


def conv(inputs, outputs, kernel=3, stride=1, norm=False):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=not norm)]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(0.1))


def deconv(inputs, outputs, bias):
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias), nn.LeakyReLU(0.1))


class TheirFlowNetS(nn.Module):
    def __init__(self, norm, bias):
        super().__init__()
        self.conv1 = conv(6, C[64], 7, 2, norm)
        self.conv2 = conv(C[64], C[128], 5, 2, norm)
        self.conv3 = conv(C[128], C[256], 5, 2, norm)
        self.conv3_1 = conv(C[256], C[256], norm=norm)
        self.conv4 = conv(C[256], C[512], stride=2, norm=norm)
        self.conv4_1 = conv(C[512], C[512], norm=norm)
        self.conv5 = conv(C[512], C[512], stride=2, norm=norm)
        self.conv5_1 = conv(C[512], C[512], norm=norm)
        self.conv6 = conv(C[512], C[1024], stride=2, norm=norm)
        self.conv6_1 = conv(C[1024], C[1024], norm=norm)
        inputs = C[1024]
        for level, skip, outputs in ((5, C[512], C[512]), (4, C[512], C[256]), (3, C[256], C[128]), (2, C[128], C[64])):
            setattr(self, f"predict_flow{level + 1}", nn.Conv2d(inputs, 2, 3, 1, 1, bias=bias))
            setattr(self, f"deconv{level}", deconv(inputs, outputs, bias))
            up = nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=bias)
            setattr(self, f"upsampled_flow{level + 1}_to_{level}", up)
            inputs = skip + outputs + 2
        self.predict_flow2 = nn.Conv2d(inputs, 2, 3, 1, 1, bias=bias)

    def forward(self, pair):
        """(B, 6, H, W) -> flows of levels 6, 5, 4, 3, and the map from which level 2 is predicted."""
        skips = {2: self.conv2(self.conv1(pair))}
        x = skips[2]
        for level in (3, 4, 5, 6):
            x = skips[level] = getattr(self, f"conv{level}_1")(getattr(self, f"conv{level}")(x))
        flows = []
        for level in (5, 4, 3, 2):
            flows.append(getattr(self, f"predict_flow{level + 1}")(x))
            up = getattr(self, f"upsampled_flow{level + 1}_to_{level}")(flows[-1])
            height, width = skips[level].shape[2:]
            parts = (skips[level], getattr(self, f"deconv{level}")(x), up)
            x = torch.cat([part[:, :, :height, :width] for part in parts], dim=1)
        return flows, x


def their_net(norm, bias):
    torch.manual_seed(4)
    net = TheirFlowNetS(norm, bias).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1 and value.is_floating_point():
                value.normal_(0.5 if name.endswith("weight") else 0.0, 0.1)
            elif value.ndim == 4:
                value.mul_(2)
    return net


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def images_in(form, colours):
    means, stds = (torch.tensor(numbers)[:, None, None] for numbers in (form.means, form.stds))
    images = (colours - means) / stds
    return images.flip(1) if form.bgr else images


@torch.no_grad()
@pytest.mark.parametrize(("norm", "bias", "bgr"), [(False, False, False), (True, False, True), (False, True, True)])
def test_the_shared_layers_are_the_same_function(norm, bias, bgr):
    net = their_net(norm, bias)
    trained = ImageForm(SHARED_MEANS.means, SHARED_MEANS.stds, bgr)
    result = flownet_from(net.state_dict(), trained, OURS)
    own = FlowNetS(1 / 16).eval()
    assert misfits(own.state_dict(), result.state) == ""
    own.load_state_dict(result.state)
    colours = 255 * torch.rand(2, 3, 130, 198, generator=torch.Generator().manual_seed(6))
    halves = F.avg_pool2d(colours, 2, ceil_mode=True)
    theirs, last_map = net(torch.cat([images_in(trained, half[None]) for half in halves], dim=1))
    images = images_in(OURS, colours)
    *coarse, finest = own.all_flows(images[:1], images[1:])
    for mine, flow in zip(coarse, theirs, strict=True):
        assert_close(mine / FLOW_GAIN, flow)
    averaged = F.avg_pool2d(last_map, 2, ceil_mode=True, count_include_pad=False)
    assert_close(finest, 20 / 8 * net.predict_flow2(averaged))  # 20 pixels of the half image, 8 pixels a cell
    assert sum(name.endswith(".bias") for name, _ in result.added) == (0 if bias else 13)


@torch.no_grad()
def test_flow_in_another_unit():
    net = their_net(False, True)
    own, other = FlowNetS(1 / 16).eval(), FlowNetS(1 / 16).eval()
    own.load_state_dict(flownet_from(net.state_dict(), SHARED_MEANS, OURS).state)
    other.load_state_dict(flownet_from(net.state_dict(), SHARED_MEANS, OURS, division=5.0).state)
    images = 100 * torch.randn(2, 3, 64, 64)
    for a, b in zip(own.all_flows(images[:1], images[1:]), other.all_flows(images[:1], images[1:]), strict=True):
        assert_close(b, a / 4)  # the file's 1 is 5 pixels, not 20


@torch.no_grad()
def test_the_usual_images_of_that_form():
    """Its mean colour is another one: equal inside, and around the image it is the other network's zeros that count."""
    net = their_net(False, False)
    result = flownet_from(net.state_dict(), FLOWNET_IMAGES, OURS)
    colours = 255 * torch.rand(2, 3, 40, 40)
    theirs = net.conv1[0](torch.cat([images_in(FLOWNET_IMAGES, c[None]) for c in colours], dim=1))
    divided = torch.cat([images_in(OURS, c[None]) / 255 for c in colours], dim=1)
    own = F.conv2d(divided, result.state["flow_conv1.weight"], result.state["flow_conv1.bias"], stride=2, padding=3)
    assert_close(own[:, :, 2:-2, 2:-2], theirs[:, :, 2:-2, 2:-2])


def test_everything_left_out_is_named_and_odd_files_are_refused():
    state = {f"module.{name}": value for name, value in their_net(True, False).state_dict().items()}
    result = flownet_from(state | {"other.weight": torch.ones(1)}, SHARED_MEANS, OURS)
    assert "other.weight" in {name for name, _ in result.dropped}
    assert {name.rpartition(".")[2] for name, _ in result.dropped} == {"weight", "num_batches_tracked"}
    assert misfits(FlowNetS(1 / 16).state_dict(), result.state) == ""
    without = {name: value for name, value in state.items() if "conv4.1.running_var" not in name}
    with pytest.raises(WeightsError, match="conv4: its normalisation has no running_var"):
        flownet_from(without, SHARED_MEANS, OURS)
    single = state | {"module.conv1.0.weight": torch.zeros(4, 3, 7, 7)}
    with pytest.raises(WeightsError, match="not one for two colour images"):
        flownet_from(single, SHARED_MEANS, OURS)
    lone = {name: value for name, value in state.items() if name != "module.conv2.0.weight"}
    with pytest.raises(WeightsError, match="conv2 has values, but no weight"):
        flownet_from(lone, SHARED_MEANS, OURS)
