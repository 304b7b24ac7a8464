"""Weights of two key frames by similarity, against the rule written down cell by cell in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dff.similarity import similarity_weights
from tests.models.small_video import small_dff
from tests.ops.test_flow_warp import warp_by_loops


def plain_weights(shares: list[float], embedding: Tensor, key_embeddings: list[Tensor], flows: list[Tensor]) -> Tensor:
    """Weights (N, h, w) of one frame's N key frames: embedding and key_embeddings (E, h, w), flows (2, h, w)."""
    own, (height, width) = embedding.double().numpy(), embedding.shape[1:]
    unweighted = np.empty((len(shares), height, width))
    for n, (share, key_embedding, flow) in enumerate(zip(shares, key_embeddings, flows, strict=True)):
        warped = warp_by_loops(key_embedding.double().numpy(), flow.double().numpy())
        lengths = np.sqrt((own**2).sum(0) + 1e-10) * np.sqrt((warped**2).sum(0) + 1e-10)
        cosines = (own * warped).sum(0) / lengths
        for y, x in np.ndindex(height, width):
            around = cosines[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            unweighted[n, y, x] = share * np.exp(around.mean() / 0.1)
    return torch.from_numpy(unweighted / unweighted.sum(0))


def random_pairs(size=(5, 7), seed=0):
    """Three frames, of which the second has one key frame and the others two."""
    generator = torch.Generator().manual_seed(seed)
    rows, shares = [0, 0, 1, 2, 2], [0.75, 0.25, 1.0, 0.1, 0.9]
    embeddings = torch.randn(3, 6, *size, generator=generator)
    keys = list(torch.randn(5, 1, 6, *size, generator=generator))
    flow = 2 * torch.randn(5, 2, *size, generator=generator)
    return rows, torch.tensor(shares)[:, None, None, None], embeddings, keys, flow


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (1, 1)])
def test_equals_the_rule(size):
    rows, shares, embeddings, keys, flow = random_pairs(size)
    found = similarity_weights(rows, shares, embeddings, keys, flow)
    for row in range(3):
        own = [p for p, other in enumerate(rows) if other == row]
        wanted = plain_weights(
            [float(shares[p]) for p in own], embeddings[row], [keys[p][0] for p in own], [flow[p] for p in own]
        )
        assert_close(found[own, 0].double(), wanted, atol=1e-5, rtol=1e-5)


def test_the_key_frame_that_looks_like_the_frame_counts_more():
    """Where both are as near in time, and one of them shows something else in the left half."""
    rows, _, embeddings, _, _ = random_pairs((6, 8))
    like, unlike = embeddings[:1].clone(), embeddings[:1].clone()
    unlike[..., :4] = torch.randn(1, 6, 6, 4, generator=torch.Generator().manual_seed(1))
    shares, still = torch.full((2, 1, 1, 1), 0.5), torch.zeros(2, 2, 6, 8)
    weights = similarity_weights([0, 0], shares, embeddings, [like, unlike], still)[:, 0]
    assert (weights[0, :, :3] > 0.9).all()
    assert_close(weights[0, :, 5:], torch.full((6, 3), 0.5))


def test_the_embedding_is_that_of_an_image_beside_an_empty_one():
    net, halves = small_dff().flow_net, torch.randn(2, 3, 45, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = net.embedding(halves)
        first = torch.nn.functional.leaky_relu(
            net.flow_conv1(torch.cat((torch.zeros_like(halves), halves), dim=1)), 0.1
        )
        assert whole.shape == (2, first.shape[1], 6, 9)
        assert_close(whole[:, :, 2, 3], first[:, :, 8:12, 12:16].mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
        assert_close(whole[:, :, 5, 8], first[:, :, 20:, 32:].mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
        net.split_first_layer()
        assert_close(net.embedding(halves), whole, atol=1e-5, rtol=1e-5)
