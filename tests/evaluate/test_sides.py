"""A task's split on its samples: sides, gaps, polygons that are not torn, windows that do not overlap."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.samples import Chips, Ground, Input, Samples
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_scene import write_task

SIDE = 4


def samples(x_m, y_m=None, crs="EPSG:32631", ground=True, **columns) -> Samples:
    x_m = np.asarray(x_m, float)
    n, y_m = len(x_m), np.zeros(len(x_m)) if y_m is None else np.asarray(y_m, float)
    place = Ground(crs, x_m, y_m, np.zeros((n, 4, 2))) if ground else None
    values, of = np.zeros((n, 1, SIDE, SIDE), np.float32), np.zeros(n, np.int64)
    chips = Chips(values, values == 0, (Input("dem", ("elevation",), 10.0),), of, np.zeros((n, 3)), place, 2)
    table = {"scene": np.full(n, "one"), "sensor": np.full(n, "dem")} | {name: np.asarray(entry) for name, entry in columns.items()}
    return Samples(chips, of, ("a", "b"), np.arange(n), table, {})


@pytest.fixture
def split(tmp_path):
    return lambda given, how, **changes: make_splits(read_task(write_task(tmp_path, split=how, **changes)), given)


def test_a_line_and_a_gap(split):
    (made,) = split(samples(range(0, 101, 10)), {"kind": "spatial", "axis": "x", "gap_m": 20})
    assert made.train.tolist() == [0, 1, 2, 3]
    assert made.test.tolist() == [6, 7, 8, 9, 10]  # 60 is on the far edge of the gap of 40 to 60
    assert made.dropped == {"in the gap": 2}
    (made,) = split(samples(np.zeros(4), [0, 10, 20, 30]), {"kind": "spatial", "axis": "y", "gap_m": 0, "at_m": 10})
    assert (made.train.tolist(), made.test.tolist()) == ([0], [1, 2, 3])


def test_a_shape_keeps_its_larger_part(split):
    given = samples([0, 10, 20, 60, 70, 80, 90], shape=[-1, 0, 0, 0, 1, 1, -1])
    (made,) = split(given, {"kind": "spatial", "axis": "x", "gap_m": 10, "at_m": 45})
    assert made.train.tolist() == [0, 1, 2]
    assert made.test.tolist() == [4, 5, 6]
    assert made.dropped == {"in the gap": 0, "smaller part of a shape": 1}
    even = samples([0, 10, 60, 70], shape=[0, 1, 1, 2])
    (made,) = split(even, {"kind": "spatial", "axis": "x", "gap_m": 10, "at_m": 40})
    assert (made.train.tolist(), made.test.tolist()) == ([0, 1], [3])


def test_blocks_transfer_and_columns(split):
    x_m, y_m = (axis.reshape(-1) for axis in np.meshgrid(np.arange(0, 400, 20.0), np.arange(0, 400, 20.0)))
    folds = split(samples(x_m, y_m), {"kind": "blocks", "block_m": 100, "folds": 4, "gap_m": 30})
    assert [one.keys for one in folds] == [{"fold": i} for i in range(4)]
    for one in folds:
        away = np.hypot(x_m[one.train][:, None] - x_m[one.test], y_m[one.train][:, None] - y_m[one.test])
        assert away.min() >= 30
    scenes = np.repeat([f"s{i}" for i in range(8)], 3)
    seasons = np.repeat(["winter", "summer"], 12)
    given = samples(range(24), scene=scenes, season=seasons)
    pairs = split(given, {"kind": "transfer", "by": "season", "test_share": 0.5})
    assert len(pairs) == 4
    for one in pairs:
        assert not set(scenes[one.train]) & set(scenes[one.test])
        assert set(seasons[one.train]) == {one.keys["train_group"]}
        assert set(seasons[one.test]) == {one.keys["test_group"]}
    (made,) = split(given, {"kind": "column", "column": "scene", "train": ["s0", "s5"], "test": ["s1"]})
    assert (made.train.tolist(), made.test.tolist()) == ([0, 1, 2, 15, 16, 17], [3, 4, 5])
    assert made.dropped == {"in neither side's scene": 15}


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        ({"ground": False}, {"kind": "spatial", "axis": "x", "gap_m": 0}, "where the samples lie is not known"),
        ({"crs": None}, {"kind": "spatial", "axis": "x", "gap_m": 0}, "several coordinate systems"),
        ({}, {"kind": "spatial", "axis": "x", "gap_m": 0, "at_m": -5}, "0 samples train and 4 test"),
        ({}, {"kind": "transfer", "by": "saeson"}, "no column 'saeson'; they have scene, sensor"),
        ({}, {"kind": "transfer", "by": "sensor"}, "group dem has one scene"),
        ({}, {"kind": "column", "column": "scene", "train": ["one"], "test": ["two"]}, "no sample has 'two' in column 'scene'"),
        ({}, {"kind": "column", "column": "scene", "train": ["one"], "test": ["one"]}, "one is on both sides"),
    ],
)
def test_what_does_not_fit_is_named(split, given, how, message):
    with pytest.raises(InputError, match=message):
        split(samples([0, 10, 20, 30], **given), how)


def test_windows_of_segmentation_may_not_overlap(split):
    source = {"labels": [{"kind": "raster", "file": "labels.tif"}], "at": "grid", "stride_px": 2, "most_per_shape": None}
    given = samples([0, 20, 40, 60, 80])

    def segment(gap_m):
        return split(given, {"kind": "spatial", "axis": "x", "gap_m": gap_m, "at_m": 40}, kind="segmentation", source=source)

    with pytest.raises(InputError, match=r"overlap in scene one \(centres 20 m apart, chips of 40 m\); make gap_m at least 40"):
        segment(0)
    assert segment(40)[0].test.tolist() == [3, 4]
    x_m, y_m = (axis.reshape(-1) for axis in np.meshgrid(np.arange(0, 400, 10.0), np.arange(0, 400, 10.0)))
    blocks = {"kind": "blocks", "block_m": 100, "folds": 2}
    with pytest.raises(InputError, match="make gap_m at least 57"):  # a corner is further away than a side
        split(samples(x_m, y_m), blocks | {"gap_m": 40}, kind="segmentation", source=source)
    assert len(split(samples(x_m, y_m), blocks | {"gap_m": 57}, kind="segmentation", source=source)) == 2
    halves = samples([0, 20], half=["a", "b"])
    column = {"kind": "column", "column": "half", "train": ["a"], "test": ["b"]}
    with pytest.raises(InputError, match="choose sides that share no scene"):
        split(halves, column, kind="segmentation", source=source)
