"""The CUDA kernels of csrc/cuda, run without a GPU, against the CPU kernels: the same bits forward, close backward."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
import torch

import lib.ops  # noqa: F401  (the CPU kernels)
from tests.cuda_emulation import run
from tests.cuda_emulation.build import ROOT, build, operator_sources
from tests.cuda_emulation.compare import OPERATORS, compare_operator, operators_with_cuda_kernels
from tests.cuda_emulation.emulator import ORDERS, EmulatedOperators
from tests.cuda_emulation.translate import NAMESPACE

RANDOM_CASES = 12  # beside the edge cases; run.py tries more

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to compile the CUDA sources for the CPU")


@pytest.fixture(scope="module")
def emulator() -> EmulatedOperators:
    return EmulatedOperators(build(operator_sources()))


def test_every_cuda_kernel_has_cases():
    missing = operators_with_cuda_kernels() - set(OPERATORS)
    assert not missing, f"add a file to tests/cuda_emulation/cases for {sorted(missing)}"
    assert set(OPERATORS) <= operators_with_cuda_kernels()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_equals_the_cpu_kernel(emulator, name, order):
    outcome = compare_operator(emulator, name, order, RANDOM_CASES)
    assert outcome.cases > RANDOM_CASES
    assert not outcome.failure


def test_operators_outlive_the_emulator(emulator):
    """Later tests make torch go through all operators that it has listed."""
    code = f"""
import gc
from pathlib import Path
import torch
import lib.ops
from tests.cuda_emulation.emulator import EmulatedOperators
operators = EmulatedOperators(Path({str(emulator.path)!r}))
operators.run("nms", torch.zeros(1, 4), torch.zeros(1), None, 0.5, False)
del operators
gc.collect()
namespace = torch.ops.{NAMESPACE}
packets = [getattr(namespace, name) for name in namespace]
print([getattr(packet, overload) for packet in packets for overload in packet.overloads()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"'{NAMESPACE}.nms', overload='default'" in done.stdout, done.stderr


def test_kernels_did_run(emulator):
    """That the comparison above was no comparison of the CPU kernels with themselves."""
    before = emulator.counts()
    boxes = torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9]])
    assert emulator.run("nms", boxes, torch.tensor([0.1, 0.2]), None, 0.5, False).tolist() == [1]
    after = emulator.counts()
    assert after["launches"] == before["launches"] + 2
    assert after["barriers"] > before["barriers"]
    assert after["accesses"] > before["accesses"]


def test_difference_fails(emulator, monkeypatch):
    """That the comparison can fail: by a result that is off, and by one of another shape."""
    right = emulator.run
    for spoil in (lambda out: out + 1e-3, lambda out: out[1:]):
        monkeypatch.setattr(emulator, "run", lambda *arguments, spoil=spoil: spoil(right(*arguments)))
        failure = compare_operator(emulator, "psroi_pool", "forward", 0).failure
        assert re.match(r"case 1: psroi_pool\(float32 \(2, 18, 8, 9\), .*, 0.0625\) is off by", failure)


def test_command_prints_a_table(emulator, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--operators", "psroi_pool", "--cases", "3"])
    assert run.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [["psroi_pool", order, "14", "14"] for order in ORDERS]
    assert lines[-1] == "all cases within their tolerances"


@pytest.mark.parametrize("image", [-1.0, 1.0, float("nan")])
def test_roi_of_an_image_that_does_not_exist_is_zero(emulator, image):
    """The CPU kernel raises an error; the CUDA kernel does not wait for the GPU to find out."""
    feature, rois = torch.ones(1, 4, 8, 9), torch.tensor([[image, 0, 0, 90, 90], [0, 0, 0, 90, 90]])
    out = emulator.run("psroi_pool", feature, rois, 1, 2, 1 / 16)
    assert not out[0].any()
    assert out[1].all()
    grad = emulator.run("psroi_pool_backward", torch.ones_like(out), rois, [1, 4, 8, 9], 1 / 16)
    alone = emulator.run("psroi_pool_backward", torch.ones(1, 1, 2, 2), rois[1:], [1, 4, 8, 9], 1 / 16)
    assert torch.equal(grad, alone)


def test_shapes_that_do_not_fit(emulator):
    with pytest.raises(RuntimeError, match="do not fit"):
        emulator.run("flow_warp", torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 4, 6), None)
