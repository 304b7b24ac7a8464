import cv2
import numpy as np
import pytest

from lib.visualize.flow import FlowRow, colour_wheel, flow_colours, flow_sheet, read_along


@pytest.mark.parametrize(
    ("way", "colour"),
    [
        ((0, 0), (255, 255, 255)),
        ((2, 0), (0, 0, 255)),
        ((9, 0), (0, 0, 255)),
        ((1, 0), (127.5, 127.5, 255)),
        ((-2, 0), (255, 255, 0)),
        ((0, 2), (0, 255, 127.5)),
        ((0, -2), (255, 0, 127.5)),
        ((np.nan, 1), (0, 0, 0)),
        ((np.inf, 1), (0, 0, 0)),
    ],
)
def test_colours_say_where_to_and_how_far(way, colour):
    flow = np.array(way, np.float32).reshape(2, 1, 1)
    np.testing.assert_allclose(flow_colours(flow, 2.0)[0, 0], colour, atol=1)


def test_wheel_shows_every_direction_at_its_place():
    wheel = colour_wheel(101)
    np.testing.assert_allclose(wheel[50, 50], (255, 255, 255), atol=3)
    np.testing.assert_allclose(wheel[50, 99], (0, 0, 255), atol=8)  # to the right
    np.testing.assert_allclose(wheel[99, 50], (0, 255, 127), atol=8)  # down
    assert (wheel[0, 0] == 255).all()  # outside


@pytest.mark.parametrize("size", [(64, 96), (60, 90)])
def test_reading_along_the_true_flow_gives_the_frame(size):
    reference = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    flow = np.zeros((2, 4, 6), np.float32)
    flow[0], flow[1] = 1.0, -2.0
    found = read_along(reference, flow)
    np.testing.assert_array_equal(found[32:, :-16], reference[: size[0] - 32, 16:])
    assert not found[:32].any()


def test_sheet_shows_what_a_flow_explains():
    rng = np.random.default_rng(1)
    # Moderate contrast, so that differences are not cut off
    reference = cv2.GaussianBlur(rng.integers(100, 150, (96, 128, 3), dtype=np.uint8), (0, 0), 2)
    true = np.zeros((2, 6, 8), np.float32)
    true[0] = 1.0
    row = FlowRow(read_along(reference, true), reference, true, true)
    sheet = flow_sheet([row, row], scale=1.0)
    tile_height, tile_width = 96 + 4, 128 + 4
    assert sheet.shape == (2 * tile_height, 6 * tile_width, 3)
    tiles = [sheet[:60, i * tile_width : i * tile_width + 100] for i in range(6)]  # without captions and the wheel
    np.testing.assert_array_equal(tiles[0], row.current[:60, :100])
    np.testing.assert_array_equal(tiles[1], reference[:60, :100])
    assert (tiles[2] == (0, 0, 255)).all()
    assert (tiles[3] == tiles[2]).all()
    assert tiles[4].mean() > 5
    assert tiles[5].max() == 0
