from __future__ import annotations

import pytest

from fgfa.window import Neighbourhood, Window

K = 3


def _slide(length: int, window: Window[int]) -> list[Neighbourhood[int]]:
    answers = []
    for frame in range(length):
        answer = window.add(frame)
        assert len(window.held) <= window.past + window.future + 1
        if answer is not None:
            assert answer.centre == frame - window.future  # as soon as all it needs is there
            answers.append(answer)
    return answers + window.close()


def _listed(answer: Neighbourhood[int]) -> list[int]:
    assert len(set(answer.averaged)) == len(answer.averaged)
    return sorted(
        frame for frame, count in zip(answer.averaged, answer.counts, strict=True) for _ in range(count) if count > 0
    )


@pytest.mark.parametrize("length", [0, 1, 2, K + 1, K + 2, 2 * K + 1, 2 * K + 2, 30])
@pytest.mark.parametrize(("past", "future"), [(K, K), (K, 0), (0, 0), (0, K), (1, 4)])
@pytest.mark.parametrize("include_centre", [True, False])
def test_every_frame_has_its_neighbours(length, past, future, include_centre):
    """As if the first and the last frame were repeated at the ends."""
    padded = [0] * past + list(range(length)) + [length - 1] * future
    answers = _slide(length, Window(past, future, include_centre))
    assert [answer.centre for answer in answers] == list(range(length))
    for centre, answer in enumerate(answers):
        expected = padded[centre : centre + past + future + 1]
        if not include_centre:
            del expected[past]
        else:
            assert answer.averaged[0] == centre
        assert _listed(answer) == expected


def test_window_is_as_new_after_a_video():
    window: Window[int] = Window(K, K)
    first = _slide(5, window)
    assert _slide(5, window) == first
    assert window.close() == []
