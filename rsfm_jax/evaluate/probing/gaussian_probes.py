"""Gaussian classes as probes: quadratic discriminant analysis of the leading principal components, with or without known noise of features.

Wide features would leave a covariance of each class without samples to tell it, so they are standardised and rotated to their largest
principal components first, both by the training side.

Legend: N samples, F features, C components, K classes, d draws of the noise.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.qda import empirical_prior, fit_qda

COMPONENTS = 16  # at most, unless told otherwise
WITH_NOISE = "bayesian_qda_noise"
FLAT = 1e-10  # of the largest component's variance: components below have no more than rounding, as of features that repeat each other
GAUSSIAN = ("qda", "bayesian_qda", WITH_NOISE)


class GaussianClasses:
    """One of `GAUSSIAN`, with scikit-learn's way to fit and ask; ``noise`` is for the last of them only.

    `qda` is scikit-learn's plug-in, whose strength is the share of a sphere of the same trace in each covariance; `bayesian_qda` and
    `bayesian_qda_noise` are `rsfm_jax.evaluate.probing.qda`, whose strength is how many samples the prior's mean is worth.

    Attributes:
      classes_: Classes of the training side, int (K,).
      components: C; fewer than asked for where the features have no more.
      floored: In how many directions, of all classes, less noise was taken off than known; None without noise.
    """

    def __init__(self, name: str, strength: float, components: int) -> None:
        """Takes the name, the strength and the most components."""
        self.name, self.strength, self.most = name, strength, components
        self.floored: int | None = None

    def fit(self, features: np.ndarray, targets: np.ndarray, noise: np.ndarray | None = None) -> "GaussianClasses":
        """Fits to features (N, F), classes int (N,) and, where it is known, noise (N, d, F) as `sample_noise` takes it."""
        self.classes_, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
        self._scaler, self._pca = StandardScaler(), PCA(min(self.most, *features.shape), svd_solver="full")
        rotated = self._pca.fit_transform(self._scaler.fit_transform(features))
        if not self._pca.explained_variance_[0] > 0:
            raise InputError(f"{self.name}: no feature varies in the training side of {len(features)} samples")
        self.components = int((self._pca.explained_variance_ > FLAT * self._pca.explained_variance_[0]).sum())
        rotated = rotated[:, : self.components]
        if self.name == "qda":
            if counts.min() < 2:
                raise InputError(
                    f"qda: class {self.classes_[counts.argmin()]} has one sample to fit to, whose covariance is not known; expected two "
                    "of every class, or bayesian_qda"
                )
            self._plug_in = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=self.strength).fit(rotated, targets)
            return self
        prior = empirical_prior(rotated, place, self.strength)
        if noise is None:
            self._model = fit_qda(rotated, place, len(self.classes_), prior)
            return self
        drawn = self._turned(noise)
        self._shape = _covariances(drawn).mean(axis=0)
        covariances = sample_noise(drawn, self._shape)
        self._model = fit_qda(rotated, place, len(self.classes_), prior, covariances)
        self.floored = int(self._model.floored.sum())
        return self

    def predict_proba(self, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Probabilities (N, K) of the classes that it was fitted to."""
        rotated = np.asarray(self._pca.transform(self._scaler.transform(features)))[:, : self.components]
        if self.name == "qda":
            return self._plug_in.predict_proba(rotated)
        return self._model.probabilities(rotated, None if noise is None else sample_noise(self._turned(noise), self._shape))

    def _turned(self, noise: np.ndarray) -> np.ndarray:
        """Differences of features (N, d, F) as those of components, float64 (N, d, C)."""
        return noise @ (np.asarray(self._pca.components_)[: self.components] / np.asarray(self._scaler.scale_)).T


def sample_noise(drawn: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The noise covariance of each sample from few draws of its features.

    A covariance of d draws has at most d - 1 directions, so it is averaged with one of the shape that all samples share and the size of
    its own: the former counts as d - 1 draws and the latter as C, as under an inverse Wishart prior.

    Args:
      drawn: Features of each sample under d draws of its noise, float (N, d, C); d is at least 2.
      shape: Mean covariance of the training side, (C, C); where it is zero, a sample has its own covariance alone.

    Returns:
      float64 (N, C, C).
    """
    own, (_, d, C) = _covariances(drawn), drawn.shape
    if not np.trace(shape) > 0:
        return own
    size = np.trace(own, axis1=1, axis2=2) / np.trace(shape)
    return (C * size[:, None, None] * shape + (d - 1) * own) / (C + d - 1)


def _covariances(drawn: np.ndarray) -> np.ndarray:
    """Covariances over draws, float64 (N, C, C)."""
    away = np.asarray(drawn, np.float64) - drawn.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.einsum("ndi,ndj->nij", away, away) / (drawn.shape[1] - 1)
