"""One loop for all networks, and the validation part of the training side that it looks at.

AdamW, chips mirrored at random; what is kept is the network as it was at its best look. Targets, loss and score are an `Aim`'s.

Legend: B batch, H W pixels, M chips.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.features import member
from rsfm_jax.evaluate.probing.splits import Split, scene_split
from rsfm_jax.evaluate.samples.samples import Samples, chip_sides_m, has_label, nearest_chip_m
from rsfm_jax.evaluate.tasks.task import Encoding, Task, Training

CLIP_NORM = 1.0


@dataclasses.dataclass(frozen=True)
class Batch:
    """Chips as networks and losses take them.

    Attributes:
      members: Images of each sample, as the encoder takes them.
      footprint_deg: (B, 4, 2), or None.
      targets: What the loss takes beside outputs; H and W are the last dims of each.
    """

    members: list[dict[str, Any]]
    footprint_deg: torch.Tensor | None
    targets: tuple[torch.Tensor, ...]

    def mirrored(self, dims: list[int]) -> "Batch":
        """The same, flipped along dims."""
        members = [one | {name: one[name].flip(dims) for name in ("values", "valid")} for one in self.members]
        return Batch(members, self.footprint_deg, tuple(target.flip(dims) for target in self.targets))


class Aim(Protocol):
    """What is learned from samples. A network takes members and footprints and gives outputs."""

    @property
    def score_name(self) -> str:
        """Of what `score` gives."""
        ...

    def batch(self, rows: np.ndarray) -> Batch:
        """The chips at rows."""
        ...

    def loss_on(self, fit_rows: np.ndarray) -> Callable[[torch.Tensor, tuple[torch.Tensor, ...]], torch.Tensor]:
        """The loss of outputs and targets, for training on these rows."""
        ...

    def read(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Predictions from outputs."""
        ...

    def score(self, predicted: np.ndarray, rows: np.ndarray) -> float:
        """How good predictions of the chips at rows are; larger is better."""
        ...


def read_members(samples: Samples, rows: np.ndarray, encoding: Encoding, device: str) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
    """Images of the chips at rows, each of one kind, and footprints or None."""
    made = [member(chips, chips.inputs[0], rows, encoding, device) for chips in samples.seen]
    return [inputs for inputs, _ in made], made[0][1]


def validation_part(task: Task, samples: Samples, split: Split, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Deals whole groups of the training side to a validation part; chips that share pixels with it, or have no label, train nothing.

    Args:
      task: The task.
      samples: Its samples.
      split: Whose training side is dealt.
      seed: Chooses the groups.

    Returns:
      Rows to train on, rows to validate on, and how many were left out, by reason.

    Raises:
      InputError: There is one group only, or nothing is left to train or to validate on.
    """
    labelled = has_label(samples.targets[split.train]).reshape(len(split.train), -1).any(axis=1)
    rows = split.train[labelled]
    try:
        dealt = scene_split(samples.groups[rows], task.training.validation_share, seed)
    except InputError as error:
        raise InputError(f"task {task.name}: validation part of the training side: {error}") from None
    fit_rows, check_rows = rows[dealt.train], rows[dealt.test]
    overlaps = nearest_chip_m(samples, fit_rows, check_rows) < chip_sides_m(samples, fit_rows)
    dropped = {"no label": int((~labelled).sum()), "overlaps the validation part": int(overlaps.sum())}
    if overlaps.all():
        raise InputError(f"task {task.name}: no chip is left to train on beside {len(check_rows)} to validate; dropped: {dropped}")
    return fit_rows[~overlaps], check_rows, dropped


def train(
    net: nn.Module,
    groups: list[dict[str, Any]],
    aim: Aim,
    fit_rows: np.ndarray,
    check_rows: np.ndarray,
    how: Training,
    seed: int,
    batch: int,
) -> tuple[float, int]:
    """Trains a network in place and leaves it as it was at its best look at the validation part, the first of which is before training.

    Args:
      net: The network.
      groups: For the optimiser.
      aim: What is learned.
      fit_rows: Chips to train on.
      check_rows: Chips to validate on.
      how: Steps, patience, batch size.
      seed: Draws batches and mirrorings.
      batch: Chips at a time in prediction.

    Returns:
      The best score of the validation part, and the step it was reached at; 0 where no training made it better.
    """
    optimizer = torch.optim.AdamW(groups)
    trained = [p for group in groups for p in group["params"]]
    loss_of = aim.loss_on(fit_rows)
    rng = np.random.default_rng(seed)
    best, best_step, kept, since = -np.inf, 0, {}, 0
    for step in range(how.steps + 1):
        if step:
            rows = rng.choice(fit_rows, min(how.batch_size, len(fit_rows)), replace=False)
            given = aim.batch(rows).mirrored([dim for dim in (-2, -1) if rng.random() < 0.5])
            optimizer.zero_grad()
            loss = loss_of(net(given.members, given.footprint_deg), given.targets)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, CLIP_NORM)
            optimizer.step()
        if step % how.check_every and step < how.steps:
            continue
        score = aim.score(predict(net, aim, check_rows, batch), check_rows)
        since = 0 if score > best else since + 1
        if score > best:
            best, best_step = score, step
            kept = {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}
        if since >= how.patience:
            break
    net.load_state_dict(kept, strict=False)
    return best, best_step


@torch.no_grad()
def predict(net: nn.Module, aim: Aim, rows: np.ndarray, batch: int) -> np.ndarray:
    """What a network predicts for the chips at rows, (M, ...)."""
    parts = []
    for start in range(0, len(rows), batch):
        given = aim.batch(rows[start : start + batch])
        parts.append(aim.read(net(given.members, given.footprint_deg), given).cpu().numpy())
    return np.concatenate(parts)
