"""Retrieval from a task: the test side finds its class in the training side; figures by hand, by random orders, and by the front door."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.evaluation import evaluate
from rsfm_jax.evaluate.figures.metrics import recall_at_k
from rsfm_jax.evaluate.probing.features import FeatureSet
from rsfm_jax.evaluate.probing.retrieval import random_order, relevant_items, retrieval_rows
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_scene import points, write_labels, write_model, write_scene, write_task
from tests.helpers import run_door

WITHIN = {"source": points(), "seeds": [0], "retrieval": {"ks": [1, 3]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    made = tmp_path_factory.mktemp("retrieval")
    write_labels(made, write_scene(made))
    write_model(made / "small")
    return made


def hand_made(folder: pathlib.Path, tmp_path: pathlib.Path, standardise: bool, splits: list[Split], values: np.ndarray) -> list[dict]:
    file = write_task(tmp_path, **WITHIN | {"retrieval": {"ks": [1, 3], "standardise": standardise}})
    task = read_task(file)
    few = dataclasses.replace(read_samples(task, folder, file), targets=np.array([0, 0, 1, 1, 0, 1, 2]))
    return retrieval_rows(task, few, splits, [FeatureSet({"features": "mine", "layer": None, "pooling": None}, values)])


def test_by_hand(folder: pathlib.Path, tmp_path: pathlib.Path):
    """A gallery of classes 0 0 1 1 at 0, 90, 45 and 180 degrees of the circle; queries of classes 0, 1, 2 at 10, 60, 0 degrees."""
    angles = np.deg2rad([0, 90, 45, 180, 10, 60, 0])
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    split = Split({}, np.arange(4), np.arange(4, 7), {})
    mine, none = hand_made(folder, tmp_path, False, [split], values)
    # the query at 10: 0 (right), 45, 90 (right), 180; at 60: 45 (right), 90, 0, 180 (right); the third has nothing to find
    assert (mine["recall_at_1"], mine["recall_at_3"], mine["median_rank"]) == (1.0, 1.0, 1.0)
    assert mine["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + (1 + 2 / 4) / 2) / 2)
    assert (mine["queries"], mine["without_relevant"], mine["gallery"], mine["folds"]) == (2, 1, 4, 1)
    assert none["recall_at_1"] == pytest.approx(0.5)
    assert (none["features"], none["median_rank"]) == ("none", None)
    far = values * [1, 1000] + [50, 0]  # an offset and a scale that standardisation takes off
    there, back = (hand_made(folder, tmp_path, True, [split], given)[0] for given in (values, far))
    assert there["mean_average_precision"] == pytest.approx(back["mean_average_precision"])
    first, second = Split({"fold": 0}, split.train, np.array([4]), {}), Split({"fold": 1}, split.train, np.array([5]), {})
    folds = hand_made(folder, tmp_path, False, [first, second], values)[0]
    assert (folds["folds"], folds["queries"], folds["gallery"]) == (2, 2, 8)
    assert folds["mean_average_precision"] == pytest.approx(mine["mean_average_precision"])
    first, second = (
        Split({"train_group": "a", "test_group": group}, one.train, one.test, {}) for group, one in (("a", first), ("b", second))
    )
    pairs = hand_made(folder, tmp_path, False, [first, second], values)
    assert {(row["features"], row["test_group"]) for row in pairs} == {("mine", "a"), ("mine", "b"), ("none", "a"), ("none", "b")}


def test_a_random_order_is_the_mean_over_orders():
    rng = np.random.default_rng(0)
    relevant = rng.random((5, 12)) < np.array([[0.1], [0.3], [0.5], [0.9], [0.0]])
    found = random_order(relevant, (1, 4))
    drawn = [recall_at_k(rng.normal(size=(5, 3)), rng.normal(size=(12, 3)), relevant, (1, 4)) for _ in range(3000)]
    for name in ("recall_at_1", "recall_at_4", "mean_average_precision"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in drawn]), abs=0.01)
    assert found["without_relevant"] == drawn[0]["without_relevant"] >= 1


def test_labels_are_alike_where_they_share_one():
    asked, gallery = np.array([[1, 0, 1], [0, 0, 0]], bool), np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0]], bool)
    np.testing.assert_array_equal(relevant_items(asked, gallery), [[False, True, True], [False, False, False]])
    np.testing.assert_array_equal(relevant_items(np.array([2, 0]), np.array([0, 2, 2])), [[False, True, True], [True, False, False]])


def test_a_table_by_the_front_door(folder: pathlib.Path, tmp_path: pathlib.Path):
    file = write_task(tmp_path, **WITHIN)
    done = run_door(
        "rsfm_jax.evaluate", f"--model={folder / 'small'}", f"--task={file}", f"--data_root={folder}", f"--out={tmp_path / 'out'}"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["retrieval"]
    by_name = {row["features"]: row for row in rows}
    assert by_name.keys() == {"small", "random init of small", "raw_pixels", "window_statistics", "none"}
    assert [row["mean_average_precision"] for row in rows] == sorted((row["mean_average_precision"] for row in rows), reverse=True)
    task = read_task(file)
    samples = read_samples(task, folder, file)
    (split,) = make_splits(task, samples)
    raw = samples.chips.values.reshape(len(samples), -1)  # chips of 8 pixels: the window of raw pixels is all
    gallery, asked = raw[split.train].astype(float), raw[split.test].astype(float)
    asked, gallery = (asked - gallery.mean(axis=0)) / gallery.std(axis=0), (gallery - gallery.mean(axis=0)) / gallery.std(axis=0)
    cosine = asked @ gallery.T / np.outer(np.linalg.norm(asked, axis=1), np.linalg.norm(gallery, axis=1))
    nearest = samples.targets[split.train][cosine.argmax(axis=1)]
    assert by_name["raw_pixels"]["recall_at_1"] == pytest.approx((nearest == samples.targets[split.test]).mean())
    assert by_name["window_statistics"]["mean_average_precision"] > by_name["none"]["mean_average_precision"] + 0.2
    assert f"recall_at_1 {by_name['small']['recall_at_1']:.4f}" in done.stdout
    assert "<h2>Retrieval</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_labels_of_a_table(folder: pathlib.Path, tmp_path: pathlib.Path):
    source = points(target=["wheat", "water", "wood"])
    changes = WITHIN | {"kind": "multilabel", "classes": None, "source": source, "probes": ["knn"]}
    results = evaluate([folder / "small"], write_task(tmp_path, **changes), tmp_path / "out", folder)
    single = evaluate([folder / "small"], write_task(tmp_path, **WITHIN), tmp_path / "single", folder)
    assert results["retrieval"] == single["retrieval"]  # one label a sample: the same
    assert not evaluate([folder / "small"], write_task(tmp_path, **WITHIN | {"retrieval": None}), tmp_path / "single", folder)["retrieval"]


def test_what_does_not_fit_is_named(folder: pathlib.Path, tmp_path: pathlib.Path):
    for changes, message in (
        ({"retrieval": {"ks": []}}, r"retrieval: ks is \[\]; expected"),
        ({"retrieval": {"ks": [0]}}, r"retrieval: ks is \[0\]"),
        ({"kind": "regression", "classes": None, "source": points(target=["height"])}, "retrieval is given for regression"),
        ({"retrieval": {"ks": [1000]}}, r"task fields: retrieval, split into two: ks is \[1000\]; expected values from 1 to the gallery's"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate([folder / "small"], write_task(tmp_path, **WITHIN | changes), tmp_path / "out", folder)
