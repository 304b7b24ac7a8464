"""layers_*: steps of the optimiser and the learning rates of a training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lib.engine.optimizer import MXNetSGD, parameter_groups, set_learning_rate
from lib.engine.schedule import Schedule
from tools.parity.rows import Recording, Tolerance

_RATES = Tolerance(element=1e-12)
_WEIGHTS = Tolerance(absolute=1e-9, element=2.4e-7)  # two units in the last place of float32
_STEPS = Schedule(base_lr=0.001, steps=(3, 6), warmup_lr=0.0001, warmup_step=2)  # of the recorded steps
_LONG = Schedule(base_lr=0.00025, steps=(10, 20), warmup_lr=0.00005, warmup_step=4)


def compare_learning_rates(recording: Recording) -> None:
    """The rates of updates 1, 2, ..."""
    for array, schedule in (("lr_by_num_update", _LONG), ("sgd_lr_after_step", _STEPS)):
        if array in recording:
            rates = [schedule(update) for update in range(1, len(recording[array]) + 1)]
            recording.compare(array, np.array(rates), _RATES)


def compare_sgd(recording: Recording) -> None:
    """sgd_w_STEP_NAME for as many steps and parameters as there are; those called frozen_* have lr_mult 0."""
    names = [match[1] for match in recording.matching(r"sgd_w_init_(.+)")]
    if not names:
        return
    model = nn.Module()
    for name in names:
        model.register_parameter(name, nn.Parameter(torch.from_numpy(recording.input(f"sgd_w_init_{name}")).clone()))
    slowed = {name: 0.0 for name in names if name.startswith("frozen")}
    optimizer = MXNetSGD(parameter_groups(model, 0.0005, slowed), lr=0.001, momentum=0.9)
    steps = 1 + max((int(match[1]) for match in recording.matching(r"sgd_w_(\d+)_.+")), default=-1)
    for step in range(steps):
        set_learning_rate(optimizer, _STEPS(step + 1))
        for name, parameter in model.named_parameters():
            parameter.grad = torch.from_numpy(recording.input(f"sgd_grad_{step}_{name}")).clone()
        optimizer.step()
        for name, parameter in model.named_parameters():
            recording.compare(f"sgd_w_{step}_{name}", parameter.detach().clone(), _WEIGHTS)
