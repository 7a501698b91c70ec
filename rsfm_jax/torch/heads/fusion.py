"""What goes beside the features of one encoder: those of a second one at another resolution, and where on Earth the image lies.

Legend: B batch, D encoder width, C channels, K classes, h w rows and columns of patches, H W pixels, F Fourier features.
"""

from collections.abc import Sequence
import math
from typing import Literal

import torch
from torch import nn

from rsfm_jax.torch.heads.convolutions import Features, check_features, conv_norm, resize


class DualResolutionFusion(nn.Module):
    """Late fusion of a fine and a coarse branch, e.g. aerial and Sentinel-2 images of one place, to a segmentation.

    Both branches are projected to C channels, the coarse one is resized to the fine one's grid, and two 3x3 convolutions mix them. The two
    maps cover the same ground: their outer edges are aligned, so any two grids of one footprint fit, multiples of one another or not.

    Source: the decoder of DeepLabV3+, https://arxiv.org/abs/1802.02611, section 3.1, with a second encoder in the place of its low-level
    features and without ASPP: a ViT's tokens have seen the whole image.
    """

    def __init__(self, fine_width: int, coarse_width: int, classes: int, channels: int = 256) -> None:
        """Builds the layers.

        Args:
          fine_width: D of the branch with the finer grid.
          coarse_width: D of the other one.
          classes: K.
          channels: C.
        """
        super().__init__()
        self.fine_width, self.coarse_width = fine_width, coarse_width
        self.project_fine, self.project_coarse = conv_norm(fine_width, channels, 1), conv_norm(coarse_width, channels, 1)
        self.fuse = nn.Sequential(conv_norm(2 * channels, channels, 3), conv_norm(channels, channels, 3))
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, fine: Features, coarse: Features, size: tuple[int, int]) -> torch.Tensor:
        """Classifies pixels.

        Args:
          fine: Layers of the fine branch, each (B, D, h, w); the last is used.
          coarse: Layers of the coarse branch, of the same footprint; the last is used.
          size: H and W.

        Returns:
          Logits (B, K, H, W).

        Raises:
          ValueError: features that this head was not made for, or a coarse grid that is finer than the fine one.
        """
        check_features(fine, self.fine_width)
        check_features(coarse, self.coarse_width)
        x, y = fine[-1], coarse[-1]
        if len(x) != len(y) or x.shape[-2] < y.shape[-2] or x.shape[-1] < y.shape[-1]:
            raise ValueError(
                f"fine is {tuple(x.shape)}, coarse {tuple(y.shape)}; expected one batch, and the fine grid not the coarser one"
            )
        x = torch.cat([self.project_fine(x), resize(self.project_coarse(y), x.shape[-2:])], dim=1)
        return resize(self.classifier(self.fuse(x)), size)


class LocationEncoding(nn.Module):
    """Random Fourier features of places: sin and cos of 2 pi times random projections of the unit vector, (B, 2) to (B, F).

    On the unit vector there is no seam at 180 degrees and nothing is stretched at the poles. A deviation of s varies over about 1 / s Earth
    radii: 1 the continent, 16 some 400 km, 256 some 25 km.

    Source: https://arxiv.org/abs/2006.10739; several deviations (1, 16, 256) as GAIR, https://arxiv.org/abs/2503.16683.
    """

    frequencies: torch.Tensor

    def __init__(self, features: int = 96, deviations: Sequence[float] = (1.0, 16.0, 256.0), seed: int = 0) -> None:
        """Draws the projections; they are a buffer, saved with the weights.

        Args:
          features: F, a multiple of twice the number of deviations.
          deviations: Standard deviations of the projections, equally many of each.
          seed: Of the draw.

        Raises:
          ValueError: features that can't be shared equally.
        """
        super().__init__()
        each = features // (2 * max(len(deviations), 1))
        if not deviations or each < 1 or features != each * 2 * len(deviations):
            raise ValueError(
                f"features is {features}; expected a positive multiple of {2 * len(deviations)}, twice the number of deviations"
            )
        scale = torch.tensor(deviations, dtype=torch.float32).repeat_interleave(each)
        self.register_buffer("frequencies", torch.randn(3, len(scale), generator=torch.Generator().manual_seed(seed)) * scale)

    def forward(self, lonlat_deg: torch.Tensor) -> torch.Tensor:
        """Codes places.

        Args:
          lonlat_deg: (B, 2) longitude and latitude in degrees.

        Returns:
          (B, F), of the buffer's dtype.

        Raises:
          ValueError: another shape, or not a place on Earth.
        """
        limit = torch.tensor([180.0, 90.0], dtype=torch.float64, device=lonlat_deg.device)
        if lonlat_deg.ndim != 2 or lonlat_deg.shape[1] != 2 or not bool((lonlat_deg.abs() <= limit).all()):
            raise ValueError("lonlat_deg: expected (B, 2), longitudes within 180 and latitudes within 90 degrees, longitude first")
        lon, lat = lonlat_deg.double().deg2rad().unbind(dim=-1)
        unit = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)
        angle = 2 * math.pi * unit @ self.frequencies.double()
        return torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.frequencies.dtype)


class LocationFusion(nn.Module):
    """Features told where they lie: ``add`` adds a code of the place, ``film`` scales and shifts the channels by it.

    Starts as the identity: the last layer and the token for an unknown place are zero.

    Source: FiLM, https://arxiv.org/abs/1709.07871, section 2.
    """

    def __init__(
        self, width: int, mode: Literal["add", "film"] = "film", hidden: int = 128, encoding: LocationEncoding | None = None
    ) -> None:
        """Builds the layers.

        Args:
          width: D.
          mode: What the place does to the features.
          hidden: Width between the encoding and the result.
          encoding: Of places; None for the default one.

        Raises:
          ValueError: an unknown mode.
        """
        super().__init__()
        if mode not in ("add", "film"):
            raise ValueError(f"mode is {mode!r}; expected 'add' or 'film'")
        self.width, self.mode = width, mode
        self.encoding = LocationEncoding() if encoding is None else encoding
        outputs = width if mode == "add" else 2 * width
        last = nn.Linear(hidden, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(2 * self.encoding.frequencies.shape[1], hidden), nn.GELU(), last)
        self.unknown = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Features, lonlat_deg: torch.Tensor | None) -> list[torch.Tensor]:
        """Tells every layer the same.

        Args:
          features: Layers, each (B, D, h, w).
          lonlat_deg: (B, 2) longitude and latitude of the images' centres in degrees; a row of two NaN, or None for all, is unknown.

        Returns:
          Layers of the given shapes.

        Raises:
          ValueError: features that this head was not made for, or places that are not on Earth.
        """
        check_features(features, self.width)
        B = len(features[0])
        code = self.unknown.expand(B, -1)
        if lonlat_deg is not None:
            if tuple(lonlat_deg.shape) != (B, 2):
                raise ValueError(f"lonlat_deg has shape {tuple(lonlat_deg.shape)}; expected ({B}, 2)")
            missing = lonlat_deg.isnan().all(dim=1, keepdim=True)
            code = torch.where(missing, code, self.mlp(self.encoding(lonlat_deg.masked_fill(missing, 0.0))))
        code = code[..., None, None].to(features[0].dtype)
        if self.mode == "add":
            return [x + code for x in features]
        scale, shift = code.chunk(2, dim=1)
        return [x * (1 + scale) + shift for x in features]
