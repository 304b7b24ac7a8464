"""All kinds of hostile inputs by name."""

from __future__ import annotations

from tools.fuzzing import commands, data_files, environments, images, outputs, results, settings, signals, weights

KINDS = {
    kind.name: kind
    for module in (images, data_files, settings, weights, results, outputs, commands, signals, environments)
    for kind in module.KINDS
}
