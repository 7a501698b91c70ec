"""Change between two dates: one encoder for both, their features fused in front of any segmentation head.

Legend: B batch, D encoder width, K classes, h w rows and columns of patches, H W pixels.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from rsfm_jax.torch.heads.convolutions import Features

FACTORS = {"difference": 1, "concatenate": 2, "both": 3}


class SiameseChange(nn.Module):
    """Two dates' features to logits.

    ``difference`` is |before - after|, layer by layer: the result is the same when the dates are swapped. ``concatenate`` keeps the
    dates apart, for changes with a direction (built, cleared); ``both`` gives the head before, after and |before - after|.

    Source: FC-Siam-diff and FC-Siam-conc, https://arxiv.org/abs/1810.08462, at the tapped layers instead of a U-Net's skips.
    """

    def __init__(
        self, build_head: Callable[[int], nn.Module], width: int, fusion: Literal["difference", "concatenate", "both"] = "difference"
    ) -> None:
        """Builds the head for the fused width.

        Args:
          build_head: From the width of the fused features to a head, e.g. ``lambda width: UPerSegmentation(width, classes=2, patch=16)``.
          width: D.
          fusion: How the dates are fused.

        Raises:
          ValueError: an unknown fusion.
        """
        super().__init__()
        if fusion not in FACTORS:
            raise ValueError(f"fusion is {fusion!r}; expected one of {', '.join(map(repr, FACTORS))}")
        self.fusion = fusion
        self.head = build_head(width * FACTORS[fusion])

    def forward(self, before: Features, after: Features, size: tuple[int, int]) -> torch.Tensor:
        """Classifies pixels.

        Args:
          before: The first date's layers, each (B, D, h, w).
          after: The second date's, of equal shapes.
          size: H and W.

        Returns:
          Logits (B, K, H, W).

        Raises:
          ValueError: the dates differ in layers or shapes.
        """
        shapes = [[tuple(x.shape) for x in features] for features in (before, after)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"before has layers of shapes {shapes[0]}, after {shapes[1]}; expected equal ones")
        return self.head([self._fuse(a, b) for a, b in zip(before, after, strict=True)], size)

    def _fuse(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if self.fusion == "difference":
            return (a - b).abs()
        return torch.cat([a, b] if self.fusion == "concatenate" else [a, b, (a - b).abs()], dim=1)
