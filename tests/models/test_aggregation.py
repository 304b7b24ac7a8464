from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.models.aggregation import EmbedNet, aggregation_weights, cosine_similarity, length


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).requires_grad_()


def test_division_by_the_length_is_the_recorded_normalisation(golden):
    """One position is all zero, one tiny."""
    recording = golden("layers_public")
    x = _tensor(recording["l2norm_x"])
    out = x / length(x, 1)
    np.testing.assert_allclose(out.detach(), recording["l2norm_out"], atol=1e-5)
    out.backward(torch.from_numpy(recording["l2norm_head"]))
    np.testing.assert_allclose(x.grad, recording["l2norm_grad"], atol=1e-5, rtol=1e-5)


def test_similarity_and_weights_are_the_recorded_ones(golden):
    recording = golden("layers_public")
    x, y = _tensor(recording["fgfaw_x"]), _tensor(recording["fgfaw_y"])
    similarities = cosine_similarity(x, y)
    weights = aggregation_weights(similarities[None])[0]
    np.testing.assert_allclose(similarities.detach(), recording["fgfaw_cos"], atol=1e-5)
    np.testing.assert_allclose(weights.detach(), recording["fgfaw_softmax"], atol=1e-5)
    weights.backward(torch.from_numpy(recording["fgfaw_head"]))
    np.testing.assert_allclose(x.grad, recording["fgfaw_grad_x"], atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(y.grad, recording["fgfaw_grad_y"], atol=1e-5, rtol=1e-6)


def test_gradients_in_double_precision():
    torch.manual_seed(0)
    x, y = (torch.randn(1, 2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    counts = torch.tensor([[2, 1]])
    assert torch.autograd.gradcheck(lambda a, b: aggregation_weights(cosine_similarity(a, b), counts), (x, y))


def test_similarity_of_plain_vectors():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0], [0.0, 5.0], [1.0, 1.0], [0.0, 0.0]])[..., None, None]
    expected = [1.0, 1.0, -1.0, 0.0, math.sqrt(0.5), 0.0]
    assert cosine_similarity(x, x[:1]).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_count_is_that_many_equal_frames():
    torch.manual_seed(0)
    similarities = torch.randn(2, 3, 1, 4, 5)
    repeated = aggregation_weights(similarities[:, [0, 1, 1, 1, 2]])
    counted = aggregation_weights(similarities, torch.tensor([[1, 3, 1]] * 2))
    torch.testing.assert_close(counted[:, 1], repeated[:, 1:4].sum(dim=1))
    torch.testing.assert_close(counted[:, [0, 2]], repeated[:, [0, 4]])
    torch.testing.assert_close(aggregation_weights(similarities, torch.ones(2, 3)), aggregation_weights(similarities))


def test_embedding_is_three_convolutions_that_begin_as_the_originals():
    torch.manual_seed(0)
    net = EmbedNet()
    assert [tuple(conv.weight.shape) for conv in net.children()] == [
        (512, 1024, 1, 1),
        (512, 512, 3, 3),
        (2048, 512, 1, 1),
    ]
    for conv in net.children():
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / conv.weight[0].numel()), rel=0.02)
        assert not conv.bias.any()
    small = EmbedNet(4, 3, 5).double()
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    first, second, third = (np.asarray(conv.weight.detach()) for conv in small.children())
    hidden = np.maximum(np.einsum("oc,bchw->bohw", first[..., 0, 0], x), 0)
    padded = np.pad(hidden, ((0, 0), (0, 0), (1, 1), (1, 1)))
    hidden = sum(
        np.einsum("oc,bchw->bohw", second[..., i, j], padded[..., i : i + 6, j : j + 7])
        for i in range(3)
        for j in range(3)
    )
    expected = np.einsum("oc,bchw->bohw", third[..., 0, 0], np.maximum(hidden, 0))
    np.testing.assert_allclose(small(x).detach(), expected, atol=1e-12)
    assert expected.min() < 0  # no ReLU at the end
