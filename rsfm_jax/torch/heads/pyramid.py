"""The simple feature pyramid: maps of strides 4, 8, 16 and 32 pixels from a plain ViT's last map, for detection and segmentation.

Legend: B batch, D encoder width, C channels, h w rows and columns of patches, H W pixels, p patch side.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.torch.heads.convolutions import Features, Rescale, check_features, conv_norm

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


class SimpleFeaturePyramid(nn.Module):
    """Four maps from the last layer alone, without a top-down path.

    Each stride has its own `Rescale`, then a 1x1 and a 3x3 convolution, each with LayerNorm over the channels. Sizes are
    ceil(H / stride), where H = h p, so that no map is empty.

    Source: ViTDet, https://arxiv.org/abs/2203.16527, section 3 "Simple feature pyramid"; there p = 16. Any p here, powers of two exactly.

    Attributes:
      out_channels: C of every map (torchvision's detectors ask for it).
    """

    def __init__(self, width: int, patch: int, channels: int = 256, p6: bool = False) -> None:
        """Builds the layers.

        Args:
          width: D.
          patch: p, the encoder's patch side in pixels.
          channels: C.
          p6: Also return every second position of p5, stride 64, as FPN's region proposals want.
        """
        super().__init__()
        self.input_width, self.out_channels, self.p6 = width, channels, p6
        self.levels = nn.ModuleDict()
        for name, stride in STRIDES.items():
            rescale = Rescale(width, patch, stride)
            smooth = [conv_norm(rescale.width, channels, 1, activate=False), conv_norm(channels, channels, 3, activate=False)]
            self.levels[name] = nn.Sequential(rescale, *smooth)

    def forward(self, features: Features) -> OrderedDict[str, torch.Tensor]:
        """Builds the pyramid from the last of the tapped layers.

        Args:
          features: Layers, each (B, D, h, w).

        Returns:
          "p2", "p3", "p4", "p5" and, if asked for, "p6", in this order: (B, C, rows, columns).

        Raises:
          ValueError: features of another width, or on different grids.
        """
        check_features(features, self.input_width)
        maps = OrderedDict((name, level(features[-1])) for name, level in self.levels.items())
        if self.p6:
            maps["p6"] = F.max_pool2d(maps["p5"], kernel_size=1, stride=2)
        return maps


class PyramidBackbone(nn.Module):
    """Images to pyramid: what torchvision's FasterRCNN and MaskRCNN take as ``backbone``.

    `rsfm_jax.torch.torchvision.detector` makes them. By hand, their defaults fit other backbones: the default anchors (five sizes, one per
    map) need ``p6=True``, RoI poolers ``featmap_names=["p2", "p3", "p4", "p5"]``, and the transform of images has to leave values and sizes
    alone, for the encoder normalises by itself and is told one GSD.

    Attributes:
      out_channels: C of every map.
    """

    def __init__(self, encode: Callable[[torch.Tensor], Features], pyramid: SimpleFeaturePyramid) -> None:
        """Joins an encoder and a pyramid.

        Args:
          encode: Images (B, bands, H, W) to features, as `rsfm_jax.torch.images.Taps` does; trained along if it is a module.
          pyramid: The pyramid for its features.
        """
        super().__init__()
        self.encode, self.pyramid, self.out_channels = encode, pyramid, pyramid.out_channels

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """(B, bands, H, W) to the maps of `SimpleFeaturePyramid`."""
        return self.pyramid(self.encode(images))
