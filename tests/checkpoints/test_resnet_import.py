"""ResNets of other projects, made of torchvision's own modules, against this project's with the converted weights."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from lib.checkpoints.conversion import WeightsError, misfits
from lib.checkpoints.first_layer import OURS, ImageForm, adapt_first_layer
from lib.checkpoints.resnet_import import SOURCES, ResNetSource, depth_of, own_resnet_names, resnet_from
from lib.models.resnet import ResNet, unit_names


def their_resnet(depth, stride_on_3x3):
    """torchvision's ResNet with made-up statistics, its strides where Caffe has them if asked."""
    unit = torchvision.models.resnet.Bottleneck if depth >= 50 else torchvision.models.resnet.BasicBlock
    units = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    torch.manual_seed(depth)
    net = torchvision.models.ResNet(unit, list(units), num_classes=3).eval()
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.0)
    if depth >= 50 and not stride_on_3x3:
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return net


def stages_of(net, images):
    x = net.maxpool(F.relu(net.bn1(net.conv1(images))))
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        yield x


def own_stages(resnet, images):
    x = F.max_pool2d(F.relu(resnet.bn_conv1(resnet.conv1(images))), 3, stride=2, padding=1)
    for names in resnet.stages:
        for name in names:
            x = resnet.get_submodule(name)(x)
        yield x


def converted(arrays, source, depth, **options):
    resnet = empty_resnet(depth, style=options.get("style", "caffe"))
    result = resnet_from(arrays, source, resnet.stages, **options)
    assert misfits(resnet.state_dict(), result.state) == ""
    resnet.load_state_dict(result.state, assign=True)
    return resnet, result


def empty_resnet(depth, eps=1e-5, style="caffe"):
    """To be filled, which spares the time to draw weights."""
    with torch.device("meta"):
        return ResNet(depth, bn_eps=eps, style=style).eval()


def same_means(source):
    """The source's images, with this project's means: around the image both networks then see the same zeros."""
    return ImageForm(OURS.means, source.images.stds, source.images.bgr)


@pytest.fixture(scope="module")
def colours():
    return 255 * torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))


def images_in(form, colours):
    means, stds = (torch.tensor(numbers)[:, None, None] for numbers in (form.means, form.stds))
    images = (colours - means) / stds
    return images.flip(1) if form.bgr else images


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * expected.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
def test_caffe_style_weights_are_the_same_function(depth, colours):
    source = SOURCES["mmdetection"]
    net = their_resnet(depth, stride_on_3x3=False)
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    resnet, result = converted(state, source, depth, trained=same_means(source))
    assert {name for name, _ in result.dropped} >= {"backbone.fc.weight", "backbone.fc.bias"}
    pairs = list(
        zip(
            own_stages(resnet, images_in(OURS, colours)),
            stages_of(net, images_in(same_means(source), colours)),
            strict=True,
        )
    )
    for own, theirs in pairs[:3]:
        assert_close(own, theirs)
    if depth == 50:
        own, theirs = pairs[3]  # dilated instead of strided: every second cell is theirs
        assert_close(own[:, :, ::2, ::2], theirs)


class WithoutEpsilon(nn.Module):
    """maskrcnn-benchmark's FrozenBatchNorm2d of the same statistics; not all versions of torch take an epsilon of 0."""

    def __init__(self, norm):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach())

    def forward(self, x):
        scale = self.weight * self.running_var.rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


@torch.no_grad()
def test_an_epsilon_of_0_is_kept(colours):
    source = SOURCES["maskrcnn-benchmark"]
    net = their_resnet(50, stride_on_3x3=False)
    norms = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name, module in norms:
        module.running_var.mul_(1e-3)  # where an epsilon shows
        module.weight.mul_(0.03)
        net.set_submodule(name, WithoutEpsilon(module))
    state = {f"module.backbone.body.{name}": value for name, value in net.state_dict().items()}
    for layer in ("conv1", "bn1"):
        state = {name.replace(f"body.{layer}", f"body.stem.{layer}"): value for name, value in state.items()}
    resnet, _ = converted(state, source, 50, trained=same_means(source))
    own = list(own_stages(resnet, images_in(OURS, colours)))
    theirs = list(stages_of(net, images_in(same_means(source), colours)))
    for a, b in zip(own[:3], theirs[:3], strict=True):
        assert_close(a, b)


def detectron_blobs(net):
    """torchvision's names and normalisation as Detectron's: batch norm folded into scale and shift."""
    blobs = {"conv1_w": net.conv1.weight, "fc1000_w": net.fc.weight, "conv1_w_momentum": net.conv1.weight}
    norms = {"res_conv1_bn": net.bn1}
    for number, stage in enumerate((net.layer1, net.layer2, net.layer3, net.layer4), start=2):
        for index, unit in enumerate(stage):
            for letter, conv, norm in (
                ("a", unit.conv1, unit.bn1),
                ("b", unit.conv2, unit.bn2),
                ("c", unit.conv3, unit.bn3),
            ):
                blobs[f"res{number}_{index}_branch2{letter}_w"] = conv.weight
                norms[f"res{number}_{index}_branch2{letter}_bn"] = norm
            if unit.downsample is not None:
                blobs[f"res{number}_{index}_branch1_w"] = unit.downsample[0].weight
                norms[f"res{number}_{index}_branch1_bn"] = unit.downsample[1]
    for name, norm in norms.items():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        blobs[f"{name}_s"], blobs[f"{name}_b"] = scale, norm.bias - norm.running_mean * scale
    return {name: value.detach().clone() for name, value in blobs.items()}


@torch.no_grad()
@pytest.mark.parametrize(("depth", "eps"), [(101, 1e-5), (50, 2e-5)])
def test_detectrons_weights_are_the_same_function(depth, eps, colours):
    source = SOURCES["detectron"]
    net = their_resnet(depth, stride_on_3x3=False)
    resnet = empty_resnet(depth, eps)
    blobs = detectron_blobs(net)
    blobs["conv1_b"] = torch.linspace(-1, 1, 64)
    net.conv1.bias = nn.Parameter(blobs["conv1_b"])
    assert depth_of(own_resnet_names(list(blobs), detectron=True)) == depth
    result = resnet_from(blobs, source, resnet.stages, trained=same_means(source), eps=eps)
    assert {name for name, _ in result.dropped} == {"fc1000_w", "conv1_w_momentum"}
    assert len(result.added) == 2 * (depth - 1 + 4)  # a normalisation for each convolution and shortcut
    assert misfits(resnet.state_dict(), result.state) == ""
    resnet.load_state_dict(result.state, assign=True)
    theirs = list(stages_of(net, images_in(same_means(source), colours)))
    own = list(own_stages(resnet, images_in(OURS, colours)))
    for a, b in zip(own[:3], theirs, strict=False):
        assert_close(a, b)
    assert_close(own[3][:, :, ::2, ::2], theirs[3])


@torch.no_grad()
def test_torchvisions_weights_are_refused_unless_the_change_is_accepted(colours):
    source = SOURCES["torchvision"]
    net = their_resnet(50, stride_on_3x3=True)
    with pytest.raises(WeightsError, match=r"stride of res3a and res4a on the 3x3.*--accept-stride-change"):
        resnet_from(net.state_dict(), source, unit_names(50))
    with pytest.raises(WeightsError, match=r"stride on the 1x1.*STYLE caffe"):
        resnet_from(net.state_dict(), SOURCES["mmdetection"], unit_names(50), style="pytorch")
    resnet, result = converted(net.state_dict(), source, 50, trained=same_means(source), accept_stride_change=True)
    assert "another function" in result.notes[0]
    own = list(own_stages(resnet, images_in(OURS, colours)))
    theirs = list(stages_of(net, images_in(same_means(source), colours)))
    assert_close(own[0], theirs[0])  # before the first stride
    assert (own[1] - theirs[1]).abs().max() > 0.1 * theirs[1].abs().max()  # the reason for the refusal
    shallow = their_resnet(18, stride_on_3x3=True)
    with pytest.raises(WeightsError, match=r"res5a's first 3x3 convolution is dilated"):
        resnet_from(shallow.state_dict(), source, unit_names(18))
    resnet, _ = converted(shallow.state_dict(), source, 18, trained=same_means(source), accept_stride_change=True)
    own, theirs = (
        list(own_stages(resnet, images_in(OURS, colours))),
        list(stages_of(shallow, images_in(same_means(source), colours))),
    )
    for a, b in zip(own[:3], theirs, strict=False):
        assert_close(a, b)


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_weights_for_a_network_of_its_style(depth, colours):
    """The same function, also of images without its standard deviations."""
    source = SOURCES["torchvision"]
    net = their_resnet(depth, stride_on_3x3=True)
    resnet, result = converted(net.state_dict(), source, depth, trained=same_means(source), style="pytorch")
    assert not any("another function" in note for note in result.notes)
    own = list(own_stages(resnet, images_in(OURS, colours)))
    theirs = list(stages_of(net, images_in(same_means(source), colours)))
    for a, b in zip(own[:3], theirs, strict=False):
        assert_close(a, b)
    assert_close(own[3][:, :, ::2, ::2], theirs[3])


@pytest.mark.parametrize("name", SOURCES)
def test_the_first_layer_sees_the_same_image(name, colours):
    trained = SOURCES[name].images
    weight = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    adapted, shift = adapt_first_layer(weight, trained, OURS)
    expected = F.conv2d(images_in(trained, colours), weight)  # without a border
    actual = F.conv2d(images_in(OURS, colours), adapted) + shift.float()[:, None, None]
    assert_close(actual, expected)


def test_a_shift_goes_into_the_stored_mean(colours):
    """With the usual means of the source: equal wherever conv1 does not reach over the border."""
    source = SOURCES["mmdetection"]
    net = their_resnet(18, stride_on_3x3=False)
    resnet, _ = converted(net.state_dict(), source, 18)
    with torch.no_grad():
        theirs = net.bn1(net.conv1(images_in(source.images, colours)))
        own = resnet.bn_conv1(resnet.conv1(images_in(OURS, colours)))
    assert_close(own[:, :, 2:-2, 2:-2], theirs[:, :, 2:-2, 2:-2])
    assert (own - theirs).abs().max() > 1e-3  # the border, where zeros are another colour


def test_what_does_not_make_a_resnet():
    state = their_resnet(18, stride_on_3x3=False).state_dict()
    missing = {name: value for name, value in state.items() if name != "layer2.0.conv1.weight"}
    result = resnet_from(missing, SOURCES["mmdetection"], unit_names(18))
    assert "1 missing in the file: res3a.branch2a.weight" in misfits(ResNet(18).state_dict(), result.state)
    with pytest.raises(WeightsError, match="no residual units"):
        depth_of(own_resnet_names(["a", "b"]))
    twice = state | {"module.conv1.weight": state["conv1.weight"]}
    with pytest.raises(WeightsError, match="another name is already"):
        resnet_from(twice, SOURCES["mmdetection"], unit_names(18))
    grey = state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(WeightsError, match="not one for colour images"):
        resnet_from(grey, ResNetSource(OURS, 1e-5), unit_names(18))
