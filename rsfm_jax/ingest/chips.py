"""Chips: windows of a scene's native grid, or its ground reprojected onto the chip's own grid, with a valid mask per band.

In a reprojection invalid pixels take no part in the interpolation.

Legend: H W pixels, C bands.
"""

from collections import OrderedDict
import math

import numpy as np
import rasterio
from rasterio import warp
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.channels import FileBands, Plan, plan_reading
from rsfm_jax.ingest.raster import BandRaster, OpenScene, opened, pixels_window, rect_in

_MOST_OPEN_FILES = 128
_MOST_PLANS = 1024
_LARGEST = float(np.finfo(np.float32).max)  # of a float64 number: training holds values in float32


def physical(dn: np.ndarray, valid: np.ndarray, scale: np.ndarray | float, offset: np.ndarray | float) -> np.ndarray:
    """Digital numbers in the unit of their bands.

    Args:
      dn: Digital numbers of any type; scale and offset broadcast against them.
      valid: Bool, of the same shape.
      scale: Multiplies them.
      offset: Added afterwards.

    Returns:
      float32, computed in float64, zero where not valid.
    """
    return np.where(valid, scale * dn.astype(np.float64) + offset, 0.0).astype(np.float32)


class ChipReader:
    """Reads chips of open scenes, keeping the files used last open between reads.

    Use as a context manager.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[str, rasterio.DatasetReader] = OrderedDict()  # the one used last stands last
        self._plans: dict[tuple[int, tuple[str, ...]], Plan] = {}  # by the scene's identity, which the plan keeps alive

    def __enter__(self) -> "ChipReader":
        return self

    def __exit__(self, *_: object) -> None:
        for dataset in self._files.values():
            dataset.close()

    def _open(self, path: str, who: str) -> rasterio.DatasetReader:
        if path not in self._files:
            self._files[path] = opened(path, who)
            if len(self._files) > _MOST_OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def _read(self, path: str, indexes: list[int], window: Window, who: str, out: np.ndarray | None = None) -> np.ndarray:
        dataset = self._open(path, who)
        try:
            return dataset.read(indexes, window=window, out=out)
        except RasterioError as error:
            raise InputError(f"{who}: {path} cannot be read at {window} ({error}); is the file truncated?") from None

    def _planned(self, scene: OpenScene, bands: tuple[str, ...]) -> Plan:
        key = (id(scene), bands)
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan_reading(scene, bands)
        return self._plans[key]

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
        plan = self._planned(scene, bands)
        first = plan.files[0].raster
        r0, r1 = max(row, 0), min(row + pixels, first.height)
        c0, c1 = max(column, 0), min(column + pixels, first.width)
        shape = (pixels, pixels, len(bands))
        if (r0, r1, c0, c1) == (row, row + pixels, column, column + pixels):
            dn_HWC = np.empty(shape, plan.dtype)
            return dn_HWC, self._fill(plan, pixels_window(column, row, pixels, pixels), dn_HWC)
        dn_HWC, valid_HWC = np.zeros(shape, plan.dtype), np.zeros(shape, bool)
        if r0 < r1 and c0 < c1:
            inside = np.s_[r0 - row : r1 - row, c0 - column : c1 - column]
            valid_HWC[inside] = self._fill(plan, pixels_window(c0, r0, c1 - c0, r1 - r0), dn_HWC[inside])
        return dn_HWC, valid_HWC

    def read_stored(self, scene: OpenScene, band: str, column: int, row: int, width: int, height: int) -> np.ndarray:
        """Reads a band's numbers as the file holds them, (height, width), from a window inside the raster."""
        raster = scene.bands[band]
        window = pixels_window(column, row, width, height)
        return self._read(raster.source.path, [raster.index], window, f"scene {scene.scene.id!r}")[0]

    def read_small(self, scene: OpenScene, band: str, shape: tuple[int, int]) -> np.ndarray:
        """Reads a whole band as the file holds it in ``shape`` pixels, each one of those it stands for, or of an overview."""
        raster = scene.bands[band]
        dataset = self._open(raster.source.path, f"scene {scene.scene.id!r}")
        try:
            return dataset.read(raster.index, out_shape=shape)
        except RasterioError as error:
            raise InputError(
                f"scene {scene.scene.id!r}: {raster.source.path} cannot be read at reduced size ({error}); is the file truncated?"
            ) from None

    def has_overviews(self, scene: OpenScene, bands: tuple[str, ...]) -> bool:
        """Whether the files of all bands hold them in reduced size too, so that reading them so is cheap."""
        rasters = [scene.bands[name] for name in bands]
        return all(self._open(r.source.path, f"scene {scene.scene.id!r}").overviews(r.index) for r in rasters)

    def _fill(self, plan: Plan, window: Window, dn_HWC: np.ndarray) -> np.ndarray:
        """Reads a window into ``dn_HWC``, zero where invalid, and returns valid bool (H, W, C)."""
        scene = plan.scene
        who = f"scene {scene.scene.id!r}"
        for file in plan.files:
            into_CHW = dn_HWC[..., file.channels].transpose(2, 0, 1)
            if file.raster.conversion:
                into_CHW[:] = self._converted(file, window, who)
            else:
                self._read(file.path, file.indexes, window, who, into_CHW)  # rasterio follows the strides
        if plan.same_nodata is not None and dn_HWC.dtype.kind in "iu":
            valid_HWC = dn_HWC != plan.same_nodata
        else:
            valid_HWC = _finite(dn_HWC)
            for channels, nodata in plan.nodata:
                valid_HWC[..., channels] &= dn_HWC[..., channels] != nodata
        for file in plan.files:
            if file.raster.own_mask:
                valid_HWC[..., file.channels] &= (self._open(file.path, who).read_masks(file.indexes[0], window=window) > 0)[..., None]
        if scene.scene.mask:
            valid_HWC &= self._mask_ok(scene, plan.files[0].raster, window)[..., None]
        if not valid_HWC.all():
            dn_HWC[~valid_HWC] = 0
        return valid_HWC

    def _converted(self, file: FileBands, window: Window, who: str) -> np.ndarray:
        """Numbers in the unit of the band, float32 (1, H, W), NaN where the stored ones are nodata or have no power."""
        raster = file.raster
        assert raster.conversion is not None
        stored = self._read(file.path, file.indexes, window, who)
        values, nodata = raster.conversion(stored), raster.stored_nodata
        if nodata is not None:
            values[stored == nodata] = np.nan
        return values

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
        window = pixels_window(columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        values_HW = self._read(mask.path, [mask.index], window, who)[0]
        values_HW = values_HW[rows - rows.min()][:, columns - columns.min()]
        flags = sum(1 << bit for bit in mask.bits)
        flagged = (values_HW.astype(np.int64) & flags) != 0 if flags else False
        return ~(np.isin(values_HW, mask.invalid) | flagged)

    def read_resampled(
        self, scene: OpenScene, bands: tuple[str, ...], crs: CRS, rect: Rect, pixels: int, method: str, rounded: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads bands reprojected onto a chip's own grid; invalid pixels take no part in the interpolation.

        Args:
          scene: An open scene; its bands may have different grids.
          bands: Band names, in channel order.
          crs: Coordinate system of the chip.
          rect: The chip's ground in ``crs``.
          pixels: Height and width.
          method: A resampling of rasterio: nearest, bilinear, cubic or average.
          rounded: Whether digital numbers go back to the acquired type, rounded when it is an integer; else they are float64.

        Returns:
          Digital numbers (H, W, C) and valid bool (H, W, C).
        """
        acquired = np.result_type(*(scene.bands[name].dtype for name in bands))
        dtype: np.dtype = acquired if rounded else np.dtype(np.float64)
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


def _finite(dn_HWC: np.ndarray) -> np.ndarray:
    """Where numbers are finite, also as float32; bool, of the same shape."""
    if dn_HWC.dtype == np.float64:
        return np.abs(dn_HWC) <= _LARGEST
    return np.isfinite(dn_HWC) if dn_HWC.dtype.kind == "f" else np.ones(dn_HWC.shape, bool)
