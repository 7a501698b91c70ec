"""Affinity propagation of many small blocks at once: who is whose exemplar, from similarities alone.

A block is one clustering problem of its own; blocks of a batch share shapes, so one program serves them all, and smaller ones are padded.
Two departures from scikit-learn, whose conventions hold otherwise: messages are float32, and the noise that breaks ties is not drawn, but a
hash of the two points' places in the block, so the answer is a function of the input alone. What lies in one block decides nothing in
another, and a block stops counting when it has converged, however long the others of its batch take.

Legend: B blocks, N points of a block, i the point that chooses (rows), k the candidate exemplar (columns).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.errors import InputError

_FORBIDDEN = -1e30  # similarity between a point and one that isn't there; finite, so that differences stay numbers
_NOISE = float(np.finfo(np.float32).eps)  # of a similarity, as in scikit-learn


class Propagated(NamedTuple):
    """What `propagate` found.

    Attributes:
      exemplar_of: int32 (B, N), each point's exemplar as its place in the block; exemplars name themselves, padding names -1.
      iterations: int32 (B,), iterations until the block converged, or all that were allowed.
      converged: bool (B,). The exemplars of a block that did not are those of its last iteration.
    """

    exemplar_of: jax.Array
    iterations: jax.Array
    converged: jax.Array


class _Loop(NamedTuple):
    responsibility: jax.Array  # (B, i, k)
    availability: jax.Array  # (B, i, k)
    is_exemplar: jax.Array  # (B, N), of this iteration
    streak: jax.Array  # (B, N), iterations since it last changed, this one included
    settled: jax.Array  # (B, N), is_exemplar as it was when the block converged
    converged: jax.Array  # (B,)
    iterations: jax.Array  # (B,)
    iteration: jax.Array  # ()


def propagate(
    similarity: jax.Array | np.ndarray,
    valid: jax.Array | np.ndarray,
    damping: float = 0.5,
    max_iterations: int = 200,
    convergence_iterations: int = 15,
) -> Propagated:
    """Finds exemplars by affinity propagation, in every block of a batch.

    Args:
      similarity: float32 (B, N, N), of point i (rows) to candidate k (columns); the diagonal holds the preferences. What it holds for
        points that are not valid is not looked at.
      valid: bool (B, N), which points are there; every block needs one.
      damping: Share of the old message in the new one, from 0.5 to below 1.
      max_iterations: After which a block is taken as it is.
      convergence_iterations: For how many iterations the exemplars must stay the same.

    Returns:
      Exemplars, iterations and convergence. A block whose similarities and preferences are all equal is not propagated: every point is an
      exemplar where the preference is above the similarity, the first valid one otherwise. A block that has no exemplar in its last
      iteration gets the one that is best for all (scikit-learn: none).

    Raises:
      InputError: `damping` or an iteration count is out of range, or shapes don't fit.

    Source: Frey & Dueck, Science 315 (2007) 972, equations 1-3; convergence window, refinement of exemplars and labels as
      `sklearn.cluster.affinity_propagation`.
    """
    if not 0.5 <= damping < 1:
        raise InputError(f"damping={damping}: from 0.5 to below 1")
    if max_iterations < 1 or convergence_iterations < 1:
        raise InputError(f"max_iterations={max_iterations}, convergence_iterations={convergence_iterations}: both at least 1")
    if similarity.ndim != 3 or similarity.shape[1] != similarity.shape[2] or valid.shape != similarity.shape[:2]:
        raise InputError(f"similarity {similarity.shape}, valid {valid.shape}: expected (B, N, N) and (B, N)")
    return _propagate(jnp.asarray(similarity, jnp.float32), jnp.asarray(valid), damping, max_iterations, convergence_iterations)


@functools.partial(jax.jit, static_argnames=("max_iterations", "convergence_iterations"))
def _propagate(similarity: jax.Array, valid: jax.Array, damping: float, max_iterations: int, convergence_iterations: int) -> Propagated:
    B, N = valid.shape
    diagonal = jnp.eye(N, dtype=bool)
    there = valid[:, :, None] & valid[:, None, :]
    plain = jnp.where(there, similarity, jnp.where(diagonal, 0.0, _FORBIDDEN))
    noisy = plain * (1 + _NOISE * _tie_breaker(N))
    equal, alone = _all_equal(plain, valid, diagonal)

    def go_on(loop: _Loop) -> jax.Array:
        return (loop.iteration < max_iterations) & ~loop.converged.all()

    def advance(loop: _Loop) -> _Loop:
        responsibility, availability = _messages(noisy, loop.responsibility, loop.availability, diagonal, damping)
        own = jnp.diagonal(responsibility, axis1=1, axis2=2) + jnp.diagonal(availability, axis1=1, axis2=2)
        is_exemplar = (own > 0) & valid
        streak = jnp.where(is_exemplar == loop.is_exemplar, loop.streak + 1, 1)
        stable = ((streak >= convergence_iterations) | ~valid).all(axis=1) & is_exemplar.any(axis=1)
        converged = loop.converged | (stable & (loop.iteration >= convergence_iterations))
        settled = jnp.where(loop.converged[:, None], loop.settled, is_exemplar)
        iterations = jnp.where(loop.converged, loop.iterations, loop.iteration + 1)
        return _Loop(responsibility, availability, is_exemplar, streak, settled, converged, iterations, loop.iteration + 1)

    zeros, nobody = jnp.zeros_like(noisy), jnp.zeros_like(valid)
    counts = jnp.zeros((B, N), jnp.int32)
    start = _Loop(zeros, zeros, nobody, counts, nobody, equal, jnp.zeros(B, jnp.int32), jnp.int32(0))
    end = jax.lax.while_loop(go_on, advance, start)
    found = jnp.where(equal[:, None], alone, end.settled)
    best = jnp.argmax(jnp.where(valid, jnp.where(valid[:, :, None], plain, 0.0).sum(axis=1), -jnp.inf), axis=1)
    found = jnp.where(found.any(axis=1, keepdims=True), found, jnp.arange(N) == best[:, None])
    exemplar_of = jnp.where(valid, _refined(noisy, found, valid), -1)
    return Propagated(exemplar_of.astype(jnp.int32), end.iterations, end.converged)


def _messages(
    similarity: jax.Array, responsibility: jax.Array, availability: jax.Array, diagonal: jax.Array, damping: float
) -> tuple[jax.Array, jax.Array]:
    """One damped update of both, responsibilities first. The runner-up of a row that has two maxima is the maximum."""
    offered = availability + similarity
    first = offered.max(axis=2, keepdims=True)
    top = offered == first
    second = jnp.where(top, -jnp.inf, offered).max(axis=2, keepdims=True)
    second = jnp.where(top.sum(axis=2, keepdims=True) > 1, first, second)
    responsibility = damping * responsibility + (1 - damping) * (similarity - jnp.where(top, second, first))
    support = jnp.where(diagonal, 0.0, jnp.maximum(responsibility, 0.0))
    total = support.sum(axis=1, keepdims=True)
    own = jnp.diagonal(responsibility, axis1=1, axis2=2)[:, None, :]
    new = jnp.where(diagonal, total, jnp.minimum(0.0, own + (total - support)))
    return responsibility, damping * availability + (1 - damping) * new


def _tie_breaker(points: int) -> jax.Array:
    """float32 (points, points), about uniform with variance 1: a hash of the two places, the same whatever the padding.

    Source: the finaliser of MurmurHash3.
    """
    place = jnp.arange(points, dtype=jnp.uint32)
    x = place[:, None] * jnp.uint32(0x9E3779B1) + place[None, :] * jnp.uint32(0x85EBCA77) + jnp.uint32(1)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    x ^= x >> 16
    return ((x >> 8).astype(jnp.float32) * 2.0**-24 - 0.5) * np.float32(12**0.5)


def _all_equal(similarity: jax.Array, valid: jax.Array, diagonal: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether nothing tells a block's points apart, bool (B,), and its exemplars (B, N) if so."""
    pairs = valid[:, :, None] & valid[:, None, :] & ~diagonal
    low = jnp.where(pairs, similarity, jnp.inf).min(axis=(1, 2))
    high = jnp.where(pairs, similarity, -jnp.inf).max(axis=(1, 2))
    preference = jnp.diagonal(similarity, axis1=1, axis2=2)
    least = jnp.where(valid, preference, jnp.inf).min(axis=1)
    most = jnp.where(valid, preference, -jnp.inf).max(axis=1)
    single = valid.sum(axis=1) == 1
    first = (jnp.arange(valid.shape[1]) == jnp.argmax(valid, axis=1)[:, None]) & valid
    return single | ((low == high) & (least == most)), jnp.where((least > high)[:, None], valid, first)


def _refined(similarity: jax.Array, found: jax.Array, valid: jax.Array) -> jax.Array:
    """Labels by similarity, then the best exemplar of each cluster, then labels again; int32 (B, N)."""
    exemplar_of = _labels(similarity, found)
    together = (exemplar_of[:, :, None] == exemplar_of[:, None, :]) & valid[:, :, None] & valid[:, None, :]
    score = jnp.where(together, similarity, 0.0).sum(axis=1)
    better = jnp.argmax(jnp.where(together, score[:, None, :], -jnp.inf), axis=2)
    return _labels(similarity, (better[:, :, None] == jnp.arange(found.shape[1])).any(axis=1, where=valid[:, :, None]))


def _labels(similarity: jax.Array, found: jax.Array) -> jax.Array:
    best = jnp.argmax(jnp.where(found[:, None, :], similarity, -jnp.inf), axis=2)
    return jnp.where(found, jnp.arange(found.shape[1]), best)
