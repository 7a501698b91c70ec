"""Semantic segmentation: a linear probe, a UPerNet-like head and a pyramid head, all ``forward(features, size) -> logits``.

Legend: B batch, D encoder width, C channels, K classes, h w rows and columns of patches, H W pixels, p patch side.
"""

import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.torch.heads.convolutions import Features, Rescale, check_features, conv_norm, resize
from rsfm_jax.torch.heads.pyramid import STRIDES, SimpleFeaturePyramid

POOLED_SIDES = (1, 2, 3, 6)


class LinearSegmentation(nn.Module):
    """A linear classifier of each patch, its logits resized bilinearly to pixels: what the features know without a decoder's help."""

    def __init__(self, width: int, classes: int, layers: int = 1) -> None:
        """Builds the layer.

        Args:
          width: D.
          classes: K.
          layers: How many tapped layers are given; they are concatenated.
        """
        super().__init__()
        self.width, self.layers = width, layers
        self.classifier = nn.Conv2d(width * layers, classes, 1)

    def forward(self, features: Features, size: tuple[int, int]) -> torch.Tensor:
        """Classifies pixels.

        Args:
          features: Layers, each (B, D, h, w).
          size: H and W.

        Returns:
          Logits (B, K, H, W).

        Raises:
          ValueError: features that this head was not made for.
        """
        check_features(features, self.width, self.layers)
        return resize(self.classifier(torch.cat(list(features), dim=1)), size)


class UPerSegmentation(nn.Module):
    """Four tapped layers as a hierarchy: pooled pyramid on the top one, top-down path, fusion of all at stride 4.

    A ViT's layers have one stride; here the first is rescaled to 4 pixels, the next to 8, 16 and 32, by learned layers, as BEiT and MAE do.

    Source: UPerNet, https://arxiv.org/abs/1807.10221, section 3; LayerNorm and GELU for BatchNorm and ReLU (see `convolutions`), no
    dropout, no auxiliary head.
    """

    def __init__(self, width: int, classes: int, patch: int, channels: int = 256) -> None:
        """Builds the layers.

        Args:
          width: D.
          classes: K.
          patch: p in pixels.
          channels: Channels of the decoder.
        """
        super().__init__()
        self.width = width
        rescale = [Rescale(width, patch, stride) for stride in STRIDES.values()]
        widths = [level.width for level in rescale]
        self.rescale = nn.ModuleList(rescale)
        self.pooled = nn.ModuleList(conv_norm(widths[-1], channels, 1) for _ in POOLED_SIDES)
        self.top = conv_norm(widths[-1] + len(POOLED_SIDES) * channels, channels, 3)
        self.lateral = nn.ModuleList(conv_norm(w, channels, 1) for w in widths[:-1])
        self.smooth = nn.ModuleList(conv_norm(channels, channels, 3) for _ in widths[:-1])
        self.fuse = conv_norm(len(widths) * channels, channels, 3)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Features, size: tuple[int, int]) -> torch.Tensor:
        """Classifies pixels.

        Args:
          features: Four layers, shallow to deep, each (B, D, h, w).
          size: H and W.

        Returns:
          Logits (B, K, H, W).

        Raises:
          ValueError: features that this head was not made for.
        """
        check_features(features, self.width, len(STRIDES))
        *maps, last = [rescale(x) for rescale, x in zip(self.rescale, features, strict=True)]
        x = self._pool(last)
        outputs = [x]
        for y, lateral, smooth in zip(maps[::-1], self.lateral[::-1], self.smooth[::-1], strict=True):
            x = lateral(y) + resize(x, y.shape[-2:])
            outputs.append(smooth(x))
        finest = outputs[-1].shape[-2:]
        return resize(self.classifier(self.fuse(torch.cat([resize(y, finest) for y in outputs], dim=1))), size)

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        """PSPNet's pyramid pooling: means over 1, 2 x 2, 3 x 3 and 6 x 6 regions beside the map itself."""
        regions = [resize(conv(F.adaptive_avg_pool2d(x, side)), x.shape[-2:]) for conv, side in zip(self.pooled, POOLED_SIDES, strict=True)]
        return self.top(torch.cat([x, *regions], dim=1))


class PyramidSegmentation(nn.Module):
    """The simple feature pyramid of the last layer; its maps, each through one convolution, are summed at stride 4.

    Source: ViTDet's pyramid with the semantic branch of Panoptic FPN, https://arxiv.org/abs/1901.02446, with one convolution per map
    for its stages.
    """

    def __init__(self, width: int, classes: int, patch: int, channels: int = 256) -> None:
        """Builds the layers.

        Args:
          width: D.
          classes: K.
          patch: p in pixels.
          channels: Channels of the pyramid and of the fusion.
        """
        super().__init__()
        self.pyramid = SimpleFeaturePyramid(width, patch, channels)
        self.convs = nn.ModuleList(conv_norm(channels, channels, 3) for _ in STRIDES)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Features, size: tuple[int, int]) -> torch.Tensor:
        """Classifies pixels.

        Args:
          features: Layers, each (B, D, h, w); the last is used.
          size: H and W.

        Returns:
          Logits (B, K, H, W).

        Raises:
          ValueError: features that this head was not made for.
        """
        maps = list(self.pyramid(features).values())
        fused = torch.stack([resize(conv(x), maps[0].shape[-2:]) for conv, x in zip(self.convs, maps, strict=True)]).sum(dim=0)
        return resize(self.classifier(fused), size)
