"""Points that arrive later: near ones join a cluster that is there, far ones wait, and when enough wait the exemplars are found anew.

Finding anew is weighted affinity propagation of the exemplars, who stand for their members, and of those who wait; members follow their
exemplar. A stream is a value: every step returns a new one, and the same points in the same pieces give the same stream.

Legend: N points seen, K exemplars, R points that wait, M new points, D values of a point.
"""

import dataclasses

import numpy as np

from rsfm_jax.curate.assign import means, nearest
from rsfm_jax.curate.hierarchy import Clustering, checked, checked_points
from rsfm_jax.curate.nodes import Method, Nodes, find_exemplars, merged
from rsfm_jax.errors import InputError

_NEAR_SHARE = 0.95  # of the members, who count as near to their exemplars


@dataclasses.dataclass(frozen=True)
class Stream:
    """A clustering that grows. Points are called by the number of points seen before them, so a clustering's rows keep their numbers.

    Attributes:
      nodes: The K exemplars with their members' weights and means.
      exemplar: int64 (N,), the row number of each seen point's exemplar; -1 for those that wait.
      waiting_row: int64 (R,), who waits.
      waiting_point: float32 (R, D).
      preference: What a cluster costs when exemplars are found anew; negative.
      near: The squared distance up to which a point joins its nearest exemplar.
      capacity: How many may wait; one more, and exemplars are found anew.
      method: How.
      renewals: How often that happened.
    """

    nodes: Nodes
    exemplar: np.ndarray
    waiting_row: np.ndarray
    waiting_point: np.ndarray
    preference: float
    near: float
    capacity: int
    method: Method
    renewals: int = 0


def begin(
    points: np.ndarray,
    clustering: Clustering,
    *,
    weights: np.ndarray | None = None,
    preference: float | None = None,
    near: float | None = None,
    capacity: int = 256,
    method: Method | None = None,
) -> Stream:
    """Makes a stream of a clustering.

    Args:
      points: float32 (N, D), those of the clustering.
      clustering: Theirs.
      weights: (N,), above 0; None for 1 each.
      preference: What a cluster costs; None for the clustering's.
      near: The squared distance up to which a point joins; None for that within which 95 % of the members lie.
      capacity: How many may wait, at least 1.
      method: Of finding exemplars anew; None for blocks of 1,024.

    Returns:
      The stream, with nobody waiting.

    Raises:
      InputError: an argument is not as described.
    """
    points, weight = checked(points, np.arange(len(points)), len(clustering.exemplars), weights)
    if clustering.cluster.shape != (len(points),):
        raise InputError(f"clustering: of {len(clustering.cluster)} points; expected {len(points)}, those of points")
    preference = clustering.preference if preference is None else preference
    if not (np.isfinite(preference) and preference < 0):
        raise InputError(f"preference={preference}: below 0; a clustering in which every point is an exemplar has none")
    if near is None:
        own = points[clustering.exemplars[clustering.cluster]]
        near = float(np.quantile(np.sum((points - own) ** 2, axis=1), _NEAR_SHARE))
    if not (np.isfinite(near) and near >= 0):
        raise InputError(f"near={near}: a squared distance, at least 0")
    if capacity < 1:
        raise InputError(f"capacity={capacity}: at least 1")
    total, mean = means(points, weight, clustering.cluster, len(clustering.exemplars))
    nodes = Nodes(clustering.exemplars, points[clustering.exemplars], mean, total)
    nobody = np.empty(0, np.int64), np.empty((0, points.shape[1]), np.float32)
    exemplar = clustering.exemplars[clustering.cluster]
    return Stream(nodes, exemplar, *nobody, preference, near, capacity, method or Method(block_size=1024))


def add(stream: Stream, points: np.ndarray) -> Stream:
    """Takes in new points, in their order.

    Args:
      stream: The stream so far.
      points: float32 (M, D).

    Returns:
      The stream with them. Exemplars change only where more than `capacity` points have come to wait.

    Raises:
      InputError: the points are not finite numbers of the stream's D.

    Source: Zhang, Furtlehner & Sebag, "Data streaming with affinity propagation" (ECML PKDD 2008), StrAP with a reservoir of fixed size;
      without its forgetting, since an archive's old chips stay what they are.
    """
    points = checked_points("points", points)
    if points.shape[1] != stream.nodes.point.shape[1]:
        raise InputError(f"points: {points.shape[1]} values each; the stream's have {stream.nodes.point.shape[1]}")
    while len(points):
        index, squared = nearest(points, stream.nodes.point)
        far = np.flatnonzero(squared > stream.near)
        room = stream.capacity + 1 - len(stream.waiting_row)
        end = int(far[room - 1]) + 1 if len(far) >= room else len(points)
        stream = _taken(stream, points[:end], index[:end], squared[:end] <= stream.near)
        points = points[end:]
        if len(stream.waiting_row) > stream.capacity:
            stream = renew(stream)
    return stream


def renew(stream: Stream) -> Stream:
    """Finds exemplars anew among the present ones and those who wait; afterwards nobody waits.

    Those who wait stand beside the exemplar nearest to them, so that they share its block where there are more than one.
    """
    if not len(stream.waiting_row):
        return stream
    old, waiting = stream.nodes, stream.waiting_point
    beside, _ = nearest(waiting, old.point)
    order = np.argsort(np.concatenate([np.arange(len(old)), beside]), kind="stable")
    nodes = Nodes(
        np.concatenate([old.row, stream.waiting_row])[order],
        np.concatenate([old.point, waiting])[order],
        np.concatenate([old.mean, waiting])[order],
        np.concatenate([old.weight, np.ones(len(waiting))])[order],
    )
    found = find_exemplars(nodes, stream.preference, stream.method)
    exemplar = stream.exemplar.copy()
    exemplar[stream.waiting_row] = stream.waiting_row  # each its own, until renamed
    successor = np.empty(len(exemplar), np.int64)
    successor[nodes.row] = nodes.row[found.exemplar_of]
    return dataclasses.replace(
        stream,
        nodes=merged(nodes, found.exemplar_of),
        exemplar=successor[exemplar],
        waiting_row=stream.waiting_row[:0],
        waiting_point=waiting[:0],
        renewals=stream.renewals + 1,
    )


def _taken(stream: Stream, points: np.ndarray, index: np.ndarray, joins: np.ndarray) -> Stream:
    """The stream with points that join or wait."""
    nodes = stream.nodes
    together = np.concatenate([np.arange(len(nodes)), index[joins]])
    weight = np.concatenate([nodes.weight, np.ones(int(joins.sum()))])
    total, mean = means(np.concatenate([nodes.mean, points[joins]]), weight, together, len(nodes))
    row = len(stream.exemplar) + np.arange(len(points))
    return dataclasses.replace(
        stream,
        nodes=dataclasses.replace(nodes, weight=total, mean=mean),
        exemplar=np.concatenate([stream.exemplar, np.where(joins, nodes.row[index], -1)]),
        waiting_row=np.concatenate([stream.waiting_row, row[~joins]]),
        waiting_point=np.concatenate([stream.waiting_point, points[~joins]]),
    )
