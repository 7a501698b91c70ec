"""Networks that restore: what needs no learning, a dense head on an encoder or on pixels alone, and a U-Net.

Each takes the members of image sets, as the encoder does, and footprints or None, and gives physical values (B, C, H, W). The learned ones
see all inputs one upon the other at the target's size, correct the first guess and start as it.

Legend: B batch, C target bands, H W pixels of the target, h w of an input, T further inputs, D encoder width.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.evaluate.networks.unet import Standardise, StandardiseFilled, UNet
from rsfm_jax.evaluate.samples.restored import RestoredSamples
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.features import layer_grids
from rsfm_jax.torch.heads.aggregate import CovarianceAggregation, LearnedAggregation
from rsfm_jax.torch.heads.convolutions import conv_norm, resize
from rsfm_jax.torch.heads.dense import pixel_decoder
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder

STEM_CHANNELS, TOKEN_CHANNELS = 32, 64  # at the target's pixels
Members = Sequence[dict[str, Any]]


class Constant(nn.Module):
    """The training side's mean of each band."""

    def __init__(self, scale: Standardise, size: Sequence[int]) -> None:
        """Takes the mean, and H and W."""
        super().__init__()
        self.scale, self.size = scale, tuple(size)

    def forward(self, members: Members, footprint_deg: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, H, W)."""
        del footprint_deg
        return self.scale.mean.expand(len(members[0]["values"]), -1, *self.size)


class FirstGuess(nn.Module):
    """The first input, its gaps filled, at the target's size: bicubic where it is coarser, area means where it is finer.

    A value that is missing is the mean of the further inputs that are like the first, where they have it; levelled, that mean is shifted in
    each band by its mean difference from the first input over the pixels that both have. Without such it is the chip's mean, and the
    training side's in a band that the chip has not at all.
    """

    def __init__(self, scale: Standardise, size: Sequence[int], alike: tuple[int, ...], levelled: bool) -> None:
        """Takes the target's mean and size, the numbers of the inputs that fill, and whether they are levelled."""
        super().__init__()
        self.scale, self.size, self.alike, self.levelled = scale, (int(size[0]), int(size[1])), alike, levelled

    def forward(self, members: Members, footprint_deg: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, H, W)."""
        del footprint_deg
        values, valid = members[0]["values"], members[0]["valid"]
        filled = torch.where(valid, values, _mean(values, valid, (2, 3), self.scale.mean))
        if self.alike:
            others, seen = (torch.stack([members[t][name] for t in self.alike]) for name in ("values", "valid"))
            known, mean = seen.any(dim=0), _mean(others, seen, (0,), torch.zeros(()))[0]
            if self.levelled:
                mean = mean + _mean(values - mean, valid & known, (2, 3), torch.zeros(()))
            filled = torch.where(known & ~valid, mean, filled)
        return _resample(filled, self.size)


def _mean(values: torch.Tensor, valid: torch.Tensor, dims: tuple[int, ...], otherwise: torch.Tensor) -> torch.Tensor:
    """Mean over dims, which are kept, of what is valid; ``otherwise`` where nothing is."""
    count = valid.sum(dim=dims, keepdim=True)
    mean = torch.where(valid, values, 0.0).sum(dim=dims, keepdim=True) / count.clamp(min=1)
    return torch.where(count > 0, mean, otherwise.to(mean.device))


class StackedInputs(nn.Module):
    """All inputs one upon the other at the target's size: the first guess, the further inputs, and where the first input was observed.

    What further inputs lack is their chip's mean of the band.

    Attributes:
      guess: What is corrected.
      standardise: Of all bands, by the training side, filled values too.
      channels: Of the result.
    """

    def __init__(self, guess: FirstGuess, parts: Iterable[Members]) -> None:
        """Takes what is corrected, and the members of the training side, part by part, whose statistics standardise."""
        super().__init__()
        self.guess = guess
        self.standardise = StandardiseFilled(self._filled(parts))
        self.channels = len(self.standardise.mean) + len(guess.scale.mean)

    @torch.no_grad()
    def _filled(self, parts: Iterable[Members]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All bands of each part, every value of them counted."""
        for members in parts:
            stacked, _ = self.stack(members)
            yield stacked, torch.ones_like(stacked, dtype=torch.bool)

    def stack(self, members: Members) -> tuple[torch.Tensor, torch.Tensor]:
        """All bands in physical units, (B, all bands, H, W), the first guess's first, and the first input's valid, (B, C, H, W)."""
        size = self.guess.size
        filled = [torch.where(m["valid"], m["values"], _mean(m["values"], m["valid"], (2, 3), torch.zeros(()))) for m in members[1:]]
        observed = F.interpolate(members[0]["valid"].float(), size, mode="nearest-exact")
        return torch.cat([self.guess(members), *(_resample(one, size) for one in filled)], dim=1), observed

    def corrected(self, stacked: torch.Tensor, correction: torch.Tensor) -> torch.Tensor:
        """The first guess plus a correction (B, C, H, W) in deviations of the target's bands."""
        std = self.guess.scale.std
        return correction * std + stacked[:, : len(std)]


class TokenFeatures(nn.Module):
    """The tapped layers of all members, as they are or as one map each, decoded to the target's pixels as in `DenseRegression`.

    Maps of members on coarser grids of patches are resized to the finest.
    """

    def __init__(self, task: Task, samples: RestoredSamples, encoder: RSFMEncoder) -> None:
        """Builds the layers for an encoder's width and patches."""
        super().__init__()
        by, layers, width = task.training.layers_by, len(task.encoding.layers), encoder.config["width"]
        kinds = [(chips.inputs[0], chips.values.shape[-1]) for chips in samples.members]
        self.grid = max(side // encoder.find_slot(k.sensor, k.bands, task.encoding.patch)["patch"] for k, side in kinds)
        self.aggregate = None
        if by == "learned":
            self.aggregate = nn.ModuleList(LearnedAggregation(width, layers) for _ in kinds)
        elif by != "concatenation":
            self.aggregate = nn.ModuleList(CovarianceAggregation(width, by) for _ in kinds)
        maps = len(kinds) * (layers if self.aggregate is None else 1)
        side = samples.chips.values.shape[-1]
        self.size = (side, side)
        self.decoder = pixel_decoder(width * maps, max(side // self.grid, 1), TOKEN_CHANNELS)

    def forward(self, maps: list[list[torch.Tensor]]) -> torch.Tensor:
        """Layers of each member, (B, D, h, w), to (B, TOKEN_CHANNELS, H, W)."""
        if self.aggregate is not None:
            maps = [[aggregate(layers)] for aggregate, layers in zip(self.aggregate, maps, strict=True)]
        together = torch.cat([resize(one, (self.grid, self.grid)) for layers in maps for one in layers], dim=1)
        return resize(self.decoder(together), self.size)


class RestorationHead(nn.Module):
    """A correction from the inputs' pixels through a stem of two convolutions, joined with the tokens' features where there are any.

    The stem is the path of what is finer than a patch. The last convolution starts at zero, and so do the weights that the tokens'
    features meet the stem's with: training starts as that of a head of pixels alone.
    """

    def __init__(self, channels: int, bands: int, tokens: TokenFeatures | None = None) -> None:
        """Builds the layers.

        Args:
          channels: Of the stacked inputs.
          bands: C.
          tokens: Features of an encoder; None for a head of pixels alone.
        """
        super().__init__()
        self.stem = nn.Sequential(conv_norm(channels, STEM_CHANNELS, 3), conv_norm(STEM_CHANNELS, STEM_CHANNELS, 3))
        self.tokens = tokens
        self.join = conv_norm(STEM_CHANNELS + (0 if tokens is None else TOKEN_CHANNELS), STEM_CHANNELS, 3)
        with torch.no_grad():
            next(self.join.parameters())[:, STEM_CHANNELS:] = 0
        self.last = _zero(nn.Conv2d(STEM_CHANNELS, bands, 3, padding=1))

    def forward(self, pixels: torch.Tensor, maps: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        """Standardised inputs (B, channels, H, W) and layers of each member, (B, D, h, w), to (B, C, H, W) in deviations."""
        features = [self.stem(pixels)]
        if self.tokens is not None:
            assert maps is not None
            features.append(self.tokens(maps))
        return self.last(self.join(torch.cat(features, dim=1)))


class HeadRestoration(nn.Module):
    """A head with an encoder of all members, or without. An encoder's gradients are followed only where something of it trains."""

    def __init__(self, inputs: StackedInputs, head: nn.Module, encoder: RSFMEncoder | None = None, layers: tuple[int, ...] = ()) -> None:
        """Joins them; ``layers`` are those of the encoder that are tapped."""
        super().__init__()
        self.inputs, self.head, self.encoder, self.layers = inputs, head, encoder, layers

    def forward(self, members: Members, footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W)."""
        stacked, observed = self.inputs.stack(members)
        correction = self.head(self.inputs.standardise(stacked, observed), self._maps(members, footprint_deg))
        return self.inputs.corrected(stacked, correction)

    def _maps(self, members: Members, footprint_deg: torch.Tensor | None) -> list[list[torch.Tensor]] | None:
        """Tapped layers of each member, (B, D, h, w)."""
        encoder = self.encoder
        if encoder is None:
            return None
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())):
            encoded = encoder(members, footprint_deg, return_layers=True)
            return [layer_grids(encoder, encoded, t, self.layers, norm=True) for t in range(len(members))]


class UNetRestoration(nn.Module):
    """A U-Net of the stacked inputs."""

    def __init__(self, inputs: StackedInputs, width: int) -> None:
        """Builds the layers.

        Args:
          inputs: How they are stacked.
          width: Channels of the U-Net's first level.
        """
        super().__init__()
        self.inputs = inputs
        self.net = UNet(inputs.standardise, inputs.channels, len(inputs.guess.scale.std), width)
        _zero(self.net.classifier)

    def forward(self, members: Members, footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W)."""
        del footprint_deg
        stacked, observed = self.inputs.stack(members)
        return self.inputs.corrected(stacked, self.net(stacked, observed))


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    """The same, with weights and bias 0."""
    assert convolution.bias is not None
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    return convolution


def _resample(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic up; area means down, where an input is finer than the target."""
    if tuple(values.shape[-2:]) == size:
        return values
    if values.shape[-1] > size[1]:
        return F.interpolate(values, size, mode="area")
    return F.interpolate(values, size, mode="bicubic", align_corners=False)
