"""The join in space and time: which footprints meet which places' ground, found by trees of rectangles, one for each coordinate system.

A join names every footprint that can matter and sometimes one more: boxes are exact in a footprint's own coordinate system and slightly
too large in others. Memory goes with the number of footprints, not with that of the pairs: pairs come in blocks.

Legend: N footprints, Q queries, P pairs, E edges (left, bottom, right, top).
"""

from collections.abc import Iterator
import dataclasses

import numpy as np
import shapely

from rsfm_jax.ingest.footprints import Footprints, boxes_in, cells

_QUERIES_AT_ONCE = 1024
UNKNOWN_US = np.iinfo(np.int64).max  # an acquisition time that is not known, in microseconds


@dataclasses.dataclass(frozen=True)
class Queries:
    """What is asked of a join: the ground of the places of one reference grid.

    Attributes:
      prints: Footprints of the references, N = Q; they tell what is near.
      target: Number of the coordinate system that the places are laid out in, int (Q,).
      ground: The ground of the places in it, float64 (Q, E).
      span_us: Earliest and latest acquisition time that can matter, microseconds, int64 (Q, 2); None: any.
    """

    prints: Footprints
    target: np.ndarray
    ground: np.ndarray
    span_us: np.ndarray | None = None


class Join:
    """Finds the footprints that meet the ground of queries."""

    def __init__(self, prints: Footprints, queries: Queries, edge_m: float, across: bool, times_us: np.ndarray | None = None) -> None:
        """Builds the trees.

        Args:
          prints: The footprints to find.
          queries: What will be asked.
          edge_m: How far a place may reach beyond a footprint, metres.
          across: Whether footprints of other coordinate systems than the query's count.
          times_us: Acquisition times, int64 (N,), with `UNKNOWN_US`; needed when queries have a span.
        """
        self._queries, self._edge_m, self._times_us = queries, edge_m, times_us
        others = _near_systems(prints, queries, edge_m) if across else {}
        self._trees: dict[int, tuple[shapely.STRtree, np.ndarray]] = {}
        for target in map(int, np.unique(queries.target)):
            members = np.concatenate([np.flatnonzero(prints.system == target), others.get(target, np.zeros(0, np.int64))])
            members.sort()
            boxes = boxes_in(prints.take(members), target)
            self._trees[target] = shapely.STRtree(shapely.box(*boxes.T)), members

    def __iter__(self) -> Iterator[np.ndarray]:
        """For each query the numbers of the footprints that meet its ground, int64, ascending."""
        for start in range(0, len(self._queries.target), _QUERIES_AT_ONCE):
            asked = np.arange(start, min(start + _QUERIES_AT_ONCE, len(self._queries.target)))
            who, found = self.pairs(asked)
            yield from np.split(found, np.searchsorted(who, asked[1:]))

    def pairs(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of some queries.

        Args:
          asked: Numbers of queries, ascending.

        Returns:
          Query number and footprint number, int64 (P,) each, ascending.
        """
        pieces = []
        for target in np.unique(self._queries.target[asked]):
            some = asked[self._queries.target[asked] == target]
            left, bottom, right, top = self._queries.ground[some].T
            tree, members = self._trees[int(target)]
            edge_m = self._edge_m
            query, position = tree.query(shapely.box(left - edge_m, bottom - edge_m, right + edge_m, top + edge_m))
            pieces.append(np.stack([some[query], members[position]]))
        who, found = np.concatenate(pieces, axis=1)
        if self._queries.span_us is not None and self._times_us is not None:
            times = self._times_us[found]
            first, last = self._queries.span_us[who].T
            inside = (times >= first) & (times <= last)
            who, found = who[inside], found[inside]
        order = np.lexsort([found, who])
        return who[order], found[order]


def _near_systems(prints: Footprints, queries: Queries, edge_m: float) -> dict[int, np.ndarray]:
    """For each coordinate system of queries, footprints of other systems that share a cell with one of its queries."""
    targets = np.unique(queries.target)
    if len(targets) == 1 and not (prints.system != targets[0]).any():
        return {}
    who, cell = cells(prints, edge_m)
    asking, asked_cell = (who, cell) if queries.prints is prints else cells(queries.prints, edge_m)
    asked = np.unique(np.column_stack([asked_cell, queries.target[asking]]), axis=0)
    first, last = np.searchsorted(asked[:, 0], cell, "left"), np.searchsorted(asked[:, 0], cell, "right")
    found: dict[int, list[np.ndarray]] = {}
    for step in range(int((last - first).max(initial=0))):  # as many as coordinate systems meet in one cell
        inside = first + step < last
        numbers, target = who[inside], asked[(first + step)[inside], 1]
        foreign = prints.system[numbers] != target
        for system in np.unique(target[foreign]):
            found.setdefault(int(system), []).append(np.unique(numbers[foreign & (target == system)]))
    return {system: np.unique(np.concatenate(pieces)) for system, pieces in found.items()}
