"""Adapt the first convolution of a network to images with other means, standard deviations or channel order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageForm:
    """A network's input, made of colours c from 0 to 255: (c - mean) / std. means, stds: R, G, B. bgr: its order."""

    means: tuple[float, float, float]
    stds: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False


OURS = ImageForm((123.15, 115.90, 103.06))  # PIXEL_MEANS of the originals


def adapt_first_layer(weight: Tensor, trained: ImageForm, ours: ImageForm) -> tuple[Tensor, Tensor]:
    """(new weight, shift): convolving an image in `ours` with it and adding shift (C,) equals `weight` on `trained`.

    weight: (C, 3 * images, kh, kw) float32; the channels of several images are concatenated. Equal except for rounding
    wherever the kernel lies inside the image. Outside, both networks see zeros, which stand for the mean colour: there
    the results differ by the outer part of the kernel times the difference of the mean colours.
    """
    exact = weight.double().unflatten(1, (-1, 3))  # (C, images, 3, kh, kw)
    if trained.bgr:
        exact = exact.flip(2)
    scale, offset = _affine(trained, ours)
    shift = (exact.sum(dim=(3, 4)) * offset).sum(dim=(1, 2))  # (C,)
    exact = exact * scale[:, None, None]
    if ours.bgr:
        exact = exact.flip(2)
    return exact.flatten(1, 2).float().contiguous(), shift


def _affine(trained: ImageForm, ours: ImageForm) -> tuple[Tensor, Tensor]:
    """(scale, offset) for R, G, B: a value x in `ours` is x * scale + offset in `trained`."""
    means, stds, our_means, our_stds = (
        torch.tensor(numbers, dtype=torch.float64) for numbers in (trained.means, trained.stds, ours.means, ours.stds)
    )
    return our_stds / stds, (our_means - means) / stds
