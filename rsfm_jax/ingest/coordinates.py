"""Where a raster says it is: coordinate reference systems that can be used, and points between them.

What cannot be placed on the ground exactly is refused with what to do about it: files without a coordinate reference system, with ground
control points or RPCs alone, with a local system, without a geotransform, with corners that are nowhere on Earth.
"""

import json
import pathlib

import numpy as np
import rasterio
from rasterio import warp
from rasterio.crs import CRS

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect, check_lonlat, great_circle_m

GSD_TOLERANCE = 0.01  # relative difference at which two pixel sizes still count as the same


def to_lonlat(crs: CRS, xy: np.ndarray) -> np.ndarray:
    """Transforms ground points to longitude and latitude.

    Args:
      crs: Coordinate system of the points.
      xy: Points, float (n, 2).

    Returns:
      Degrees, float64 (n, 2), longitude then latitude.
    """
    lon, lat = warp.transform(crs, CRS.from_epsg(4326), xy[:, 0], xy[:, 1])[:2]
    return np.stack([lon, lat], axis=1).astype(np.float64)


def rect_in(crs: CRS, rect: Rect, target: CRS) -> Rect:
    """The bounding box, in another coordinate system, of a rectangle."""
    return rect if crs == target else Rect(*warp.transform_bounds(crs, target, rect.left, rect.bottom, rect.right, rect.top))


def short_name(crs: CRS) -> str:
    """The code of a coordinate system, or the beginning of its definition, for messages."""
    return crs.to_string()[:40]


def horizontal(crs: CRS) -> CRS:
    """The horizontal part of a compound coordinate system, such as EPSG:4326 of EPSG:9707; any other system as it is."""
    parts = crs.to_dict(projjson=True)
    return CRS.from_string(json.dumps(parts["components"][0])) if parts["type"] == "CompoundCRS" else crs


def stated_crs(dataset: rasterio.DatasetReader, path: str | pathlib.Path, who: str) -> CRS:
    """The coordinate system of a file, as the file states it.

    Args:
      dataset: The open file.
      path: Its name, for messages.
      who: Scene and band, for messages.

    Raises:
      InputError: there is none, it is not bound to the ground, or the file has no geotransform in it.
    """
    if dataset.crs is None or dataset.transform.is_identity:
        if dataset.gcps[0]:
            raise InputError(
                f"{who}: {path} is placed by ground control points alone; warp it first, as with gdalwarp -tps -t_srs EPSG:..."
            )
        if dataset.rpcs is not None:
            raise InputError(f"{who}: {path} is placed by RPCs alone; orthorectify it first, as with gdalwarp -rpc -to RPC_DEM=dem.tif")
    if dataset.crs is None:
        raise InputError(f"{who}: {path} has no coordinate reference system; assign one, for instance with gdal_edit.py -a_srs EPSG:32632")
    if not (dataset.crs.is_projected or dataset.crs.is_geographic):
        raise InputError(
            f"{who}: {path} is in {short_name(dataset.crs)}, a local or geocentric system that does not say where on the map it is; "
            "warp it to a projected one, or assign the right one with gdal_edit.py -a_srs EPSG:32632"
        )
    if dataset.transform.is_identity or dataset.transform.determinant == 0:
        raise InputError(f"{who}: {path} has no usable geotransform; assign one with gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM")
    return dataset.crs


def check_on_earth(crs: CRS, rect: Rect, path: str | pathlib.Path, who: str) -> None:
    """Raises `InputError` when a corner of a raster's bounding box has no longitude and latitude."""
    corner = f"{who}: {path} has a corner"
    fix = "axes swapped, or a wrong geotransform or coordinate reference system? Correct it, as with gdal_edit.py -a_ullr or -a_srs"
    try:
        corners_deg = to_lonlat(crs, rect.corners())
    except Exception as error:  # GDAL's, of a class that rasterio does not make public
        raise InputError(f"{corner} that is nowhere on Earth in {short_name(crs)} ({error}); {fix}") from None
    try:
        check_lonlat(corners_deg)
    except InputError as error:
        raise InputError(f"{corner} at {error}; {fix}") from None


def is_metric(crs: CRS, rect: Rect) -> bool:
    """Whether a unit is a metre on the ground, by steps along both axes and the great circle between their ends, in a scene's middle."""
    if not crs.is_projected:
        return False
    x, y = rect.centre
    step = 1000.0
    points = to_lonlat(crs, np.array([[x, y], [x + step, y], [x, y + step]]))
    return all(abs(great_circle_m(points[0], points[i]) / step - 1) < GSD_TOLERANCE for i in (1, 2))
