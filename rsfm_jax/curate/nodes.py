"""Weighted points and one level of their clustering: affinity propagation in blocks of neighbours, block batch by block batch.

A node is an exemplar that stands for its members: their weight n and their mean. The similarity of node i to candidate k is the sum over
its members of their negative squared distances to k, which for the squared distance is known without the members,

    S_ik = -n_i |mean_i - x_k|^2   (less a constant of the row, which changes no message),   S_ii = preference - n_i |mean_i - x_i|^2,

so a level poses the problem of the points themselves, with members that go together and nodes as the only candidates. With members that
all lie at x_i it is S_ik = n_i s(i, k). A point that stands for itself has weight 1 and is its own mean.

Legend: N nodes, B blocks, n nodes of a block, D values of a point.
"""

from collections.abc import Callable
import concurrent.futures
import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.curate.affinity import propagate
from rsfm_jax.curate.assign import means

_CPU_BATCH_BYTES = 1 << 20  # of one matrix of messages; three of them and more should stay in the second-level cache
_DEVICE_BATCH_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Method:
    """How a block is clustered.

    Attributes:
      block_size: Most nodes of a block.
      damping: Share of the old message in the new one, from 0.5 to below 1.
      max_iterations: After which a block is taken as it is.
      convergence_iterations: For how many iterations the exemplars must stay the same.
    """

    block_size: int = 512
    damping: float = 0.7
    max_iterations: int = 300
    convergence_iterations: int = 15


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Weighted points in the order that makes neighbours of them.

    Attributes:
      row: int64 (N,), what the node is called: a point's row number.
      point: float32 (N, D), where the exemplar is.
      mean: float32 (N, D), of its members.
      weight: float64 (N,), of its members.
    """

    row: np.ndarray
    point: np.ndarray
    mean: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        """Their number."""
        return len(self.row)


@dataclasses.dataclass(frozen=True)
class Exemplars:
    """What one level found.

    Attributes:
      exemplar_of: int64 (N,), each node's exemplar as a place among the nodes; -1 in blocks that were left out.
      blocks: How many were clustered.
      unconverged: How many of them ran out of iterations.
    """

    exemplar_of: np.ndarray
    blocks: int
    unconverged: int


def bounds(nodes: int, block_size: int) -> np.ndarray:
    """Where blocks begin and end: int64 (B + 1,), as few as hold all, sizes that differ by at most 1."""
    blocks = -(-nodes // block_size)
    return np.arange(blocks + 1) * nodes // blocks


def find_exemplars(nodes: Nodes, preference: float, method: Method, blocks: np.ndarray | None = None) -> Exemplars:
    """Clusters nodes block by block.

    Args:
      nodes: Of which neighbours share a block.
      preference: Of every node, before what its own members lose by it; negative.
      method: How.
      blocks: Numbers of the only blocks to cluster; None for all.

    Returns:
      The exemplars.
    """
    edges = bounds(len(nodes), method.block_size)
    wanted = np.arange(len(edges) - 1) if blocks is None else blocks
    width = int(np.diff(edges).max())
    width = min(-(-width // 32) * 32, max(width, method.block_size))  # few shapes, so few programs
    limit, workers = (_CPU_BATCH_BYTES, os.cpu_count() or 1) if jax.default_backend() == "cpu" else (_DEVICE_BATCH_BYTES, 2)
    size = int(np.clip(limit // (4 * width * width), 1, len(wanted)))
    exemplar_of = np.full(len(nodes), -1, np.int64)
    solve = _solver(method)

    def run(chosen: np.ndarray) -> int:
        filled = np.resize(chosen, size)  # the last batch repeats its blocks
        place = edges[filled][:, None] + np.arange(width)
        valid = place < edges[filled + 1][:, None]
        taken = np.where(valid, place, edges[filled][:, None])
        inputs = nodes.point[taken], nodes.mean[taken], nodes.weight[taken].astype(np.float32)
        local, converged = jax.device_get(solve(*inputs, valid, np.float32(preference)))
        exemplar_of[place[valid]] = (edges[filled][:, None] + local)[valid]
        return int((~converged[: len(chosen)]).sum())

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        unconverged = sum(pool.map(run, np.split(wanted, range(size, len(wanted), size))))
    return Exemplars(exemplar_of, len(wanted), unconverged)


@functools.cache
def _solver(method: Method) -> Callable[..., tuple[jax.Array, jax.Array]]:
    @jax.jit
    def solve(point: jax.Array, mean: jax.Array, weight: jax.Array, valid: jax.Array, preference: jax.Array) -> tuple[jax.Array, jax.Array]:
        similarity = block_similarity(point, mean, weight) + preference * jnp.eye(point.shape[1], dtype=jnp.float32)
        found = propagate(similarity, valid, method.damping, method.max_iterations, method.convergence_iterations)
        return found.exemplar_of, found.converged

    return solve


def block_similarity(point: jax.Array, mean: jax.Array, weight: jax.Array) -> jax.Array:
    """What the members of each node lose by each candidate, less a constant of the row.

    Args:
      point: float32 (B, n, D).
      mean: float32 (B, n, D).
      weight: float32 (B, n).

    Returns:
      float32 (B, n, n), at most 0, members in rows and candidates in columns.
    """
    origin = point.mean(axis=1, keepdims=True)
    candidates, centres = point - origin, mean - origin
    product = jnp.einsum("bid,bkd->bik", centres, candidates, precision="highest")
    squared = jnp.sum(centres**2, axis=-1)[:, :, None] + jnp.sum(candidates**2, axis=-1)[:, None, :] - 2 * product
    return -weight[:, :, None] * jnp.maximum(squared, 0.0)


def merged(nodes: Nodes, exemplar_of: np.ndarray) -> Nodes:
    """The exemplars as nodes that stand for all their members, in the order that the nodes have.

    Args:
      nodes: Of the level below.
      exemplar_of: int64 (N,), each one's exemplar as a place among them.
    """
    kept, cluster = np.unique(exemplar_of, return_inverse=True)
    weight, mean = means(nodes.mean, nodes.weight, cluster, len(kept))
    return Nodes(nodes.row[kept], nodes.point[kept], mean, weight)
