"""Windows of one scene as what an encoder takes: physical values, valid mask, place and date.

Scenes are described as in `scenes.yaml` and read by `rsfm_jax.ingest`; a `SceneInput` is such a description made in Python.

Legend: B windows, C bands, h w pixels of a window.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import datetime
import os
import pathlib
from typing import Any

import numpy as np
import rasterio
import torch

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect, check_lonlat, year_and_day
from rsfm_jax.ingest.chips import ChipReader, physical
from rsfm_jax.ingest.paths import is_remote
from rsfm_jax.ingest.raster import OpenScene, open_scene, to_lonlat
from rsfm_jax.ingest.scenes import Scene, read_scene

CACHE_BYTES = 256 * 2**20  # GDAL's cache of blocks; its own default is a share of the machine's memory


@dataclasses.dataclass(frozen=True)
class SceneInput:
    """One scene: bands of one sensor on one grid. Fields mean what they mean in `scenes.yaml` (docs/data.md).

    Attributes:
      sensor: Name in `rsfm_jax.sensors`.
      bands: For each band name the GeoTIFF and the number of the band in it, from 1.
      acquired_utc: When it was seen; None: unknown.
      name: The scene's name in outputs; empty: the first file's name without its suffix.
      scale: Multiplies the digital number; None: what the file or the sensor says. The same for ``offset`` and ``nodata``.
      offset: Added afterwards, in the band's unit.
      nodata: Digital number of missing pixels.
      baseline_offset_dn: Sentinel-2 levels 1C and 2A must state it, or ``processing_baseline``.
      processing_baseline: As in the product's name, ``"05.09"``.
      mask: A quality raster, ``{"file": path, "invalid": [values]}``.
    """

    sensor: str
    bands: Mapping[str, tuple[str | pathlib.Path, int]]
    acquired_utc: datetime.datetime | datetime.date | None = None
    name: str = ""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    baseline_offset_dn: float | None = None
    processing_baseline: str | None = None
    mask: Mapping[str, Any] | None = None

    def described(self) -> Scene:
        """The scene as ingest describes it; raises `InputError` for anything wrong in it."""
        if not self.bands:
            raise InputError("SceneInput.bands is empty; name at least one band, as {'B04': (path, 1)}")
        first, _ = next(iter(self.bands.values()))
        entry = {
            "id": self.name or pathlib.Path(first).stem,
            "sensor": self.sensor,
            "acquired_utc": self.acquired_utc or "unknown",
            "bands": {name: {"file": _absolute(file), "index": index} for name, (file, index) in self.bands.items()},
            "mask": None if self.mask is None else {**self.mask, "file": _absolute(self.mask["file"])},
        }
        numbers = ("scale", "offset", "nodata", "baseline_offset_dn", "processing_baseline")
        return read_scene(pathlib.Path("SceneInput"), "the scene", entry | {name: getattr(self, name) for name in numbers}, pathlib.Path())


def _absolute(file: str | pathlib.Path) -> str:
    return str(file) if "://" in str(file) or is_remote(str(file)) else os.path.abspath(file)


def _size_and_change(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows read from a scene, float32 unless told otherwise.

    Attributes:
      values: (B, C, h, w), physical, zero where not valid.
      valid: bool (B, C, h, w).
      grid_m: (B, 4): left and upper edge in metres from the window's centre, pixel width, pixel height.
      footprint_deg: float64 (B, 4, 2): longitude and latitude of upper left, upper right, lower right, lower left corner.
      time: (B, 3): known, year, day of year from 0.
    """

    values: torch.Tensor
    valid: torch.Tensor
    grid_m: torch.Tensor
    footprint_deg: torch.Tensor
    time: torch.Tensor


class WindowReader:
    """Reads windows of one scene, never more of it than was asked for. Use as a context manager, which also bounds GDAL's cache.

    Attributes:
      scene: The open scene.
      bands: Its band names, in channel order.
      height: Rows, pixels.
      width: Columns, pixels.
    """

    def __init__(self, scene: SceneInput | Scene) -> None:
        """Looks at the scene's files.

        Raises:
          InputError: files that cannot be read, or whose grid the encoder cannot take without resampling.
        """
        self.scene: OpenScene = open_scene(scene.described() if isinstance(scene, SceneInput) else scene)
        self.bands = tuple(self.scene.bands)
        self._first = self.scene.bands[self.bands[0]]
        self.height, self.width = self._first.height, self._first.width
        who, here = f"scene {self.scene.scene.id!r}", self._first.source.path
        other = next((name for name, band in self.scene.bands.items() if not band.same_grid(self._first)), None)
        if other:
            raise InputError(f"{who}: bands {self.bands[0]!r} and {other!r} are on different grids; resample one, or leave it out")
        if not self._first.north_up:
            raise InputError(f"{who}: {here} has a rotated grid; warp it north up, for instance with gdalwarp")
        if not self.scene.metric:
            raise InputError(
                f"{who}: {here} is not in a projected coordinate system in metres; warp it, as with gdalwarp -t_srs EPSG:32632"
            )
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "WindowReader":
        self._open.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
        self._chips = self._open.enter_context(ChipReader())
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.scene.scene.id

    @property
    def transform(self) -> Any:
        """Pixel to ground, an affine."""
        return self._first.transform

    def rect(self, row: int, column: int, height: int, width: int) -> Rect:
        """The ground of a window given in pixels; it may reach beyond the raster."""
        (left, top), (right, bottom) = self.transform @ (column, row), self.transform @ (column + width, row + height)
        return Rect(left, bottom, right, top)

    def read(self, starts: Sequence[tuple[int, int]], side: int) -> Windows:
        """Reads windows.

        Args:
          starts: First pixel row and column of each; a window may reach beyond the raster.
          side: Pixels along one side.

        Returns:
          The windows.

        Raises:
          InputError: a file that cannot be read, or ground beyond the poles.
        """
        shape = (len(starts), len(self.bands), side, side)
        values, valid = np.zeros(shape, np.float32), np.zeros(shape, bool)
        grid_m, footprint_deg = np.zeros((len(starts), 4), np.float32), np.zeros((len(starts), 4, 2))
        scale, offset = (np.array([getattr(band, field) for band in self.scene.bands.values()]) for field in ("scale", "offset"))
        for b, (row, column) in enumerate(starts):
            dn_HWC, valid_HWC = self._chips.read_window(self.scene, self.bands, column, row, side)
            valid[b] = valid_HWC.transpose(2, 0, 1)
            values[b] = physical(dn_HWC, valid_HWC, scale, offset).transpose(2, 0, 1)
            rect = self.rect(row, column, side, side)
            grid_m[b] = -rect.width_m / 2, rect.height_m / 2, rect.width_m / side, rect.height_m / side
            footprint_deg[b] = to_lonlat(self.scene.crs, rect.corners())
            check_lonlat(footprint_deg[b])
        time = np.tile(np.array(year_and_day(self.scene.scene.acquired_utc), np.float32), (len(starts), 1))
        return Windows(*map(torch.from_numpy, (values, valid, grid_m, footprint_deg, time)))

    def fingerprint(self) -> dict[str, Any]:
        """What decides over the values that are read, as JSON: files (local ones with size and change), bands, scaling, grid, date."""
        scene, mask = self.scene.scene, self.scene.scene.mask
        paths = {band.source.path for band in self.scene.bands.values()} | ({mask.path} if mask else set())
        return {
            "sensor": scene.sensor.name,
            "acquired_utc": scene.acquired_utc and scene.acquired_utc.isoformat(),
            "bands": {
                name: [band.source.path, band.index, band.scale, band.offset, str(band.nodata)] for name, band in self.scene.bands.items()
            },
            "mask": mask and [mask.path, mask.index, list(mask.invalid), list(mask.bits)],
            "files": {path: None if is_remote(path) else _size_and_change(path) for path in sorted(paths)},
            "grid": [self.height, self.width, *self.transform[:6], self.scene.crs.to_wkt()],
        }
