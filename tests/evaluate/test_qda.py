"""Bayesian QDA equals the textbook without noise; with noise it is better calibrated than what does not know of it."""

import dataclasses

import numpy as np
import pytest
from scipy.special import multigammaln
from scipy.stats import multivariate_t

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.calibration import probabilistic
from rsfm_jax.evaluate.probing import qda
from rsfm_jax.evaluate.probing.qda import Prior, empirical_prior, fit_qda

F, K = 4, 3


@dataclasses.dataclass(frozen=True)
class Problem:
    """Three Gaussian classes; the samples as they are and as measured with noise of known covariance, unlike for each sample."""

    features: np.ndarray
    targets: np.ndarray
    measured: np.ndarray
    noise: np.ndarray


def problem(n: int, seed: int, noise_seed: int = 9) -> Problem:
    world, rng = np.random.default_rng(seed), np.random.default_rng(noise_seed)
    means, roots = 1.2 * world.normal(size=(K, F)), np.eye(F) + 0.3 * world.normal(size=(K, F, F))
    root = world.normal(size=(F, F)) / 2
    targets = rng.integers(0, K, n)
    features = means[targets] + np.einsum("nij,nj->ni", roots[targets], rng.normal(size=(n, F)))
    size = 2 * rng.random(n)
    measured = features + size[:, None] * (rng.normal(size=(n, F)) @ root.T)
    return Problem(features, targets, measured, size[:, None, None] ** 2 * (root @ root.T))


@pytest.fixture
def prior() -> Prior:
    root = np.random.default_rng(5).normal(size=(F, F))
    return Prior(np.array([0.3, -0.2, 1, 0]), 2.5, root @ root.T + np.eye(F), F + 1.7)


def test_no_noise_is_the_textbook(prior):
    """Murphy's section 9, with the other form of the scatter, and scipy's density."""
    train, test = problem(60, 0), problem(40, 0, noise_seed=1)
    fitted = fit_qda(train.features, train.targets, K, prior, class_strength=0.5)
    joint = np.empty((40, K))
    for k in range(K):
        x = train.features[train.targets == k]
        kappa, nu = prior.strength + len(x), prior.dof + len(x)
        mean = (prior.strength * prior.mean + x.sum(axis=0)) / kappa
        scatter = prior.scale + x.T @ x + prior.strength * np.outer(prior.mean, prior.mean) - kappa * np.outer(mean, mean)
        dof = nu - F + 1
        density = multivariate_t(mean, (kappa + 1) / (kappa * dof) * scatter, dof).logpdf(test.features)
        np.testing.assert_allclose(fitted.log_density(test.features)[:, k], density, rtol=1e-10)
        joint[:, k] = density + np.log((len(x) + 0.5) / (60 + 0.5 * K))
    expected = np.exp(joint) / np.exp(joint).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.probabilities(test.features), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.probabilities(test.features).sum(axis=1), 1, rtol=1e-12)


def log_evidence(x: np.ndarray, prior: Prior) -> float:
    """Logarithm of the probability of samples of one class, Murphy's equation for p(D)."""
    n, kappa, nu = len(x), prior.strength + len(x), prior.dof + len(x)
    mean = (prior.strength * prior.mean + x.sum(axis=0)) / kappa
    scatter = prior.scale + x.T @ x + prior.strength * np.outer(prior.mean, prior.mean) - kappa * np.outer(mean, mean)
    gammas = multigammaln(nu / 2, F) - multigammaln(prior.dof / 2, F)
    determinants = prior.dof / 2 * np.linalg.slogdet(prior.scale)[1] - nu / 2 * np.linalg.slogdet(scatter)[1]
    return -n * F / 2 * np.log(np.pi) + gammas + determinants + F / 2 * np.log(prior.strength / kappa)


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_the_density_is_a_ratio_of_evidences(prior, n):
    """No Student-t needed; with no sample of the class it is the prior's."""
    x = problem(n + 1, 0).features
    fitted = fit_qda(np.concatenate([x[:n], problem(3, 1).features]), np.repeat([0, 1], [n, 3]), 2, prior)
    assert fitted.log_density(x[n:])[0, 0] == pytest.approx(log_evidence(x, prior) - log_evidence(x[:n], prior), rel=1e-10)
    assert fitted.n.tolist() == [n, 3]


def test_zero_noise_changes_nothing(prior):
    train = problem(50, 1)
    zeros, each = np.zeros((F, F)), np.zeros((50, F, F))
    plain = fit_qda(train.features, train.targets, K, prior)
    for shape in (zeros, each):
        fitted = fit_qda(train.features, train.targets, K, prior, noise=shape)
        np.testing.assert_array_equal(fitted.scale, plain.scale)
        assert fitted.floored.tolist() == [0, 0, 0]
        np.testing.assert_allclose(fitted.probabilities(train.features, shape), plain.probabilities(train.features), rtol=1e-10)
    few = fit_qda(
        train.features[:5], train.targets[:5], K, prior, noise=zeros
    )  # fewer samples than features: no scatter in some directions
    assert few.floored.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(few.scale, fit_qda(train.features[:5], train.targets[:5], K, prior).scale)


def test_noise_of_a_test_sample_is_added_to_the_scales(prior, monkeypatch):
    train, test = problem(60, 0), problem(30, 0, noise_seed=1)
    fitted = fit_qda(train.features, train.targets, K, prior)
    found = fitted.log_density(test.measured, test.noise)
    for i in range(30):
        for k in range(K):
            density = multivariate_t(fitted.mean[k], fitted.scale[k] + test.noise[i], fitted.dof[k]).logpdf(test.measured[i])
            assert found[i, k] == pytest.approx(density, rel=1e-9)
    shared = fitted.log_density(test.measured, test.noise[3])
    np.testing.assert_allclose(shared, fitted.log_density(test.measured, np.tile(test.noise[3], (30, 1, 1))), rtol=1e-10)
    np.testing.assert_allclose(shared[3], found[3], rtol=1e-10)
    monkeypatch.setattr(qda, "NUMBERS_AT_ONCE", 7 * F * F)
    np.testing.assert_array_equal(fitted.log_density(test.measured, test.noise), found)
    hopeless = fitted.probabilities(test.measured, 1e12 * np.eye(F))
    np.testing.assert_allclose(hopeless, np.exp(fitted.log_prior)[None].repeat(30, axis=0), rtol=0.2)


def test_training_noise_is_taken_off_the_scatter():
    train = problem(60000, 2)
    clean = fit_qda(train.features, train.targets, K)
    corrected = fit_qda(train.measured, train.targets, K, noise=train.noise)
    inflated = fit_qda(train.measured, train.targets, K)
    for k in range(K):
        off = [np.abs(fitted.scale[k] - clean.scale[k]).max() / clean.scale[k].max() for fitted in (corrected, inflated)]
        assert off[0] < 0.04
        assert off[1] > 0.1
    assert corrected.floored.sum() <= 1


def test_more_noise_than_scatter_leaves_a_share_and_is_counted(prior):
    train = problem(60, 0)
    fitted = fit_qda(train.features, train.targets, K, prior, noise=np.diag([1e4, 0, 0, 0]))
    assert fitted.floored.tolist() == [1, 1, 1]
    assert all(np.linalg.eigvalsh(scale)[0] > 0 for scale in fitted.scale)
    flat = fit_qda(train.features, train.targets, K, prior, noise=1e6 * np.eye(F))
    assert flat.floored.tolist() == [F] * K
    x = train.features[train.targets == 0]
    n, kappa, offset = len(x), prior.strength + len(x), x.mean(axis=0) - prior.mean
    share = np.sqrt(2 / (n - 1)) * (prior.scale + (n - 1) * np.cov(x.T))
    left = share + prior.strength * n / kappa * np.outer(offset, offset)
    np.testing.assert_allclose(flat.scale[0], left * (kappa + 1) / (kappa * flat.dof[0]), rtol=1e-7)
    three = train.features[:3], np.zeros(3, int)
    np.testing.assert_allclose(fit_qda(*three, 1, prior, noise=np.eye(F)).scale, fit_qda(*three, 1, prior).scale, rtol=1e-10)
    assert fit_qda(*three, 1, prior, noise=np.eye(F)).floored.tolist() == [F]


@pytest.mark.parametrize("amount", [0.03, 30.0])
def test_the_features_units_are_no_matter(prior, amount):
    """Also where scatter had to be floored."""
    train, test = problem(60, 0), problem(30, 0, noise_seed=1)
    to = np.random.default_rng(3).normal(size=(F, F)) * [1, 10, 0.1, 1]
    turned = Prior(to @ prior.mean, prior.strength, to @ prior.scale @ to.T, prior.dof)
    here = fit_qda(train.measured, train.targets, K, prior, amount * train.noise)
    there = fit_qda(train.measured @ to.T, train.targets, K, turned, amount * to @ train.noise @ to.T)
    np.testing.assert_array_equal(here.floored, there.floored)
    assert (here.floored.sum() > 0) == (amount > 1)
    expected = here.probabilities(test.measured, test.noise)
    np.testing.assert_allclose(there.probabilities(test.measured @ to.T, to @ test.noise @ to.T), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_noise_makes_probabilities_hold(seed):
    """Trained on few clean samples, tested on noisy ones: log-loss, Brier and calibration against what does not know of the noise."""
    train, test = problem(75, seed), problem(2000, seed, noise_seed=1)
    model = fit_qda(train.features, train.targets, K)
    library = QuadraticDiscriminantAnalysis().fit(train.features, train.targets)
    ours = probabilistic(test.targets, model.probabilities(test.measured, test.noise))
    plain = probabilistic(test.targets, model.probabilities(test.measured))
    maximum_likelihood = probabilistic(test.targets, library.predict_proba(test.measured))
    for figure in ("log_loss", "brier", "ece"):
        assert ours[figure] < 0.95 * plain[figure] < 0.95 * maximum_likelihood[figure], figure


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_known_on_both_sides_is_best(seed):
    train, test = problem(300, seed), problem(2000, seed, noise_seed=1)
    taken, left = (fit_qda(train.measured, train.targets, K, noise=noise) for noise in (train.noise, None))
    figures = [probabilistic(test.targets, m.probabilities(test.measured, test.noise))["log_loss"] for m in (taken, left)]
    assert figures[0] < figures[1]


def test_far_samples_keep_finite_logarithms(prior):
    train = problem(60, 0)
    fitted = fit_qda(train.features, train.targets, K, prior)
    far = fitted.log_probabilities(np.full((1, F), 1e150))
    assert np.isfinite(far).all()
    assert np.exp(far).sum() == pytest.approx(1)


def test_an_empirical_prior_has_the_variances_within_classes():
    train = problem(90, 0)
    found = empirical_prior(train.features, train.targets)
    residuals = np.concatenate([train.features[train.targets == k] - train.features[train.targets == k].mean(axis=0) for k in range(K)])
    np.testing.assert_allclose(found.scale, np.diag(residuals.var(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(found.mean, train.features.mean(axis=0))
    assert found.dof == F + 2
    constant = train.features.copy()
    constant[:, 2] = train.targets + 0.1
    with pytest.raises(InputError, match="1 features do not vary within any class, the first is 2"):
        empirical_prior(constant, train.targets)


def test_bad_input_is_refused(prior):
    train = problem(20, 0)
    x, y = train.features, train.targets
    fitted = fit_qda(x, y, K, prior)
    for make, message in (
        (lambda: fit_qda(x, y, 2, prior), "targets go from 0 to 2; expected classes 0 to 1"),
        (lambda: fit_qda(x, y.astype(float), K, prior), "targets are float64"),
        (lambda: fit_qda(np.where(x > 1, np.nan, x), y, K, prior), "features has .* values that are not finite"),
        (lambda: fit_qda(x[:, :2], y, K, prior), "prior is of 4 features; expected 2"),
        (lambda: fit_qda(x, y, K, prior, noise=np.ones(F)), r"noise has shape \(4,\); expected \(4, 4\) or \(20, 4, 4\)"),
        (lambda: fit_qda(x, y, K, prior, noise=-np.eye(F)), "noise is not symmetric and positive semi-definite"),
        (lambda: fitted.log_density(x, np.triu(np.ones((F, F)))), "noise is not symmetric"),
        (lambda: fitted.log_density(x[:, 1:]), r"features have shape \(20, 3\); expected \(N, 4\)"),
        (lambda: fit_qda(x, y, K, prior, class_strength=0), "class_strength is 0"),
        (lambda: dataclasses.replace(prior, dof=3.0), r"prior.dof is 3.0; expected above F - 1 = 3"),
        (lambda: dataclasses.replace(prior, scale=-prior.scale), "prior.scale is not symmetric and positive definite"),
        (lambda: dataclasses.replace(prior, strength=0.0), "prior.strength is 0.0"),
        (lambda: dataclasses.replace(prior, mean=np.zeros(2)), r"prior has mean \(2,\) and scale \(4, 4\)"),
    ):
        with pytest.raises(InputError, match=message):
            make()
