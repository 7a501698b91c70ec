"""A draw of some of many places, evenly over the ground and the same for every order they come in."""

import hashlib

import numpy as np

_FINEST_DEG = 1e-4


def lot(seed: int, key: str) -> int:
    """A number below 2 ** 64 that depends on the seed and the key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest(), "big")


def draw_evenly(lonlat_deg: np.ndarray, lots: np.ndarray, most: int) -> np.ndarray:
    """Draws points so that parts of the ground which have points get equally many.

    Cells of equal area are halved until more of them have points than are drawn; from those of the step before, the same number is drawn
    in each, up to one. Within a cell, and for the one more, the lots decide.

    Args:
      lonlat_deg: Points, float64 (N, 2), longitude then latitude.
      lots: Random numbers of the points, uint64 (N,).
      most: How many to draw.

    Returns:
      Whether each point is drawn, bool (N,).
    """
    if len(lots) <= most:
        return np.ones(len(lots), bool)
    cell = np.zeros(len(lots), np.int64)
    size_deg = 64.0
    while size_deg > _FINEST_DEG:
        finer = _cells(lonlat_deg, size_deg)
        if len(np.unique(finer)) > most:
            break
        cell, size_deg = finer, size_deg / 2
    order = np.lexsort([lots, cell])
    starts = np.flatnonzero(np.diff(cell[order], prepend=cell[order[0]] - 1))
    rank = np.arange(len(lots)) - np.repeat(starts, np.diff(starts, append=len(lots)))  # of a point in its cell
    drawn = np.zeros(len(lots), bool)
    drawn[order[np.lexsort([lots[order], rank])[:most]]] = True
    return drawn


def _cells(lonlat_deg: np.ndarray, size_deg: float) -> np.ndarray:
    row = np.floor((lonlat_deg[:, 1] + 90) / size_deg).astype(np.int64)
    shrink = np.cos(np.radians(np.clip((row + 0.5) * size_deg - 90, -89.9, 89.9)))
    column = np.floor((lonlat_deg[:, 0] + 180) * shrink / size_deg).astype(np.int64)
    return (row << 32) + column
