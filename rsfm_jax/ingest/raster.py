"""Rasters on disk: grids, nodata and digital numbers of a scene's bands, read through rasterio.

`open_scene` looks at every file of a scene once, so that what is broken is found before anything is written. `ChipReader` reads chips:
windows of the native grid where the layout asks for no resampling, else a reprojection onto the chip's own grid in which invalid pixels
take no part.

Legend: H W pixels, C bands.
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
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.scenes import BandSource, Scene

GSD_TOLERANCE = 0.01  # relative difference at which two pixel sizes still count as the same
_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class BandRaster:
    """One band of a scene, opened once.

    Attributes:
      source: What `scenes.yaml` says.
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
    """A scene whose files have been looked at: its coordinate system and the grid of every band."""

    scene: Scene
    crs: CRS
    bands: dict[str, BandRaster]

    @property
    def metric(self) -> bool:
        """Whether the coordinate system is projected and in metres."""
        return self.crs.is_projected and math.isclose(self.crs.linear_units_factor[1], 1.0)


@contextlib.contextmanager
def _reading(path: pathlib.Path, who: str) -> Iterator[rasterio.DatasetReader]:
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
        different coordinate systems, or a type of digital numbers that is not supported.
    """
    bands: dict[str, BandRaster] = {}
    crs: CRS | None = None
    for name, source in scene.bands.items():
        who = f"{scene.described_in}: scene {scene.id!r}, band {name!r}"
        with _reading(source.path, who) as dataset:
            if dataset.crs is None:
                raise InputError(
                    f"{who}: {source.path} has no coordinate reference system; assign one, for instance with gdal_edit.py -a_srs EPSG:32632"
                )
            if crs is not None and dataset.crs != crs:
                raise InputError(
                    f"{who}: {source.path} is in {_name(dataset.crs)}, the bands before it in {_name(crs)}; describe them as two scenes"
                )
            if source.index > dataset.count:
                raise InputError(f"{who}: index {source.index} does not exist, {source.path} has {dataset.count} band(s)")
            crs = dataset.crs
            bands[name] = _band_raster(scene, source, dataset, who)
    if scene.mask:
        who = f"{scene.described_in}: scene {scene.id!r}, mask"
        with _reading(scene.mask.path, who) as dataset:
            if scene.mask.index > dataset.count:
                raise InputError(f"{who}: index {scene.mask.index} does not exist, {scene.mask.path} has {dataset.count} band(s)")
            if dataset.crs != crs:
                raise InputError(f"{who}: {scene.mask.path} is in another coordinate system than the bands")
            dataset.read(scene.mask.index, window=Window(dataset.width - 1, dataset.height - 1, 1, 1))
    assert crs is not None, "a scene has at least one band"
    return OpenScene(scene, crs, bands)


def _name(crs: CRS) -> str:
    return crs.to_string()[:40]


def _band_raster(scene: Scene, source: BandSource, dataset: rasterio.DatasetReader, who: str) -> BandRaster:
    i = source.index - 1
    dtype = dataset.dtypes[i]
    if dtype not in _DTYPES:
        raise InputError(f"{who}: {source.path} holds {dtype} values; convert them to one of {', '.join(_DTYPES)}")
    if dataset.transform.determinant == 0:
        raise InputError(f"{who}: {source.path} has no usable geotransform")
    dataset.read(source.index, window=Window(dataset.width - 1, dataset.height - 1, 1, 1))  # the last block: a truncated file fails here
    in_file = (dataset.scales[i], dataset.offsets[i]) if (dataset.scales[i], dataset.offsets[i]) != (1.0, 0.0) else (None, None)
    scale = next(v for v in (source.scale, in_file[0], source.band.scale) if v is not None)
    offset = next(v for v in (source.offset, in_file[1], source.band.offset) if v is not None)
    said = {"scenes.yaml": source.nodata, "file": dataset.nodatavals[i], "sensor": source.band.nodata}
    nodata_from = next((who for who, value in said.items() if value is not None), "nobody")
    return BandRaster(
        source=source,
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


class ChipReader:
    """Reads chips of open scenes, keeping files open between reads.

    Use as a context manager.
    """

    def __init__(self) -> None:
        self._files: dict[pathlib.Path, rasterio.DatasetReader] = {}

    def __enter__(self) -> "ChipReader":
        return self

    def __exit__(self, *_: object) -> None:
        for dataset in self._files.values():
            dataset.close()

    def _open(self, path: pathlib.Path, who: str) -> rasterio.DatasetReader:
        if path not in self._files:
            with _reading(path, who):
                self._files[path] = rasterio.open(path)
        return self._files[path]

    def _read(self, path: pathlib.Path, indexes: list[int], window: Window, who: str) -> np.ndarray:
        dataset = self._open(path, who)
        try:
            return dataset.read(indexes, window=window)
        except RasterioError as error:
            raise InputError(f"{who}: {path} cannot be read at {window} ({error}); is the file truncated?") from None

    def read_window(self, scene: OpenScene, bands: tuple[str, ...], column: int, row: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads a window of the native grid, without resampling.

        Args:
          scene: An open scene whose ``bands`` share one grid.
          bands: Band names, in channel order.
          column: First column of the window; the window may reach outside the raster.
          row: First row.
          pixels: Height and width.

        Returns:
          Digital numbers (H, W, C) in the bands' common type, zero where invalid, and valid bool (H, W, C).
        """
        rasters = [scene.bands[name] for name in bands]
        dtype = np.result_type(*(raster.dtype for raster in rasters))
        dn_HWC = np.zeros((pixels, pixels, len(bands)), dtype)
        valid_HWC = np.zeros(dn_HWC.shape, bool)
        first = rasters[0]
        r0, r1 = max(row, 0), min(row + pixels, first.height)
        c0, c1 = max(column, 0), min(column + pixels, first.width)
        if r0 < r1 and c0 < c1:
            inside = np.s_[r0 - row : r1 - row, c0 - column : c1 - column]
            window = Window(c0, r0, c1 - c0, r1 - r0)
            dn_HWC[inside] = self._stack(scene, rasters, window)
            valid_HWC[inside] = _valid(dn_HWC[inside], rasters)
            if scene.scene.mask:
                valid_HWC[inside] &= self._mask_ok(scene, first, window)[..., None]
        dn_HWC[~valid_HWC] = 0
        return dn_HWC, valid_HWC

    def _stack(self, scene: OpenScene, rasters: list[BandRaster], window: Window) -> np.ndarray:
        who = f"scene {scene.scene.id!r}"
        paths = {raster.source.path for raster in rasters}
        planes = {}
        for path in paths:  # one read for each file: pixel-interleaved files decode all bands at once
            indexes = [raster.source.index for raster in rasters if raster.source.path == path]
            planes.update({(path, i): plane for i, plane in zip(indexes, self._read(path, indexes, window, who), strict=True)})
        return np.stack([planes[raster.source.path, raster.source.index] for raster in rasters], axis=-1)

    def _mask_ok(self, scene: OpenScene, raster: BandRaster, window: Window) -> np.ndarray:
        """Valid bool (H, W) of a window: each pixel asks the quality raster's pixel under its centre."""
        mask = scene.scene.mask
        assert mask is not None
        who = f"scene {scene.scene.id!r}, mask"
        dataset = self._open(mask.path, who)
        to_mask = ~dataset.transform @ raster.transform
        columns = np.floor(to_mask.a * (window.col_off + np.arange(window.width) + 0.5) + to_mask.c).astype(int)
        rows = np.floor(to_mask.e * (window.row_off + np.arange(window.height) + 0.5) + to_mask.f).astype(int)
        if min(columns.min(), rows.min()) < 0 or columns.max() >= dataset.width or rows.max() >= dataset.height:
            raise InputError(f"{who}: {mask.path} does not cover the bands' ground; give a mask of the scene's full extent")
        window = Window(columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        values_HW = self._read(mask.path, [mask.index], window, who)[0]
        return ~np.isin(values_HW[rows - rows.min()][:, columns - columns.min()], mask.invalid)

    def read_resampled(
        self, scene: OpenScene, bands: tuple[str, ...], crs: CRS, rect: Rect, pixels: int, method: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads bands reprojected onto a chip's own grid; invalid pixels take no part in the interpolation.

        Args:
          scene: An open scene; its bands may have different grids.
          bands: Band names, in channel order.
          crs: Coordinate system of the chip.
          rect: The chip's ground in ``crs``.
          pixels: Height and width.
          method: A resampling of rasterio: nearest, bilinear, cubic or average.

        Returns:
          Digital numbers (H, W, C), rounded back to the acquired type when it is an integer, and valid bool (H, W, C).
        """
        dtype = np.result_type(*(scene.bands[name].dtype for name in bands))
        target = rasterio.Affine(rect.width_m / pixels, 0, rect.left, 0, -rect.height_m / pixels, rect.top)
        dn_HWC = np.zeros((pixels, pixels, len(bands)), dtype)
        valid_HWC = np.zeros(dn_HWC.shape, bool)
        for c, name in enumerate(bands):
            raster = scene.bands[name]
            source = rect_in(crs, rect, scene.crs)
            inverse = ~raster.transform
            columns, rows = zip(*(inverse @ corner for corner in source.corners()), strict=True)
            extent = math.ceil(max(max(columns) - min(columns), max(rows) - min(rows)))
            margin = 4 + 2 * math.ceil(extent / pixels)  # the kernel's reach, also when pixels are aggregated
            column, row, size = math.floor(min(columns)) - margin, math.floor(min(rows)) - margin, extent + 2 * margin
            window_dn, window_valid = self.read_window(scene, (name,), column, row, size)
            work = np.float64 if dtype.itemsize > 2 else np.float32
            values = np.where(window_valid[..., 0], window_dn[..., 0], np.nan).astype(work)
            out = np.full((pixels, pixels), np.nan, work)
            warp.reproject(
                values,
                out,
                src_transform=raster.transform @ rasterio.Affine.translation(column, row),
                src_crs=scene.crs,
                src_nodata=np.nan,
                dst_transform=target,
                dst_crs=crs,
                dst_nodata=np.nan,
                resampling=warp.Resampling[method],
            )
            valid_HWC[..., c] = np.isfinite(out)
            filled = np.where(valid_HWC[..., c], out, 0)
            if dtype.kind in "iu":
                filled = np.clip(np.rint(filled), np.iinfo(dtype).min, np.iinfo(dtype).max)  # a cubic kernel overshoots
            dn_HWC[..., c] = filled.astype(dtype)
        return dn_HWC, valid_HWC


def _valid(dn_HWC: np.ndarray, rasters: list[BandRaster]) -> np.ndarray:
    valid_HWC = np.isfinite(dn_HWC) if dn_HWC.dtype.kind == "f" else np.ones(dn_HWC.shape, bool)
    for c, raster in enumerate(rasters):
        nodata, dtype = raster.nodata, np.dtype(raster.dtype)
        if nodata is None or math.isnan(nodata):
            continue
        if dtype.kind in "iu" and not (nodata.is_integer() and np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max):
            continue  # the type cannot hold it, so no pixel has it
        with np.errstate(over="ignore"):  # a float64 nodata of a float32 file becomes infinite, which is never valid anyway
            valid_HWC[..., c] &= dn_HWC[..., c] != dtype.type(nodata)
    return valid_HWC
