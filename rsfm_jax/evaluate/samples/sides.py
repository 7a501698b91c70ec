"""A task's split, applied to its samples."""

import math
from typing import Any

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.splits import Split, group_transfer, scene_split, spatial_blocks
from rsfm_jax.evaluate.samples.samples import Ground, Samples, chip_sides_m, nearest_chip_m
from rsfm_jax.evaluate.tasks.task import Blocks, Column, Spatial, Task, Transfer


def make_splits(task: Task, samples: Samples) -> list[Split]:
    """Splits samples as the task says.

    Args:
      task: The task.
      samples: Its samples.

    Returns:
      One split, or one for each fold or pair of groups; their `keys` never hold `seed`, which is the probes'.

    Raises:
      InputError: The split needs what the samples do not have, leaves a side without samples, or windows of segmentation or restoration
        on both sides overlap.
    """
    makers: dict[type, Any] = {Spatial: _spatial, Blocks: _blocks, Transfer: _transfer, Column: _column}
    splits: list[Split] = makers[type(task.split)](task.split, samples)
    for split in splits:
        if not split.train.size or not split.test.size:
            raise InputError(f"split: {split.train.size} samples train and {split.test.size} test ({split.keys or task.split})")
        if task.kind in ("segmentation", "restoration"):
            _must_not_overlap(task, samples, split)
    return splits


def _spatial(how: Spatial, samples: Samples) -> list[Split]:
    ground = _ground(samples)
    place = ground.x_m if how.axis == "x" else ground.y_m
    at_m = (place.min() + place.max()) / 2 if how.at_m is None else how.at_m
    side = np.where(place < at_m - how.gap_m / 2, -1, np.where(place >= at_m + how.gap_m / 2, 1, 0))
    dropped = {"in the gap": int((side == 0).sum())}
    if "shape" in samples.columns:
        shape = samples.columns["shape"]
        sums = np.zeros(shape.max() + 1)
        np.add.at(sums, shape[shape >= 0], side[shape >= 0])
        torn = (shape >= 0) & (side != 0) & (side * sums[shape] < 0)
        torn |= (shape >= 0) & (side == 1) & (sums[shape] == 0)  # equal parts: the test side gives way
        dropped["smaller part of a shape"] = int(torn.sum())
        side[torn] = 0
    return [Split({}, np.flatnonzero(side == -1), np.flatnonzero(side == 1), dropped)]


def _blocks(how: Blocks, samples: Samples) -> list[Split]:
    ground = _ground(samples)
    splits = spatial_blocks(ground.x_m, ground.y_m, how.block_m, how.folds, how.seed, how.gap_m)
    return [Split({"fold": split.keys["fold"]}, split.train, split.test, split.dropped) for split in splits]


def _transfer(how: Transfer, samples: Samples) -> list[Split]:
    groups, scenes = samples.column(how.by), samples.column("scene")
    dealt = scene_split(scenes, how.test_share, how.seed, groups)
    pairs = group_transfer(groups[dealt.train], groups[dealt.test], scenes[dealt.train], scenes[dealt.test])
    return [Split(pair.keys, dealt.train[pair.train], dealt.test[pair.test], pair.dropped) for pair in pairs]


def _column(how: Column, samples: Samples) -> list[Split]:
    column = samples.column(how.column)
    there = np.unique(column).tolist()
    for entry in (*how.train, *how.test):
        if entry not in there:
            raise InputError(f"split: no sample has {entry!r} in column {how.column!r}; there are {', '.join(map(str, there[:10]))}")
    both = set(how.train) & set(how.test)
    if both:
        raise InputError(f"split: {', '.join(map(str, both))} is on both sides")
    train, test = (np.isin(column, np.array(entries)) for entries in (how.train, how.test))
    return [Split({}, np.flatnonzero(train), np.flatnonzero(test), {f"in neither side's {how.column}": int((~train & ~test).sum())})]


def _ground(samples: Samples) -> Ground:
    """Places of the samples, which must be comparable."""
    if samples.chips.ground is None:
        raise InputError("split: where the samples lie is not known; split by a column")
    if samples.chips.ground.crs is None:
        raise InputError("split: the images are in several coordinate systems, so distances are not known; split by a column, or warp them")
    return samples.chips.ground


def _must_not_overlap(task: Task, samples: Samples, split: Split) -> None:
    """Refuses windows of one scene on both sides that share pixels."""
    nearest_m, side_m = nearest_chip_m(samples, split.train, split.test), chip_sides_m(samples, split.train)
    if not (nearest_m < side_m).any():
        return
    worst = np.argmin(np.where(nearest_m < side_m, nearest_m, np.inf))
    scene, whole_m = samples.columns["scene"][split.train[worst]], side_m[worst] / 0.999
    fixes = {Spatial: f"make gap_m at least {whole_m:g}", Blocks: f"make gap_m at least {math.ceil(whole_m * 2**0.5)}"}
    raise InputError(
        f"split: chips of both sides overlap in scene {scene} (centres {nearest_m[worst]:g} m apart, chips of {whole_m:g} m); "
        f"{fixes.get(type(task.split), 'choose sides that share no scene')}"
    )
