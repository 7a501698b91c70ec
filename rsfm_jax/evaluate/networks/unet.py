"""Networks of pixels alone that encoders are compared with: a small U-Net, and a linear classifier of each pixel's bands.

Both standardise bands themselves, by what the training side holds, and take values that were not observed as the mean.

Legend: B batch, C bands, K classes, H W pixels.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.torch.heads.convolutions import conv_norm, resize

LEVELS = 4
SMALLEST = 2 ** (LEVELS - 1)  # side of an image, in pixels


def parts_of(values: np.ndarray, valid: np.ndarray, rows: np.ndarray, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Values and where they were observed, (N, C, H, W), of the chips at rows, ``batch`` of them at a time, as `Standardise` takes them."""
    for start in range(0, len(rows), batch):
        here = rows[start : start + batch]
        yield torch.from_numpy(values[here]), torch.from_numpy(valid[here])


class Standardise(nn.Module):
    """(value - mean) / deviation of each band over what was observed in training; 0 where there is no observation."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, parts: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Takes the statistics, one part of the training side after the other; no more than one is held.

        Args:
          parts: Values (B, C, H, W), and where they were observed, bool of that shape.

        Raises:
          ValueError: A band has no observation.
        """
        super().__init__()
        count = mean = squares = torch.zeros((), dtype=torch.float64)
        for values, valid in parts:
            seen = valid.sum(dim=(0, 2, 3)).double()
            here = torch.where(valid, values.double(), 0.0).sum(dim=(0, 2, 3)) / seen.clamp(min=1)
            squares_here = torch.where(valid, (values.double() - here[:, None, None]) ** 2, 0.0).sum(dim=(0, 2, 3))
            share = seen / (count + seen).clamp(min=1)  # Chan's merging of two parts
            squares = squares + squares_here + (here - mean) ** 2 * count * share
            count, mean = count + seen, mean + (here - mean) * share
        if not bool((count > 0).all()):
            raise ValueError(f"band {int((count == 0).nonzero()[0])} has no observation in the training side")
        variance = squares / count
        self.register_buffer("mean", mean.float()[:, None, None])
        self.register_buffer("std", variance.sqrt().masked_fill(variance == 0, 1.0).float()[:, None, None])

    def forward(self, values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Standardises (B, C, H, W)."""
        return torch.where(valid, (values - self.mean) / self.std, 0.0)


class StandardiseFilled(Standardise):
    """(value - mean) / deviation of every value, filled ones too, and beside them channels that say what was observed."""

    def forward(self, values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) and any number of channels of ``valid`` to both, one after the other."""
        return torch.cat([(values - self.mean) / self.std, valid.to(values.dtype)], dim=1)


class PixelLinear(nn.Module):
    """A linear classifier of the bands of each pixel."""

    def __init__(self, standardise: Standardise, bands: int, classes: int) -> None:
        """Builds the layer."""
        super().__init__()
        self.standardise, self.classifier = standardise, nn.Conv2d(bands, classes, 1)

    def forward(self, values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to logits (B, K, H, W)."""
        return self.classifier(self.standardise(values, valid))


class UNet(nn.Module):
    """Four levels of two convolutions, down by max-pooling and up by bilinear resizing, joined by skips.

    Source: U-Net, https://arxiv.org/abs/1505.04597; LayerNorm and GELU as in `rsfm_jax.torch.heads.convolutions`, padding that keeps the
    size, resizing for transposed convolutions, and narrower.
    """

    def __init__(self, standardise: Standardise, bands: int, classes: int, width: int = 16) -> None:
        """Builds the layers.

        Args:
          standardise: Of the bands.
          bands: C, as ``standardise`` gives them.
          classes: K, or bands of a correction.
          width: Channels of the first level; each further one has twice as many.
        """
        super().__init__()
        self.standardise = standardise
        widths = [width << level for level in range(LEVELS)]
        self.down = nn.ModuleList(_double(inputs, outputs) for inputs, outputs in zip([bands, *widths], widths, strict=False))
        self.up = nn.ModuleList(_double(widths[i] + widths[i + 1], widths[i]) for i in range(LEVELS - 1))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to logits (B, K, H, W); H and W of at least `SMALLEST`."""
        x, skips = self.standardise(values, valid), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), skips[-2::-1], strict=True):
            x = block(torch.cat([skip, resize(x, skip.shape[-2:])], dim=1))
        return self.classifier(x)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(inputs, outputs, 3), conv_norm(outputs, outputs, 3))
