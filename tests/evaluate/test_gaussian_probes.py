"""Gaussian probes are the textbook's on rotated features, and known noise of the chips makes their probabilities hold."""

import pathlib
from typing import Any

import numpy as np
import pytest
import rasterio

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.evaluation import evaluate
from rsfm_jax.evaluate.probing.gaussian_probes import sample_noise
from rsfm_jax.evaluate.probing.probes import Samples, fit_probe, probe
from rsfm_jax.evaluate.probing.qda import empirical_prior, fit_qda
from rsfm_jax.evaluate.samples.noise import noisy_chips
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from rsfm_jax.evaluate.tasks.task_extras import Noise
from tests.evaluate.small_scene import RGBN, image, write_labels, write_model, write_scene, write_task

F, K = 6, 3
SD = dict.fromkeys(RGBN, 0.01)


def side(n: int, seed: int, draws: int = 5) -> Samples:
    """Classes of unlike covariance in features of unlike scales, with draws of noise that differs from sample to sample."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, K, n)
    features = rng.normal(size=(n, F)) * (1 + targets[:, None]) + targets[:, None] * [2.0, 0, 1, 0, 0, 0]
    noise = features[:, None] + rng.random((n, 1, 1)) * rng.normal(size=(n, draws, F))
    scale = np.array([1, 10, 100, 1, 0.1, 1])
    return Samples(features * scale, targets, np.arange(n) // 5, noise * scale)


def test_they_are_the_library_s_on_the_leading_components():
    train, test = side(120, 0), side(80, 1)
    scaler = StandardScaler().fit(train.features)
    pca = PCA(4).fit(scaler.transform(train.features))
    turn = lambda values: pca.transform(scaler.transform(values.reshape(-1, F))).reshape(*values.shape[:-1], 4)  # noqa: E731
    library = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1).fit(turn(train.features), train.targets)
    ours = fit_probe("qda", "classification", train, 0, K, [0.1], components=4)
    np.testing.assert_allclose(ours.outputs(test.features), library.predict_proba(turn(test.features)), atol=1e-8)
    prior = empirical_prior(turn(train.features), train.targets)
    plain = fit_qda(turn(train.features), train.targets, K, prior)
    ours = fit_probe("bayesian_qda", "classification", train, 0, K, components=4)
    np.testing.assert_allclose(ours.outputs(test.features, test.noise), plain.probabilities(turn(test.features)), atol=1e-8)
    assert train.noise is not None
    assert test.noise is not None
    shape = np.mean([np.cov(turn(drawn).T) for drawn in train.noise], axis=0)
    mixed = []
    for noise in (train.noise, test.noise):
        own = np.stack([np.cov(turn(drawn).T) for drawn in noise])
        sizes = np.trace(own, axis1=1, axis2=2) / np.trace(shape)
        mixed.append(4 / 8 * sizes[:, None, None] * shape + 4 / 8 * own)  # four components, five draws
    known = fit_qda(turn(train.features), train.targets, K, prior, mixed[0])
    ours = fit_probe("bayesian_qda_noise", "classification", train, 0, K, components=4)
    np.testing.assert_allclose(ours.outputs(test.features, test.noise), known.probabilities(turn(test.features), mixed[1]), atol=1e-8)
    assert not np.allclose(ours.outputs(test.features, test.noise), ours.outputs(test.features, 0 * test.noise), atol=1e-3)
    twice = Samples(np.concatenate([train.features, train.features[:, :2], np.ones((120, 1))], axis=1), train.targets)
    assert fit_probe("qda", "classification", twice, 0, K, [0.1], components=40).model.components == F


def test_zero_noise_is_bayesian_qda():
    train, test = side(120, 0), side(80, 1)
    still = [Samples(one.features, one.targets, one.groups, np.repeat(one.features[:, None], 3, axis=1)) for one in (train, test)]
    rows = probe(["bayesian_qda", "bayesian_qda_noise"], "classification", *still, [0], K)[1:]
    assert rows[0]["log_loss"] == pytest.approx(rows[1]["log_loss"], rel=1e-9)
    assert [row["noise_floored"] for row in rows] == [None, 0]
    assert [row["components"] for row in rows] == [F, F]


@pytest.mark.parametrize("per_class", [3, 5, None])
def test_classes_of_fewer_samples_than_components(per_class: int | None):
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(K), 10)
    train, test = (Samples(rng.normal(size=(30, 16)) + 2 * targets[:, None], targets, np.arange(30)) for _ in range(2))
    rows = {row["probe"]: row for row in probe(["qda"], "classification", train, test, [0], K, per_class)}
    assert rows["qda"]["accuracy"] > 0.6


def test_one_label_of_a_class_is_not_enough_to_choose_by():
    one = Samples(np.eye(K), np.arange(K), np.arange(K))
    with pytest.raises(InputError, match=r"no class has two samples .* give per_class of 2 or more"):
        probe(["linear"], "classification", one, one, [0], K)
    assert len(probe(["linear"], "classification", side(60, 0), side(60, 1), [0], K, 2)) > 0


def test_features_that_do_not_vary():
    train = Samples(np.ones((30, 4)), np.repeat(np.arange(K), 10), np.arange(30))
    with pytest.raises(InputError, match="qda: no feature varies in the training side of 30 samples"):
        fit_probe("qda", "classification", train, 0, K, [0.1])


def test_few_draws_tell_the_noise_of_a_sample():
    rng = np.random.default_rng(0)
    root, sizes = rng.normal(size=(8, 8)), 3 * rng.random(400)
    truth = sizes[:, None, None] ** 2 * (root @ root.T)
    drawn = sizes[:, None, None] * (rng.normal(size=(400, 5, 8)) @ root.T)
    own = np.stack([np.cov(one.T) for one in drawn])
    shape = own.mean(axis=0)
    found = sample_noise(drawn, shape)
    off = [np.linalg.norm(one - truth, axis=(1, 2)).mean() for one in (found, own, np.broadcast_to(shape, own.shape))]
    assert off[0] < 0.75 * min(off[1:])
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), np.trace(own, axis1=1, axis2=2))
    np.testing.assert_allclose(sample_noise(drawn, 0 * shape), own)


def test_noise_of_chips_has_the_stated_size(tmp_path: pathlib.Path):
    for name in ("clean", "noisy"):
        write_labels(tmp_path, write_scene(tmp_path, name))
    source = {"images": [image("clean"), image("noisy")], "window_px": 16, "before_px": 8}
    file = write_task(tmp_path, source=source)
    samples = read_samples(read_task(file), tmp_path, file)
    noise = Noise(SD | {"B08": 0.03}, 0.1, "scene", {"noisy": 4.0})
    drawn = noisy_chips(samples, noise, 1)
    added = (drawn.values - samples.chips.values) / np.hypot(np.array([0.01, 0.01, 0.01, 0.03])[:, None, None], 0.1 * samples.chips.values)
    valid = samples.chips.valid
    assert not valid.all()
    np.testing.assert_array_equal(added[~valid], 0)
    for scene, times in (("clean", 1), ("noisy", 4)):
        here = samples.columns["scene"] == scene
        for band in range(4):
            assert added[here, band][valid[here, band]].std() == pytest.approx(times, rel=0.03)
    np.testing.assert_array_equal(noisy_chips(samples, noise, 1).values, drawn.values)
    assert not np.array_equal(noisy_chips(samples, noise, 2).values, drawn.values)
    for wrong, message in (
        (Noise({"B02": 1.0, "B03": 1.0, "B04": 1.0}), "noise.sd: has B02, B03, B04 and the chips .*; 'B08' is in one only"),
        (Noise(SD | {"B99": 1.0}), "'B99' is in one only"),
        (Noise(SD, 0.0, "season", {"winter": 2.0}), "no column 'season'"),
        (Noise(SD, 0.0, "scene", {"dirty": 2.0}), "noise.times: no sample has 'dirty' in column 'scene'; there are .*clean"),
    ):
        with pytest.raises(InputError, match=message):
            noisy_chips(samples, wrong, 0)


def test_known_noise_of_a_worse_image_makes_probabilities_hold(tmp_path: pathlib.Path):
    """Learned from a good image and tested on one with eight times its noise, by the task file: every feature set gains."""
    for i, (name, times) in enumerate((("clean", 1), ("noisy", 8))):
        write_labels(tmp_path, write_scene(tmp_path, name, seed=i))
        (tmp_path / "labels.tif").rename(tmp_path / f"{name}_labels.tif")
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as file:
            dn = file.read()
            worse = (dn + np.random.default_rng(50 + i).normal(0, 100 * times, dn.shape)).clip(1, 20_000)
            file.write(np.where(dn == 0, 0, worse).round().astype(np.uint16))
    source = {"kind": "rasters", "images": [image("clean"), image("noisy")], "window_px": 8, "at": "pixels", "most": 700}
    source["labels"] = [{"kind": "raster", "file": f"{name}_labels.tif", "image": name} for name in ("clean", "noisy")]
    changes: dict[str, Any] = {"source": source, "seeds": [0], "probes": ["bayesian_qda_noise", "qda", "bayesian_qda"]}
    changes["split"] = {"kind": "column", "column": "scene", "train": ["clean"], "test": ["noisy"]}
    changes["noise"] = {"sd": SD, "column": "scene", "times": {"noisy": 8}, "draws": 6}
    results = evaluate([write_model(tmp_path / "small")], write_task(tmp_path, **changes), tmp_path / "out", tmp_path)
    rows = {(row["features"], row["probe"]): row for row in results["rows"]}
    for features in ("small", "random init of small", "raw_pixels", "window_statistics"):
        known, *others = (rows[features, name] for name in ("bayesian_qda_noise", "qda", "bayesian_qda"))
        for other in others:
            assert known["log_loss"] < 0.5 * other["log_loss"], features
            assert known["ece"] < 0.75 * other["ece"], features
            assert known["brier"] < other["brier"], features
    assert results["task"]["noise"]["times"] == {"noisy": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": ["bayesian_qda_noise"]}, "noise is None.*expected noise if and only if bayesian_qda_noise is among the probes"),
        ({"noise": {"sd": SD}}, "expected noise if and only if"),
        ({"qda_components": 0}, "qda_components 0 .* at least one component"),
        ({"probes": ["bayesian_qda_noise"], "noise": {"sd": SD, "draws": 1}}, "noise: sd, share, times and draws .* 2 draws"),
        ({"probes": ["bayesian_qda_noise"], "noise": {"sd": {"B02": 0}}}, "expected some noise"),
        (
            {"probes": ["bayesian_qda_noise"], "noise": {"sd": SD, "column": "scene"}},
            "column is scene and times .*; expected both or neither",
        ),
        ({"kind": "regression", "classes": None, "probes": ["qda"]}, "probes: 'qda' is not known for regression"),
    ],
)
def test_what_is_wrong_in_a_task_is_named(tmp_path: pathlib.Path, changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        read_task(write_task(tmp_path, **changes))


def test_what_cannot_be_fitted_is_refused():
    train, test = side(40, 0), side(20, 1)
    without = Samples(train.features, train.targets, train.groups)
    lonely = Samples(train.features[:9], np.array([0] * 4 + [1] * 4 + [2]))
    for call, message in (
        (lambda: probe(["bayesian_qda_noise"], "classification", without, test, [0], K), "needs the noise of both sides"),
        (lambda: fit_probe("bayesian_qda_noise", "classification", without, 0, K), "noise of the features is not known"),
        (lambda: fit_probe("qda", "classification", lonely, 0, K, [0.1]), "class 2 has one sample to fit to"),
        (lambda: Samples(train.features, train.targets, None, np.zeros((40, 1, F))), "expected .* two draws or more"),
        (lambda: Samples(train.features, train.targets, None, np.zeros((40, 2, 3))), r"noise has shape \(40, 2, 3\)"),
    ):
        with pytest.raises(InputError, match=message):
            call()
