"""Retrieval from frozen features: the test side asks, the training side answers, nothing is fitted.

What a query should find are the samples of its class, or for kind multilabel those that share at least one label with it.

Legend: Q queries (test side), G gallery items (training side), F features, K labels.
"""

from collections.abc import Sequence
import statistics
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.metrics import recall_at_k
from rsfm_jax.evaluate.probing.features import FeatureSet
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.samples.samples import Samples
from rsfm_jax.evaluate.tasks.task import Task

FIRST = "mean_average_precision"
COUNTS = ("queries", "without_relevant", "gallery")
NO_FEATURE = {"features": "none", "layer": None, "pooling": None}


def retrieval_rows(task: Task, samples: Samples, splits: Sequence[Split], sets: Sequence[FeatureSet]) -> list[dict[str, Any]]:
    """Retrieval by every feature set, and by a gallery in random order.

    Args:
      task: The task, with `retrieval`.
      samples: Its samples.
      splits: Of them.
      sets: Features of all samples.

    Returns:
      A row for each set and pair of groups, means over folds and over the seeds of untrained encoders, the best first: `features`, `layer`,
      `pooling`, the groups where there are such, `folds`, and what `recall_at_k` returns; counts are sums over folds. The random order,
      `features: none`, has expectations.

    Raises:
      InputError: A k is larger than a training side, or no query of a split has anything to find.
    """
    assert task.retrieval is not None
    ks, found = task.retrieval.ks, []
    for split in splits:
        relevant = relevant_items(samples.targets[split.test], samples.targets[split.train])
        pair = {key: value for key, value in split.keys.items() if key != "fold"}
        try:
            for one in sets:
                sides = one.values[split.test], one.values[split.train]
                sides = _standardised(*sides) if task.retrieval.standardise else sides
                found.append({**pair, **one.keys, "seed": one.seed, **recall_at_k(*sides, relevant, ks)})
        except InputError as error:
            raise InputError(f"task {task.name}: retrieval, split {split.keys or 'into two'}: {error}") from None
        found.append(pair | NO_FEATURE | {"seed": None} | random_order(relevant, ks))
    folded = [keys | {"folds": len(same)} | _over_folds(same) for keys, same in _alike(found, "seed")]
    rows = [keys | {"folds": same[0]["folds"]} | _means(same) for keys, same in _alike(folded)]
    return sorted(rows, key=lambda row: -row[FIRST])


def relevant_items(asked: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Which gallery items a query should find, bool (Q, G), from classes (Q,) and (G,), or from labels bool (Q, K) and (G, K)."""
    if asked.ndim == 1:
        return asked[:, None] == gallery[None]
    return asked.astype(np.float32) @ gallery.astype(np.float32).T > 0.5


def random_order(relevant: np.ndarray, ks: Sequence[int]) -> dict[str, Any]:
    """What `recall_at_k` returns on average over all orders of the gallery; no median rank.

    Args:
      relevant: Which items a query should find, bool (Q, G).
      ks: Values of k.

    Returns:
      As `recall_at_k`. The expected average precision of m relevant among G items is (H + (m - 1) / (G - 1) (G - H)) / G with the
      harmonic number H = 1 + 1/2 + ... + 1/G.
    """
    many, G = relevant.sum(axis=1), relevant.shape[1]
    m = many[many > 0]
    harmonic = float((1 / np.arange(1, G + 1)).sum())
    average = (harmonic + (m - 1) / max(G - 1, 1) * (G - harmonic)) / G
    recalls = {f"recall_at_{k}": float(hypergeom.sf(0, G, m, k).mean()) for k in ks}
    counts = {"queries": len(m), "without_relevant": int((many == 0).sum()), "gallery": G}
    return {**recalls, FIRST: float(average.mean()), "median_rank": None, **counts}


def _standardised(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both less the gallery's mean, over its standard deviation; features that do not vary in the gallery are 0."""
    mean, sd = gallery.mean(axis=0, dtype=np.float64), gallery.std(axis=0, dtype=np.float64)
    varies = sd > 1e-12 * np.abs(mean)
    turned = (np.where(varies, (side - mean) / np.where(varies, sd, 1), 0) for side in (queries, gallery))
    return next(turned), next(turned)


def _alike(rows: Sequence[dict[str, Any]], *more: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Rows that agree in features, groups, and the keys named besides: what they agree in, and the rows."""
    together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        keys = {key: value for key, value in row.items() if key in NO_FEATURE or key.endswith("_group") or key in more}
        together.setdefault(tuple(keys.items()), []).append(row)
    return [(dict(keys), same) for keys, same in together.items()]


def _over_folds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over folds, and sums of the counts."""
    return _means(rows) | {name: sum(row[name] for row in rows) for name in COUNTS}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of the figures, and the counts of the first."""
    figures = [name for name in rows[0] if name.startswith("recall_at_") or name in (FIRST, "median_rank")]
    values = {name: [row[name] for row in rows] for name in figures}
    return {name: None if None in of else statistics.fmean(of) for name, of in values.items()} | {name: rows[0][name] for name in COUNTS}
