"""Footprints: the ground of many scenes as arrays, a hundred bytes each, and which of them are near one another on the sphere.

Every footprint is a rectangle in its scene's coordinate system. Nearness across coordinate systems is told by cells of two degrees, which
errs by naming too many: at the poles and at the antimeridian nothing is lost. Exact decisions are the planner's.

Legend: N footprints, E edges (left, bottom, right, top).
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
from rasterio import warp
from rasterio.crs import CRS

from rsfm_jax.geo import Rect
from rsfm_jax.ingest.raster import to_lonlat

_CELL_DEG = 2.0
_COLUMNS = round(360 / _CELL_DEG)
_MOST_LOCAL_DEG = 5.0  # a larger footprint is taken to be near everything
_REACH = 3.3  # the box around a footprint in another coordinate system ends within three radii of its centre
_ANYWHERE = (-1e9, -1e9, 1e9, 1e9)
_AT_ONCE = 100_000
_CENTRE_AND_CORNERS = np.array([(0.5, 0.5), (0, 0), (0, 1), (1, 1), (1, 0)])
_ROUND = np.concatenate([_CENTRE_AND_CORNERS[1:], [(0, 0.5), (0.5, 1), (1, 0.5), (0.5, 0)]])


class Systems:
    """Coordinate systems by number: equal ones, however written, have one number."""

    def __init__(self) -> None:
        self.known: list[CRS] = []
        self._by_wkt: dict[str, int] = {}

    def number(self, crs: CRS) -> int:
        """The number of a coordinate system, a new one if it has not been seen."""
        wkt = crs.wkt
        if wkt not in self._by_wkt:
            same = next((i for i, other in enumerate(self.known) if other == crs), None)
            if same is None:
                self.known.append(crs)
            self._by_wkt[wkt] = len(self.known) - 1 if same is None else same
        return self._by_wkt[wkt]


@dataclasses.dataclass(frozen=True)
class Footprints:
    """Rectangles on the ground.

    Attributes:
      systems: The coordinate systems.
      system: Number of each footprint's coordinate system, int (N,).
      bounds: Edges in its own coordinate system, float64 (N, E).
    """

    systems: Systems
    system: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.system)

    def take(self, numbers: np.ndarray) -> "Footprints":
        """Some of them."""
        return Footprints(self.systems, self.system[numbers], self.bounds[numbers])


def footprints(systems: Systems, grounds: Sequence[tuple[CRS, Rect]]) -> Footprints:
    """The arrays of rectangles, each in its coordinate system."""
    system = np.fromiter((systems.number(crs) for crs, _ in grounds), np.int64, len(grounds))
    edges = np.fromiter(((r.left, r.bottom, r.right, r.top) for _, r in grounds), np.dtype((np.float64, 4)), len(grounds))
    return Footprints(systems, system, edges)


def _points(bounds: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Points of rectangles, (N, points, 2), at shares of their sides, (points, 2)."""
    return bounds[:, None, :2] + where * (bounds[:, 2:] - bounds[:, :2])[:, None]


def caps(prints: Footprints) -> np.ndarray:
    """Circles on the sphere that hold the footprints.

    Args:
      prints: The footprints.

    Returns:
      Longitude and latitude of the centre and the radius, degrees, float64 (N, 3); the radius is 180 where it is larger than 5 or
      cannot be told.
    """
    circles = np.zeros((len(prints), 3))
    for number in np.unique(prints.system):
        members = np.flatnonzero(prints.system == number)
        for start in range(0, len(members), _AT_ONCE):
            some = members[start : start + _AT_ONCE]
            points = _points(prints.bounds[some], _CENTRE_AND_CORNERS)
            lonlat = to_lonlat(prints.systems.known[number], points.reshape(-1, 2)).reshape(points.shape)
            lon, lat = np.radians(lonlat[..., 0]), np.radians(lonlat[..., 1])
            on_sphere = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
            chord = np.linalg.norm(on_sphere[:, 1:] - on_sphere[:, :1], axis=-1).max(axis=1)
            radius = np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))
            known = np.isfinite(lonlat).all(axis=(1, 2)) & (radius <= _MOST_LOCAL_DEG)
            circles[some] = np.where(known[:, None], np.column_stack([lonlat[:, 0], radius]), (0.0, 0.0, 180.0))
    return circles


def cells(prints: Footprints, edge_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells of two degrees that footprints may touch in any coordinate system.

    Args:
      prints: The footprints.
      edge_m: How far beyond a footprint a place may reach, metres.

    Returns:
      Footprint number and cell number, int64 (pairs,) each.
    """
    lon, lat, radius = caps(prints).T
    reach = np.minimum(_REACH * radius + edge_m / 1e5 + 0.01, 180.0)
    south, north = np.maximum(lat - reach, -90.0), np.minimum(lat + reach, 90.0)
    polar = (south <= -90) | (north >= 90)
    ratio = np.sin(np.radians(np.minimum(reach, 90.0))) / np.maximum(np.cos(np.radians(lat)), 1e-9)
    half = np.where(polar | (ratio >= 1), 180.0, np.degrees(np.arcsin(np.clip(ratio, 0, 1))))  # of the box around a cap
    row0, row1 = (np.floor((edge + 90) / _CELL_DEG).astype(np.int64) for edge in (south, north))
    column0, column1 = (np.floor((edge + 180) / _CELL_DEG).astype(np.int64) for edge in (lon - half, lon + half))
    columns = np.minimum(column1 - column0 + 1, _COLUMNS)
    count = (row1 - row0 + 1) * columns
    who = np.repeat(np.arange(len(prints)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row = row0[who] + within // columns[who]
    column = (column0[who] + within % columns[who]) % _COLUMNS
    return who, row * _COLUMNS + column


def boxes_in(prints: Footprints, target: int) -> np.ndarray:
    """Boxes in another coordinate system that surely hold the footprints, slightly too large.

    Args:
      prints: The footprints.
      target: Number of the coordinate system.

    Returns:
      Edges, float64 (N, E): exact for footprints of that system, all the ground for those whose box cannot be told.
    """
    found = prints.bounds.copy()
    for number in np.unique(prints.system[prints.system != target]):
        members = np.flatnonzero(prints.system == number)
        found[members] = _ANYWHERE
        members = members[caps(prints.take(members))[:, 2] <= _MOST_LOCAL_DEG]
        for start in range(0, len(members), _AT_ONCE):
            some = members[start : start + _AT_ONCE]
            points = _points(prints.bounds[some], _ROUND)
            known = prints.systems.known
            x, y = (np.array(axis).reshape(points.shape[:2]) for axis in _moved(known[number], known[target], points.reshape(-1, 2)))
            edges = np.column_stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)])
            bulge = 0.1 * (edges[:, 2:] - edges[:, :2]).max(axis=1, keepdims=True)  # edges bend between the points
            edges += np.concatenate([-bulge, -bulge, bulge, bulge], axis=1)
            finite = np.isfinite(edges).all(axis=1)
            found[some[finite]] = edges[finite]
    return found


def _moved(source: CRS, target: CRS, points: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    x, y = warp.transform(source, target, points[:, 0], points[:, 1])[:2]
    return x, y
