"""Figures of merit from labels and predictions: classes, labels, quantities and retrieval.

Takes numpy arrays and returns dicts of Python numbers for JSON; a figure that is not defined is None. Knows nothing of models, files or
splits. The definitions are scikit-learn's where it has them; where one is written out, its docstring says why.

Legend: N samples or pixels, K classes or labels, Q queries, G gallery items, D width of an embedding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, r2_score

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_finite

QUERIES_AT_ONCE = 1024  # rows of the similarity matrix that are in memory together
TIE = 1e-9  # cosines closer than this are equal: equal embeddings may differ by the rounding of a matrix product


class Confusion:
    """A confusion matrix over any number of batches, and what follows from it.

    scikit-learn takes all samples at once; this is for label maps that do not fit in memory together.

    Attributes:
      names: Names of the K classes.
      matrix: Counts, int64 (K, K): rows are the truth, columns the prediction.
      ignored: How many samples had ``ignore_index`` as truth.
    """

    def __init__(self, classes: int | Sequence[str], ignore_index: int | None = None):
        """Starts with no samples.

        Args:
          classes: How many classes there are, or their names; class k is the integer k.
          ignore_index: Truth to leave out, such as 255; None to refuse every value that is no class.

        Raises:
          InputError: There is no class, or ``ignore_index`` is one.
        """
        self.names = tuple(str(k) for k in range(classes)) if isinstance(classes, int) else tuple(classes)
        if not self.names:
            raise InputError("classes is empty; expected at least one class")
        if ignore_index is not None and 0 <= ignore_index < len(self.names):
            raise InputError(f"ignore_index {ignore_index} is one of the classes 0 to {len(self.names) - 1}; expected another value")
        self.ignore_index = ignore_index
        self.matrix = np.zeros((len(self.names), len(self.names)), np.int64)
        self.ignored = 0

    def add(self, target: np.ndarray, predicted: np.ndarray) -> None:
        """Counts a batch. Where the truth is ``ignore_index`` the prediction may be anything.

        Args:
          target: Classes, integers of any shape.
          predicted: Classes of the same shape.

        Raises:
          InputError: Shapes differ, values are no integers, or a value is no class.
        """
        target, predicted = np.asarray(target), np.asarray(predicted)
        if target.shape != predicted.shape:
            raise InputError(f"target has shape {target.shape} and predicted {predicted.shape}; expected the same")
        for name, values in (("target", target), ("predicted", predicted)):
            if not np.issubdtype(values.dtype, np.integer):
                raise InputError(f"{name} is {values.dtype}; expected integers")
        keep = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
        kept = {"target": target[keep].astype(np.int64), "predicted": predicted[keep].astype(np.int64)}
        count = len(self.names)
        for name, values in kept.items():
            strange = np.unique(values[(values < 0) | (values >= count)])
            if strange.size:
                ignored = "none" if self.ignore_index is None else self.ignore_index
                raise InputError(f"{name} has {strange[:5].tolist()}; expected classes 0 to {count - 1} (ignore_index is {ignored})")
        self.ignored += int((~keep).sum())
        self.matrix += np.bincount(kept["target"] * count + kept["predicted"], minlength=count**2).reshape(count, count)

    def figures(self) -> dict[str, Any]:
        """Figures of all samples so far.

        Returns:
          `accuracy`; `macro_f1`, `weighted_f1` (by the truth's counts) and `mean_iou`; `classes`, a list of dicts with `class`, `n`,
          `predicted_n`, `iou` and `f1`; `absent`, names of the classes neither in the truth nor predicted, which have None and are not
          in the means; `n` and `ignored`. A class that is predicted but not in the truth counts as 0.

        Raises:
          InputError: There is no sample.
        """
        n = int(self.matrix.sum())
        if n == 0:
            raise InputError(f"no sample to count ({self.ignored} ignored); expected at least one")
        hits, truth, given = np.diagonal(self.matrix), self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        present = truth + given > 0
        iou = hits[present] / (truth + given - hits)[present]
        f1 = 2 * hits[present] / (truth + given)[present]
        rows: list[dict[str, Any]] = [
            {"class": name, "n": int(truth[k]), "predicted_n": int(given[k]), "iou": None, "f1": None} for k, name in enumerate(self.names)
        ]
        for k, one_iou, one_f1 in zip(np.flatnonzero(present), iou, f1, strict=True):
            rows[k] |= {"iou": float(one_iou), "f1": float(one_f1)}
        return {
            "accuracy": float(hits.sum() / n),
            "macro_f1": float(f1.mean()),
            "weighted_f1": float((f1 * truth[present]).sum() / n),
            "mean_iou": float(iou.mean()),
            "classes": rows,
            "absent": [name for name, there in zip(self.names, present, strict=True) if not there],
            "n": n,
            "ignored": self.ignored,
        }


def classification(
    target: np.ndarray, predicted: np.ndarray, classes: int | Sequence[str], ignore_index: int | None = None
) -> dict[str, Any]:
    """`Confusion.figures` of one batch; arguments and errors as there."""
    confusion = Confusion(classes, ignore_index)
    confusion.add(target, predicted)
    return confusion.figures()


def multilabel(target: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> dict[str, Any]:
    """Average precision and F1 of several labels a sample.

    Args:
      target: Whether a label is there, bool or 0/1 (N, K).
      scores: Higher where a label is likelier, float (N, K).
      threshold: Scores at or above it are predictions; F1 depends on it, average precision does not.

    Returns:
      `map_macro` over the labels that some sample has; `map_micro`; `f1_macro` over the labels that are in the truth or predicted;
      `f1_micro`; `without_positives` and `absent`, the numbers of the labels left out of the two means; `threshold`, `n`.
      Average precision is the sum over ranks without interpolation, as in scikit-learn.

    Raises:
      InputError: Shapes differ, a target is not 0 or 1, a score is not finite, or no sample has any label.
    """
    target, scores = np.asarray(target), np.asarray(scores, np.float64)
    if target.ndim != 2 or target.shape != scores.shape:
        raise InputError(f"target has shape {target.shape} and scores {scores.shape}; expected (samples, labels) of both")
    must_be_finite("scores", scores)
    if not np.isin(target, (0, 1)).all():
        raise InputError(f"target has {np.unique(target)[:5].tolist()}; expected 0 and 1")
    target, predicted = target.astype(np.int64), (scores >= threshold).astype(np.int64)
    positive = target.any(axis=0)
    if not positive.any():
        raise InputError("target has no label on any sample; average precision needs at least one")
    absent = ~positive & ~predicted.any(axis=0)
    return {
        "map_macro": float(np.mean([average_precision_score(target[:, k], scores[:, k]) for k in np.flatnonzero(positive)])),
        "map_micro": float(average_precision_score(target.ravel(), scores.ravel())),
        "f1_macro": float(np.mean([f1_score(target[:, k], predicted[:, k], zero_division=0) for k in np.flatnonzero(~absent)])),  # pyright: ignore[reportArgumentType]
        "f1_micro": float(f1_score(target.ravel(), predicted.ravel(), zero_division=0)),  # pyright: ignore[reportArgumentType]
        "without_positives": np.flatnonzero(~positive).tolist(),
        "absent": np.flatnonzero(absent).tolist(),
        "threshold": threshold,
        "n": len(target),
    }


def regression(target: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Errors of a quantity.

    Args:
      target: (N,), in the quantity's unit.
      predicted: (N,), in the same unit.

    Returns:
      `rmse`, `target_sd` (of the population, so that the test set's own mean as prediction has an `rmse` of `target_sd`), `mae`,
      `r2` = 1 - (rmse / target_sd)^2, None where the target is constant, and `n`.

    Raises:
      InputError: Shapes are not (N,), there is no sample, or a value is not finite.
    """
    target, predicted = np.asarray(target, np.float64), np.asarray(predicted, np.float64)
    if target.ndim != 1 or target.shape != predicted.shape or not target.size:
        raise InputError(f"target has shape {target.shape} and predicted {predicted.shape}; expected (samples,) of both")
    must_be_finite("target", target)
    must_be_finite("predicted", predicted)
    varies = bool(np.ptp(target) > 0)
    return {
        "rmse": float(np.sqrt(np.mean((predicted - target) ** 2))),
        "target_sd": float(target.std()) if varies else 0.0,
        "mae": float(np.abs(predicted - target).mean()),
        "r2": float(r2_score(target, predicted)) if varies else None,
        "n": len(target),
    }


def recall_at_k(queries: np.ndarray, gallery: np.ndarray, relevant: np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
    """Retrieval by cosine similarity: the share of queries with a relevant item among the first k, and mean average precision.

    A tie counts against the model: the relevant item comes last among items equally similar, so constant embeddings earn nothing.

    Args:
      queries: Embeddings (Q, D).
      gallery: Embeddings (G, D).
      relevant: Which items a query should find, bool (Q, G).
      ks: Values of k, 1 to G.

    Returns:
      `recall_at_K` for each k; `mean_average_precision` over the whole gallery; `median_rank` of the first relevant item, from 1;
      `queries`, how many were counted, and `without_relevant`, how many were not, as no item is relevant to them; `gallery`.

    Raises:
      InputError: Shapes or ks do not fit, an embedding is zero or not finite, or no query has a relevant item.
    """
    queries, gallery, relevant = np.asarray(queries, np.float64), np.asarray(gallery, np.float64), np.asarray(relevant)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise InputError(f"queries have shape {queries.shape} and gallery {gallery.shape}; expected (Q, D) and (G, D)")
    if relevant.dtype != bool or relevant.shape != (len(queries), len(gallery)):
        raise InputError(f"relevant is {relevant.dtype} {relevant.shape}; expected bool {(len(queries), len(gallery))}")
    if not ks or min(ks) < 1 or max(ks) > len(gallery):
        raise InputError(f"ks is {list(ks)}; expected values from 1 to the gallery's {len(gallery)}")
    counted = relevant.any(axis=1)
    if not counted.any():
        raise InputError("relevant has no item for any query; expected at least one")
    queries, gallery, relevant = _unit("queries", queries)[counted], _unit("gallery", gallery), relevant[counted]
    ranks, precisions = np.empty(len(queries), np.int64), np.empty(len(queries))
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        similarity = queries[rows] @ gallery.T
        best = np.where(relevant[rows], similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = 1 + ((similarity >= best - TIE) & ~relevant[rows]).sum(axis=1)
        precisions[rows] = [_average_precision(one, wanted) for one, wanted in zip(similarity, relevant[rows], strict=True)]
    recalls = {f"recall_at_{k}": float((ranks <= k).mean()) for k in ks}
    counts = {"queries": len(queries), "without_relevant": int((~counted).sum()), "gallery": len(gallery)}
    return {**recalls, "mean_average_precision": float(precisions.mean()), "median_rank": float(np.median(ranks)), **counts}


def _average_precision(similarity: np.ndarray, relevant: np.ndarray) -> float:
    """Mean, over the relevant items of one query, of the share of relevant items up to each; of ties the relevant come last."""
    wanted, others = np.sort(similarity[relevant])[::-1], np.sort(similarity[~relevant])
    before = len(others) - np.searchsorted(others, wanted - TIE)
    count = np.arange(1, len(wanted) + 1)
    return float((count / (count + before)).mean())


def _unit(name: str, embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (N, D) of length 1."""
    must_be_finite(name, embeddings)
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if (length == 0).any():
        raise InputError(f"{name}: {int((length == 0).sum())} embeddings are zero, which have no direction")
    return embeddings / length
