"""Check that the values of different configuration keys are compatible."""

from __future__ import annotations

from collections.abc import Iterator

from easydict import EasyDict

Problem = tuple[tuple[str, ...], str]


def problems(cfg: EasyDict, given: set[str]) -> Iterator[Problem]:
    """Yield (full names of keys, problem) for all values of `cfg` that contradict each other.

    given: the keys that a file or an argument has set.
    """
    network, train = cfg.network, cfg.TRAIN
    if network.FEAT_DIM % 2:
        yield ("network.FEAT_DIM",), f"'network.FEAT_DIM' is cut in two halves and must be even, not {network.FEAT_DIM}"
    # Not checked with the default FGFA_FEAT_DIM: R-FCN with another FEAT_DIM does not use it
    if network.FGFA_FEAT_DIM < network.FEAT_DIM + 4 and "network.FGFA_FEAT_DIM" in given:
        yield (
            ("network.FEAT_DIM", "network.FGFA_FEAT_DIM"),
            f"'network.FGFA_FEAT_DIM' {network.FGFA_FEAT_DIM} leaves no channels for the embedding beside the "
            f"{network.FEAT_DIM} of 'network.FEAT_DIM'; it is their sum",
        )
    if train.begin_epoch >= train.end_epoch:
        yield (
            ("TRAIN.begin_epoch", "TRAIN.end_epoch"),
            f"'TRAIN.end_epoch' {train.end_epoch} must be above 'TRAIN.begin_epoch' {train.begin_epoch}",
        )
    if cfg.SCALES[0][0] > cfg.SCALES[0][1]:
        yield ("SCALES",), f"'SCALES' is [[short side, long side]], not {cfg.SCALES}"
    for low, high in (
        ("MIN_OFFSET", "MAX_OFFSET"),
        ("RPN_NEGATIVE_OVERLAP", "RPN_POSITIVE_OVERLAP"),
        ("BG_THRESH_LO", "BG_THRESH_HI"),
        ("BG_THRESH_HI", "FG_THRESH"),
    ):
        if train[low] > train[high]:
            names = (f"TRAIN.{low}", f"TRAIN.{high}")
            yield names, f"'{names[0]}' {train[low]} must not be above '{names[1]}' {train[high]}"
