"""Probes of frozen features: small models fitted to features and targets of a training side, scored on a test side.

Knows nothing of encoders, images or splits. Features are standardised by the training side, and the one strength of each probe is chosen on
inner folds of the training side, whose groups (scenes, blocks, polygons) are never torn; the test side is only predicted.

Legend: N samples, F features, K classes or labels.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any
import warnings

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.figures.calibration import probabilistic
from rsfm_jax.evaluate.figures.checks import must_be_finite
from rsfm_jax.evaluate.figures.metrics import classification, multilabel, regression
from rsfm_jax.evaluate.probing.probe_models import BASELINE, STRENGTHS, Kind, fit_model, make_model, outputs_of
from rsfm_jax.evaluate.probing.splits import few_shot


@dataclasses.dataclass(frozen=True)
class Samples:
    """One side.

    Attributes:
      features: (N, F), finite.
      targets: Classes int (N,); labels bool or 0/1 (N, K); or quantities float (N,).
      groups: Samples with the same entry, (N,), share an inner fold; None only where no strength is chosen, as on the test side.
    """

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not self.features.size or len(self.targets) != len(self.features):
            raise InputError(f"features have shape {self.features.shape} and targets {self.targets.shape}; expected (N, F) and N targets")
        if self.groups is not None and self.groups.shape != (len(self.features),):
            raise InputError(f"groups have shape {self.groups.shape}; expected ({len(self.features)},)")
        must_be_finite("features", self.features)

    def take(self, chosen: np.ndarray) -> "Samples":
        """The samples at indices int (M,) or where bool (N,)."""
        return Samples(self.features[chosen], self.targets[chosen], None if self.groups is None else self.groups[chosen])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A probe fitted to a training side.

    Attributes:
      model: The scikit-learn pipeline.
      kind: What it predicts.
      classes: How many classes there are; 0 for other kinds.
      strength: The chosen entry of the sweep.
      at_edge: Whether that is the first or last of several: the best may lie beyond.
      inner_folds: How many folds chose it; 0 where there was one strength.
      converged: Whether the final fit did.
    """

    model: Any
    kind: Kind
    classes: int
    strength: float
    at_edge: bool
    inner_folds: int
    converged: bool

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (N, K) of classes or labels, or quantities (N,), for features (N, F). A class that was not trained on has 0."""
        return outputs_of(self.model, self.kind, self.classes, features)


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
) -> list[dict[str, Any]]:
    """Fits probes and scores them.

    Args:
      names: `linear` (logistic regression, one for each label; ridge), `knn`, `forest`, `mlp` (128 hidden units). The row that uses no
        feature, `mean_predictor` or `class_frequencies`, is always added, first.
      kind: `classification`, `multilabel` or `regression`.
      train: Training side, with groups.
      test: Test side.
      seeds: Each draws the inner folds, what is random in a probe, and the few labels.
      classes: How many classes there are, or their names; for classification only.
      per_class: How many training samples to draw of each class; None for all. For classification only.
      strengths: Sweeps other than `STRENGTHS`, by name.
      folds: Inner folds, or fewer where there are fewer groups.

    Returns:
      A row for each probe and seed: `probe`, `seed`, `per_class`, `strength`, `strength_at_edge`, `inner_folds`, `converged`, `train_n`,
      `test_n`, `short` (classes with fewer samples than ``per_class``, and how many they have), and on the test side what
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
    count = classes if isinstance(classes, int) else len(classes or ())
    _must_fit(kind, "test", test.targets, count)
    rows = []
    for name in dict.fromkeys((BASELINE[kind], *names)):
        for seed in seeds:
            few = None if per_class is None else few_shot(train.targets, per_class, seed)
            side = train if few is None else train.take(few.chosen)
            fitted = fit_probe(name, kind, side, seed, count, (strengths or {}).get(name), folds)
            given = {"probe": name, "seed": seed, "per_class": per_class, "train_n": len(side.targets), "test_n": len(test.targets)}
            given["short"] = {str(k): n for k, n in few.short.items()} if few else {}
            chosen = {"strength": fitted.strength, "strength_at_edge": fitted.at_edge}
            chosen |= {"inner_folds": fitted.inner_folds, "converged": fitted.converged}
            rows.append(given | chosen | _figures(kind, test.targets, fitted.outputs(test.features), classes))
    return rows


def fit_probe(
    name: str, kind: Kind, train: Samples, seed: int, classes: int = 0, strengths: Sequence[float] | None = None, folds: int = 3
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

    Returns:
      The fitted probe. For `knn`, strengths with more neighbours than an inner fold trains on are left out of the sweep.

    Raises:
      InputError: The name is unknown, targets do not fit the kind or are of one class only, or no fold can be made.
    """
    known = [one for one in STRENGTHS if one == BASELINE[kind] or one not in BASELINE.values()]
    if name not in known:
        raise InputError(f"there is no probe {name!r} for {kind}{nearest(name, known)}; expected one of {', '.join(known)}")
    sweep = list(STRENGTHS[name] if strengths is None else strengths)
    if not sweep or (min(sweep) <= 0 and name != BASELINE[kind]):
        raise InputError(f"strengths of {name} are {sweep}; expected at least one, and positive ones")
    _must_fit(kind, "train", train.targets, classes)
    if kind == "classification" and len(np.unique(train.targets)) < 2 and name != BASELINE[kind]:
        raise InputError(f"all {len(train.targets)} training samples are of class {train.targets[0]}; expected at least two classes")
    inner = _inner_folds(kind, train, folds, seed) if len(sweep) > 1 else []
    if name == "knn":
        most = min([len(rows) for rows, _ in inner] or [len(train.targets)])
        sweep = [strength for strength in sweep if strength <= most]
        if not sweep:
            raise InputError(f"knn: every strength asks for more neighbours than the {most} training samples of an inner fold")
    with threadpool_limits(1):  # such small fits are several times slower where threads wait for each other on busy cores
        scores = []
        for strength in sweep if inner else []:
            parts = ((train.take(rows), train.take(held)) for rows, held in inner)
            fits = ((fit_model(make_model(name, kind, strength, seed), kind, part.features, part.targets)[0], held) for part, held in parts)
            scores.append(np.mean([_score(kind, held.targets, outputs_of(model, kind, classes, held.features)) for model, held in fits]))
        best = int(np.argmax(scores)) if scores else 0
        model, converged = fit_model(make_model(name, kind, sweep[best], seed), kind, train.features, train.targets)
    edge = len(sweep) > 1 and best in (0, len(sweep) - 1)
    return Fitted(model, kind, classes, sweep[best], edge, len(inner), converged)


def _inner_folds(kind: Kind, train: Samples, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(fit, held out) indices; folds that can't be fitted or scored are left out."""
    if train.groups is None:
        raise InputError("the training side has no groups, which inner folds need; give np.arange(N) only if samples are independent")
    count = min(folds, len(np.unique(train.groups)))
    if count < 2:
        raise InputError(f"inner folds: {folds} asked for and {len(np.unique(train.groups))} groups; expected at least 2 of both")
    dealer = (StratifiedGroupKFold if kind == "classification" else GroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        dealt = list(dealer.split(train.features, train.targets, train.groups))

    def usable(rows: np.ndarray, held: np.ndarray) -> bool:
        if kind == "classification":
            return len(held) > 0 and len(np.unique(train.targets[rows])) > 1
        return kind == "regression" or bool(train.targets[held].any())

    kept = [(rows, held) for rows, held in dealt if usable(rows, held)]
    if not kept:
        raise InputError(f"none of {count} inner folds over {len(np.unique(train.groups))} groups has two classes; give finer groups")
    return kept


def _score(kind: Kind, targets: np.ndarray, outputs: np.ndarray) -> float:
    """What the sweep makes largest."""
    if kind == "classification":
        return float((outputs.argmax(axis=1) == targets).mean())
    if kind == "multilabel":
        return float(average_precision_score(targets.ravel(), outputs.ravel()))
    return -float(np.sqrt(np.mean((outputs - targets) ** 2)))


def _figures(kind: Kind, targets: np.ndarray, outputs: np.ndarray, classes: int | Sequence[str] | None) -> dict[str, Any]:
    """Figures of the test side."""
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
