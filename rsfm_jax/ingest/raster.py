"""Rasters on disk: grids, nodata and scaling of a scene's bands, looked at once through rasterio.

`open_scene` looks at every file of a scene, so that what is broken is found before anything is written.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import math
import pathlib
import warnings

import numpy as np
import rasterio
from rasterio import warp
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect, check_lonlat, great_circle_m
from rsfm_jax.ingest.scenes import BandSource, Scene

GSD_TOLERANCE = 0.01  # relative difference at which two pixel sizes still count as the same
_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class BandRaster:
    """One band of a scene, opened once.

    Attributes:
      source: What `scenes.yaml` says.
      index: Number of the band in the file, from 1.
      dtype: numpy type of the stored digital numbers.
      height: Rows.
      width: Columns.
      transform: Pixel to ground, an affine of the file's coordinate system.
      scale: Multiplies the digital number.
      offset: Added afterwards, in the band's unit; holds the Sentinel-2 baseline offset.
      nodata: Digital number of missing pixels, or None.
      nodata_from: Who said so: ``"scenes.yaml"``, ``"file"``, ``"sensor"`` or ``"nobody"``.
    """

    source: BandSource
    index: int
    dtype: str
    height: int
    width: int
    transform: rasterio.Affine
    scale: float
    offset: float
    nodata: float | None
    nodata_from: str

    @property
    def north_up(self) -> bool:
        """Whether rows run west to east and columns north to south."""
        t = self.transform
        return t.b == 0 and t.d == 0 and t.a > 0 and t.e < 0

    @property
    def gsd_m(self) -> float:
        """Pixel size, the geometric mean of both sides, in units of the coordinate system."""
        return math.sqrt(abs(self.transform.determinant))

    @property
    def rect(self) -> Rect:
        """The bounding box in the coordinate system of the file."""
        corners = [self.transform @ point for point in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))]
        xs, ys = zip(*corners, strict=True)
        return Rect(min(xs), min(ys), max(xs), max(ys))

    def same_grid(self, other: "BandRaster") -> bool:
        """Whether both bands have the same pixels on the ground."""
        return (self.height, self.width) == (other.height, other.width) and self.transform.almost_equals(other.transform, 1e-6)


@dataclasses.dataclass(frozen=True)
class OpenScene:
    """A scene whose files have been looked at.

    Attributes:
      scene: What `scenes.yaml` says.
      crs: The coordinate system of all bands.
      bands: Every band's grid and scaling, by name.
      metric: Whether a unit of the coordinate system is a metre on the ground, to within 1 %; Web Mercator's is not.
    """

    scene: Scene
    crs: CRS
    bands: dict[str, BandRaster]
    metric: bool


def pixels_window(column: int, row: int, width: int, height: int) -> Window:
    """A window of a raster, in pixels."""
    return Window(column, row, width, height)  # pyright: ignore[reportCallIssue] - an attrs class that type checkers cannot see into


@contextlib.contextmanager
def reading(path: str | pathlib.Path, who: str) -> Iterator[rasterio.DatasetReader]:
    """Opens a raster; what rasterio cannot read becomes an `InputError` that starts with ``who``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # reported as an InputError by open_scene
            with rasterio.open(path) as dataset:
                yield dataset
    except RasterioError as error:
        raise InputError(f"{who}: {path} cannot be read as an image ({error}); is it truncated, or not a raster?") from None


def open_scene(scene: Scene) -> OpenScene:
    """Looks at every file of a scene.

    Args:
      scene: The described scene.

    Returns:
      The scene with its coordinate system and grids.

    Raises:
      InputError: a file that is no image or is truncated, a band number the file does not have, no coordinate system, bands in
        different coordinate systems, a corner that is not on Earth, or a type of digital numbers that is not supported.
    """
    bands: dict[str, BandRaster] = {}
    crs: CRS | None = None
    for name, source in scene.bands.items():
        who = f"{scene.described_in}: scene {scene.id!r}, band {name!r}"
        with reading(source.path, who) as dataset:
            if dataset.crs is None:
                raise InputError(
                    f"{who}: {source.path} has no coordinate reference system; assign one, for instance with gdal_edit.py -a_srs EPSG:32632"
                )
            if crs is not None and dataset.crs != crs:
                raise InputError(
                    f"{who}: {source.path} is in {_name(dataset.crs)}, the bands before it in {_name(crs)}; describe them as two scenes"
                )
            if source.index is None and dataset.count > 1:
                raise InputError(f"{who}: {source.path} has {dataset.count} bands; say which, as {{file: {source.path}, index: 1}}")
            index = source.index or 1
            if index > dataset.count:
                raise InputError(f"{who}: index {index} does not exist, {source.path} has {dataset.count} band(s)")
            twice = [other for other, band in bands.items() if (band.source.path, band.index) == (source.path, index)]
            if twice:
                raise InputError(f"{who}: is the same band {index} of {source.path} as {twice[0]!r}; name another file or index")
            crs = dataset.crs
            bands[name] = _band_raster(scene, source, index, dataset, who)
            _check_on_earth(crs, bands[name], who)
    if scene.mask:
        who = f"{scene.described_in}: scene {scene.id!r}, mask"
        with reading(scene.mask.path, who) as dataset:
            if scene.mask.index > dataset.count:
                raise InputError(f"{who}: index {scene.mask.index} does not exist, {scene.mask.path} has {dataset.count} band(s)")
            if dataset.crs != crs:
                raise InputError(f"{who}: {scene.mask.path} is in another coordinate system than the bands")
            if scene.mask.bits and not dataset.dtypes[scene.mask.index - 1].startswith(("int", "uint")):
                raise InputError(f"{who}: {scene.mask.path} holds {dataset.dtypes[scene.mask.index - 1]} values, which have no bits")
            dataset.read(scene.mask.index, window=pixels_window(dataset.width - 1, dataset.height - 1, 1, 1))
    assert crs is not None, "a scene has at least one band"
    return OpenScene(scene, crs, bands, _is_metric(crs, next(iter(bands.values())).rect))


def _check_on_earth(crs: CRS, raster: BandRaster, who: str) -> None:
    corner = f"{who}: {raster.source.path} has a corner"
    fix = "axes swapped, or a wrong geotransform or coordinate reference system? Correct it, as with gdal_edit.py -a_ullr or -a_srs"
    try:
        corners_deg = to_lonlat(crs, raster.rect.corners())
    except Exception as error:  # GDAL's, of a class that rasterio does not make public
        raise InputError(f"{corner} that is nowhere on Earth in {_name(crs)} ({error}); {fix}") from None
    try:
        check_lonlat(corners_deg)
    except InputError as error:
        raise InputError(f"{corner} at {error}; {fix}") from None


def _is_metric(crs: CRS, rect: Rect) -> bool:
    """Compares steps along both axes with the great circle between their ends, in the middle of a scene."""
    if not crs.is_projected:
        return False
    x, y = rect.centre
    step = 1000.0
    points = to_lonlat(crs, np.array([[x, y], [x + step, y], [x, y + step]]))
    return all(abs(great_circle_m(points[0], points[i]) / step - 1) < GSD_TOLERANCE for i in (1, 2))


def _name(crs: CRS) -> str:
    return crs.to_string()[:40]


def _band_raster(scene: Scene, source: BandSource, index: int, dataset: rasterio.DatasetReader, who: str) -> BandRaster:
    i = index - 1
    dtype = dataset.dtypes[i]
    if dtype not in _DTYPES:
        raise InputError(f"{who}: {source.path} holds {dtype} values; convert them to one of {', '.join(_DTYPES)}")
    if dataset.transform.determinant == 0:
        raise InputError(f"{who}: {source.path} has no usable geotransform")
    dataset.read(
        source.index, window=pixels_window(dataset.width - 1, dataset.height - 1, 1, 1)
    )  # the last block: a truncated file fails here
    in_file = (dataset.scales[i], dataset.offsets[i]) if (dataset.scales[i], dataset.offsets[i]) != (1.0, 0.0) else (None, None)
    if source.scale is not None and source.offset is None and in_file[1] is None and source.band.offset != 0:
        raise InputError(
            f"{who}: states a scale but no offset, and the sensor's own is {source.band.offset:g}; state offset too (0 for none)"
        )
    scale = next(v for v in (source.scale, in_file[0], source.band.scale) if v is not None)
    offset = next(v for v in (source.offset, in_file[1], source.band.offset) if v is not None)
    if scene.baseline_offset_dn and offset:
        raise InputError(
            f"{who}: the baseline offset {scene.baseline_offset_dn:g} and the offset {offset:g} of scenes.yaml or of {source.path} "
            "would both be applied; state baseline_offset_dn: 0 if the offset has it already, else offset: 0"
        )
    said = {"scenes.yaml": source.nodata, "file": dataset.nodatavals[i], "sensor": source.band.nodata}
    nodata_from = next((who for who, value in said.items() if value is not None), "nobody")
    return BandRaster(
        source=source,
        index=index,
        dtype=dtype,
        height=dataset.height,
        width=dataset.width,
        transform=dataset.transform,
        scale=scale,
        offset=offset + scale * scene.baseline_offset_dn,
        nodata=said.get(nodata_from),
        nodata_from=nodata_from,
    )


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
