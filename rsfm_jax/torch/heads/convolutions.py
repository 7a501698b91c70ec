"""What the convolutional heads share: the check of their input, a norm, a convolution with it, resizing, changing the stride.

All heads take FEATURES: a sequence of tapped layers, each float (B, D, h, w), all on the grid of one encoder whose patch side is p pixels.

Why no BatchNorm: scenes are large, so batches are small; statistics of one image are poor, BatchNorm refuses a pooled 1 x 1 map of one
image in training, and it differs between training and use. Why not GroupNorm: it averages over the whole map, so that a pixel's result
depends on where a scene was cut into tiles. `LayerNorm2d` looks at one position at a time: any batch, any tile.

Legend: B batch, D encoder width, C channels, h w rows and columns of patches, H W pixels, p patch side.
"""

from collections.abc import Sequence
import math

import torch
from torch import nn
import torch.nn.functional as F

Features = Sequence[torch.Tensor]


def check_features(features: Features, width: int, layers: int | None = None) -> None:
    """Refuses features that are not what a head was made for.

    Args:
      features: Tapped layers, each (B, D, h, w).
      width: D.
      layers: How many there must be; None for at least one.

    Raises:
      ValueError: another number of layers, another shape, or layers on different grids.
    """
    shapes = [tuple(x.shape) for x in features]
    if isinstance(features, torch.Tensor) or not shapes or any(len(shape) != 4 or shape[1] != width for shape in shapes):
        seen = f"a tensor {tuple(features.shape)}" if isinstance(features, torch.Tensor) else f"shapes {shapes}"
        raise ValueError(f"features: got {seen}; expected a sequence of (B, {width}, h, w)")
    if layers is not None and len(shapes) != layers:
        raise ValueError(f"features: got {len(shapes)} layers; this head was made for {layers}")
    if len(set(shapes)) != 1:
        raise ValueError(f"features: layers have different shapes {shapes}; expected one grid of patches")


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each position of (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (B, C, h, w)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv_norm(inputs: int, outputs: int, kernel: int, activate: bool = True) -> nn.Sequential:
    """A convolution that keeps the size, its norm (which has the bias) and, unless told otherwise, GELU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), LayerNorm2d(outputs)]
    return nn.Sequential(*layers, nn.GELU()) if activate else nn.Sequential(*layers)


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear resize of (B, C, h, w) that keeps the footprint (pixel edges, not centres, are aligned); ``x`` itself for an equal size."""
    size = (int(size[0]), int(size[1]))
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Rescale(nn.Module):
    """A map of stride p pixels at another stride: transposed convolutions up, max-pooling down.

    By the power of two nearest to p / stride; each doubling halves the width. Where p / stride is no power of two (p = 14), a bilinear
    resize follows, by less than a factor sqrt(2).

    Attributes:
      width: Channels of the result.
    """

    def __init__(self, width: int, patch: int, stride: int) -> None:
        """Builds the layers.

        Args:
          width: D.
          patch: p, the stride of the input in pixels.
          stride: Stride of the result in pixels.

        Raises:
          ValueError: a stride that is not positive, or a width that can't be halved often enough.
        """
        super().__init__()
        if patch < 1 or stride < 1:
            raise ValueError(f"patch is {patch} and stride {stride} pixels; both must be at least 1")
        self.patch, self.stride = patch, stride
        doublings = round(math.log2(patch / stride))
        if width >> max(doublings, 0) < 1:
            raise ValueError(f"width is {width}; it is halved {doublings} times to go from stride {patch} to {stride}")
        layers: list[nn.Module] = []
        for i in range(doublings):
            layers += [LayerNorm2d(width >> i), nn.GELU()] if i else []
            layers.append(nn.ConvTranspose2d(width >> i, width >> (i + 1), 2, stride=2))
        if doublings < 0:
            layers.append(nn.MaxPool2d(2**-doublings, ceil_mode=True))
        self.layers = nn.Sequential(*layers)
        self.width = width >> max(doublings, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) to (B, width, ceil(h p / stride), ceil(w p / stride))."""
        rows, columns = (-(-side * self.patch // self.stride) for side in x.shape[-2:])
        return resize(self.layers(x), (rows, columns))
