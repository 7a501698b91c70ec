"""The scikit-learn models behind the probes, and one way to fit and ask them all.

Legend: N samples, F features, K classes or labels.
"""

from collections.abc import Callable
from typing import Any, Literal
import warnings

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rsfm_jax.evaluate.probing.gaussian_probes import COMPONENTS, GAUSSIAN, GaussianClasses

Kind = Literal["classification", "multilabel", "regression"]
BASELINE: dict[Kind, str] = {"classification": "class_frequencies", "multilabel": "class_frequencies", "regression": "mean_predictor"}
STRENGTHS: dict[str, tuple[float, ...]] = {
    "linear": (0.1, 1.0, 10.0, 100.0, 1000.0),  # L2 penalty beside the sum of losses: alpha of ridge, 1 / C of logistic regression
    "knn": (1, 5, 20),  # neighbours
    "forest": (1, 4, 16),  # samples in a leaf, at least
    "mlp": (1e-4, 1e-2, 1.0),  # L2 penalty
    "qda": (1e-3, 1e-2, 0.1, 0.5),  # share of the identity in a class's covariance
    "bayesian_qda": (0.01,),  # samples that the prior's mean is worth
    "bayesian_qda_noise": (0.01,),
    "mean_predictor": (0,),
    "class_frequencies": (0,),
}
TREES = 200
HIDDEN = 128
EPOCHS = 500


def probe_names(kind: str) -> list[str]:
    """Names of the probes of a kind, without the row that uses no feature."""
    return [name for name in STRENGTHS if name not in BASELINE.values() and (kind == "classification" or name not in GAUSSIAN)]


def make_model(name: str, kind: Kind, strength: float, seed: int, components: int = COMPONENTS) -> Any:
    """An unfitted model of a probe in `STRENGTHS`, standardisation included; ``components`` are those of the Gaussian ones, at most."""
    if name in GAUSSIAN:
        return GaussianClasses(name, strength, components)
    hidden: dict[str, Any] = {"hidden_layer_sizes": (HIDDEN,), "alpha": strength, "max_iter": EPOCHS, "random_state": seed}
    trees: dict[str, Any] = {"n_estimators": TREES, "min_samples_leaf": int(strength), "random_state": seed}
    logistic: dict[str, Any] = {"C": 1 / strength if name == "linear" else 1.0, "max_iter": 1000}
    labels = OneVsRestClassifier if kind == "multilabel" else lambda model: model
    makers: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "linear": (lambda: labels(LogisticRegression(**logistic)), lambda: Ridge(alpha=strength)),
        "knn": (lambda: KNeighborsClassifier(int(strength)), lambda: KNeighborsRegressor(int(strength))),
        "forest": (lambda: RandomForestClassifier(**trees), lambda: RandomForestRegressor(**trees)),
        "mlp": (lambda: MLPClassifier(**hidden), lambda: TransformedTargetRegressor(MLPRegressor(**hidden), transformer=StandardScaler())),
        BASELINE[kind]: (lambda: DummyClassifier(strategy="prior"), DummyRegressor),
    }
    return make_pipeline(StandardScaler(), makers[name][kind == "regression"]())


def fit_model(model: Any, kind: Kind, features: np.ndarray, targets: np.ndarray, noise: np.ndarray | None = None) -> tuple[Any, bool]:
    """The model, fitted, and whether that converged. Labels that no sample or every sample has are learned as constants."""
    known = () if noise is None else (noise,)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features, targets.astype(np.int64) if kind == "multilabel" else targets, *known)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning) and "is present in all training examples" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def outputs_of(model: Any, kind: Kind, classes: int, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
    """Probabilities (N, K) of classes or labels, or quantities (N,), of a fitted model; 0 for a class that it was not trained on."""
    if kind == "regression":
        return np.asarray(model.predict(features), np.float64).reshape(len(features))
    given = model.predict_proba(features, *(() if noise is None else (noise,)))
    known = (model if isinstance(model, GaussianClasses) else model[-1]).classes_
    if kind == "multilabel":
        if isinstance(given, list):  # some estimators answer label by label, with one column where a label is constant
            given = np.stack([part[:, values == 1].sum(axis=1) for part, values in zip(given, known, strict=True)], axis=1)
        return np.asarray(given, np.float64)
    probabilities = np.zeros((len(features), classes))
    probabilities[:, known] = given
    return probabilities
