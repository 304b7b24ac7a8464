"""The channels that recordings of wide maps hold; they store only some of them."""

from __future__ import annotations

from torch import Tensor

from tools.parity.rows import Recording, RecordingError, Tolerance

# For features, flow and scores: of the largest value. The recordings' own tolerance has 1e-5 more.
FEATURES = Tolerance(relative=1e-5)


def channel_step(channels: int, recorded: int, usual: int) -> int:
    """The n of "every n-th of `channels` channels, from the first" that gives `recorded` ones; `usual` if that does."""
    fitting = [step for step in range(1, channels + 1) if len(range(0, channels, step)) == recorded]
    if not fitting:
        raise RecordingError(f"{recorded} recorded channels are not every n-th of {channels}")
    return usual if usual in fitting else fitting[0]


def compare_every(recording: Recording, array: str, actual: Tensor, usual: int) -> None:
    """`actual` (B, C, h, w) with a recorded map of every n-th channel, usually every `usual`-th."""
    try:
        step = channel_step(actual.shape[1], recording[array].shape[1], usual)
    except RecordingError as error:
        recording.fail(array, str(error))
        return
    note = "" if step == 1 else f"one channel in {step}"
    recording.compare(array, actual[:, ::step], FEATURES, note)


def compare_listed(recording: Recording, array: str, actual: Tensor) -> None:
    """`actual` (1, C, h, w) with a recorded map (c, h, w) of the channels that `<array>_channels` lists."""
    channels = recording.input(f"{array}_channels")
    if channels.min() < 0 or channels.max() >= actual.shape[1]:
        recording.fail(array, f"the map has {actual.shape[1]} channels, and {array}_channels names others")
        return
    recording.compare(array, actual[0, channels], FEATURES)
