"""Counted operations beside what the layers' shapes say."""

from __future__ import annotations

import json

import pytest

from tools.flops import main

SIZE = ("--size", "600", "1000")


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    out = tmp_path_factory.mktemp("flops") / "counts.json"
    main([*SIZE, "--interval", "10", "--window", "19", "--json", str(out)])
    return json.loads(out.read_text())


def test_one_by_one_heads_and_the_embedding(counts):
    """2 per multiply-add, at 38 x 63 positions; half of 1,024 channels go to the RPN, half to the head.

    Nine anchors, 30 classes and the background.
    """
    positions = 38 * 63
    heads = 2 * positions * 512 * (9 * 6 + 49 * 31 + 49 * 8)
    embedding = 2 * positions * (1024 * 512 + 9 * 512 * 512 + 512 * 2048)
    assert counts["parts"]["RPN and R-FCN head"] == heads
    assert counts["parts"]["FGFA embedding"] == embedding


def test_backbone_and_flow_network(counts):
    """328 and 25.8 GFLOP for ResNet-101 with feat_conv_3x3 and FlowNet-S with the scale map."""
    assert counts["parts"]["backbone and feat_conv_3x3"] == pytest.approx(328e9, rel=0.005)
    assert counts["parts"]["FlowNet-S with scale map"] == pytest.approx(25.8e9, rel=0.005)
    scale_map = 2 * 38 * 63 * 194 * 1024
    assert counts["parts"]["FlowNet-S with scale map"] - counts["parts"]["FlowNet-S"] == scale_map


def test_what_the_parts_add_up_to(counts):
    part, total = counts["parts"], counts["per_frame"]
    rfcn = part["backbone and feat_conv_3x3"] + part["RPN and R-FCN head"]
    assert total["R-FCN"] == rfcn
    assert rfcn / total["DFF"] == pytest.approx(5.47, abs=0.01)
    assert total["FGFA"] == rfcn + part["FGFA embedding"] + 19 * part["FlowNet-S"]
