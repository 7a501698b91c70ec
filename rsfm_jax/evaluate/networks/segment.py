"""Segmentation: heads on encoders, frozen, by low-rank updates or in full, with a U-Net and a classifier of pixels beside them.

Legend: N chips, B batch, C bands, K classes, H W pixels, M chips of a side.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.metrics import Confusion
from rsfm_jax.evaluate.networks.contenders import Contender, Contest, encoders, from_scratch, table
from rsfm_jax.evaluate.networks.training import Batch, read_members
from rsfm_jax.evaluate.networks.unet import SMALLEST, PixelLinear, Standardise, UNet, parts_of
from rsfm_jax.evaluate.probing.features import Model
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.runner import Examples, Row, Say
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Samples
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.features import layer_grids
from rsfm_jax.torch.heads.segmentation import LinearSegmentation, PyramidSegmentation, UPerSegmentation
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder

UPER_LAYERS = 4


class EncoderSegmentation(nn.Module):
    """An encoder with a head. The encoder's gradients are followed only where something of it trains."""

    def __init__(self, encoder: Any, head: nn.Module, layers: tuple[int, ...]) -> None:
        """Joins both."""
        super().__init__()
        self.encoder, self.head, self.layers = encoder, head, layers

    def forward(self, members: list[dict[str, Any]], footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """One member, as the encoder takes it, to logits (B, K, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())):
            encoded = self.encoder(members, footprint_deg, return_layers=True)
            grids = layer_grids(self.encoder, encoded, layers=self.layers, norm=True)
        return self.head(grids, members[0]["values"].shape[-2:])


class PixelsOnly(nn.Module):
    """A network of pixels behind the arguments of `EncoderSegmentation`."""

    def __init__(self, net: nn.Module) -> None:
        """Takes the network."""
        super().__init__()
        self.net = net

    def forward(self, members: list[dict[str, Any]], footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """One member to logits (B, K, H, W)."""
        del footprint_deg
        return self.net(members[0]["values"], members[0]["valid"])


@dataclasses.dataclass(frozen=True)
class PixelClasses:
    """The aim of segmentation: cross-entropy, and mean IoU.

    Attributes:
      task: What the encoder is told, and whether classes are weighed.
      samples: All of them, of one sensor.
      device: Where to compute.
    """

    task: Task
    samples: Samples
    device: str
    score_name: str = "mean_iou"

    def batch(self, rows: np.ndarray) -> Batch:
        """The chips at rows, with targets (B, H, W)."""
        members, footprint_deg = read_members(self.samples, rows, self.task.encoding, self.device)
        return Batch(members, footprint_deg, (torch.from_numpy(self.samples.targets[rows]).to(self.device),))

    def loss_on(self, fit_rows: np.ndarray) -> Callable[[torch.Tensor, tuple[torch.Tensor, ...]], torch.Tensor]:
        """Cross-entropy of the labelled pixels; weighted by the inverse shares of classes among those of the rows, where asked for."""
        weight = None
        if self.task.training.class_weights == "balanced":
            counts = np.array(list(self.samples.counts(fit_rows).values()), np.float64)
            weights = np.where(counts > 0, counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)  # of mean 1 over pixels
            weight = torch.tensor(weights, dtype=torch.float32, device=self.device)
        return lambda outputs, targets: F.cross_entropy(outputs, targets[0], weight, ignore_index=NO_LABEL)

    def read(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Classes (B, H, W)."""
        del batch
        return outputs.argmax(dim=1)

    def figures(self, predicted: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Figures of classes (M, H, W) predicted for the chips at rows."""
        confusion = Confusion(self.samples.names, NO_LABEL)
        confusion.add(self.samples.targets[rows], predicted)
        return confusion.figures()

    def score(self, predicted: np.ndarray, rows: np.ndarray) -> float:
        """Mean IoU."""
        return self.figures(predicted, rows)["mean_iou"]


def segmentation_rows(
    task: Task, samples: Samples, splits: Sequence[Split], models: Sequence[Model], device: str, batch: int, say: Say
) -> tuple[list[Row], list[Row], Examples]:
    """Trains and scores every contender on every split, with every seed.

    Args:
      task: The task, of kind segmentation.
      samples: Its samples.
      splits: Of them.
      models: The encoders.
      device: Where to compute.
      batch: Chips at a time in prediction.
      say: Told of progress.

    Returns:
      A row for each split, contender and seed; nothing of features; and what the first model predicts for chips of the test side.

    Raises:
      InputError: The samples are of several sensors, the head does not fit the layers, or the training side is too small.
    """
    if len(samples.chips.inputs) > 1:
        raise InputError(f"task {task.name}: segmentation takes images of one sensor, bands and GSD; there are {len(samples.chips.inputs)}")
    if task.training.head == "uper" and len(task.encoding.layers) != UPER_LAYERS:
        raise InputError(f"task {task.name}: head uper takes four layers; encoding.layers has {len(task.encoding.layers)}")
    if samples.chips.values.shape[-1] < SMALLEST:
        raise InputError(f"task {task.name}: window_px is {samples.chips.values.shape[-1]}; the U-Net needs at least {SMALLEST} pixels")
    aim = PixelClasses(task, samples, device)

    def contest_on(split: Split) -> Contest:
        contenders = [*_encoders(task, samples, models, device), *_without_encoder(task, samples, split, device, batch)]
        counts = samples.counts(split.train)
        often = np.full_like(samples.targets[split.test], int(np.argmax(list(counts.values()))))
        baseline = {"features": "none", "probe": "class_frequencies", "mode": None}
        return Contest(aim, contenders, [(baseline, often)], lambda predicted: aim.figures(predicted, split.test))

    rows, examples = table(task, samples, splits, contest_on, device, batch, say)
    return rows, [], examples


def _encoders(task: Task, samples: Samples, models: Sequence[Model], device: str) -> list[Contender]:
    """Every model, and an untrained encoder of its config, in every mode."""
    kind, how, classes = samples.chips.inputs[0], task.training, len(samples.names)

    def make_head(encoder: RSFMEncoder) -> nn.Module:
        width, patch = encoder.config["width"], encoder.find_slot(kind.sensor, kind.bands, task.encoding.patch)["patch"]
        return {
            "linear": lambda: LinearSegmentation(width, classes, len(task.encoding.layers)),
            "uper": lambda: UPerSegmentation(width, classes, patch),
            "pyramid": lambda: PyramidSegmentation(width, classes, patch),
        }[how.head]()

    def join(encoder: RSFMEncoder, head: nn.Module) -> nn.Module:
        return EncoderSegmentation(encoder, head, task.encoding.layers)

    return list(encoders(task, models, how.head, make_head, join, device))


def _without_encoder(task: Task, samples: Samples, split: Split, device: str, batch: int) -> list[Contender]:
    """A U-Net and a classifier of pixels, standardised by the training side."""
    chips = samples.chips
    try:
        standardise = Standardise(parts_of(chips.values, chips.valid, split.train, batch)).to(device)
    except ValueError as error:
        raise InputError(f"task {task.name}: {error}") from None
    bands, classes, width = chips.values.shape[1], len(samples.names), task.training.unet_width
    unet = {"features": "unet from scratch", "probe": "unet", "mode": "full"}
    pixels = {"features": "pixels", "probe": "linear", "mode": None}
    return [
        from_scratch(unet, lambda: PixelsOnly(UNet(standardise, bands, classes, width))),
        from_scratch(pixels, lambda: PixelsOnly(PixelLinear(standardise, bands, classes))),
    ]
