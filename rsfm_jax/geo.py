"""Ground geometry in plain numpy: rectangles in metres, split cells on the sphere, dates as year and day.

Everything is in the axes of the set's coordinate reference system, x east and y north, in metres; longitudes and latitudes are in
degrees. Coordinate transformations need PROJ and live in `rsfm_jax.ingest.raster`. Never imports jax.
"""

import dataclasses
import datetime
import hashlib
import math

import numpy as np

from rsfm_jax.errors import InputError

EARTH_RADIUS_M = 6371008.8  # IUGG mean radius
_METRES_PER_DEGREE = EARTH_RADIUS_M * math.pi / 180.0


@dataclasses.dataclass(frozen=True)
class Rect:
    """An axis-aligned rectangle on the ground; all four edges in metres."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def width_m(self) -> float:
        """East-west size in metres (negative when the rectangle is empty)."""
        return self.right - self.left

    @property
    def height_m(self) -> float:
        """North-south size in metres (negative when the rectangle is empty)."""
        return self.top - self.bottom

    @property
    def centre(self) -> tuple[float, float]:
        """The (x, y) of the centre in metres."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    def intersection(self, other: "Rect") -> "Rect":
        """The common part; its width or height is not positive when the two do not meet."""
        return Rect(max(self.left, other.left), max(self.bottom, other.bottom), min(self.right, other.right), min(self.top, other.top))

    def contains(self, other: "Rect", tolerance_m: float = 0.0) -> bool:
        """Whether ``other`` lies inside, allowing it to stick out by ``tolerance_m``."""
        return (
            other.left >= self.left - tolerance_m
            and other.bottom >= self.bottom - tolerance_m
            and other.right <= self.right + tolerance_m
            and other.top <= self.top + tolerance_m
        )

    def corners(self) -> np.ndarray:
        """Corners as float64 (4, 2): upper left, upper right, lower right, lower left; x then y."""
        return np.array([[self.left, self.top], [self.right, self.top], [self.right, self.bottom], [self.left, self.bottom]], np.float64)


def great_circle_m(start_deg: np.ndarray, end_deg: np.ndarray) -> float:
    """Distance on the sphere between two points given as longitude and latitude in degrees (haversine)."""
    lon0, lat0, lon1, lat1 = np.radians([*start_deg, *end_deg])
    h = math.sin((lat1 - lat0) / 2) ** 2 + math.cos(lat0) * math.cos(lat1) * math.sin((lon1 - lon0) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


def ground_cells(lonlat_deg: np.ndarray, cell_m: float) -> set[tuple[int, int]]:
    """Cells of about ``cell_m`` x ``cell_m`` that a footprint touches, the same whatever its coordinate system was.

    Rows are bands of equal latitude, columns divide the parallel through the middle of each row, so cells have nearly equal area. The
    footprint is taken as its bounding box in longitude and latitude: a cell may be named that is only just missed, none is left out.

    Args:
      lonlat_deg: Footprint corners, float (n, 2), longitude then latitude; must not cross the antimeridian.
      cell_m: Cell size in metres.

    Returns:
      The set of (row, column).

    Raises:
      InputError: the footprint crosses the antimeridian.
    """
    (west, south), (east, north) = lonlat_deg.min(axis=0), lonlat_deg.max(axis=0)
    if east - west > 180.0:
        raise InputError(f"a footprint from {west:.2f} to {east:.2f} degrees east crosses the antimeridian; cut its scene there")
    row_deg = cell_m / _METRES_PER_DEGREE
    cells = set()
    for row in range(math.floor(south / row_deg), math.floor(north / row_deg) + 1):
        column_deg = row_deg / max(math.cos(math.radians((row + 0.5) * row_deg)), 1e-3)
        cells.update((row, column) for column in range(math.floor(west / column_deg), math.floor(east / column_deg) + 1))
    return cells


def cell_uniform(cell: tuple[int, int], seed: int) -> float:
    """A number in [0, 1) that depends on the cell and the seed alone, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}:{cell[0]}:{cell[1]}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def utm_epsg(lon_deg: float, lat_deg: float) -> int:
    """EPSG code of the WGS 84 / UTM zone that holds a point (regular 6-degree zones)."""
    zone = min(int((lon_deg + 180.0) // 6.0) + 1, 60)
    return (32600 if lat_deg >= 0 else 32700) + zone


def year_and_day(acquired_utc: datetime.datetime | None) -> tuple[float, float, float]:
    """A date as (known, year, day of year).

    Args:
      acquired_utc: Acquisition time, or None when it is unknown.

    Returns:
      ``(1, year, day)`` with the day counted from 0 and holding the fraction of the day, or ``(0, 0, 0)`` for an unknown date.
    """
    if acquired_utc is None:
        return 0.0, 0.0, 0.0
    start = datetime.datetime(acquired_utc.year, 1, 1, tzinfo=acquired_utc.tzinfo)
    return 1.0, float(acquired_utc.year), (acquired_utc - start).total_seconds() / 86400.0


def geosot_bits(corners_deg: np.ndarray) -> np.ndarray:
    """GeoSOT-2D code of a footprint's corners, bit by bit.

    A coordinate of x degrees is coded in 32 bits as ``s * 2**31 + D * 2**23 + M * 2**17 + floor(2048 S)``, with s = 1 for x < 0 and D, M,
    S the whole degrees, whole minutes and seconds of abs(x); the highest bit comes first.

    Args:
      corners_deg: Longitude and latitude of upper left, upper right, lower right, lower left corner, float64 (4, 2).

    Returns:
      uint8 (256,) of zeros and ones: corner by corner, longitude then latitude.

    Raises:
      InputError: a coordinate that is not on Earth.

    Source: A2-MAE (arXiv 2406.08079), geographic encoding of the released code.
    """
    check_lonlat(corners_deg)
    degrees = np.abs(np.asarray(corners_deg, np.float64)).reshape(-1)
    whole = np.floor(degrees)
    minutes = np.floor(60.0 * (degrees - whole))
    seconds = 3600.0 * (degrees - whole) - 60.0 * minutes
    sub = np.minimum(np.floor(2048.0 * seconds), 60 * 2048 - 1)  # rounding must not carry into the minutes
    code = (np.asarray(corners_deg).reshape(-1) < 0).astype(np.int64) << 31
    code += (whole.astype(np.int64) << 23) + (minutes.astype(np.int64) << 17) + sub.astype(np.int64)
    return ((code[:, None] >> np.arange(31, -1, -1)) & 1).astype(np.uint8).reshape(-1)


def check_lonlat(lonlat_deg: np.ndarray) -> None:
    """Raises `InputError` for a longitude beyond 180 or a latitude beyond 90 degrees; takes float (n, 2), longitude first."""
    for name, values, limit in (("longitude", lonlat_deg[:, 0], 180.0), ("latitude", lonlat_deg[:, 1], 90.0)):
        wrong = values[~(np.abs(values) <= limit)]
        if wrong.size:
            raise InputError(
                f"{name} {wrong[0]:.10g} degrees: must be between {-limit:g} and {limit:g} (longitude comes first, then latitude)"
            )
