"""Files of weights of any origin: their arrays by name, and which network they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lib.checkpoints.conversion import WeightsError
from lib.checkpoints.mxnet_params import ParamsFile, is_params, read_params
from lib.checkpoints.plain_pickle import read_pickle
from lib.checkpoints.resnet_import import own_resnet_names
from lib.checkpoints.sizes import network_size
from lib.engine.checkpoint import read_tensors
from lib.models.mxnet_names import mxnet_name

FLOWNET = "flownet-pytorch"
_INSIDE = ("model", "state_dict", "model_state_dict", "blobs")  # where files keep their weights by name


@dataclass(frozen=True)
class WeightFile:
    """A file's weights by the names in the file (arrays), and its other contents (rest).

    params: the file in MXNet's form, None for other files.
    """

    arrays: Mapping[str, Any]
    rest: Mapping[str, Any]
    params: ParamsFile | None = None

    def original_shapes(self) -> dict[str, tuple[int, ...]]:
        """Original name -> shape, for this project's files and the originals'; `_test` entries have the plain name."""
        if self.params is not None:
            bare = {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in self.arrays.items()}
            return {name.replace("_test", ""): array.shape for name, array in bare.items()}
        tensors = {name: value for name, value in self.arrays.items() if isinstance(value, Tensor)}
        return {original: tuple(value.shape) for name, value in tensors.items() if (original := mxnet_name(name))}

    def kind(self) -> str:
        """The kind of network: one of `lib.checkpoints.sizes.KINDS`, or another project's.

        Raises WeightsError if the names do not show it.
        """
        names = list(self.arrays)
        if any("predict_flow6." in name for name in names):
            return FLOWNET
        if any("stem.conv1." in name for name in names) and own_resnet_names(names):
            return "maskrcnn-benchmark"
        if any("layer1.0.conv1." in name for name in names):
            raise WeightsError(
                "torchvision and mmdetection give a ResNet the same names, but mean other images and strides; say "
                "which it is: --kind torchvision, or --kind mmdetection (Caffe style)"
            )
        if "res2_0_branch2a_w" in names:
            return "detectron"
        return network_size(self.original_shapes()).kind


def read_weight_file(path: Path) -> WeightFile:
    """Read `path`: a .params, .pth, .pth.tar or .pkl file, recognised by its content; no code in it is run.

    Raises InputError; a WeightsError does not name the file.
    """
    if is_params(path):
        params = read_params(path)
        if not params.names:
            raise WeightsError(f"a list of {len(params.arrays)} arrays without names, so nobody can say which is which")
        return WeightFile(params.named(), {}, params)
    if path.suffix == ".pkl":
        content = read_pickle(path)
    else:
        content = read_tensors(path, "give a .params, .pth, .pth.tar or .pkl file")
    inside = next((key for key in _INSIDE if isinstance(content, dict) and isinstance(content.get(key), dict)), None)
    arrays = content if inside is None else content[inside]
    if not isinstance(arrays, dict) or not all(isinstance(name, str) for name in arrays):
        raise WeightsError(f"holds no weights by name, but a {type(content).__name__} of something else")
    return WeightFile(arrays, {} if inside is None else {key: content[key] for key in content if key != inside})
