"""Networks that restore: what needs no learning, an encoder with a dense head, and a U-Net that sees all inputs one upon the other.

Each takes the members of image sets, as the encoder does, and footprints or None, and gives physical values (B, C, H, W). The learned ones
correct the first guess and start as it.

Legend: B batch, C target bands, H W pixels of the target, h w of an input, T further inputs, D encoder width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.evaluate.networks.unet import Standardise, StandardiseFilled, UNet
from rsfm_jax.evaluate.samples.restored import RestoredSamples
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.features import layer_grids
from rsfm_jax.torch.heads.aggregate import CovarianceAggregation, LearnedAggregation
from rsfm_jax.torch.heads.convolutions import resize
from rsfm_jax.torch.heads.dense import DenseRegression
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder

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
    """The first input, its gaps filled, and upsampled (bicubic, without antialiasing) where it is smaller than the target.

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
        return _upsample(filled, self.size)


def _mean(values: torch.Tensor, valid: torch.Tensor, dims: tuple[int, ...], otherwise: torch.Tensor) -> torch.Tensor:
    """Mean over dims, which are kept, of what is valid; ``otherwise`` where nothing is."""
    count = valid.sum(dim=dims, keepdim=True)
    mean = torch.where(valid, values, 0.0).sum(dim=dims, keepdim=True) / count.clamp(min=1)
    return torch.where(count > 0, mean, otherwise.to(mean.device))


def _upsample(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return values if tuple(values.shape[-2:]) == size else F.interpolate(values, size, mode="bicubic", align_corners=False)


class RestorationHead(nn.Module):
    """The tapped layers of all members, as they are or as one map each, then `DenseRegression` as a correction.

    Maps of members on coarser grids of patches are resized to the finest.
    """

    def __init__(self, task: Task, samples: RestoredSamples, encoder: RSFMEncoder) -> None:
        """Builds the head for an encoder's width and patches."""
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
        _, bands, side, _ = samples.chips.values.shape
        self.size = (side, side)
        self.dense = DenseRegression(width, bands, max(side // self.grid, 1), maps, residual=True)

    def forward(self, maps: list[list[torch.Tensor]], image: torch.Tensor) -> torch.Tensor:
        """Layers of each member, (B, D, h, w), and an image (B, C, H, W) in deviations to the corrected image."""
        if self.aggregate is not None:
            maps = [[aggregate(layers)] for aggregate, layers in zip(self.aggregate, maps, strict=True)]
        return self.dense([resize(one, (self.grid, self.grid)) for layers in maps for one in layers], self.size, image)


class EncoderRestoration(nn.Module):
    """An encoder of all members with a head. The encoder's gradients are followed only where something of it trains."""

    def __init__(self, guess: FirstGuess, encoder: RSFMEncoder, head: nn.Module, layers: tuple[int, ...]) -> None:
        """Joins them."""
        super().__init__()
        self.guess, self.encoder, self.head, self.layers = guess, encoder, head, layers

    def forward(self, members: Members, footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())):
            encoded = self.encoder(members, footprint_deg, return_layers=True)
            maps = [layer_grids(self.encoder, encoded, t, self.layers, norm=True) for t in range(len(members))]
        scale = self.guess.scale
        return self.head(maps, (self.guess(members) - scale.mean) / scale.std) * scale.std + scale.mean


class UNetRestoration(nn.Module):
    """A U-Net of the first guess, the further inputs at the target's size, and where the first input was observed."""

    def __init__(self, guess: FirstGuess, members: Members, width: int) -> None:
        """Builds the layers.

        Args:
          guess: What is corrected.
          members: Those of the training side, whose statistics standardise.
          width: Channels of the U-Net's first level.
        """
        super().__init__()
        self.guess = guess
        with torch.no_grad():
            stacked, observed = self._stack(members)
        standardise = StandardiseFilled(stacked, torch.ones_like(stacked, dtype=torch.bool))
        bands = members[0]["values"].shape[1]
        self.net = UNet(standardise, stacked.shape[1] + observed.shape[1], bands, width)
        nn.init.zeros_(self.net.classifier.weight)
        assert self.net.classifier.bias is not None
        nn.init.zeros_(self.net.classifier.bias)

    def forward(self, members: Members, footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W)."""
        del footprint_deg
        stacked, observed = self._stack(members)
        return self.net(stacked, observed) * self.guess.scale.std + stacked[:, : self.guess.scale.std.shape[0]]

    def _stack(self, members: Members) -> tuple[torch.Tensor, torch.Tensor]:
        """All bands at the target's size, (B, all bands, H, W), filled with chips' means, and the first input's valid, (B, C, H, W)."""
        size = self.guess.size
        filled = [torch.where(m["valid"], m["values"], _mean(m["values"], m["valid"], (2, 3), torch.zeros(()))) for m in members[1:]]
        observed = F.interpolate(members[0]["valid"].float(), size, mode="nearest-exact")
        return torch.cat([self.guess(members), *(_resample(one, size) for one in filled)], dim=1), observed


def _resample(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic up; area means down, where an input is finer than the target."""
    return _upsample(values, size) if values.shape[-1] <= size[1] else F.interpolate(values, size, mode="area")
