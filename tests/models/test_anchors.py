import numpy as np
import torch

from lib.models.anchors import all_anchors, make_anchors


def test_anchors_match_the_recording(golden):
    layers = golden("layers_public")
    anchors = make_anchors(16, [0.5, 1, 2], [8, 16, 32])
    np.testing.assert_array_equal(anchors, layers["anchors_16_py"])
    np.testing.assert_array_equal(anchors, layers["anchors_16_cxx"])
    np.testing.assert_array_equal(make_anchors(8, [0.5, 1, 2, 3], [4, 8, 16]), layers["anchors_8_py"])


def test_square_anchor_of_one_cell_is_the_cell():
    assert make_anchors(16, [1], [1]).tolist() == [[0, 0, 15, 15]]


def test_anchors_of_a_map_run_by_row_column_anchor():
    anchors = make_anchors(16, [0.5, 1], [2])  # A = 2
    grid = all_anchors(anchors, height=3, width=4, stride=16)
    assert grid.shape == (3 * 4 * 2, 4)
    row, column, anchor = 2, 1, 1
    shift = torch.tensor([16.0 * column, 16.0 * row, 16.0 * column, 16.0 * row])
    assert torch.equal(grid[(row * 4 + column) * 2 + anchor], anchors[anchor] + shift)
