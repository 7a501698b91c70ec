"""Probes of frozen features: small models fitted to features and targets of a training side, scored on a test side.

Knows nothing of encoders, images or splits. Features are standardised by the training side, and the one strength of each probe is chosen on
inner folds of the training side, whose groups (scenes, blocks, polygons) are never torn; the test side is only predicted.

Legend: N samples, F features, K classes or labels, d draws of noise.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.figures.calibration import probabilistic
from rsfm_jax.evaluate.figures.checks import must_be_finite
from rsfm_jax.evaluate.figures.metrics import classification, multilabel, regression
from rsfm_jax.evaluate.probing.gaussian_probes import COMPONENTS, WITH_NOISE, GaussianClasses
from rsfm_jax.evaluate.probing.inner_folds import inner_folds
from rsfm_jax.evaluate.probing.probe_models import BASELINE, STRENGTHS, Kind, fit_model, make_model, outputs_of, probe_names
from rsfm_jax.evaluate.probing.splits import few_shot


@dataclasses.dataclass(frozen=True)
class Samples:
    """One side.

    Attributes:
      features: (N, F), finite.
      targets: Classes int (N,); labels bool or 0/1 (N, K); or quantities float (N,).
      groups: Samples with the same entry, (N,), share an inner fold; None only where no strength is chosen, as on the test side.
      noise: Features of each sample under draws of its measurement noise, (N, d, F), for `bayesian_qda_noise`; None where not known.
    """

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None
    noise: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not self.features.size or len(self.targets) != len(self.features):
            raise InputError(f"features have shape {self.features.shape} and targets {self.targets.shape}; expected (N, F) and N targets")
        if self.groups is not None and self.groups.shape != (len(self.features),):
            raise InputError(f"groups have shape {self.groups.shape}; expected ({len(self.features)},)")
        must_be_finite("features", self.features)
        if self.noise is not None:
            drawn = self.noise.shape
            if len(drawn) != 3 or drawn[::2] != self.features.shape or drawn[1] < 2:
                raise InputError(f"noise has shape {drawn}; expected (N, d, F) with features {self.features.shape} and two draws or more")
            must_be_finite("noise", self.noise)

    def take(self, chosen: np.ndarray) -> "Samples":
        """The samples at indices int (M,) or where bool (N,)."""
        groups, noise = (None if array is None else array[chosen] for array in (self.groups, self.noise))
        return Samples(self.features[chosen], self.targets[chosen], groups, noise)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A probe fitted to a training side.

    Attributes:
      name: Of the probe.
      model: The scikit-learn pipeline, or `GaussianClasses`.
      kind: What it predicts.
      classes: How many classes there are; 0 for other kinds.
      strength: The chosen entry of the sweep.
      at_edge: Whether that is the first or last of several: the best may lie beyond.
      inner_folds: How many folds chose it; 0 where there was one strength.
      converged: Whether the final fit did.
    """

    name: str
    model: Any
    kind: Kind
    classes: int
    strength: float
    at_edge: bool
    inner_folds: int
    converged: bool

    def outputs(self, features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Probabilities (N, K) of classes or labels, or quantities (N,), for features (N, F). A class that was not trained on has 0.

        ``noise`` as `Samples` has it is for `bayesian_qda_noise`, and left alone by the others.
        """
        return outputs_of(self.model, self.kind, self.classes, features, noise if self.name == WITH_NOISE else None)


def probe(
    names: Sequence[str],
    kind: Kind,
    train: Samples,
    test: Samples,
    seeds: Sequence[int],
    classes: int | Sequence[str] | None = None,
    per_class: int | None = None,
    strengths: dict[str, Sequence[float]] | None = None,
    folds: int = 3,
    components: int = COMPONENTS,
) -> list[dict[str, Any]]:
    """Fits probes and scores them.

    Args:
      names: `linear` (logistic regression, one for each label; ridge), `knn`, `forest`, `mlp` (128 hidden units); for classification
        also those of `rsfm_jax.evaluate.probing.gaussian_probes`. The row that uses no feature, `mean_predictor` or
        `class_frequencies`, is always added, first.
      kind: `classification`, `multilabel` or `regression`.
      train: Training side, with groups.
      test: Test side.
      seeds: Each draws the inner folds, what is random in a probe, and the few labels.
      classes: How many classes there are, or their names; for classification only.
      per_class: How many training samples to draw of each class; None for all. For classification only.
      strengths: Sweeps other than `STRENGTHS`, by name.
      folds: Inner folds, or fewer where there are fewer groups.
      components: Principal components that Gaussian probes keep, at most.

    Returns:
      A row for each probe and seed: `probe`, `seed`, `per_class`, `strength`, `strength_at_edge`, `inner_folds`, `converged`, `train_n`,
      `test_n`, `short` (classes with fewer samples than ``per_class``, and how many they have), for Gaussian ones `components` and
      `noise_floored` (directions in which less noise was taken off than known, None without noise), and on the test side what
      `classification` and `probabilistic`, `multilabel`, or `regression` return.

    Raises:
      InputError: A name or kind is unknown, targets do not fit the kind, or no fold can be made.
    """
    if kind not in BASELINE:
        raise InputError(f"kind is {kind!r}{nearest(kind, BASELINE)}; expected one of {', '.join(BASELINE)}")
    if (kind == "classification") != (classes is not None):
        raise InputError(f"classes is {classes} for {kind}; expected them for classification only")
    if per_class is not None and kind != "classification":
        raise InputError(f"per_class is {per_class} for {kind}; few labels are drawn for classification only")
    shapes = [(*side.features.shape[1:], *side.targets.shape[1:]) for side in (train, test)]
    if shapes[0] != shapes[1] or not seeds:
        raise InputError(
            f"columns of features (and labels) are {shapes[0]} to train, {shapes[1]} to test, and seeds {list(seeds)}; expected the "
            "same columns, and a seed"
        )
    if WITH_NOISE in names and (train.noise is None or test.noise is None):
        raise InputError(f"{WITH_NOISE} needs the noise of both sides, Samples.noise; take bayesian_qda where it is not known")
    count = classes if isinstance(classes, int) else len(classes or ())
    _must_fit(kind, "test", test.targets, count)
    rows = []
    for name in dict.fromkeys((BASELINE[kind], *names)):
        for seed in seeds:
            few = None if per_class is None else few_shot(train.targets, per_class, seed)
            side = train if few is None else train.take(few.chosen)
            fitted = fit_probe(name, kind, side, seed, count, (strengths or {}).get(name), folds, components)
            given = {"probe": name, "seed": seed, "per_class": per_class, "train_n": len(side.targets), "test_n": len(test.targets)}
            given["short"] = {str(k): n for k, n in few.short.items()} if few else {}
            chosen = {"strength": fitted.strength, "strength_at_edge": fitted.at_edge}
            chosen |= {"inner_folds": fitted.inner_folds, "converged": fitted.converged}
            if isinstance(fitted.model, GaussianClasses):
                chosen |= {"components": fitted.model.components, "noise_floored": fitted.model.floored}
            rows.append(given | chosen | figures_of(kind, test.targets, fitted.outputs(test.features, test.noise), classes))
    return rows


def fit_probe(
    name: str,
    kind: Kind,
    train: Samples,
    seed: int,
    classes: int = 0,
    strengths: Sequence[float] | None = None,
    folds: int = 3,
    components: int = COMPONENTS,
) -> Fitted:
    """Fits one probe; the strength with the best mean accuracy, micro average precision or RMSE over inner folds is taken.

    Args:
      name: As `probe` takes it.
      kind: As `probe` takes it.
      train: Training side.
      seed: Draws the inner folds and what is random in the probe.
      classes: How many classes there are, for classification.
      strengths: The sweep, in order; None for that of `STRENGTHS`.
      folds: Inner folds at most.
      components: As `probe` takes them.

    Returns:
      The fitted probe. For `knn`, strengths with more neighbours than an inner fold trains on are left out of the sweep.

    Raises:
      InputError: The name is unknown, targets do not fit the kind or are of one class only, or no fold can be made.
    """
    known = [*probe_names(kind), BASELINE[kind]]
    if name not in known:
        raise InputError(f"there is no probe {name!r} for {kind}{nearest(name, known)}; expected one of {', '.join(known)}")
    sweep = list(STRENGTHS[name] if strengths is None else strengths)
    if not sweep or (min(sweep) <= 0 and name != BASELINE[kind]):
        raise InputError(f"strengths of {name} are {sweep}; expected at least one, and positive ones")
    _must_fit(kind, "train", train.targets, classes)
    if kind == "classification" and len(np.unique(train.targets)) < 2 and name != BASELINE[kind]:
        raise InputError(f"all {len(train.targets)} training samples are of class {train.targets[0]}; expected at least two classes")
    inner = inner_folds(kind, train.targets, train.groups, folds, seed) if len(sweep) > 1 else []
    if name == "knn":
        most = min([len(rows) for rows, _ in inner] or [len(train.targets)])
        sweep = [strength for strength in sweep if strength <= most]
        if not sweep:
            raise InputError(f"knn: every strength asks for more neighbours than the {most} training samples of an inner fold")
    if name == WITH_NOISE and train.noise is None:
        raise InputError(f"{name}: the noise of the features is not known; give Samples.noise, or take bayesian_qda")

    def noise(side: Samples) -> np.ndarray | None:
        return side.noise if name == WITH_NOISE else None

    def fit(side: Samples, strength: float) -> tuple[Any, bool]:
        return fit_model(make_model(name, kind, strength, seed, components), kind, side.features, side.targets, noise(side))

    with threadpool_limits(1):  # such small fits are several times slower where threads wait for each other on busy cores
        scores = []
        for strength in sweep if inner else []:
            parts = ((train.take(rows), train.take(held)) for rows, held in inner)
            fits = ((fit(part, strength)[0], held) for part, held in parts)
            outputs = ((held, outputs_of(model, kind, classes, held.features, noise(held))) for model, held in fits)
            scores.append(np.mean([_score(kind, held.targets, output) for held, output in outputs]))
        best = int(np.argmax(scores)) if scores else 0
        model, converged = fit(train, sweep[best])
    edge = len(sweep) > 1 and best in (0, len(sweep) - 1)
    return Fitted(name, model, kind, classes, sweep[best], edge, len(inner), converged)


def _score(kind: Kind, targets: np.ndarray, outputs: np.ndarray) -> float:
    """What the sweep makes largest."""
    if kind == "classification":
        return float((outputs.argmax(axis=1) == targets).mean())
    if kind == "multilabel":
        return float(average_precision_score(targets.ravel(), outputs.ravel()))
    return -float(np.sqrt(np.mean((outputs - targets) ** 2)))


def figures_of(kind: Kind, targets: np.ndarray, outputs: np.ndarray, classes: int | Sequence[str] | None) -> dict[str, Any]:
    """Figures of the test side.

    Args:
      kind: What is predicted.
      targets: As `Samples` has them.
      outputs: Of `Fitted.outputs`.
      classes: Names of the classes or how many, for classification.

    Returns:
      What `classification` and `probabilistic`, `multilabel`, or `regression` return.
    """
    if kind == "regression":
        return regression(targets, outputs)
    if kind == "multilabel":
        return multilabel(targets, outputs)
    return classification(targets, outputs.argmax(axis=1), classes or 0) | probabilistic(targets, outputs)


def _must_fit(kind: Kind, side: str, targets: np.ndarray, classes: int) -> None:
    """Refuses targets that are not of the kind."""
    fits, expected = {
        "classification": (targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer), "int (N,)"),
        "multilabel": (targets.ndim == 2 and targets.shape[-1] > 1 and bool(np.isin(targets, (0, 1)).all()), "0 and 1 (N, K), K above 1,"),
        "regression": (targets.ndim == 1 and np.issubdtype(targets.dtype, np.floating), "float (N,)"),
    }[kind]
    if not fits:
        raise InputError(f"{side} targets are {targets.dtype} {targets.shape}; expected {expected} for {kind}")
    must_be_finite(f"{side} targets", targets)
    if kind == "classification" and (targets.min() < 0 or targets.max() >= classes):
        raise InputError(f"{side} targets go from {targets.min()} to {targets.max()}; expected classes 0 to {classes - 1}")
