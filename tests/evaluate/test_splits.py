"""Nothing that trains is near, or of the scene of, what tests; what is left out is counted."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.splits import few_shot, group_transfer, scene_split, spatial_blocks

SEASONS = np.array(["winter", "winter", "summer", "summer", "winter"])
SCENES = np.array(["a", "b", "c", "c", "a"])


def test_transfer_pairs_every_group_with_every_group():
    splits = group_transfer(SEASONS, ["summer", "autumn", "summer"], SCENES, ["x", "y", "z"])
    assert [(s.keys["train_group"], s.keys["test_group"]) for s in splits] == [
        ("summer", "autumn"),
        ("summer", "summer"),
        ("winter", "autumn"),
        ("winter", "summer"),
    ]
    assert [s.train.tolist() for s in splits] == [[2, 3], [2, 3], [0, 1, 4], [0, 1, 4]]
    assert [s.test.tolist() for s in splits] == [[1], [0, 2], [1], [0, 2]]
    assert all(s.dropped == {"scene is in the test pool": 0} for s in splits)
    assert all(type(name) is str for s in splits for name in s.keys.values())


def test_a_scene_on_both_sides_is_refused_or_dropped():
    with pytest.raises(InputError, match=r"1 scenes are in both pools \(a; 2 training samples\); expected disjoint scenes, or drop_shared"):
        group_transfer(SEASONS, ["summer"], SCENES, ["a"])  # also where the groups differ
    splits = group_transfer(SEASONS, ["summer", "winter"], SCENES, ["a", "d"], drop_shared=True)
    assert [s.train.tolist() for s in splits] == [[2, 3], [2, 3], [1], [1]]
    assert [s.dropped["scene is in the test pool"] for s in splits] == [0, 0, 2, 2]
    for split in splits:
        assert not set(SCENES[split.train]) & {"a", "d"}
    with pytest.raises(InputError, match="all 2 training samples of group summer lie in scenes of the test pool"):
        group_transfer(SEASONS, ["summer"], SCENES, ["c"], drop_shared=True)
    with pytest.raises(InputError, match=r"the test pool has groups \(1,\) and scenes \(2,\)"):
        group_transfer(SEASONS, ["summer"], SCENES, ["x", "y"])


def test_scenes_are_dealt_whole_and_in_each_group():
    scenes = np.repeat(np.arange(30), 4)
    groups = np.where(scenes < 20, "north", "south")
    split = scene_split(scenes, 0.2, seed=3, groups=groups)
    assert sorted([*split.train, *split.test]) == list(range(120))
    assert not set(scenes[split.train]) & set(scenes[split.test])
    assert [len(set(scenes[split.test][groups[split.test] == name])) for name in ("north", "south")] == [4, 2]
    again, other = scene_split(scenes, 0.2, 3, groups), scene_split(scenes, 0.2, 4, groups)
    np.testing.assert_array_equal(split.test, again.test)
    assert split.test.tolist() != other.test.tolist()
    assert len(set(scenes[scene_split(scenes, 0.01, 0).test])) == 1
    with pytest.raises(InputError, match=r"test_share is 1\.0"):
        scene_split(scenes, 1.0, 0)
    with pytest.raises(InputError, match="group north has one scene, 5"):
        scene_split([5, 5], 0.5, 0, ["north", "north"])
    with pytest.raises(InputError, match="scene 2 is in group n and in another"):
        scene_split([1, 2, 2, 3], 0.5, 0, ["n", "n", "s", "s"])


@pytest.fixture
def ground() -> tuple[np.ndarray, np.ndarray]:
    """Eastings and northings of 400 samples on 1 km by 600 m, the west crowded, and some coordinates negative."""
    rng = np.random.default_rng(0)
    return 1000 * rng.random(400) ** 2 - 300, 600 * rng.random(400)


@pytest.mark.parametrize("gap_m", [0.0, 40.0])
def test_blocks_stay_together_and_the_gap_holds(ground, gap_m):
    x_m, y_m = ground
    splits = spatial_blocks(x_m, y_m, block_m=100, folds=4, seed=1, gap_m=gap_m)
    blocks = [f"{int(x // 100)} {int(y // 100)}" for x, y in zip(x_m, y_m, strict=True)]
    assert sorted(i for split in splits for i in split.test) == list(range(400))
    for fold, split in enumerate(splits):
        (dropped,) = split.dropped.values()
        assert split.keys == {"fold": fold, "seed": 1}
        assert len(split.train) + len(split.test) + dropped == 400
        assert not {blocks[i] for i in split.train} & {blocks[i] for i in split.test}
        apart = np.hypot(x_m[split.train][:, None] - x_m[split.test], y_m[split.train][:, None] - y_m[split.test]).min()
        assert apart >= gap_m
        out = np.setdiff1d(np.arange(400), np.concatenate([split.train, split.test]))
        near = np.hypot(x_m[out][:, None] - x_m[split.test], y_m[out][:, None] - y_m[split.test]).min(axis=1)
        assert (near < gap_m).all()  # nothing else is dropped
        assert (dropped > 0) == (gap_m > 0)
        assert 90 <= len(split.test) <= 110  # the folds are of about one size


def test_a_gap_is_nearer_than_not_as_near_as():
    x_m = np.array([0.0, 10, 30, 40])
    first, second = spatial_blocks(x_m, 0 * x_m, block_m=20, folds=2, seed=0, gap_m=20)
    assert {len(first.train), len(second.train)} == {2}
    first, second = spatial_blocks(x_m, 0 * x_m, block_m=20, folds=2, seed=0, gap_m=20.1)
    assert sorted([first.train.tolist(), second.train.tolist()]) == [[0], [3]]
    assert first.dropped == {"nearer than 20.1 m": 1}


def test_blocks_are_a_function_of_the_seed_and_do_not_move(ground):
    x_m, y_m = ground
    folds = [spatial_blocks(x_m, y_m, 100, 4, seed) for seed in (1, 1, 2)]
    assert [s.test.tolist() for s in folds[0]] == [s.test.tolist() for s in folds[1]]
    assert [s.test.tolist() for s in folds[0]] != [s.test.tolist() for s in folds[2]]
    (west, east) = spatial_blocks(np.array([1.0, 99, 101]), np.zeros(3), 100, 2, 0)
    assert sorted([west.test.tolist(), east.test.tolist()]) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"block_m": 5000.0}, "4 folds of 2 blocks of 5000 m"),
        ({"folds": 1}, "1 folds of"),
        ({"block_m": 0.0}, "block_m is 0.0; expected a positive number"),
        ({"gap_m": -1.0}, "gap_m is -1.0"),
        ({"gap_m": 2000.0}, "fold 0: all .* training samples are nearer than 2000 m"),
        ({"x_m": np.full(400, np.nan)}, "x_m has 400 values that are not finite"),
        ({"y_m": np.zeros(3)}, r"x_m has shape \(400,\) and y_m \(3,\)"),
    ],
)
def test_impossible_blocks_are_refused(ground, changed, message):
    arguments = {"x_m": ground[0], "y_m": ground[1], "block_m": 100.0, "folds": 4, "seed": 0}
    with pytest.raises(InputError, match=message):
        spatial_blocks(**(arguments | changed))


def test_few_samples_of_each_class():
    y = np.random.default_rng(0).permutation([0] * 50 + [1] * 20 + [7] * 3)
    few = few_shot(y, 5, seed=0)
    assert np.bincount(y[few.chosen]).tolist() == [5, 5, 0, 0, 0, 0, 0, 3]
    assert (few.dropped, few.short) == ({"not drawn": 60}, {7: 3})
    more = few_shot(y, 12, seed=0)
    assert set(few.chosen) < set(more.chosen)
    np.testing.assert_array_equal(few.chosen, few_shot(y, 5, seed=0).chosen)
    assert few.chosen.tolist() != few_shot(y, 5, seed=1).chosen.tolist()
    for bad, per_class, message in ((y[:, None], 5, "expected one integer class"), (y / 2, 5, "y is float64"), (y, 0, "per_class is 0")):
        with pytest.raises(InputError, match=message):
            few_shot(bad, per_class, 0)
