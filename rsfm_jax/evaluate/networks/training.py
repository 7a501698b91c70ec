"""One loop for all networks of segmentation, and the validation part of the training side that it looks at.

AdamW, chips mirrored at random; what is kept is the network as it was at its best look.

Legend: B batch, K classes, H W pixels, M chips.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.metrics import Confusion
from rsfm_jax.evaluate.probing.features import member
from rsfm_jax.evaluate.probing.splits import Split, scene_split
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Samples, chip_sides_m, nearest_chip_m
from rsfm_jax.evaluate.tasks.task import Encoding, Task, Training

CLIP_NORM = 1.0


@dataclasses.dataclass(frozen=True)
class Side:
    """What the loop needs of samples.

    Attributes:
      samples: All of them, of one sensor.
      encoding: What the encoder is told.
      device: Where to compute.
    """

    samples: Samples
    encoding: Encoding
    device: str

    def batch(self, rows: np.ndarray) -> tuple[dict[str, Any], torch.Tensor | None, torch.Tensor]:
        """Member, footprints and targets (B, H, W)."""
        inputs, footprint_deg = member(self.samples.chips, self.samples.chips.inputs[0], rows, self.encoding, self.device)
        return inputs, footprint_deg, torch.from_numpy(self.samples.targets[rows]).to(self.device)


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
    labelled = (samples.targets[split.train] != NO_LABEL).any(axis=(1, 2))
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
    side: Side,
    fit_rows: np.ndarray,
    check_rows: np.ndarray,
    how: Training,
    seed: int,
    batch: int,
) -> tuple[float, int]:
    """Trains a network in place and leaves it as it was at its best look at the validation part.

    Args:
      net: The network.
      groups: For the optimiser.
      side: The samples.
      fit_rows: Chips to train on.
      check_rows: Chips to validate on.
      how: Steps, patience, batch size.
      seed: Draws batches and mirrorings.
      batch: Chips at a time in prediction.

    Returns:
      The best mean IoU of the validation part, and the step it was reached at.
    """
    optimizer = torch.optim.AdamW(groups)
    trained = [p for group in groups for p in group["params"]]
    weight = _class_weights(side, fit_rows) if how.class_weights == "balanced" else None
    rng = np.random.default_rng(seed)
    best, best_step, kept, since = -1.0, 0, {}, 0
    for step in range(1, how.steps + 1):
        rows = rng.choice(fit_rows, min(how.batch_size, len(fit_rows)), replace=False)
        inputs, footprint_deg, targets = side.batch(rows)
        mirrored = [dim for dim in (-2, -1) if rng.random() < 0.5]
        inputs |= {name: inputs[name].flip(mirrored) for name in ("values", "valid")}
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs, footprint_deg), targets.flip(mirrored), weight, ignore_index=NO_LABEL)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()
        if step % how.check_every and step < how.steps:
            continue
        score = _mean_iou(net, side, check_rows, batch)
        since = 0 if score > best else since + 1
        if score > best:
            best, best_step = score, step
            kept = {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}
        if since >= how.patience:
            break
    net.load_state_dict(kept, strict=False)
    return best, best_step


@torch.no_grad()
def predict(net: nn.Module, side: Side, rows: np.ndarray, batch: int) -> np.ndarray:
    """Classes of the chips at rows, int64 (M, H, W)."""
    parts = []
    for start in range(0, len(rows), batch):
        inputs, footprint_deg, _ = side.batch(rows[start : start + batch])
        parts.append(net(inputs, footprint_deg).argmax(dim=1).cpu().numpy())
    return np.concatenate(parts)


def _class_weights(side: Side, rows: np.ndarray) -> torch.Tensor:
    """Inverse shares of the classes among the labelled pixels, (K,), of mean 1 over pixels; 0 for a class without any."""
    counts = np.array(list(side.samples.counts(rows).values()), np.float64)
    weights = np.where(counts > 0, counts.sum() / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)
    return torch.tensor(weights, dtype=torch.float32, device=side.device)


def _mean_iou(net: nn.Module, side: Side, rows: np.ndarray, batch: int) -> float:
    confusion = Confusion(side.samples.names, NO_LABEL)
    confusion.add(side.samples.targets[rows], predict(net, side, rows, batch))
    return confusion.figures()["mean_iou"]
