"""Bayesian quadratic discriminant analysis in closed form, for features whose measurement noise is known.

Each class is a Gaussian of unknown mean and covariance under a normal-inverse-Wishart prior, so a new sample has a multivariate Student-t
density in each class; the classes' shares have a Dirichlet prior. There is nothing to train or to tune by gradient.

Known noise enters twice. A test sample measured with noise covariance R has R added to the scale of the density of every class, so that a
noisy sample is told apart with less confidence. On the training side the scatter of a class of n samples is too large by n - 1 times their
mean noise covariance, which is taken off. With no noise both are the textbook's.

Source: Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 9; Srivastava, Gupta, Frigyik 2007, "Bayesian
Quadratic Discriminant Analysis", JMLR 8. The noise terms are ours. They are exact in the limit of many samples, where the Student-t is a
Gaussian; below it, R is spread by the Student-t's tails as the class's own scatter is. That noise also blurs the training mean, by its
covariance over n, is left out.

Legend: N samples, F features, K classes.
"""

import dataclasses
import math

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_finite, must_be_positive

NUMBERS_AT_ONCE = 2**22  # of the covariances of samples that are factored together


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is known of a class before its samples.

    Attributes:
      mean: Expected mean (F,).
      strength: How many samples that mean is worth; kappa_0.
      scale: Scatter (F, F), positive definite; S_0. The expected covariance is scale / (dof - F - 1).
      dof: Degrees of freedom, above F - 1; nu_0. The scatter is worth about dof - F - 1 samples.
    """

    mean: np.ndarray
    strength: float
    scale: np.ndarray
    dof: float

    def __post_init__(self) -> None:
        width = self.mean.size
        if self.mean.ndim != 1 or self.scale.shape != (width, width):
            raise InputError(f"prior has mean {self.mean.shape} and scale {self.scale.shape}; expected (F,) and (F, F)")
        must_be_positive("prior.strength", self.strength)
        if not self.dof > width - 1:
            raise InputError(f"prior.dof is {self.dof}; expected above F - 1 = {width - 1}")
        if not np.allclose(self.scale, self.scale.T) or np.linalg.eigvalsh(self.scale)[0] <= 0:
            raise InputError("prior.scale is not symmetric and positive definite")


def empirical_prior(features: np.ndarray, targets: np.ndarray, strength: float = 0.01) -> Prior:
    """A weak prior from all training samples together. Noise in them is in its variances.

    Args:
      features: (N, F).
      targets: Classes, int (N,).
      strength: As `Prior` has it.

    Returns:
      The samples' mean, and their variances within classes on a diagonal scale that is worth one sample (dof = F + 2).

    Raises:
      InputError: A feature does not vary within any class.
    """
    features, targets = _checked(features, targets)
    _, place = np.unique(targets, return_inverse=True)
    sums = np.zeros((place.max() + 1, features.shape[1]))
    np.add.at(sums, place, features)
    within = features - (sums / np.bincount(place)[:, None])[place]
    variance = (within**2).mean(axis=0)
    flat = np.flatnonzero(variance <= 1e-24 * (features**2).mean(axis=0))
    if flat.size:
        raise InputError(f"{flat.size} features do not vary within any class, the first is {flat[0]}; drop them or give a prior")
    return Prior(features.mean(axis=0), strength, np.diag(variance), features.shape[1] + 2.0)


@dataclasses.dataclass(frozen=True)
class BayesianQDA:
    """The posterior predictive of K classes.

    Attributes:
      log_prior: Logarithm of each class's expected share, (K,).
      mean: Centres (K, F).
      scale: Scales (K, F, F) of the Student-t without noise.
      dof: Their degrees of freedom, (K,).
      n: Training samples of each class, int64 (K,); a class without any has the prior's density.
      floored: In how many directions of each class less noise was taken off than known, int64 (K,); see `fit_qda`.
    """

    log_prior: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    dof: np.ndarray
    n: np.ndarray
    floored: np.ndarray

    def log_density(self, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Logarithm of each class's density at each sample.

        Args:
          features: (N, F).
          noise: Covariance of the samples' measurement noise, (F, F) for all or (N, F, F); None for none.

        Returns:
          (N, K).

        Raises:
          InputError: Shapes do not fit, a value is not finite, or a noise is no covariance.
        """
        features = np.asarray(features, np.float64)
        width = self.mean.shape[1]
        if features.ndim != 2 or features.shape[1] != width:
            raise InputError(f"features have shape {features.shape}; expected (N, {width})")
        must_be_finite("features", features)
        added = _noise(noise, features)
        out = np.empty((len(features), len(self.mean)))
        at_once = max(NUMBERS_AT_ONCE // width**2, 1) if added.ndim == 3 else max(len(features), 1)
        for start in range(0, len(features), at_once):
            rows = slice(start, start + at_once)
            for k, (mean, scale, dof) in enumerate(zip(self.mean, self.scale, self.dof, strict=True)):
                out[rows, k] = _log_student_t(features[rows] - mean, scale + (added[rows] if added.ndim == 3 else added), dof)
        return out

    def log_probabilities(self, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Logarithm of each class's probability given a sample, (N, K); arguments and errors as `log_density`."""
        joint = self.log_density(features, noise) + self.log_prior
        return joint - logsumexp(joint, axis=1, keepdims=True)

    def probabilities(self, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Each class's probability given a sample, (N, K); arguments and errors as `log_density`."""
        return np.exp(self.log_probabilities(features, noise))


def fit_qda(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    prior: Prior | None = None,
    noise: np.ndarray | None = None,
    class_strength: float = 1.0,
) -> BayesianQDA:
    """The posterior of every class.

    Where noise is most of the scatter, what is left after subtracting can have any sign. So in no direction less than a share
    sqrt(2 / (n - 1)) of scatter and prior together is kept, which is the standard error of a variance of n samples. Directions are
    eigenvectors of the noise in coordinates where scatter and prior together are the identity, so units do not matter. Classes of up to 3
    samples keep all. On the test's synthetic classes of 4 features this gains from about 50 samples a class on, and nothing at 25.

    Args:
      features: Training samples (N, F).
      targets: Their classes, int (N,), 0 to ``classes`` - 1.
      classes: How many classes there are, K.
      prior: Of every class; None for `empirical_prior`.
      noise: Covariance of the training samples' measurement noise, (F, F) for all or (N, F, F); None for none.
      class_strength: How many samples of each class the Dirichlet prior is worth.

    Returns:
      The posterior predictive.

    Raises:
      InputError: Shapes do not fit, a value is not finite, a class is not among 0 to K - 1, or a noise is no covariance.
    """
    features, targets = _checked(features, targets)
    if targets.min() < 0 or targets.max() >= classes:
        raise InputError(f"targets go from {targets.min()} to {targets.max()}; expected classes 0 to {classes - 1}")
    must_be_positive("class_strength", class_strength)
    prior = empirical_prior(features, targets) if prior is None else prior
    width = features.shape[1]
    if prior.mean.size != width:
        raise InputError(f"prior is of {prior.mean.size} features; expected {width}")
    taken = _noise(noise, features)
    means, scales, dofs, floored = (
        np.empty((classes, width)),
        np.empty((classes, width, width)),
        np.empty(classes),
        np.zeros(classes, np.int64),
    )
    for k in range(classes):
        same = features[targets == k]
        n = len(same)
        centre = same.mean(axis=0) if n else prior.mean
        scatter = (same - centre).T @ (same - centre)
        known = prior.scale + scatter
        if noise is not None and n > 1:
            mean_noise = taken[targets == k].mean(axis=0) if taken.ndim == 3 else taken
            known, floored[k] = _less_noise(known, (n - 1) * mean_noise, min(math.sqrt(2 / (n - 1)), 1.0))
        strength, dof = prior.strength + n, prior.dof + n
        offset = centre - prior.mean
        total = known + prior.strength * n / strength * np.outer(offset, offset)
        means[k] = prior.mean + n / strength * offset
        dofs[k] = dof - width + 1
        scales[k] = total * (strength + 1) / (strength * dofs[k])
    counts = np.bincount(targets, minlength=classes)
    log_prior = np.log(counts + class_strength) - np.log(counts.sum() + classes * class_strength)
    return BayesianQDA(log_prior, means, scales, dofs, counts, floored)


def _log_student_t(offsets: np.ndarray, scale: np.ndarray, dof: float) -> np.ndarray:
    """Logarithm of the density, (N,), at offsets (N, F) from the centre, for one scale (F, F) or one each (N, F, F)."""
    width = offsets.shape[1]
    factor = np.linalg.cholesky(scale)
    if factor.ndim == 2:
        whitened = solve_triangular(factor, offsets.T, lower=True).T
    else:
        whitened = solve_triangular(factor, offsets[:, :, None], lower=True)[:, :, 0]
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    constant = gammaln((dof + width) / 2) - gammaln(dof / 2) - width / 2 * np.log(dof * np.pi)
    return constant - log_det / 2 - (dof + width) / 2 * np.log1p((whitened**2).sum(axis=1) / dof)


def _less_noise(scatter: np.ndarray, noise: np.ndarray, share: float) -> tuple[np.ndarray, int]:
    """A positive definite (F, F) less noise, but at least ``share`` of it in every direction; and in how many that was needed."""
    factor = np.linalg.cholesky(scatter)
    half = solve_triangular(factor, noise, lower=True)
    values, vectors = np.linalg.eigh(solve_triangular(factor, half.T, lower=True))
    below = 1 - values < share
    if not below.any():
        return scatter - noise, 0
    basis = factor @ vectors
    return (basis * np.maximum(1 - values, share)) @ basis.T, int(below.sum())


def _noise(noise: np.ndarray | None, features: np.ndarray) -> np.ndarray:
    """Noise covariances (F, F) or (N, F, F), checked; zero where there is none."""
    n, width = features.shape
    if noise is None:
        return np.zeros((width, width))
    noise = np.asarray(noise, np.float64)
    if noise.shape not in ((width, width), (n, width, width)):
        raise InputError(f"noise has shape {noise.shape}; expected ({width}, {width}) or ({n}, {width}, {width})")
    must_be_finite("noise", noise)
    values = np.linalg.eigvalsh(noise)
    if not np.allclose(noise, np.swapaxes(noise, -1, -2)) or (values[..., 0] < -1e-9 * np.abs(values).max(axis=-1)).any():
        raise InputError("noise is not symmetric and positive semi-definite; expected covariances, not standard deviations")
    return noise


def _checked(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features float64 (N, F) and classes (N,), checked."""
    features, targets = np.asarray(features, np.float64), np.asarray(targets)
    if features.ndim != 2 or not features.size or targets.shape != (len(features),) or not np.issubdtype(targets.dtype, np.integer):
        raise InputError(f"features have shape {features.shape} and targets are {targets.dtype} {targets.shape}; expected (N, F), int (N,)")
    must_be_finite("features", features)
    return features, targets
