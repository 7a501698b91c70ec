"""Dense regression: an image of values from features, alone or as a correction of an input image.

Legend: B batch, D encoder width, C output channels, h w rows and columns of patches, H W pixels, p patch side.
"""

import math

import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.torch.heads.convolutions import Features, LayerNorm2d, check_features, conv_norm, resize


def pixel_decoder(inputs: int, patch: int, channels: int) -> nn.Sequential:
    """Layers from concatenated features (B, inputs, h, w) to (B, channels, 2^n h, 2^n w), 2^n the power of two nearest to p.

    Args:
      inputs: Channels of all tapped layers together.
      patch: p in pixels.
      channels: Of every stage.

    Returns:
      The layers.

    Raises:
      ValueError: a patch that is not positive.
    """
    if patch < 1:
        raise ValueError(f"patch is {patch} pixels; expected at least 1")
    stages: list[nn.Module] = [conv_norm(inputs, channels, 1)]
    for _ in range(round(math.log2(patch))):
        stages += [nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), LayerNorm2d(channels), nn.GELU()]
    return nn.Sequential(*stages)


class DenseRegression(nn.Module):
    """Values per pixel: doublings by pixel shuffle up to the pixels, then one convolution.

    With ``residual=True`` the result is the given image plus the correction, and the last convolution starts at zero: the untrained head
    returns the image itself (cloud removal), or its bicubic upsampling (pansharpening), which is also the row to beat.

    Source: sub-pixel convolution, https://arxiv.org/abs/1609.05158; identity start as in https://arxiv.org/abs/2003.04887 and
    ControlNet's zero convolutions, https://arxiv.org/abs/2302.05543.
    """

    def __init__(self, width: int, outputs: int, patch: int, layers: int = 1, channels: int = 64, residual: bool = False) -> None:
        """Builds the layers.

        Args:
          width: D.
          outputs: C.
          patch: p in pixels; where it is no power of two, a bilinear resize makes the rest.
          layers: How many tapped layers are given; they are concatenated.
          channels: Channels of the decoder.
          residual: Whether the result is a correction of an image.

        Raises:
          ValueError: a patch that is not positive.
        """
        super().__init__()
        self.width, self.layers, self.outputs, self.residual = width, layers, outputs, residual
        self.decoder = pixel_decoder(width * layers, patch, channels)
        self.last = nn.Conv2d(channels, outputs, 3, padding=1)
        if residual:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)

    def forward(self, features: Features, size: tuple[int, int], image: torch.Tensor | None = None) -> torch.Tensor:
        """Computes values.

        Args:
          features: Layers, each (B, D, h, w).
          size: H and W of the result.
          image: (B, C, rows, columns) of the same footprint, in the result's channels and unit; only and always for a residual head.

        Returns:
          (B, C, H, W).

        Raises:
          ValueError: features that this head was not made for, or an image that is missing, not wanted or of other channels.
        """
        check_features(features, self.width, self.layers)
        size = (int(size[0]), int(size[1]))
        correction = self.last(resize(self.decoder(torch.cat(list(features), dim=1)), size))
        if (image is None) == self.residual:
            raise ValueError(f"image is {'missing' if image is None else 'given'}, but this head was made with residual={self.residual}")
        if image is None:
            return correction
        if image.ndim != 4 or image.shape[:2] != correction.shape[:2]:
            raise ValueError(f"image has shape {tuple(image.shape)}; expected ({len(correction)}, {self.outputs}, rows, columns)")
        if tuple(image.shape[-2:]) != size:
            image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
        return image + correction
