"""Affinity propagation of any number of points: in blocks, then of the blocks' exemplars as weighted nodes, until one block holds all.

Levels below the last only thin out: each keeps a set share of its nodes, few enough that the last level is one block (or, where the target
is larger than a block, twice the target), many enough that rare kinds are still there. The last level's preference is the one that gives
the target. Then every point goes to its nearest exemplar, and every cluster to its best.

Legend: N points, K exemplars, D values of a point.
"""

import dataclasses
import math

import numpy as np

from rsfm_jax.curate.assign import central_members, nearest
from rsfm_jax.curate.nodes import Method, Nodes, bounds, find_exemplars, merged
from rsfm_jax.curate.preference import Search, find_preference
from rsfm_jax.errors import InputError

_CANDIDATES = 2  # nodes of the last level for one wanted exemplar, at least
_MOST_THINNED = 4.0  # nodes for one exemplar at the levels below
_SAMPLED_BLOCKS = 8  # on which the preference of a level is looked for
_THINNING_TOLERANCE, _TARGET_TOLERANCE = 0.05, 0.01
_REFINEMENTS = 5


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Exemplars and who belongs to them.

    Attributes:
      exemplars: int64 (K,), row numbers, rising.
      cluster: int32 (N,), each point's cluster as an index into `exemplars`; exemplars belong to themselves.
      level: int8 (N,), at how many levels the point was an exemplar: 0 for most points, `levels` for those that came through.
        The last refinement may have put another member in such a point's place.
      levels: How many levels there were.
      preference: Of the last level: what a cluster costs, in the unit of the similarity. 0 where every point is an exemplar.
      net_similarity: Weighted sum of all points' negative squared distances to their exemplars, plus ``K * preference``.
      distortion: Weighted mean of the squared distances.
      blocks: How many blocks were clustered for the result, those of the search not counted.
      unconverged: How many of them ran out of iterations.
    """

    exemplars: np.ndarray
    cluster: np.ndarray
    level: np.ndarray
    levels: int
    preference: float
    net_similarity: float
    distortion: float
    blocks: int
    unconverged: int


def cluster(
    points: np.ndarray,
    order: np.ndarray,
    target: int,
    *,
    block_size: int = 512,
    last_block_size: int = 1024,
    damping: float = 0.7,
    seed: int = 0,
    weights: np.ndarray | None = None,
    max_iterations: int = 300,
    convergence_iterations: int = 15,
) -> Clustering:
    """Finds about as many exemplars as asked for.

    Args:
      points: float32 (N, D), in units in which the squared Euclidean distance means dissimilarity.
      order: int64 (N,), by which points are sorted before they are cut into blocks: of region and scene, so that what is alike shares a
        block. Points of equal order stay in theirs.
      target: Wanted number of exemplars, from 1 to N. The number found is within about 1 % of it where a preference gives such a number.
      block_size: Most points of a block of the levels below the last. Three matrices of a block's messages should fit into a core's cache.
      last_block_size: Most nodes of a block of the last level.
      damping: Of the messages, from 0.5 to below 1.
      seed: Of the sample of blocks on which preferences are looked for.
      weights: (N,), above 0: how many points each stands for; None for 1 each.
      max_iterations: Of a block.
      convergence_iterations: For how many iterations a block's exemplars must stay the same.

    Returns:
      The clustering; the same for the same input.

    Raises:
      InputError: an argument is not as described.

    Source: Zhang, Furtlehner & Sebag, "Data streaming with affinity propagation" (ECML PKDD 2008), weighted and hierarchical affinity
      propagation; Arctic RSFM (arXiv 2605.30467) for its use on chips. Here weighted similarities are exact (see
      `rsfm_jax.curate.nodes`), and each level has its own preference.
    """
    points, weight = checked(points, order, target, weights)
    if min(block_size, last_block_size) < 8:
        raise InputError(f"block_size={block_size}, last_block_size={last_block_size}: both at least 8")
    last = Method(last_block_size, damping, max_iterations, convergence_iterations)
    below = dataclasses.replace(last, block_size=block_size)
    level = np.zeros(len(points), np.int8)
    if target == len(points):
        everyone = np.arange(target)
        return Clustering(everyone, everyone.astype(np.int32), level, 0, 0.0, 0.0, 0.0, 0, 0)
    row = np.argsort(order, kind="stable")
    nodes = Nodes(row, points[row], points[row], weight[row])
    rng = np.random.default_rng(seed)
    blocks = unconverged = 0
    preference = _first_guess(nodes, rng)
    kept = _kept(len(points), target, last_block_size)
    for number, wanted in enumerate([*kept, target], start=1):
        method, sampled = (below, _SAMPLED_BLOCKS) if number <= len(kept) else (last, None)
        preference = _preference(nodes, wanted, preference, method, rng, sampled).preference
        found = find_exemplars(nodes, preference, method)
        nodes = merged(nodes, found.exemplar_of)
        level[nodes.row] = number
        blocks, unconverged = blocks + found.blocks, unconverged + found.unconverged
    exemplars, index, squared = refined(points, weight, np.sort(nodes.row))
    loss = float(weight @ squared.astype(np.float64))
    net = len(exemplars) * preference - loss
    return Clustering(exemplars, index, level, len(kept) + 1, preference, net, loss / float(weight.sum()), blocks, unconverged)


def checked(points: np.ndarray, order: np.ndarray, target: int, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The points as float32 and their weights as float64, 1 where none are given.

    Raises:
      InputError: a shape or a value is not as `cluster` says.
    """
    points = checked_points("points", points)
    N = len(points)
    if np.shape(order) != (N,) or not np.issubdtype(np.asarray(order).dtype, np.integer):
        raise InputError(f"order: {np.shape(order)} of {np.asarray(order).dtype}; expected integers ({N},), one for each point")
    if not 1 <= target <= N:
        raise InputError(f"target={target}: from 1 to the number of points, {N}")
    weight = np.ones(N) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != (N,) or not (np.isfinite(weight) & (weight > 0)).all():
        raise InputError(f"weights: shape {weight.shape}; expected ({N},), all finite and above 0")
    return points, weight


def checked_points(name: str, points: np.ndarray) -> np.ndarray:
    """The points as float32.

    Raises:
      InputError: they are not a matrix of finite numbers that float32 holds.
    """
    if np.ndim(points) != 2 or not np.size(points):
        raise InputError(f"{name}: shape {np.shape(points)}; expected (N, D), neither 0")
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(points, np.float32)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(f"{name}: {len(bad)} rows have values that are not finite as float32, the first is row {bad[0]}")
    return points


def refined(points: np.ndarray, weight: np.ndarray, exemplars: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves every point to its nearest exemplar and every exemplar to its cluster's best member, a few times; no step loses similarity.

    Args:
      points: float32 (N, D).
      weight: float64 (N,).
      exemplars: int64 (K,), row numbers.

    Returns:
      int64 (K,) row numbers, rising; int32 (N,) indices into them; float32 (N,) squared distances.
    """
    for _ in range(_REFINEMENTS):
        index, _ = nearest(points, points[exemplars])
        index[exemplars] = np.arange(len(exemplars))  # also where two exemplars are the same point
        better = np.sort(central_members(points, weight, index, len(exemplars)))
        if np.array_equal(better, exemplars):
            break
        exemplars = better
    index, squared = nearest(points, points[exemplars])
    index[exemplars] = np.arange(len(exemplars))
    return exemplars, index, squared


def _kept(points: int, target: int, last_block_size: int) -> list[int]:
    """How many nodes each level below the last keeps."""
    last = max(_CANDIDATES * target, int(0.9 * last_block_size))
    if points <= max(last, last_block_size):
        return []
    levels = math.ceil(math.log(points / last) / math.log(_MOST_THINNED))
    return [round(points * (last / points) ** (number / levels)) for number in range(1, levels + 1)]


def _first_guess(nodes: Nodes, rng: np.random.Generator) -> float:
    """The mean similarity of random pairs, or -1 where all points are the same."""
    pairs = rng.integers(len(nodes), size=(2, 4096))
    return -(float(np.mean(np.sum((nodes.point[pairs[0]] - nodes.point[pairs[1]]) ** 2, axis=1))) or 1.0)


def _preference(nodes: Nodes, wanted: int, guess: float, method: Method, rng: np.random.Generator, sampled: int | None) -> Search:
    """The preference that leaves so many of the nodes; looked for on so many blocks, None for all."""
    edges = bounds(len(nodes), method.block_size)
    blocks = np.arange(len(edges) - 1)
    if sampled is not None and len(blocks) > sampled:
        blocks = np.sort(rng.choice(blocks, sampled, replace=False))
    share = np.diff(edges)[blocks].sum() / len(nodes)

    def count(preference: float) -> float:
        found = find_exemplars(nodes, preference, method, blocks).exemplar_of
        return len(np.unique(found[found >= 0])) / share

    tolerance = _TARGET_TOLERANCE if sampled is None else _THINNING_TOLERANCE
    return find_preference(count, wanted, guess, tolerance)
