"""MXNet's SGD, and which parameters are trained, decayed and at which multiple of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lib.config import Config
from lib.models.mxnet_names import mxnet_name


class MXNetSGD(torch.optim.Optimizer):
    """SGD with the learning rate inside the momentum buffer: v = momentum v - lr (g + wd w); w += v.

    See docs/rules.md, section 3. It differs from torch.optim.SGD when the rate changes: the contents of the buffer keep
    the rate that they were added with. A parameter without a gradient is treated as one with gradient 0, as in MXNet:
    momentum and weight decay still apply.
    """

    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        if lr < 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(f"lr {lr}, momentum {momentum}, weight_decay {weight_decay}: out of range")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = group["params"]
            if not weights:
                continue
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
            for w in weights:
                if "momentum_buffer" not in self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            buffers = [self.state[w]["momentum_buffer"] for w in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            if group["weight_decay"]:
                torch._foreach_add_(buffers, weights, alpha=-group["lr"] * group["weight_decay"])
            torch._foreach_add_(buffers, gradients, alpha=-group["lr"])
            torch._foreach_add_(weights, buffers)
        return loss


def parameter_groups(
    model: nn.Module, weight_decay: float, lr_mult: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The trained parameters of `model`, one group for each pair of weight decay and learning rate multiplier.

    Weight decay applies only where the ORIGINAL name ends in `_weight` or `_gamma`. lr_mult: original name -> multiple
    of the learning rate, 1 if not given. Raises KeyError for a name in `lr_mult` that no parameter has.
    """
    lr_mult = dict(lr_mult or {})
    unknown = set(lr_mult) - {_original_name(name) for name, _ in model.named_parameters()}
    if unknown:
        raise KeyError(f"learning rate multipliers for parameters that the model does not have: {sorted(unknown)}")
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            original = _original_name(name)
            decay = weight_decay if original.endswith(("_weight", "_gamma")) else 0.0
            groups.setdefault((decay, lr_mult.get(original, 1.0)), []).append((name, parameter))
    if not groups:
        raise ValueError("every parameter of the model is fixed: nothing to train; see network.FIXED_PARAMS")
    return [
        {"params": named, "weight_decay": decay, "lr_mult": mult} for (decay, mult), named in sorted(groups.items())
    ]


def _original_name(name: str) -> str:
    """The original name, which the rules refer to; a parameter that the originals do not have keeps its own."""
    return mxnet_name(name) or name.replace(".", "_")


def build_optimizer(model: nn.Module, cfg: Config, lr_mult: Mapping[str, float] | None = None) -> torch.optim.Optimizer:
    """The optimiser that `cfg.TRAIN` asks for, over the parameters of `model` that have a gradient."""
    groups = parameter_groups(model, cfg.TRAIN.wd, lr_mult)
    if cfg.TRAIN.OPTIMIZER == "adamw":
        return torch.optim.AdamW(groups, lr=cfg.TRAIN.lr, foreach=True)
    return MXNetSGD(groups, lr=cfg.TRAIN.lr, momentum=cfg.TRAIN.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_mult", 1.0)


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the buffers of `saved` (an optimiser's `state_dict`) into `optimizer`, whose settings are not changed.

    Raises ValueError if the two do not have the same parameters in the same groups, naming the first ones that differ:
    buffers are matched by position, and would silently be assigned to the wrong parameters.
    """
    present = optimizer.state_dict()
    mine = [name for group in present["param_groups"] for name in group.get("param_names", group["params"])]
    theirs = [name for group in saved["param_groups"] for name in group.get("param_names", group["params"])]
    if mine != theirs:
        only_here = sorted(set(mine) - set(theirs), key=str)[:8]
        only_there = sorted(set(theirs) - set(mine), key=str)[:8]
        raise ValueError(
            f"it trained other parameters, or with another weight decay: only here {only_here}, only there {only_there}"
        )
    kinds = [{key for state in s["state"].values() for key in state} for s in (present, saved)]
    expected = {"momentum_buffer"} if isinstance(optimizer, MXNetSGD) else {"step", "exp_avg", "exp_avg_sq"}
    if kinds[1] and kinds[1] != expected:
        raise ValueError(f"it was made with another TRAIN.OPTIMIZER: its buffers are {sorted(kinds[1])}")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": present["param_groups"]})
