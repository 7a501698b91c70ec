"""How many members each cluster gives, and which ones.

A cluster of n members gives min(n, ceil(k n^a)): all the same with a = 0, the same share of each with a = 1, and k is what makes the sum
the target. Members are drawn by a hash of the seed and their row number, so what one cluster gives depends on no other.

Legend: N points, K clusters.
"""

import numpy as np

from rsfm_jax.errors import InputError


def quotas(counts: np.ndarray, target: int, exponent: float) -> np.ndarray:
    """Splits the target among clusters.

    A cluster's j-th member comes in as k rises above ``(j - 1) / n^a``. The target's number of members comes in first; of members who come
    in at the same k, those of larger clusters, then those of clusters with lower numbers. So the sum is exact.

    Args:
      counts: Integers (K,), members of each cluster, at least 1.
      target: The sum, from K (every cluster gives its exemplar) to the number of members.
      exponent: a, from 0 to 1.

    Returns:
      int64 (K,), from 1 to `counts`; larger clusters don't give less.

    Raises:
      InputError: an argument is not as described.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not len(counts) or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 1:
        raise InputError(f"counts: shape {counts.shape} of {counts.dtype}; expected integers (K,), all at least 1")
    if not len(counts) <= target <= counts.sum():
        raise InputError(f"target={target}: from the number of clusters, {len(counts)}, to that of their members, {counts.sum()}")
    if not 0 <= exponent <= 1:
        raise InputError(f"exponent={exponent}: from 0 to 1")
    scale = counts.astype(np.float64) ** exponent

    def members(k: float) -> np.ndarray:
        """Those who come in up to k."""
        return np.minimum(counts, np.floor(k * scale).astype(np.int64) + 1)

    low, high = 0.0, float((counts / scale).max()) + 1.0  # nobody but exemplars, and everyone
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if members(middle).sum() <= target else (low, middle)
    given = members(low)
    last = np.lexsort((np.arange(len(counts)), -counts, np.where(given < counts, given / scale, np.inf)))
    given[last[: target - given.sum()]] += 1
    return given


def draw(cluster: np.ndarray, exemplars: np.ndarray, quotas: np.ndarray, seed: int) -> np.ndarray:
    """Draws each cluster's quota: its exemplar, then members in an order that only the seed and their row numbers decide.

    Args:
      cluster: Integers (N,), each point's cluster.
      exemplars: Integers (K,), row number of each cluster's exemplar.
      quotas: Integers (K,), from 1 to the cluster's members.
      seed: Of the draw, from 0 to below 2^64.

    Returns:
      int64 row numbers, cluster by cluster, exemplars first; a larger quota only adds to a cluster's draw.

    Raises:
      InputError: an argument is not as described.
    """
    cluster, exemplars, quotas = np.asarray(cluster), np.asarray(exemplars), np.asarray(quotas)
    K = len(exemplars)
    if len(cluster) == 0 or cluster.min() < 0 or cluster.max() >= K:
        raise InputError(f"cluster: expected numbers from 0 to below {K}, one for each point")
    if exemplars.min() < 0 or exemplars.max() >= len(cluster) or not np.array_equal(cluster[exemplars], np.arange(K)):
        raise InputError("exemplars: expected the row number of a member for each cluster")
    counts = np.bincount(cluster, minlength=K)
    if quotas.shape != (K,) or (quotas < 1).any() or (quotas > counts).any():
        raise InputError(f"quotas: shape {quotas.shape}; expected ({K},), from 1 to the members of each cluster")
    if not 0 <= seed < 2**64:
        raise InputError(f"seed={seed}: from 0 to below 2^64")
    others = np.ones(len(cluster), bool)
    others[exemplars] = False
    order = np.lexsort((_hash(np.arange(len(cluster)), seed), others, cluster))
    rank = np.arange(len(cluster)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[rank < np.repeat(quotas, counts)].astype(np.int64)


def _hash(row: np.ndarray, seed: int) -> np.ndarray:
    """uint64 of the shape of ``row``. Source: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), once over the seed, once over the row."""
    x = _mix(np.array([seed], np.uint64))
    return _mix(x + row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
