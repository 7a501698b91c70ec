"""The rows of a table of networks: each contender is trained with every seed on every split, and tested once.

Learning rate and step are chosen on a validation part of the training side whose groups are apart; the test side is only predicted.

Legend: M chips.
"""

from collections.abc import Callable, Iterator, Sequence
import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.networks.training import Aim, predict, train, validation_part
from rsfm_jax.evaluate.probing.features import UNTRAINED, Model, random_model
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.runner import EXAMPLES, Examples, Row, Say
from rsfm_jax.evaluate.samples.samples import Samples
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder
from rsfm_jax.torch.tuning import prepare

WEIGHT_DECAY = 0.05
Groups = list[dict[str, Any]]  # of an optimiser
Figures = Callable[[np.ndarray], dict[str, Any]]  # of what is predicted for a test side


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
      keys: `features`, `probe` and `mode`.
      build: Makes it anew, from a learning rate and the seed: the network and its optimiser's groups.
    """

    keys: dict[str, Any]
    build: Callable[[float, int], tuple[nn.Module, Groups]]


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is compared on one split.

    Attributes:
      aim: What is learned.
      contenders: What is trained.
      baselines: What is not: `features`, `probe` and `mode`, and the predictions for the test side.
      figures: Of predictions.
    """

    aim: Aim
    contenders: list[Contender]
    baselines: list[tuple[dict[str, Any], np.ndarray]]
    figures: Figures


def table(
    task: Task, samples: Samples, splits: Sequence[Split], contest_on: Callable[[Split], Contest], device: str, batch: int, say: Say
) -> tuple[list[Row], Examples]:
    """Trains and scores every contender on every split, with every seed.

    Args:
      task: The task.
      samples: Its samples.
      splits: Of them.
      contest_on: What is compared on a split.
      device: Where to compute.
      batch: Chips at a time in prediction.
      say: Told of progress.

    Returns:
      A row for each split, contender or baseline, and seed; and what the first contender predicts for chips of the first test side.

    Raises:
      InputError: As `run` raises it.
    """
    rows, examples = [], None
    for number, split in enumerate(splits):
        contest = contest_on(split)
        for contender in contest.contenders:
            name = ", ".join(str(part) for part in contender.keys.values() if part is not None)
            say(f"{task.kind} by {name}, split {number + 1} of {len(splits)}")
            for seed in task.seeds:
                row, predicted = run(task, samples, split, contender, contest, seed, device, batch)
                rows.append(row)
                if examples is None:
                    shown = np.sort(np.random.default_rng(0).permutation(len(split.test))[: EXAMPLES // 2])
                    examples = Examples(name, split.test[shown], predicted[shown])
        for keys, predicted in contest.baselines:
            figures = {"train_n": len(split.train), "test_n": len(split.test)} | contest.figures(predicted)
            rows += [row_keys(task, split, keys, seed) | figures for seed in task.seeds]
    assert examples is not None
    return rows, examples


def encoders(
    task: Task,
    models: Sequence[Model],
    probe: str,
    make_head: Callable[[RSFMEncoder], nn.Module],
    join: Callable[[RSFMEncoder, nn.Module], nn.Module],
    device: str,
) -> Iterator[Contender]:
    """Every model, and encoders of its config that were never trained, another one for each seed, in every mode of the task.

    Args:
      task: The task.
      models: The encoders.
      probe: Name of the head.
      make_head: A new head for an encoder.
      join: The network of a copy of the encoder and a head.
      device: Of the untrained encoder.

    Yields:
      The contenders.
    """

    def contender(model: Model, mode: Any, trained: bool) -> Contender:
        def build(lr: float, seed: int) -> tuple[nn.Module, Groups]:
            encoder = copy.deepcopy(model.encoder) if trained else random_model(model, seed, device).encoder
            head = make_head(encoder)
            return join(encoder, head), prepare(encoder, mode, lr, head, WEIGHT_DECAY)

        name = model.name if trained else f"{UNTRAINED} of {model.name}"
        return Contender({"features": name, "probe": probe, "mode": mode}, build)

    for model in models:
        for trained in (True, False):
            for mode in task.training.modes:
                yield contender(model, mode, trained)


def from_scratch(keys: dict[str, Any], make: Callable[[], nn.Module]) -> Contender:
    """A contender all of whose parameters are trained at one rate."""

    def build(lr: float, _: int) -> tuple[nn.Module, Groups]:
        net = make()
        return net, [{"params": list(net.parameters()), "lr": lr, "weight_decay": WEIGHT_DECAY}]

    return Contender(keys, build)


def run(
    task: Task, samples: Samples, split: Split, contender: Contender, contest: Contest, seed: int, device: str, batch: int
) -> tuple[Row, np.ndarray]:
    """The row of one contender and seed: each learning rate trained, the best on the validation part tested.

    Args:
      task: The task.
      samples: Its samples.
      split: Of them.
      contender: What is trained.
      contest: For what, and how it is judged.
      seed: Of parameters, batches and the validation part.
      device: Where to compute.
      batch: Chips at a time in prediction.

    Returns:
      The row, and the predictions (M, ...).

    Raises:
      InputError: The contender does not fit the task, or the training side is too small.
    """
    how, aim = task.training, contest.aim
    fit_rows, check_rows, dropped = validation_part(task, samples, split, seed)
    best: tuple[float, int, nn.Module, float] | None = None
    for lr in how.lrs:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                net, groups = contender.build(lr, seed)
            except ValueError as error:
                raise InputError(f"task {task.name}: {contender.keys['features']}: {error}") from None
        score, step = train(net.to(device), groups, aim, fit_rows, check_rows, how, seed, batch)
        if best is None or score > best[0]:
            best = score, step, net, lr
    assert best is not None
    score, step, net, lr = best
    predicted = predict(net, aim, split.test, batch)
    edge = len(how.lrs) > 1 and lr in (min(how.lrs), max(how.lrs))
    row = {"lr": lr, "lr_at_edge": edge, "steps": step, "stopped_by_limit": step == how.steps, f"validation_{aim.score_name}": score}
    row |= {"train_n": len(fit_rows), "validation_n": len(check_rows), "test_n": len(split.test), "dropped": dropped}
    return row_keys(task, split, contender.keys, seed) | row | contest.figures(predicted), predicted


def row_keys(task: Task, split: Split, keys: dict[str, Any], seed: int) -> Row:
    """What tells a row from the others."""
    return {"task": task.name, **split.keys, "layer": None, "pooling": None, **keys, "per_class": None, "seed": seed}
