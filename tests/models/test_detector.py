from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.small import NUM_CLASSES, random_batch, small_rfcn

TERMS = {"rpn_cls_loss", "rpn_bbox_loss", "rcnn_cls_loss", "rcnn_bbox_loss"}
METRICS = {"RPNAcc", "RPNLogLoss", "RPNL1Loss", "RCNNAcc", "RCNNLogLoss", "RCNNL1Loss"}


def _rng():
    return np.random.RandomState(0)


def test_losses_have_their_names_and_reach_every_part():
    model = small_rfcn()
    terms = model.losses(random_batch([2, 3]), _rng())
    assert set(terms) == TERMS | METRICS
    assert all(term.isfinite() and term.shape == () for term in terms.values())
    assert {name for name, term in terms.items() if term.requires_grad} == TERMS
    sum(terms[name] for name in TERMS).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_same_seed_gives_the_same_losses():
    model, batch = small_rfcn("TRAIN.BATCH_ROIS=24", "TRAIN.RPN_BATCH_SIZE=32"), random_batch([2, 3])
    first, again = (model.losses(batch, _rng()) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("ohem", ["true", "false"])
def test_a_batch_is_the_mean_of_its_images(ohem):
    """Fewer anchors than RPN_BATCH_SIZE and all RoIs: nothing is drawn, so the images do not share a random state."""
    model = small_rfcn("TRAIN.RPN_BATCH_SIZE=2000", f"TRAIN.ENABLE_OHEM={ohem}").double()
    batch = random_batch([2, 4])
    batch = replace(batch, frames=batch.frames.double())
    together = model.losses(batch, _rng())
    alone = [
        model.losses(
            replace(
                batch,
                frames=batch.frames[i : i + 1],
                im_info=batch.im_info[i : i + 1],
                boxes=batch.boxes[i : i + 1],
                labels=batch.labels[i : i + 1],
            ),
            _rng(),
        )
        for i in range(2)
    ]
    for name, term in together.items():
        torch.testing.assert_close(term, (alone[0][name] + alone[1][name]) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ohem", ["true", "false"])
def test_no_roi_to_train_on(ohem):
    """Background has to overlap an object by BG_THRESH_LO, and there is none."""
    model = small_rfcn("TRAIN.BATCH_ROIS=-1", "TRAIN.BG_THRESH_LO=0.1", f"TRAIN.ENABLE_OHEM={ohem}")
    terms = model.losses(random_batch([0]), _rng())
    assert terms["rcnn_cls_loss"] == 0
    assert terms["rcnn_bbox_loss"] == 0
    sum(terms[name] for name in TERMS).backward()
    assert model.detector.rpn.rpn_cls_score.weight.grad.any()


@pytest.mark.parametrize("rois", ["-1", "16"])
def test_images_without_objects_are_all_background(rois):
    model = small_rfcn(f"TRAIN.BATCH_ROIS={rois}")
    terms = model.losses(random_batch([0, 0]), _rng())
    assert terms["rpn_bbox_loss"] == 0
    assert terms["rcnn_bbox_loss"] == 0
    assert terms["rpn_cls_loss"] > 0
    assert terms["rcnn_cls_loss"] > 0


def test_without_ohem_the_box_loss_is_a_mean_over_all_rois():
    terms = small_rfcn("TRAIN.ENABLE_OHEM=false", "TRAIN.BATCH_ROIS=24").losses(random_batch([3]), _rng())
    assert terms["rcnn_bbox_loss"] > 0
    torch.testing.assert_close(terms["rcnn_bbox_loss"], terms["RCNNL1Loss"])  # sum over 24, and over 24 labels


def test_padding_holds_no_anchor_that_counts():
    """Wild features in the padding, none in the image: every anchor that counts is undecided, so the loss is ln 2."""
    model, batch = small_rfcn(), random_batch([1])
    batch = replace(batch, im_info=torch.tensor([[64.0, 64.0, 1.0]]), boxes=[torch.tensor([[5.0, 5, 40, 40]])])
    features = torch.zeros(1, 32, 6, 8)
    features[:, :, 4:], features[:, :, :, 4:] = 1e3, 1e3
    terms = model.detector.losses(features, batch, _rng())
    assert terms["rpn_cls_loss"].item() == pytest.approx(np.log(2), rel=1e-6)
    assert terms["RPNLogLoss"].item() == pytest.approx(np.log(2), rel=1e-6)


def test_predictions_are_in_original_pixels_of_each_image():
    model = small_rfcn()
    features = torch.rand(2, 32, 6, 8)
    im_info = torch.tensor([[96.0, 128.0, 2.0], [80.0, 100.0, 0.5]])
    with torch.no_grad():
        boxes, probabilities = model.detector.predict(features, im_info)
        alone = [model.detector.predict(features[i : i + 1], im_info[i : i + 1]) for i in range(2)]
    assert boxes.shape == (2, 50, 4)
    assert probabilities.shape == (2, 50, NUM_CLASSES)
    torch.testing.assert_close(probabilities.sum(dim=2), torch.ones(2, 50))
    for i, (height, width, scale) in enumerate(im_info.tolist()):
        assert boxes[i].amin() >= 0
        assert boxes[i, :, 2].amax() <= (width - 1) / scale
        assert boxes[i, :, 3].amax() <= (height - 1) / scale
        torch.testing.assert_close(boxes[i], alone[i][0][0])
        torch.testing.assert_close(probabilities[i], alone[i][1][0])


def test_deltas_are_unnormalised_with_the_box_stds():
    """A head whose deltas are `stds` times smaller, under stds of 1, finds the same boxes."""
    model, plain = small_rfcn(), small_rfcn("TRAIN.BBOX_STDS=[1.0, 1.0, 1.0, 1.0]")
    stds = torch.tensor([0.1, 0.1, 0.2, 0.2]).repeat(2).repeat_interleave(49)  # (392,)
    with torch.no_grad():
        plain.detector.head.rfcn_bbox.weight.mul_(stds[:, None, None, None])
        features, im_info = torch.rand(1, 32, 6, 8), torch.tensor([[96.0, 128.0, 1.0]])
        boxes, expected = (m.detector.predict(features, im_info)[0] for m in (model, plain))
    torch.testing.assert_close(boxes, expected, atol=1e-3, rtol=0)


def test_autocast_around_the_detector_changes_nothing():
    model, batch = small_rfcn(), random_batch([2])
    features = model.features(batch.images).detach()
    expected = model.detector.losses(features, batch, _rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.detector.losses(features, batch, _rng())
    assert all(torch.equal(terms[name], expected[name]) for name in terms)


def test_autocast_around_everything_stays_close():
    model, batch = small_rfcn(), random_batch([2])
    expected = model.losses(batch, _rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.losses(batch, _rng())
    for name in TERMS:
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], expected[name], atol=0.02, rtol=0.1)
