import numpy as np
import pytest
import torch

from lib.models.losses import box_loss_sum, mean_of, rcnn_losses, rpn_losses, smooth_l1, softmax_loss
from lib.models.rpn import anchor_probabilities, unnormalise_deltas


@pytest.fixture
def layers(golden):
    return golden("layers_public")


@pytest.mark.parametrize("sigma", [1, 3])
def test_smooth_l1_matches_the_recording(layers, sigma):
    x = torch.from_numpy(layers["smoothl1_x"]).requires_grad_()
    out = smooth_l1(x, sigma)
    np.testing.assert_allclose(out.detach(), layers[f"smoothl1_out_{sigma}"], atol=1e-6)
    out.sum().backward()
    np.testing.assert_allclose(x.grad, layers[f"smoothl1_grad_{sigma}"], atol=1e-6)


def test_softmax_loss_matches_the_recording(layers):
    x = torch.from_numpy(layers["softmaxout_x"]).requires_grad_()
    labels = torch.from_numpy(layers["softmaxout_label"]).long()
    np.testing.assert_allclose(x.detach().softmax(dim=1), layers["softmaxout_prob"], atol=1e-6)
    softmax_loss(x, labels).backward()
    np.testing.assert_allclose(x.grad, layers["softmaxout_grad"], atol=1e-6)


@pytest.mark.parametrize("case", ["softmaxmulti_grad", "softmaxmulti_all_ignored_grad"])
def test_anchor_softmax_loss_matches_the_recording(layers, case):
    x = torch.from_numpy(layers["softmaxmulti_x"]).requires_grad_()
    labels = torch.from_numpy(layers["softmaxmulti_label"]).long()
    if "ignored" in case:
        labels = torch.full_like(labels, -1)
    loss = softmax_loss(x.reshape(1, 2, -1).transpose(1, 2)[0], labels[0])
    loss.backward()
    assert loss.isfinite()
    np.testing.assert_allclose(x.grad, layers[case], atol=1e-6)
    probabilities = anchor_probabilities(x.detach().reshape(1, 2, 6, 4)).reshape(1, 2, 6, 4)
    np.testing.assert_allclose(probabilities, layers["softmaxmulti_prob"], atol=1e-6)


def test_box_loss_matches_the_recording(layers):
    pred = torch.from_numpy(layers["bboxloss_pred"]).requires_grad_()
    target, weight = (torch.from_numpy(layers[f"bboxloss_{name}"]) for name in ("target", "weight"))
    total = box_loss_sum(pred, target, weight)
    np.testing.assert_allclose(total.item(), layers["bboxloss_out"].sum(), rtol=1e-5)
    (total / 128).backward()
    np.testing.assert_allclose(pred.grad, layers["bboxloss_grad_pred"], atol=1e-6)


def test_unnormalised_deltas_match_the_recording(layers):
    x, mean, std = (torch.from_numpy(layers[f"rpninv_{name}"]) for name in ("x", "mean", "std"))
    np.testing.assert_allclose(unnormalise_deltas(x, mean, std), layers["rpninv_out"], atol=1e-6)


@pytest.mark.parametrize(("losses", "prefix"), [(rpn_losses, "rpn"), (rcnn_losses, "rcnn")])
def test_terms_by_hand(losses, prefix):
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]], requires_grad=True)
    labels = torch.tensor([0, 0, -1])
    deltas = torch.tensor([[0.5, 2.0, 0, 0], [0, 0, 0, 0], [9.0, 9, 9, 9]], requires_grad=True)
    weights = torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 4)
    terms = losses(scores, deltas, labels, torch.zeros(3, 4), weights, 10)
    cross_entropy = (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2
    box_sum = 0.5 * 0.25 + (2 - 0.5)
    expected = {
        f"{prefix}_cls_loss": cross_entropy,
        f"{prefix}_bbox_loss": box_sum / 10,
        f"{prefix.upper()}Acc": 0.5,
        f"{prefix.upper()}LogLoss": cross_entropy,
        f"{prefix.upper()}L1Loss": box_sum / 2,
    }
    assert {name: pytest.approx(term.item(), rel=1e-6) for name, term in terms.items()} == expected
    assert {name for name, term in terms.items() if term.requires_grad} == {
        f"{prefix}_cls_loss",
        f"{prefix}_bbox_loss",
    }


def test_everything_ignored_gives_zeros():
    scores = torch.randn(3, 4, requires_grad=True)
    terms = rcnn_losses(scores, torch.randn(3, 4), torch.full((3,), -1), torch.zeros(3, 4), torch.zeros(3, 4), 128)
    assert all(term.item() == 0 for term in terms.values())
    terms["rcnn_cls_loss"].backward()
    assert not scores.grad.any()


def test_mean_over_images():
    images = [{"a_loss": torch.tensor(1.0)}, {"a_loss": torch.tensor(4.0)}]
    assert mean_of(images) == {"a_loss": torch.tensor(2.5)}
