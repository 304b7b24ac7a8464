"""Weigh key frames at each cell by how similar they are, when warped, to a frame; the similarity is that of FGFA."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.models.aggregation import cosine_similarity
from lib.ops import flow_warp

_TEMPERATURE = 0.1  # divides the cosine; found on synthetic clips that are in no test (docs/speed-accuracy.md)


def similarity_weights(
    rows: Sequence[int], shares: Tensor, embeddings: Tensor, key_embeddings: Sequence[Tensor], flow: Tensor
) -> Tensor:
    """The weights (P, 1, h, w) of P warped key frames; those of one frame sum to 1 at each cell.

    rows: for each of the P, which of the M frames it is warped to, ascending. shares: (P, 1, 1, 1), their weights
    without regard to similarity. embeddings: (M, E, h, w) of the frames; key_embeddings: P of (1, E, h, w);
    flow: (P, 2, h, w) from the frames to the key frames, in cells. All float32.

    A weight is proportional to share * exp(s / 0.1), where s is the cosine of the frame's embedding and the warped
    key frame's, averaged over 3 x 3 cells.
    """
    own = torch.cat([embeddings[row : row + 1] for row in rows])  # (P, E, h, w)
    similarities = cosine_similarity(flow_warp(torch.cat(list(key_embeddings)), flow), own)  # (P, 1, h, w)
    similarities = F.avg_pool2d(similarities, 3, stride=1, padding=1, count_include_pad=False)
    logits = shares.log() + similarities / _TEMPERATURE
    counts = [len(list(pairs)) for _, pairs in groupby(rows)]  # key frames of each frame
    return torch.cat([of_frame.softmax(dim=0) for of_frame in logits.split(counts)])
