"""From descriptors to the sets that are kept: clusters of one layout, a quota for each, a draw within it.

Legend: N image sets, D dims of a point, K clusters.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.hierarchy import Clustering, cluster
from rsfm_jax.curate.quota import draw, quotas
from rsfm_jax.errors import InputError

_BITS = 26  # of each coordinate in a place's code: cells of 0.6 m


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is kept of N sets.

    Attributes:
      kept: bool (N,).
      weight: How many sets a kept one stands for: its cluster's sets over the cluster's quota, float64 (N,); 0 where not kept.
      quota: Sets kept of each cluster, int64 (K,).
    """

    kept: np.ndarray
    weight: np.ndarray
    quota: np.ndarray


def share_target(candidates: Mapping[str, int], target: int) -> dict[str, int]:
    """Deals the target to the layouts in proportion to their candidates, largest remainders first, at least one each.

    Args:
      candidates: Sets of each layout that can be kept; layouts with none get none.
      target: Sets to keep.

    Returns:
      ``{layout: sets}`` that sum to the target.

    Raises:
      InputError: the target is larger than what is left, or smaller than the number of layouts.
    """
    total, layouts = sum(candidates.values()), [name for name, count in candidates.items() if count]
    if target > total:
        raise InputError(f"--target={target}: only {total} image sets are left after the rejections; ask for at most that many")
    if target < max(len(layouts), 1):
        raise InputError(f"--target={target}: must be at least {max(len(layouts), 1)}, one set for each layout")
    exact = {name: count * target / total for name, count in candidates.items()}
    shares = {name: max(int(exact[name]), int(candidates[name] > 0)) for name in candidates}
    while sum(shares.values()) != target:
        step = 1 if sum(shares.values()) < target else -1
        open_to = [name for name in layouts if (shares[name] < candidates[name] if step > 0 else shares[name] > 1)]
        name = max(open_to, key=lambda name: step * (exact[name] - shares[name]))
        shares[name] += step
    return shares


def region_code(lonlat_deg: np.ndarray) -> np.ndarray:
    """Places along a Z-shaped curve over longitude and latitude: neighbours in the order of the codes are neighbours on the ground.

    Args:
      lonlat_deg: Centres, float64 (N, 2).

    Returns:
      int64 (N,).

    Source: Morton, A Computer Oriented Geodetic Data Base, IBM 1966.
    """
    unit = (lonlat_deg - [-180.0, -90.0]) / [360.0, 180.0]
    cells = np.clip(unit * 2**_BITS, 0, 2**_BITS - 1).astype(np.int64)
    code = np.zeros(len(cells), np.int64)
    for bit in range(_BITS):
        for axis in (0, 1):
            code |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    return code


def find_clusters(points_ND: np.ndarray, lonlat_deg: np.ndarray, target: int, config: CurateConfig) -> Clustering:
    """Clusters the candidates of a layout in blocks that are regions.

    Args:
      points_ND: float32.
      lonlat_deg: Centres, float64 (N, 2).
      target: Sets to keep; a cluster is looked for for each `config.sets_per_cluster` of them.
      config: Block size and seed.

    Returns:
      The clustering.
    """
    wanted = max(1, min(round(target / config.sets_per_cluster), len(points_ND)))
    return cluster(points_ND, region_code(lonlat_deg), wanted, block_size=config.block_size, seed=config.seed)


def keep(cluster_N: np.ndarray, exemplars_K: np.ndarray, target: int, config: CurateConfig) -> Selection:
    """Draws what is kept: of a cluster of n sets min(n, ceil(k n ** exponent)), its exemplar among them.

    Args:
      cluster_N: Cluster of each set.
      exemplars_K: Row of each cluster's exemplar.
      target: Sets to keep.
      config: Exponent and seed.

    Returns:
      The selection.

    Raises:
      InputError: there are more clusters than sets to keep.
    """
    if len(exemplars_K) > target:
        raise InputError(
            f"{len(exemplars_K)} clusters were found of a layout that shall keep {target} sets, at least one of each; "
            "set --target larger or curate.sets_per_cluster larger"
        )
    counts_K = np.bincount(cluster_N, minlength=len(exemplars_K))
    quota_K = quotas(counts_K, target, config.quota_exponent)
    rows = draw(cluster_N, exemplars_K, quota_K, config.seed)
    kept, weight = np.zeros(len(cluster_N), bool), np.zeros(len(cluster_N))
    kept[rows] = True
    weight[rows] = (counts_K / quota_K)[cluster_N[rows]]
    return Selection(kept, weight, quota_K)


def keep_at_random(count: int, target: int, seed: int) -> Selection:
    """Draws what is kept without clusters, all candidates alike: what a curation is compared with.

    Args:
      count: Candidates, N.
      target: Sets to keep, at most N.
      seed: Of the draw.

    Returns:
      The selection, with the quotas of no cluster.
    """
    kept = np.zeros(count, bool)
    kept[np.random.default_rng(seed).choice(count, target, replace=False)] = True
    return Selection(kept, np.where(kept, count / max(target, 1), 0.0), np.empty(0, np.int64))


def describe_clusters(clusters: Clustering) -> dict[str, float | int]:
    """The figures of a clustering, for JSON."""
    fields = ("levels", "preference", "net_similarity", "distortion", "blocks", "unconverged")
    return {"count": len(clusters.exemplars)} | {name: getattr(clusters, name) for name in fields}
