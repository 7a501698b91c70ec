"""Points and the exemplars nearest to them, in bounded memory: nearest exemplar, best exemplar of a cluster, sums by cluster. numpy only.

Dissimilarity is the squared Euclidean distance, whose sum over a cluster needs no more than the cluster's mean: the member nearest to the
mean is the member with the least sum of distances to all others.

Legend: N points, K exemplars, D values of a point.
"""

import numpy as np

_CELLS = 1 << 24  # of the matrix of distances that is held at a time


def nearest(points: np.ndarray, exemplars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exemplar nearest to each point.

    Args:
      points: float32 (N, D).
      exemplars: float32 (K, D).

    Returns:
      int32 (N,) numbers of exemplars, the lowest where two are as near, and float32 (N,) squared distances.
    """
    origin = exemplars.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = exemplars - origin
    half = 0.5 * np.einsum("kd,kd->k", centred, centred)
    index = np.empty(len(points), np.int32)
    squared = np.empty(len(points), np.float32)
    rows = max(1, _CELLS // len(exemplars))
    for begin in range(0, len(points), rows):
        part = slice(begin, begin + rows)
        index[part] = np.argmax((points[part] - origin) @ centred.T - half, axis=1)
        squared[part] = squared_distance(points[part], exemplars[index[part]])
    return index, squared


def squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distance of each row of the one to the same row of the other, float32 (N,)."""
    difference = a - b
    return np.einsum("nd,nd->n", difference, difference)


def means(points: np.ndarray, weights: np.ndarray, cluster: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and weighted mean of each cluster.

    Args:
      points: float32 (N, D).
      weights: float64 (N,), above 0.
      cluster: (N,) numbers of clusters, each of which has a point.
      clusters: How many there are, K.

    Returns:
      float64 (K,) sums of weights and float32 (K, D) means.
    """
    total = np.bincount(cluster, weights, clusters)
    sums = [np.bincount(cluster, weights * column, clusters) for column in points.T]
    return total, (np.stack(sums, axis=1) / total[:, None]).astype(np.float32)


def central_members(points: np.ndarray, weights: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """The member of each cluster that has the least weighted sum of squared distances to the cluster's points.

    Args:
      points: float32 (N, D).
      weights: float64 (N,), above 0.
      cluster: (N,) numbers of clusters, each of which has a point.
      clusters: How many there are, K.

    Returns:
      int64 (K,) row numbers; the lowest where two are as good.
    """
    _, centre = means(points, weights, cluster, clusters)
    off = np.empty(len(points), np.float32)
    rows = max(1, _CELLS // points.shape[1])
    for begin in range(0, len(points), rows):
        part = slice(begin, begin + rows)
        off[part] = squared_distance(points[part], centre[cluster[part]])
    order = np.lexsort((off, cluster))
    return order[np.searchsorted(cluster[order], np.arange(clusters))].astype(np.int64)
