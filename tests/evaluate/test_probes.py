"""Probes learn what can be learned, choose their strength without the test side, and say what they did."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing import probe_models
from rsfm_jax.evaluate.probing.probes import Samples, fit_probe, probe

NAMES = ("linear", "knn", "forest", "mlp")
CLASS_NAMES = (*NAMES, "qda", "bayesian_qda")


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    monkeypatch.setattr(probe_models, "TREES", 15)
    monkeypatch.setattr(probe_models, "HIDDEN", 12)


def features(n: int, seed: int) -> np.ndarray:
    """Features (n, 6) of unlike scales, the last constant."""
    return np.random.default_rng(seed).normal(size=(n, 6)) * [1, 100, 0.01, 1, 1, 0] + [0, 500, 0, -3, 0, 7]


def side(kind: str, n: int, seed: int) -> Samples:
    """Targets that follow from the first three features, with 20 samples a group."""
    values = features(n, seed)
    a, b, c = values[:, 0], (values[:, 1] - 500) / 100, values[:, 2] * 100
    targets = {
        "classification": (a + b > 0) * 1 + (c > 0.5),
        "multilabel": np.stack([a > 0.3, b + c > 0, c > 0.8, np.zeros(n, bool)], axis=1),
        "regression": 3 + 2 * a - b + 0.3 * c,
    }[kind]
    return Samples(values, targets, np.arange(n) // 20)


SETTINGS = [("classification", "accuracy", 0.8), ("multilabel", "map_macro", 0.8), ("regression", "r2", 0.7)]


@pytest.mark.parametrize(("kind", "figure", "least"), SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_probe_learns_every_kind(name, kind, figure, least):
    train, test = side(kind, 200, 0), side(kind, 150, 1)
    sweep = {name: probe_models.STRENGTHS[name][:2]}
    if name == "mlp" and kind != "multilabel":
        sweep = {name: [1e-2]}  # one strength needs no folds
    rows = probe([name], kind, train, dataclasses.replace(test, groups=None), [0], 3 if kind == "classification" else None, strengths=sweep)
    baseline, row = rows
    assert baseline["probe"] == ("mean_predictor" if kind == "regression" else "class_frequencies")
    assert row["probe"] == name
    assert row[figure] > least
    assert row[figure] > baseline[figure] + 0.2
    assert row["inner_folds"] == (3 if len(sweep[name]) > 1 else 0)
    assert (row["train_n"], row["test_n"], row["n"]) == (200, 150, 150)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    if kind == "regression":
        assert {"rmse", "target_sd", "mae", "r2"} <= set(row)
        expected = np.sqrt(np.mean((train.targets.mean() - test.targets) ** 2))
        assert baseline["rmse"] == pytest.approx(expected)
    elif kind == "classification":
        assert {"macro_f1", "mean_iou", "log_loss", "brier", "ece", "classes"} <= set(row)
        assert baseline["accuracy"] == np.mean(test.targets == np.bincount(train.targets).argmax())
    else:
        assert row["without_positives"] == [3]


def test_linear_probes_equal_scikit_learn_on_standardised_features():
    train, test = side("classification", 200, 0), side("classification", 150, 1)
    scaler = StandardScaler().fit(train.features)
    ours = fit_probe("linear", "classification", train, seed=0, classes=3, strengths=[10.0])
    theirs = LogisticRegression(C=0.1).fit(scaler.transform(train.features), train.targets)
    np.testing.assert_allclose(ours.outputs(test.features), theirs.predict_proba(scaler.transform(test.features)), rtol=1e-6)
    train, test = side("regression", 200, 0), side("regression", 150, 1)
    ours = fit_probe("linear", "regression", train, seed=0, strengths=[10.0])
    theirs = Ridge(10.0).fit(scaler.transform(train.features), train.targets)
    np.testing.assert_allclose(ours.outputs(test.features), theirs.predict(scaler.transform(test.features)), rtol=1e-9)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_groups_are_never_torn_when_the_strength_is_chosen(kind):
    """Each group is one point seen five times with one class, which is often wrong: torn groups make the nearest neighbour look perfect."""
    rng = np.random.default_rng(0)
    place, copies = rng.normal(size=(80, 2)), np.repeat(np.arange(80), 5)
    label = ((place[:, 0] > 0) ^ (rng.random(80) < 0.3))[copies]
    targets = {"classification": label.astype(int), "multilabel": np.stack([label, ~label], axis=1), "regression": label.astype(float)}[
        kind
    ]
    noisy = Samples(place[copies] + 1e-3 * rng.normal(size=(400, 2)), targets, copies)
    torn = Samples(noisy.features, noisy.targets, np.arange(400))
    chosen = [fit_probe("knn", kind, train, 0, classes=2, strengths=[1, 100]).strength for train in (noisy, torn)]  # pyright: ignore
    assert chosen == [100, 1]


def test_the_strength_is_chosen_well_and_an_edge_is_said():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 50))
    train = Samples(values, values[:, 0] + rng.normal(size=60), np.arange(60))
    fitted = fit_probe("linear", "regression", train, 0, strengths=[1e-6, 30.0, 1e6])
    assert (fitted.strength, fitted.at_edge) == (30.0, False)
    assert fit_probe("linear", "regression", train, 0, strengths=[1e-6, 1e-5]).at_edge


def test_seeds_draw_few_labels_and_repeat():
    train, test = side("classification", 300, 0), side("classification", 150, 1)
    rows = probe(["linear"], "classification", train, test, [0, 1], ("a", "b", "c"), per_class=12)
    linear = [row for row in rows if row["probe"] == "linear"]
    assert [(row["seed"], row["per_class"], row["train_n"]) for row in linear] == [(0, 12, 36), (1, 12, 36)]
    assert linear[0]["log_loss"] != linear[1]["log_loss"]
    assert linear[0]["short"] == {}
    assert probe([], "classification", train, test, [0], 3, per_class=90)[0]["short"] == {"2": int((train.targets == 2).sum())}
    assert [row["class"] for row in linear[0]["classes"]] == ["a", "b", "c"]
    assert probe(["linear"], "classification", train, test, [0, 1], ("a", "b", "c"), per_class=12) == rows
    assert [row["probe"] for row in probe(["mean_predictor"], "regression", *[side("regression", 40, s) for s in (0, 1)], [0])] == [
        "mean_predictor"
    ]


def test_the_test_side_moves_no_fit():
    train, test = side("regression", 100, 0), side("regression", 50, 1)
    fitted = fit_probe("linear", "regression", train, 0)
    far = Samples(test.features + 1e3, test.targets)
    row = probe(["linear"], "regression", train, far, [0])[1]
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((fitted.outputs(far.features) - far.targets) ** 2)))


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_class_that_was_not_trained_on_has_probability_zero(name):
    train = side("classification", 120, 0)
    shifted = Samples(train.features, np.array([0, 2, 4])[train.targets], train.groups)
    outputs = fit_probe(name, "classification", shifted, 0, classes=6, strengths=probe_models.STRENGTHS[name][:1]).outputs(train.features)
    assert outputs.shape == (120, 6)
    np.testing.assert_array_equal(outputs[:, [1, 3, 5]], 0)
    np.testing.assert_allclose(outputs.sum(axis=1), 1)


def test_a_fit_that_did_not_converge_is_said():
    rng = np.random.default_rng(0)
    train = Samples(rng.normal(size=(300, 20)), rng.normal(size=300), np.arange(300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_models, "HIDDEN", 60)
        patch.setattr(probe_models, "EPOCHS", 3)
        assert not fit_probe("mlp", "regression", train, 0, strengths=[1e-4]).converged
    assert fit_probe("linear", "regression", train, 0).converged


def test_knn_keeps_to_the_neighbours_there_are():
    train = side("classification", 60, 0).take(np.arange(0, 60, 4))
    fitted = fit_probe("knn", "classification", train, 0, classes=3, strengths=[1, 5, 50])
    assert fitted.strength in (1, 5)
    with pytest.raises(InputError, match="knn: every strength asks for more neighbours than"):
        fit_probe("knn", "classification", train, 0, classes=3, strengths=[40, 50])


def changed(kind: str = "regression", **fields: object) -> Samples:
    return dataclasses.replace(side(kind, 60, 0), **fields)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: probe(["liner"], "regression", changed(), changed(), [0]), "no probe 'liner' for regression; did you mean 'linear'"),
        (lambda: probe(["linear"], "regresion", changed(), changed(), [0]), "kind is 'regresion'; did you mean 'regression'"),  # pyright: ignore
        (lambda: probe(["linear"], "regression", changed(), changed(), [0], 3), "classes is 3 for regression"),
        (lambda: probe(["linear"], "classification", changed("classification"), changed(), [0]), "classes is None for classification"),
        (lambda: probe(["linear"], "classification", changed("classification"), changed(), [0], 3), r"test targets are float64 \(60,\)"),
        (lambda: probe(["linear"], "regression", changed(), changed(), [0], per_class=3), "per_class is 3 for regression"),
        (lambda: probe(["linear"], "classification", *[changed("classification")] * 2, [0], 2), "test targets go from 0 to 2"),
        (lambda: probe(["linear"], "regression", changed(groups=None), changed(), [0]), "the training side has no groups"),
        (lambda: probe(["linear"], "regression", changed(groups=np.zeros(60)), changed(), [0]), "3 asked for and 1 groups"),
        (
            lambda: probe(["linear"], "regression", changed(), changed(), [0], strengths={"linear": []}),
            r"strengths of linear are \[\]; expected",
        ),
        (lambda: probe(["linear"], "regression", changed(), changed(), [0], strengths={"linear": [0, 1]}), "and positive ones"),
        (lambda: probe(["class_frequencies"], "regression", changed(), changed(), [0]), "no probe 'class_frequencies' for regression"),
        (
            lambda: probe(["linear"], "regression", changed(), changed(features=np.ones((60, 2))), [0]),
            r"are \(6,\) to train, \(2,\) to test",
        ),
        (lambda: probe([], "regression", changed(targets=np.full(60, np.nan)), changed(), [0]), "train targets has 60 values"),
        (lambda: probe([], "regression", changed(), changed(), []), r"seeds \[\]; expected"),
        (
            lambda: probe([], "multilabel", *[changed(targets=np.ones((60, 1), int))] * 2, [0]),
            r"\(60, 1\); expected 0 and 1 \(N, K\), K above 1",
        ),
        (lambda: changed(features=np.full((60, 6), np.nan)), "features has 360 values that are not finite"),
        (lambda: changed(targets=np.zeros(3)), "expected \\(N, F\\) and N targets"),
        (lambda: changed(groups=np.zeros(3)), r"groups have shape \(3,\); expected \(60,\)"),
        (
            lambda: probe(["linear"], "classification", changed(targets=np.ones(60, int)), changed("classification"), [0], 3),
            "all 60 training samples are of class 1",
        ),
        (
            lambda: fit_probe("linear", "classification", changed("classification"), 0, 2),
            "train targets go from 0 to 2; expected classes 0 to 1",
        ),
        (
            lambda: fit_probe("linear", "classification", changed(targets=np.repeat([0, 1], 30), groups=np.repeat([0, 1], 30)), 0, 2),
            "none of 2 inner folds over 2 groups has two classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
