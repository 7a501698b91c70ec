"""From samples with scenes and ground to a table: splits, probes and means fit together, and random folds flatter where blocks do not."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.evaluate.figures.aggregate import over_seeds, transfer_table
from rsfm_jax.evaluate.probing.probes import Samples, probe
from rsfm_jax.evaluate.probing.splits import group_transfer, scene_split, spatial_blocks


def test_a_transfer_matrix_shows_that_seasons_differ():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(24), 15)
    seasons = np.where(scenes % 2, "winter", "summer")
    classes = rng.integers(0, 2, len(scenes))
    shift = np.where(seasons == "winter", 1.0, -1.0)  # what tells the classes apart turns with the season
    features = rng.normal(size=(len(scenes), 3)) + np.stack([2 * classes * shift, 0.5 * classes, 0 * shift], axis=1)
    everything = Samples(features, classes, scenes)
    sides = scene_split(scenes, 0.4, seed=0, groups=seasons)
    rows = []
    for split in group_transfer(seasons[sides.train], seasons[sides.test], scenes[sides.train], scenes[sides.test]):
        train, test = everything.take(sides.train[split.train]), everything.take(sides.test[split.test])
        rows += [split.keys | row for row in probe(["linear"], "classification", train, test, [0, 1], 2)]
    means = over_seeds(rows, ["probe", "train_group", "test_group"], ["accuracy", "ece"])
    assert len(means) == 2 * 4
    table = transfer_table([mean for mean in means if mean["probe"] == "linear"], "accuracy")
    for line in table:
        assert line["within"] > 0.75
        assert line["across"] < 0.5
    json.dumps([rows, means, table], allow_nan=False)


def test_neighbours_flatter_and_blocks_do_not():
    """A target that only place tells, and features that tell only place: nothing to learn for ground that was not seen."""
    rng = np.random.default_rng(1)
    x_m, y_m = 1000 * rng.random((2, 500))
    bumps = rng.integers(0, 2, (10, 10))
    classes = bumps[(x_m // 100).astype(int), (y_m // 100).astype(int)]
    everything = Samples(np.stack([x_m, y_m], axis=1), classes, np.arange(500))

    def accuracy(splits: list[tuple[np.ndarray, np.ndarray]]) -> float:
        pairs = [(everything.take(train), everything.take(test)) for train, test in splits]
        rows = [probe(["knn"], "classification", *pair, [0], 2, strengths={"knn": [1]})[1] for pair in pairs]
        return float(np.mean([row["accuracy"] for row in rows]))

    honest = [(split.train, split.test) for split in spatial_blocks(x_m, y_m, 100, 4, seed=0, gap_m=20)]
    order = rng.permutation(500).reshape(4, -1)
    random = [(np.setdiff1d(np.arange(500), test), test) for test in order]
    assert accuracy(random) > 0.7
    assert accuracy(honest) < 0.6
