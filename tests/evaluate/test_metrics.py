"""Figures equal scikit-learn's or those by hand; what is ignored or absent moves nothing and is said."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from sklearn import metrics as library

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.metrics import Confusion, classification, multilabel, recall_at_k, regression


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction, (6, 8, 8), of 5 classes; class 3 is neither, class 4 is only predicted."""
    rng = np.random.default_rng(0)
    target = rng.choice(3, (6, 8, 8), p=[0.6, 0.3, 0.1])
    wrong = rng.random(target.shape) < 0.4
    return target, np.where(wrong, rng.choice([0, 1, 2, 4], target.shape), target)


def test_classes_equal_scikit_learn(maps):
    target, predicted = maps
    found = classification(target, predicted, 5)
    y, p = target.ravel(), predicted.ravel()
    assert found["accuracy"] == pytest.approx(library.accuracy_score(y, p))
    assert found["macro_f1"] == pytest.approx(library.f1_score(y, p, average="macro"))
    assert found["weighted_f1"] == pytest.approx(library.f1_score(y, p, average="weighted"))
    assert found["mean_iou"] == pytest.approx(library.jaccard_score(y, p, average="macro"))
    assert found["absent"] == ["3"]
    assert found["n"] == 384
    by_class = library.jaccard_score(y, p, average=None, labels=[0, 1, 2, 4])
    assert [row["iou"] for row in found["classes"]] == pytest.approx([*by_class[:3], None, by_class[3]])
    assert found["classes"][3] == {"class": "3", "n": 0, "predicted_n": 0, "iou": None, "f1": None}
    assert found["classes"][4]["iou"] == 0


def test_iou_by_hand():
    found = classification(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2]), ("water", "ice", "land"))
    assert [row["iou"] for row in found["classes"]] == pytest.approx([2 / 3, 1 / 3, 1 / 2])
    assert found["mean_iou"] == pytest.approx(0.5)
    assert [row["class"] for row in found["classes"]] == ["water", "ice", "land"]


def test_batches_add_up_and_ignored_pixels_move_nothing(maps):
    target, predicted = maps
    whole = classification(target, predicted, 5)
    parts = Confusion(5, ignore_index=255)
    rng = np.random.default_rng(1)
    for truth, given in zip(target, predicted, strict=True):
        rows = np.concatenate([truth, np.full((3, 8), 255)]).astype(np.uint8)
        parts.add(rows, np.concatenate([given, rng.choice([0, 4, 77, 255], (3, 8))]))
    assert parts.ignored == 6 * 24
    assert parts.figures() == {**whole, "ignored": 6 * 24}


@pytest.mark.parametrize(
    ("target", "predicted", "message"),
    [
        ([0, 255], [0, 0], r"target has \[255\]; expected classes 0 to 1 \(ignore_index is none\)"),
        ([0, 1], [0, -1], r"predicted has \[-1\]"),
        ([0, 1], [0], r"shape \(2,\) and predicted \(1,\)"),
        ([0, 1], [0.0, 1.0], "predicted is float64; expected integers"),
        (np.zeros(0, int), np.zeros(0, int), "no sample to count"),
    ],
)
def test_what_is_no_class_is_refused(target, predicted, message):
    with pytest.raises(InputError, match=message):
        classification(np.asarray(target), np.asarray(predicted), 2)


def test_odd_classes_are_refused():
    with pytest.raises(InputError, match="classes is empty"):
        Confusion(())
    with pytest.raises(InputError, match="ignore_index 1 is one of the classes 0 to 1"):
        Confusion(2, ignore_index=1)


def test_labels_equal_scikit_learn():
    rng = np.random.default_rng(2)
    target = rng.random((60, 5)) < [0.5, 0.2, 0.1, 0.0, 0.0]
    scores = np.clip(0.4 * target + rng.random((60, 5)) * 0.6, 0, 1)
    scores[:, 4] = 0.1
    found = multilabel(target, scores)
    assert found["map_macro"] == pytest.approx(library.average_precision_score(target[:, :3], scores[:, :3], average="macro"))
    assert found["map_micro"] == pytest.approx(library.average_precision_score(target, scores, average="micro"))
    assert found["f1_macro"] == pytest.approx(library.f1_score(target, scores >= 0.5, average="macro", zero_division=np.nan))
    assert found["f1_micro"] == pytest.approx(library.f1_score(target, scores >= 0.5, average="micro"))
    assert (found["without_positives"], found["absent"]) == ([3, 4], [4])


def test_average_precision_by_hand():
    found = multilabel(np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.1]]))
    assert found["map_macro"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found["f1_macro"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    for target, scores, message in (
        (np.zeros((2, 1)), np.ones((2, 1)), "no label on any sample"),
        (np.full((2, 1), 2), np.ones((2, 1)), r"target has \[2\]; expected 0 and 1"),
        (np.ones((2, 1)), np.full((2, 1), np.nan), "scores has 2 values that are not finite, of 2"),
        (np.ones(2), np.ones(2), "expected \\(samples, labels\\) of both"),
    ):
        with pytest.raises(InputError, match=message):
            multilabel(target, scores)


def test_regression_equals_scikit_learn():
    rng = np.random.default_rng(3)
    target = rng.normal(5, 2, 50)
    predicted = target + rng.normal(0.3, 1, 50)
    found = regression(target, predicted)
    assert found["rmse"] == pytest.approx(library.root_mean_squared_error(target, predicted))
    assert found["mae"] == pytest.approx(library.mean_absolute_error(target, predicted))
    assert found["r2"] == pytest.approx(library.r2_score(target, predicted))
    assert found["r2"] == pytest.approx(1 - (found["rmse"] / found["target_sd"]) ** 2)
    mean = regression(target, np.full(50, target.mean()))
    assert mean["rmse"] == pytest.approx(mean["target_sd"])
    assert mean["r2"] == pytest.approx(0)
    constant = regression(np.full(3, 0.1), np.array([0.1, 0.2, 0.3]))
    assert (constant["r2"], constant["target_sd"]) == (None, 0)
    for bad in (np.array([[1.0]]), np.zeros(0), np.array([1.0, np.nan])):
        with pytest.raises(InputError, match="expected"):
            regression(bad, bad)


def test_retrieval_by_hand():
    gallery = np.array([[1.0, 0], [0, 2], [-3, 0], [1, 1]])
    queries = np.array([[1.0, 0.1], [0.2, 1], [0.9, 1]])
    relevant = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    found = recall_at_k(queries, gallery, relevant, ks=(1, 2))
    assert found == {
        "recall_at_1": 0.5,
        "recall_at_2": 1.0,
        "mean_average_precision": 0.75,
        "median_rank": 1.5,
        "queries": 2,
        "without_relevant": 1,
        "gallery": 4,
    }
    second = recall_at_k(queries, gallery, np.array([[0, 0, 1, 1]] * 3, bool), ks=(1, 2))  # any relevant item counts
    assert (second["recall_at_1"], second["recall_at_2"]) == (pytest.approx(1 / 3), 1)
    assert second["mean_average_precision"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + (1 / 2 + 2 / 4) / 2 + (1 / 1 + 2 / 4) / 2) / 3)


def test_retrieval_equals_a_sort_and_constant_embeddings_earn_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    gallery = rng.normal(size=(30, 6))
    queries = gallery + rng.normal(size=(30, 6))
    relevant = np.eye(30, dtype=bool)
    cosine = queries @ gallery.T / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(gallery, axis=1))
    order = np.argsort(-cosine, axis=1)
    expected = {f"recall_at_{k}": np.mean([i in order[i, :k] for i in range(30)]) for k in (1, 5, 10)}
    assert 0 < expected["recall_at_1"] < expected["recall_at_10"]
    monkeypatch.setattr("rsfm_jax.evaluate.figures.metrics.QUERIES_AT_ONCE", 7)
    found = recall_at_k(queries, gallery, relevant)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    same = recall_at_k(np.tile(gallery[:1], (30, 1)), np.tile(gallery[:1], (30, 1)), relevant)
    assert same["recall_at_10"] == 0
    assert same["median_rank"] == 30
    assert same["mean_average_precision"] == pytest.approx(1 / 30)
    several = rng.random((30, 30)) < 0.3
    by_library = [library.average_precision_score(truth, scores) for truth, scores in zip(several, cosine, strict=True)]
    assert recall_at_k(queries, gallery, several)["mean_average_precision"] == pytest.approx(np.mean(by_library))
    for arguments, message in (
        ((0 * queries, gallery, relevant), "queries: 30 embeddings are zero"),
        ((queries, gallery[:5], relevant), r"relevant is bool \(30, 30\); expected bool \(30, 5\)"),
        ((queries, gallery, relevant.astype(int)), "relevant is int64"),
        ((queries, gallery, ~relevant & relevant), "no item for any query"),
        ((queries, gallery, relevant, (1, 31)), r"ks is \[1, 31\]; expected values from 1 to the gallery's 30"),
        ((queries[:, :2], gallery, relevant), r"expected \(Q, D\) and \(G, D\)"),
    ):
        with pytest.raises(InputError, match=message):
            recall_at_k(*arguments)
