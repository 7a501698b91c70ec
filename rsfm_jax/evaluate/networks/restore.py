"""Restoration: a dense head on encoders, with the same head on pixels alone, a U-Net, and what needs no learning beside it.

Every network gives a correction of the first guess: the bicubic upsampling of the first input, or the input with its gaps filled.

Legend: B batch, C target bands, H W pixels of the target, h w of an input, M chips of a side, T further inputs.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.restoration import restoration_figures
from rsfm_jax.evaluate.networks.contenders import Contender, Contest, encoders, from_scratch, table
from rsfm_jax.evaluate.networks.restoring import (
    Constant,
    FirstGuess,
    HeadRestoration,
    RestorationHead,
    StackedInputs,
    TokenFeatures,
    UNetRestoration,
)
from rsfm_jax.evaluate.networks.training import Batch, predict, read_members
from rsfm_jax.evaluate.networks.unet import Standardise, parts_of
from rsfm_jax.evaluate.probing.features import Model
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.runner import Examples, Row, Say
from rsfm_jax.evaluate.samples.restored import RestoredSamples
from rsfm_jax.evaluate.tasks.restored_source import Restored
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder


@dataclasses.dataclass(frozen=True)
class Restoration:
    """The aim of restoration: squared error in deviations of the training side's bands, and PSNR.

    Pixels that the first input has, where it is the target with gaps, are kept: they train nothing and are never predicted.

    Attributes:
      task: What the encoder is told, and the range of values.
      samples: All of them.
      scale: Mean and deviation of the target's bands in the training side.
      device: Where to compute.
    """

    task: Task
    samples: RestoredSamples
    scale: Standardise
    device: str

    @property
    def score_name(self) -> str:
        """`psnr_missing` where all else is kept, so that it is not taken for the `psnr` of whole chips."""
        return "psnr_missing" if self.samples.keeps else "psnr"

    @property
    def source(self) -> Restored:
        """Where the samples come from."""
        assert isinstance(self.task.source, Restored)
        return self.task.source

    def batch(self, rows: np.ndarray) -> Batch:
        """The chips at rows, with targets (B, C, H, W) and whether each value is to be predicted and known."""
        members, footprint_deg = read_members(self.samples, rows, self.task.encoding, self.device)
        wanted = self._wanted(rows)
        targets = tuple(torch.from_numpy(array).to(self.device) for array in (self.samples.targets[rows], wanted))
        return Batch(members, footprint_deg, targets)

    def loss_on(self, fit_rows: np.ndarray) -> Callable[[torch.Tensor, tuple[torch.Tensor, ...]], torch.Tensor]:
        """Mean squared error of the wanted values, in deviations."""
        del fit_rows

        def loss(outputs: torch.Tensor, targets: tuple[torch.Tensor, ...]) -> torch.Tensor:
            target, wanted = targets
            return (((outputs - target) / self.scale.std) ** 2 * wanted).sum() / wanted.sum().clamp(min=1)

        return loss

    def read(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Images (B, C, H, W), with the pixels that are kept."""
        first = batch.members[0]
        return torch.where(first["valid"], first["values"], outputs) if self.samples.keeps else outputs

    def score(self, predicted: np.ndarray, rows: np.ndarray) -> float:
        """PSNR of the wanted values, mean over chips with such, in dB; less than any for a network that has diverged."""
        wanted = self._wanted(rows)
        squares = np.where(wanted, predicted.astype(np.float64) - self.samples.targets[rows], 0.0) ** 2
        counts = wanted.sum(axis=(1, 2, 3))
        errors = squares.sum(axis=(1, 2, 3))[counts > 0] / counts[counts > 0]
        if not np.isfinite(errors).all():
            return -np.inf
        return float((10 * np.log10(self.source.data_range**2 / np.maximum(errors, np.finfo(np.float64).tiny))).mean())

    def figures(self, predicted: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Figures of images (M, C, H, W) predicted for the chips at rows."""
        chips, first = self.samples.chips, self.samples.members[0]
        ratio, gap = first.inputs[0].gsd_m / chips.inputs[0].gsd_m, self.samples.gap[rows]
        source = self.source
        return restoration_figures(predicted, chips.values[rows], chips.valid[rows], gap, source.data_range, ratio, source.block_px)

    def _wanted(self, rows: np.ndarray) -> np.ndarray:
        valid = self.samples.chips.valid[rows]
        return valid & ~self.samples.members[0].valid[rows] if self.samples.keeps else valid


def restoration_rows(
    task: Task, samples: RestoredSamples, splits: Sequence[Split], models: Sequence[Model], device: str, batch: int, say: Say
) -> tuple[list[Row], list[Row], Examples]:
    """Trains and scores every contender on every split, with every seed.

    Args:
      task: The task, of kind restoration.
      samples: Its samples.
      splits: Of them.
      models: The encoders.
      device: Where to compute.
      batch: Chips at a time in prediction.
      say: Told of progress.

    Returns:
      A row for each split, contender and seed; nothing of features; and what the first model predicts for chips of the test side.

    Raises:
      InputError: An encoder refuses the chips, a target's band was not observed in training, or the training side is too small.
    """
    for model in models:
        _try_out(task, samples, model, device)

    def contest_on(split: Split) -> Contest:
        chips, size = samples.chips, samples.chips.values.shape[-2:]
        try:
            scale = Standardise(parts_of(chips.values, chips.valid, split.train, batch)).to(device)
        except ValueError as error:
            raise InputError(f"task {task.name}: target: {error}") from None
        aim = Restoration(task, samples, scale, device)
        guesses = {name: FirstGuess(scale, size, *how).to(device) for name, how in _guesses(samples).items()}
        guess = list(guesses.values())[-1]
        given = {"features": "none", "mode": None}
        untrained = {**guesses, "mean_predictor": Constant(scale, size).to(device)}
        baselines = [({**given, "probe": name}, predict(net, aim, split.test, batch)) for name, net in untrained.items()]
        train = (split.train[start : start + batch] for start in range(0, len(split.train), batch))
        inputs = StackedInputs(guess, (read_members(samples, rows, task.encoding, device)[0] for rows in train)).to(device)
        contenders = _contenders(task, samples, models, inputs, chips.values.shape[1], device)
        return Contest(aim, contenders, baselines, lambda predicted: aim.figures(predicted, split.test))

    rows, examples = table(task, samples, splits, contest_on, device, batch, say)
    return rows, [], examples


def _contenders(
    task: Task, samples: RestoredSamples, models: Sequence[Model], inputs: StackedInputs, bands: int, device: str
) -> list[Contender]:
    """Every model and untrained encoders in every mode, a U-Net, and the encoders' head on pixels alone: the row that tokens add to."""

    def make_head(encoder: RSFMEncoder) -> nn.Module:
        return RestorationHead(inputs.channels, bands, TokenFeatures(task, samples, encoder))

    def join(encoder: RSFMEncoder, head: nn.Module) -> nn.Module:
        return HeadRestoration(inputs, head, encoder, task.encoding.layers)

    unet = {"features": "unet from scratch", "probe": "unet", "mode": "full"}
    pixels = {"features": "pixels", "probe": "dense", "mode": None}
    return [
        *encoders(task, models, "dense", make_head, join, device),
        from_scratch(unet, lambda: UNetRestoration(inputs, task.training.unet_width)),
        from_scratch(pixels, lambda: HeadRestoration(inputs, RestorationHead(inputs.channels, bands))),
    ]


def _guesses(samples: RestoredSamples) -> dict[str, tuple[tuple[int, ...], bool]]:
    """First guesses by name, the best last: which further inputs fill the first one's gaps, and whether they are levelled."""
    kinds, sides = [chips.inputs[0] for chips in samples.members], [chips.values.shape[-1] for chips in samples.members]
    alike = tuple(t for t in range(1, len(kinds)) if kinds[t] == kinds[0] and sides[t] == sides[0])
    side = samples.chips.values.shape[-1]
    if sides[0] != side:
        return {"bicubic" if sides[0] < side else "area_mean": (alike, True)}
    if not samples.keeps:
        return {"first_input": (alike, True)}
    return {"mean_of_others": (alike, False), "mean_of_others_levelled": (alike, True)} if alike else {"mean_of_chip": ((), False)}


def _try_out(task: Task, samples: RestoredSamples, model: Model, device: str) -> None:
    """Raises InputError where an encoder refuses the first sample."""
    try:
        with torch.no_grad():
            model.encoder(*read_members(samples, np.array([0]), task.encoding, device))
    except ValueError as error:
        raise InputError(f"--model={model.source}: {error}") from None
