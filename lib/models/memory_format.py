"""Memory format of the weights and maps of the convolutional networks."""

from __future__ import annotations

import torch

_SAFE_CHANNELS = 16


def fast_memory_format(narrowest: int) -> torch.memory_format:
    """Channels last, the faster format on CPUs and on GPUs with mixed precision, unless the network is too narrow.

    narrowest: channels of the network's first convolution. Shapes and values do not depend on the format. Narrow
    networks keep the contiguous format: in torch 2.14.1 the CPU gradient of a 1x1 convolution of stride 2 with 8 input
    channels or fewer writes outside its memory in channels-last format.
    """
    return torch.channels_last if narrowest >= _SAFE_CHANNELS else torch.contiguous_format
