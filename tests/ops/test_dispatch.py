from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lib.ops import dispatch, flow_warp, psroi_pool

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = (
    "aggregate",
    "aggregate_backward",
    "flow_warp",
    "flow_warp_backward",
    "nms",
    "nms_padded",
    "proposals",
    "psroi_pool",
    "psroi_pool_backward",
    "psroi_vote",
)


def test_missing_extension_names_its_cure():
    code = "import sys; sys.modules['lib.ops._C'] = None; import lib.ops"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert "ImportError: lib.ops needs its compiled extension" in result.stderr
    assert "pip install --no-build-isolation -e ." in result.stderr


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_answers_on_cuda(name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"vod::{name}", "CUDA")


def test_stand_in_warns_once_and_answers(caplog):
    dispatch._warn_once.cache_clear()
    stand_in = dispatch._warn_and_call(lambda a, b: a + b)
    with caplog.at_level(logging.WARNING):
        assert [stand_in(1, 2), stand_in(3, 4)] == [3, 7]
    assert len(caplog.records) == 1
    assert "without CUDA kernels" in caplog.text
    assert "FORCE_CUDA=1 pip install" in caplog.text
    dispatch._warn_once.cache_clear()


@pytest.mark.parametrize("scaled", [True, False])
def test_backward_of_the_stand_in_equals_the_operator(scaled):
    generator = torch.Generator().manual_seed(0)
    grad, feature, flow, scale = (torch.randn(2, c, 5, 6, generator=generator) for c in (3, 3, 2, 3))
    arguments = (grad, feature, flow, scale if scaled else None)
    expected = torch.ops.vod.flow_warp_backward(*arguments)
    with torch.no_grad():  # as inside a backward pass
        assert_close(tuple(sys.modules[flow_warp.__module__]._backward_reference(*arguments)), expected)


def test_backward_of_the_pooling_stand_in_equals_the_operator():
    grad = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 3, 4, 60, 50], [1, 20, 0, 90, 70]])
    arguments = (grad, rois, [2, 12, 5, 6], 1 / 16)
    expected = torch.ops.vod.psroi_pool_backward(*arguments)
    with torch.no_grad():
        assert_close(sys.modules[psroi_pool.__module__]._backward_reference(*arguments), expected)
