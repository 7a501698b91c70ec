"""Segmentation: heads on encoders, frozen, by low-rank updates or in full, with a U-Net and a classifier of pixels beside them.

All networks are trained by the loop of `training`; learning rate and step are chosen on a validation part of the training side whose groups
are apart; the test side is only predicted.

Legend: N chips, B batch, C bands, K classes, H W pixels.
"""

from collections.abc import Callable, Sequence
import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.metrics import Confusion
from rsfm_jax.evaluate.networks.training import Side, predict, train, validation_part
from rsfm_jax.evaluate.networks.unet import SMALLEST, PixelLinear, Standardise, UNet
from rsfm_jax.evaluate.probing.features import UNTRAINED, Model, random_model
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.runner import EXAMPLES, Examples, Row, Say
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Samples
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.features import layer_grids
from rsfm_jax.torch.heads.segmentation import LinearSegmentation, PyramidSegmentation, UPerSegmentation
from rsfm_jax.torch.tuning import prepare

WEIGHT_DECAY = 0.05
UPER_LAYERS = 4


class EncoderSegmentation(nn.Module):
    """An encoder with a head. The encoder's gradients are followed only where something of it trains."""

    def __init__(self, encoder: Any, head: nn.Module, layers: tuple[int, ...]) -> None:
        """Joins both."""
        super().__init__()
        self.encoder, self.head, self.layers = encoder, head, layers

    def forward(self, inputs: dict[str, Any], footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """A member, as the encoder takes it, to logits (B, K, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())):
            encoded = self.encoder([inputs], footprint_deg, return_layers=True)
            grids = layer_grids(self.encoder, encoded, layers=self.layers, norm=True)
        return self.head(grids, inputs["values"].shape[-2:])


class PixelsOnly(nn.Module):
    """A network of pixels behind the arguments of `EncoderSegmentation`."""

    def __init__(self, net: nn.Module) -> None:
        """Takes the network."""
        super().__init__()
        self.net = net

    def forward(self, inputs: dict[str, Any], footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """A member to logits (B, K, H, W)."""
        del footprint_deg
        return self.net(inputs["values"], inputs["valid"])


Build = Callable[
    [float, int], tuple[nn.Module, list[dict[str, Any]]]
]  # from learning rate and seed to a network and its optimiser's groups


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
      keys: `features`, `probe` and `mode`.
      build: Makes it anew.
    """

    keys: dict[str, Any]
    build: Build


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
    side, rows, examples = Side(samples, task.encoding, device), [], None
    for number, split in enumerate(splits):
        for contender in [*_encoders(task, samples, models, device), *_without_encoder(task, samples, split, device)]:
            name = ", ".join(str(part) for part in contender.keys.values() if part is not None)
            say(f"segmentation by {name}, split {number + 1} of {len(splits)}")
            for seed in task.seeds:
                row, predicted = _run(task, side, split, contender, seed, batch)
                rows.append(row)
                if examples is None:
                    shown = np.sort(np.random.default_rng(0).permutation(len(split.test))[: EXAMPLES // 2])
                    examples = Examples(name, split.test[shown], predicted[shown])
        rows += [_most_frequent(task, samples, split, seed) for seed in task.seeds]
    assert examples is not None
    return rows, [], examples


def _run(task: Task, side: Side, split: Split, contender: Contender, seed: int, batch: int) -> tuple[Row, np.ndarray]:
    """The row of one contender and seed: each learning rate trained, the best on the validation part tested."""
    how, samples = task.training, side.samples
    fit_rows, check_rows, dropped = validation_part(task, samples, split, seed)
    best: tuple[float, int, nn.Module, float] | None = None
    for lr in how.lrs:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                net, groups = contender.build(lr, seed)
            except ValueError as error:
                raise InputError(f"task {task.name}: {contender.keys['features']}: {error}") from None
        score, step = train(net.to(side.device), groups, side, fit_rows, check_rows, how, seed, batch)
        if best is None or score > best[0]:
            best = score, step, net, lr
    assert best is not None
    score, step, net, lr = best
    predicted = predict(net, side, split.test, batch)
    confusion = Confusion(samples.names, NO_LABEL)
    confusion.add(samples.targets[split.test], predicted)
    edge = len(how.lrs) > 1 and lr in (min(how.lrs), max(how.lrs))
    row = {"lr": lr, "lr_at_edge": edge, "steps": step, "stopped_by_limit": step == how.steps, "validation_mean_iou": score}
    row |= {"train_n": len(fit_rows), "validation_n": len(check_rows), "test_n": len(split.test), "dropped": dropped}
    return _keys(task, split, contender.keys, seed) | row | confusion.figures(), predicted


def _encoders(task: Task, samples: Samples, models: Sequence[Model], device: str) -> list[Contender]:
    """Every model, and encoders of its config that were never trained, one for each seed, in every mode."""
    kind, how = samples.chips.inputs[0], task.training

    def contender(model: Model, mode: Any, trained: bool) -> Contender:
        config = model.encoder.config
        patch = model.encoder.find_slot(kind.sensor, kind.bands, task.encoding.patch)["patch"]

        def build(lr: float, seed: int) -> tuple[nn.Module, list[dict[str, Any]]]:
            head = {
                "linear": lambda: LinearSegmentation(config["width"], len(samples.names), len(task.encoding.layers)),
                "uper": lambda: UPerSegmentation(config["width"], len(samples.names), patch),
                "pyramid": lambda: PyramidSegmentation(config["width"], len(samples.names), patch),
            }[how.head]()
            encoder = copy.deepcopy(model.encoder) if trained else random_model(model, seed, device).encoder
            return EncoderSegmentation(encoder, head, task.encoding.layers), prepare(encoder, mode, lr, head, WEIGHT_DECAY)

        name = model.name if trained else f"{UNTRAINED} of {model.name}"
        return Contender({"features": name, "probe": how.head, "mode": mode}, build)

    return [contender(model, mode, trained) for model in models for trained in (True, False) for mode in how.modes]


def _without_encoder(task: Task, samples: Samples, split: Split, device: str) -> list[Contender]:
    """A U-Net and a classifier of pixels, standardised by the training side."""
    values, valid = (torch.from_numpy(array[split.train]) for array in (samples.chips.values, samples.chips.valid))
    try:
        standardise = Standardise(values, valid).to(device)
    except ValueError as error:
        raise InputError(f"task {task.name}: {error}") from None
    bands, classes = values.shape[1], len(samples.names)

    def groups(net: nn.Module, lr: float) -> tuple[nn.Module, list[dict[str, Any]]]:
        return PixelsOnly(net), [{"params": list(net.parameters()), "lr": lr, "weight_decay": WEIGHT_DECAY}]

    return [
        Contender(
            {"features": "unet from scratch", "probe": "unet", "mode": "full"},
            lambda lr, _: groups(UNet(standardise, bands, classes, task.training.unet_width), lr),
        ),
        Contender(
            {"features": "pixels", "probe": "linear", "mode": None}, lambda lr, _: groups(PixelLinear(standardise, bands, classes), lr)
        ),
    ]


def _most_frequent(task: Task, samples: Samples, split: Split, seed: int) -> Row:
    """The row of the most frequent class of the training side."""
    counts = samples.counts(split.train)
    confusion = Confusion(samples.names, NO_LABEL)
    target = samples.targets[split.test]
    confusion.add(target, np.full_like(target, int(np.argmax(list(counts.values())))))
    keys = {"features": "none", "probe": "class_frequencies", "mode": None}
    return _keys(task, split, keys, seed) | {"train_n": len(split.train), "test_n": len(split.test)} | confusion.figures()


def _keys(task: Task, split: Split, keys: dict[str, Any], seed: int) -> Row:
    return {"task": task.name, **split.keys, "layer": None, "pooling": None, **keys, "per_class": None, "seed": seed}
