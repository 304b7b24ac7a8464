import copy

import numpy as np
import pytest
import torch
from torch import nn

from lib.config import load_config
from lib.engine.optimizer import (
    MXNetSGD,
    build_optimizer,
    load_optimizer_state,
    parameter_groups,
    set_learning_rate,
)
from lib.engine.schedule import Schedule


class Flat(nn.Module):
    """Parameters whose names are the originals' names already."""

    def __init__(self, **values: np.ndarray) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.as_tensor(value).clone()))


def numpy_sgd(weights, gradients, rates, momentum, decay, multiples):
    """The rule in float64; `gradients[step][name]`. Yields the weights after every step."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for rate, gradient in zip(rates, gradients, strict=True):
        for name in w:
            wd = decay if name.endswith(("_weight", "_gamma")) else 0.0
            lr = rate * multiples.get(name, 1.0)
            v[name] = momentum * v[name] - lr * (gradient[name].astype(np.float64) + wd * w[name])
            w[name] = w[name] + v[name]
        yield {name: value.copy() for name, value in w.items()}


def run(model, optimizer, gradients, rates):
    for rate, gradient in zip(rates, gradients, strict=True):
        set_learning_rate(optimizer, rate)
        for name, parameter in model.named_parameters():
            parameter.grad = torch.as_tensor(gradient[name]).clone()
        optimizer.step()
        yield {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def test_golden_steps(golden):
    recorded = golden("layers_public")
    names = ["a_weight", "a_bias", "b_gamma", "b_beta", "frozen_bias"]
    model = Flat(**{name: recorded[f"sgd_w_init_{name}"] for name in names})
    groups = parameter_groups(model, 0.0005, {"frozen_bias": 0.0})
    optimizer = MXNetSGD(groups, lr=0.001, momentum=0.9)
    schedule = Schedule(base_lr=0.001, steps=(3, 6), warmup_lr=0.0001, warmup_step=2)
    gradients = [{name: recorded[f"sgd_grad_{step}_{name}"] for name in names} for step in range(9)]
    for step, weights in enumerate(run(model, optimizer, gradients, [schedule(n) for n in range(1, 10)])):
        for name in names:
            np.testing.assert_allclose(weights[name], recorded[f"sgd_w_{step}_{name}"], rtol=1e-6, atol=1e-7)


def test_rule_in_float64():
    rs = np.random.RandomState(3)
    names = ["x_weight", "x_bias", "y_gamma", "y_beta", "slow_weight", "still_bias"]
    weights = {name: rs.standard_normal((2, 3)) for name in names}
    gradients = [{name: rs.standard_normal((2, 3)) for name in names} for _ in range(6)]
    rates = [0.1, 0.1, 0.01, 0.2, 0.2, 0.001]  # a changing rate is where torch's own SGD differs
    multiples = {"slow_weight": 0.25, "still_bias": 0.0}
    model = Flat(**weights)
    optimizer = MXNetSGD(parameter_groups(model, 0.3, multiples), lr=0.1, momentum=0.8)
    expected = numpy_sgd(weights, gradients, rates, 0.8, 0.3, multiples)
    for found, wanted in zip(run(model, optimizer, gradients, rates), expected, strict=True):
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12)
    np.testing.assert_array_equal(found["still_bias"], weights["still_bias"])


def test_no_gradient_is_gradient_zero():
    model = Flat(a_weight=np.ones(3), b_weight=np.ones(3))
    optimizer = MXNetSGD(parameter_groups(model, 0.1), lr=0.5, momentum=0.9)
    model.a_weight.grad = torch.zeros(3, dtype=torch.float64)
    optimizer.step()
    assert model.b_weight.grad is None
    assert torch.equal(model.b_weight, model.a_weight)
    np.testing.assert_allclose(model.b_weight.detach(), 1 - 0.5 * 0.1)


def test_fixed_parameters_are_in_no_group():
    model = Flat(conv1_weight=np.ones(1), res3a_conv1_weight=np.ones(1), bn_conv1_gamma=np.ones(1))
    model.conv1_weight.requires_grad_(False)
    trained = [name for group in parameter_groups(model, 0.1) for name, _ in group["params"]]
    assert sorted(trained) == ["bn_conv1_gamma", "res3a_conv1_weight"]


def test_decay_and_multipliers_go_by_the_original_names():
    """A normalisation layer calls its values gamma and beta there; names that the originals lack are their own."""
    model = nn.ModuleDict({"bn1": nn.BatchNorm1d(2), "fc": nn.Linear(2, 2)})
    model.register_parameter("own_weight", nn.Parameter(torch.ones(1)))
    groups = parameter_groups(model, 0.1, {"bn1_beta": 0.5, "own_weight": 0.25})
    found = {name: (group["weight_decay"], group["lr_mult"]) for group in groups for name, _ in group["params"]}
    assert found == {
        "bn1.weight": (0.1, 1.0),
        "bn1.bias": (0.0, 0.5),
        "fc.weight": (0.1, 1.0),
        "fc.bias": (0.0, 1.0),
        "own_weight": (0.1, 0.25),
    }


def test_unknown_multiplier_and_nothing_to_train():
    model = Flat(a_weight=np.ones(1))
    with pytest.raises(KeyError, match="b_weight"):
        parameter_groups(model, 0.1, {"b_weight": 0.0})
    model.a_weight.requires_grad_(False)
    with pytest.raises(ValueError, match="FIXED_PARAMS"):
        parameter_groups(model, 0.1)


@pytest.mark.parametrize(("lr", "momentum", "decay"), [(-1.0, 0.9, 0.0), (0.1, 1.0, 0.0), (0.1, 0.9, -1.0)])
def test_settings_out_of_range(lr, momentum, decay):
    with pytest.raises(ValueError, match="out of range"):
        MXNetSGD([nn.Parameter(torch.ones(1))], lr, momentum, decay)


def test_adamw_obeys_the_same_rules():
    model = Flat(a_weight=np.ones(2), a_bias=np.ones(2), still_weight=np.ones(2), conv1_weight=np.ones(2))
    model.conv1_weight.requires_grad_(False)
    cfg = load_config(None, ["TRAIN.OPTIMIZER=adamw", "TRAIN.lr=0.1", "TRAIN.wd=0.5"])
    optimizer = build_optimizer(model, cfg, {"still_weight": 0.0})
    set_learning_rate(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    np.testing.assert_allclose(model.a_weight.detach(), 1 - 0.1 * 0.5)
    for name in ("a_bias", "still_weight", "conv1_weight"):
        np.testing.assert_array_equal(getattr(model, name).detach(), 1.0)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_state_comes_back_and_the_settings_stay(kind):
    def make(wd):
        model = Flat(a_weight=np.arange(3.0), a_bias=np.ones(2))
        cfg = load_config(None, [f"TRAIN.OPTIMIZER={kind}", "TRAIN.lr=0.1", f"TRAIN.wd={wd}"])
        return model, build_optimizer(model, cfg)

    def step(model, optimizer):
        for parameter in model.parameters():
            parameter.grad = parameter.detach() * 0.5 + 1
        optimizer.step()

    first, first_optimizer = make(0.01)
    step(first, first_optimizer)
    second, second_optimizer = make(0.02)
    second.load_state_dict(first.state_dict())
    load_optimizer_state(second_optimizer, copy.deepcopy(first_optimizer.state_dict()))
    assert {group["weight_decay"] for group in second_optimizer.param_groups} == {0.0, 0.02}
    for group in second_optimizer.param_groups:
        group["weight_decay"] = min(group["weight_decay"], 0.01)
    step(first, first_optimizer)
    step(second, second_optimizer)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_other_parameters_or_another_rule_is_refused():
    def make(kind="sgd", **values):
        model = Flat(**values)
        cfg = load_config(None, [f"TRAIN.OPTIMIZER={kind}", "TRAIN.lr=0.1"])
        optimizer = build_optimizer(model, cfg)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return optimizer

    one = np.ones(2)
    with pytest.raises(ValueError, match="c_weight"):
        load_optimizer_state(make(a_weight=one), make(c_weight=one).state_dict())
    with pytest.raises(ValueError, match="exp_avg"):
        load_optimizer_state(make(a_weight=one), make("adamw", a_weight=one).state_dict())
