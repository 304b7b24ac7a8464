"""All kinds of hostile inputs by name."""

from __future__ import annotations

from tools.fuzzing import data_files, images, outputs, processes, results, settings, weights

KINDS = {
    kind.name: kind
    for module in (images, data_files, settings, weights, results, outputs, processes)
    for kind in module.KINDS
}
