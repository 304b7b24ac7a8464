"""Comparison of answers, and the clip that most tests detect in."""

from __future__ import annotations

import cv2
import pytest
import torch

from lib.models.inference_form import prepare_for_inference
from tests.models.small_checkpoints import METHODS, small_model

ALL = pytest.mark.parametrize("method", METHODS)
LENGTH = 7
SEQ_NMS = "TEST.SEQ_NMS=true"


def ready_model(method):
    """In the form that models are brought into for detection."""
    return prepare_for_inference(small_model(method))


def assert_equal(answers, wanted, found_something=True):
    """The same frames and, bit for bit, the same detections."""
    answers, wanted = list(answers), list(wanted)
    assert [frame.index for frame, _ in answers] == [frame.index for frame, _ in wanted] == list(range(len(answers)))
    for (_, found), (_, other) in zip(answers, wanted, strict=True):
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(found, name), getattr(other, name))
    assert not found_something or sum(len(found) for _, found in answers) > len(answers)


def better_half(answers):
    """A threshold between two of the scores, and what is left of the answers above it."""
    scores = torch.cat([found.scores for _, found in answers]).unique()
    assert len(scores) > 4
    threshold = scores[len(scores) // 2 - 1 : len(scores) // 2 + 1].mean().item()
    return threshold, [(frame, found[found.scores > threshold]) for frame, found in answers]


def write_images(folder, images):
    folder.mkdir()
    paths = [folder / f"frame{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        assert cv2.imwrite(str(path), image)
    return paths
