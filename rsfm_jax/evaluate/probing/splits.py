"""Which samples train and which test, so that nothing seen in training stands in the test: by scene, by block of ground, by few labels.

Works on arrays of names, classes and coordinates and returns indices. What a split leaves out is counted in it, by reason. All is a
function of the arguments, the seed among them.

Legend: N samples, M samples of the test pool.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_finite, must_be_positive


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples of two sides.

    Attributes:
      keys: What tells this split from the others, for the columns of a table, such as ``{"fold": 0}``.
      train: Sorted indices, int64, into the training pool.
      test: Sorted indices, int64, into the test pool.
      dropped: How many samples of the pools that the split asks for are on neither side, by reason.
    """

    keys: dict[str, Any]
    train: np.ndarray
    test: np.ndarray
    dropped: dict[str, int]


def group_transfer(
    groups_train: Sequence[Any] | np.ndarray,
    groups_test: Sequence[Any] | np.ndarray,
    scenes_train: Sequence[Any] | np.ndarray,
    scenes_test: Sequence[Any] | np.ndarray,
    drop_shared: bool = False,
) -> list[Split]:
    """Every group that trains with every group that tests: the cells of a transfer matrix over seasons, regions or sensors.

    A scene is whatever may not be on both sides, such as one acquisition, or one place for groups that are sensors.

    Args:
      groups_train: Group of each sample of the training pool, (N,).
      groups_test: Group of each sample of the test pool, (M,).
      scenes_train: Scene of each sample of the training pool, (N,).
      scenes_test: Scene of each sample of the test pool, (M,).
      drop_shared: Whether to leave the scenes that are in both pools out of every training side. Else they are refused.

    Returns:
      A split for each pair, with keys `train_group` and `test_group`, both in sorted order; `dropped` counts what `drop_shared` took from
      the training group. The test side of a group is the same for all training groups.

    Raises:
      InputError: Lengths differ, a pool is empty, scenes are in both pools, or dropping them leaves a group nothing to train on.
    """
    groups_train, scenes_train = _pool("train", groups_train, scenes_train)
    groups_test, scenes_test = _pool("test", groups_test, scenes_test)
    shared = np.isin(scenes_train, scenes_test)
    if shared.any() and not drop_shared:
        names = np.unique(scenes_train[shared])
        some = ", ".join(str(name) for name in names[:5])
        raise InputError(
            f"{len(names)} scenes are in both pools ({some}{', ...' if len(names) > 5 else ''}; {int(shared.sum())} training samples); "
            "expected disjoint scenes, or drop_shared"
        )
    splits = []
    for train_group in np.unique(groups_train):
        asked = groups_train == train_group
        train = np.flatnonzero(asked & ~shared)
        if not train.size:
            raise InputError(f"all {int(asked.sum())} training samples of group {train_group} lie in scenes of the test pool; none is left")
        dropped = {"scene is in the test pool": int((asked & shared).sum())}
        for test_group in np.unique(groups_test):
            keys = {"train_group": train_group.item(), "test_group": test_group.item()}
            splits.append(Split(keys, train, np.flatnonzero(groups_test == test_group), dict(dropped)))
    return splits


def scene_split(
    scenes: Sequence[Any] | np.ndarray, test_share: float, seed: int, groups: Sequence[Any] | np.ndarray | None = None
) -> Split:
    """Deals whole scenes to a training and a test side, in each group apart.

    Args:
      scenes: Scene of each sample, (N,).
      test_share: Share of a group's scenes to test on, rounded, but at least one scene on each side.
      seed: Chooses the scenes.
      groups: Group of each sample, (N,); None for one group. A scene is in one group.

    Returns:
      The sides, with keys `seed` and `test_share`; nothing is dropped.

    Raises:
      InputError: Lengths differ, the share is not between 0 and 1, a scene is in two groups, or a group has one scene only.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test_share is {test_share}; expected a share between 0 and 1")
    groups, scenes = _pool("all", np.zeros(len(scenes), np.int64) if groups is None else groups, scenes)
    rng = np.random.default_rng(seed)
    tests: list[Any] = []
    for group in np.unique(groups):
        names = np.unique(scenes[groups == group])
        if len(names) < 2:
            raise InputError(f"group {group} has one scene, {names[0]}; expected at least two to be on both sides")
        if np.isin(names, scenes[groups != group]).any():
            raise InputError(f"scene {names[np.isin(names, scenes[groups != group])][0]} is in group {group} and in another; expected one")
        count = min(max(round(test_share * len(names)), 1), len(names) - 1)
        tests += rng.permutation(names)[:count].tolist()
    test = np.isin(scenes, np.asarray(tests))
    return Split({"seed": seed, "test_share": test_share}, np.flatnonzero(~test), np.flatnonzero(test), {})


def spatial_blocks(x_m: np.ndarray, y_m: np.ndarray, block_m: float, folds: int, seed: int, gap_m: float = 0.0) -> list[Split]:
    """Cross-validation over square blocks of ground, with a gap around what is tested.

    Random folds put neighbours, which are alike, on both sides and flatter every model. The blocks lie on multiples of ``block_m``, so
    samples that join do not move them. They are shuffled and dealt from the fullest on, each to the fold with the fewest samples.

    Args:
      x_m: Easting of each sample in metres, (N,), in a projection that keeps distances.
      y_m: Northing in metres, (N,).
      block_m: Side of a block.
      folds: How many folds; each tests once.
      seed: Shuffles the blocks.
      gap_m: Training samples nearer than this to any test sample are left out.

    Returns:
      A split for each fold, with keys `fold` and `seed`; `dropped` counts the training samples inside the gap.

    Raises:
      InputError: Coordinates are not finite or of one length, a size is wrong, the ground has fewer blocks than folds, or the gap leaves a
        fold nothing to train on.

    Source: Roberts et al. 2017, "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure".
    """
    places = _places(x_m, y_m)
    must_be_positive("block_m", block_m)
    if not gap_m >= 0:
        raise InputError(f"gap_m is {gap_m}; expected 0 or more metres")
    corners, block_of = np.unique(np.floor(places / block_m).astype(np.int64), axis=0, return_inverse=True)
    if folds < 2 or len(corners) < folds:
        raise InputError(f"{folds} folds of {len(corners)} blocks of {block_m:g} m; expected at least 2 folds and a block for each")
    block_of = block_of.reshape(-1)
    fold_of = _deal(np.bincount(block_of), folds, np.random.default_rng(seed))[block_of]
    splits = []
    for fold in range(folds):
        test = fold_of == fold
        near = np.zeros(len(places), bool)
        if gap_m > 0:
            near[~test] = KDTree(places[test]).query(places[~test])[0] < gap_m
        train = np.flatnonzero(~test & ~near)
        if not train.size:
            raise InputError(f"fold {fold}: all {int((~test).sum())} training samples are nearer than {gap_m:g} m to a test sample")
        splits.append(Split({"fold": fold, "seed": seed}, train, np.flatnonzero(test), {f"nearer than {gap_m:g} m": int(near.sum())}))
    return splits


@dataclasses.dataclass(frozen=True)
class FewShot:
    """A few samples of each class.

    Attributes:
      chosen: Sorted indices, int64.
      dropped: How many samples were not drawn.
      short: For classes with fewer samples than asked for, all of which are chosen, how many they have.
    """

    chosen: np.ndarray
    dropped: dict[str, int]
    short: dict[int, int]


def few_shot(y: np.ndarray, per_class: int, seed: int) -> FewShot:
    """Draws samples of each class. With one seed, fewer samples are a part of more.

    Args:
      y: Classes, int (N,).
      per_class: How many of each class.
      seed: Chooses them.

    Returns:
      The samples.

    Raises:
      InputError: ``y`` is not int (N,) or is empty, or ``per_class`` is not positive.
    """
    y = np.asarray(y)
    if y.ndim != 1 or not y.size or not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"y is {y.dtype} {y.shape}; expected one integer class a sample")
    must_be_positive("per_class", per_class)
    rng = np.random.default_rng(seed)
    parts, short = [], {}
    for label in np.unique(y):
        same = rng.permutation(np.flatnonzero(y == label))
        parts.append(same[:per_class])
        if len(same) < per_class:
            short[int(label)] = len(same)
    chosen = np.sort(np.concatenate(parts))
    return FewShot(chosen, {"not drawn": len(y) - len(chosen)}, short)


def _deal(sizes: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each block, int64; blocks of equal size in random order."""
    shuffled = rng.permutation(len(sizes))
    fold_of, load = np.empty(len(sizes), np.int64), np.zeros(folds, np.int64)
    for block in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[block] = load.argmin()
        load[fold_of[block]] += sizes[block]
    return fold_of


def _places(x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Coordinates (N, 2), checked."""
    x_m, y_m = np.asarray(x_m, np.float64), np.asarray(y_m, np.float64)
    if x_m.ndim != 1 or x_m.shape != y_m.shape or not x_m.size:
        raise InputError(f"x_m has shape {x_m.shape} and y_m {y_m.shape}; expected (N,) of both")
    must_be_finite("x_m", x_m)
    must_be_finite("y_m", y_m)
    return np.stack([x_m, y_m], axis=1)


def _pool(name: str, groups: Sequence[Any] | np.ndarray, scenes: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups and scenes of a pool, (N,), checked."""
    groups, scenes = np.asarray(groups), np.asarray(scenes)
    if groups.ndim != 1 or groups.shape != scenes.shape or not groups.size:
        raise InputError(f"the {name} pool has groups {groups.shape} and scenes {scenes.shape}; expected (N,) of both")
    return groups, scenes
