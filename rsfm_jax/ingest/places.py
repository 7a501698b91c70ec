"""Places: the windows of a reference grid at which image sets are laid out, and scenes gathered by the grid they share."""

from collections.abc import Iterator
import itertools
import math

import numpy as np
from rasterio.crs import CRS

from rsfm_jax.geo import Rect, utm_epsg
from rsfm_jax.ingest.footprints import Systems
from rsfm_jax.ingest.raster import GRID_TOLERANCE, BandRaster, OpenScene, rect_in, to_lonlat
from rsfm_jax.layouts import Layout, Slot

_BINS_M, _BINS_DEG = 16.0, 0.25  # wide against a hundredth of any pixel, and few grids of one size have their corners in one


def metric_crs(scene: OpenScene) -> CRS:
    """The coordinate system in metres that sets of a scene are laid out in: its own, or the UTM zone of its centre."""
    if scene.metric:
        return scene.crs
    band = next(iter(scene.bands.values()))
    ((lon, lat),) = to_lonlat(scene.crs, np.array([band.rect.centre]))
    return CRS.from_epsg(utm_epsg(lon, lat))


def common_rect(scene: OpenScene, bands: tuple[str, ...]) -> Rect:
    """The ground, in its own coordinate system, on which a scene has all of some bands."""
    rects = [scene.bands[name].rect for name in bands]
    common = rects[0]
    for rect in rects[1:]:
        common = common.intersection(rect)
    return common


def ground_rect(scene: OpenScene, slot: Slot, crs: CRS) -> Rect:
    """The ground, in ``crs``, on which a scene has all bands of a slot."""
    return rect_in(scene.crs, common_rect(scene, slot.source_bands), crs)


def same_grids(scenes: list[OpenScene], slot: Slot, systems: Systems) -> list[list[int]]:
    """Groups scenes whose first slot has the same pixels on the ground, so that a series is one pile of dates and not many.

    Args:
      scenes: The scenes, in order.
      slot: The first slot.
      systems: Numbers of coordinate systems.

    Returns:
      Groups of positions in ``scenes``, in order of first appearance.
    """
    groups: list[list[int]] = []
    binned: dict[tuple[int, ...], list[int]] = {}
    for i, scene in enumerate(scenes):
        band: BandRaster = scene.bands[slot.source_bands[0]]
        head = (systems.number(scene.crs), band.height, band.width)
        corner, width = (band.transform.c, band.transform.f), _BINS_DEG if scene.crs.is_geographic else _BINS_M
        off = GRID_TOLERANCE * band.gsd_m
        bins = [(*head, *where) for where in itertools.product(*({math.floor((x + d) / width) for d in (-off, 0, off)} for x in corner))]
        near = sorted({group for key in bins for group in binned.get(key, ())})
        same = (g for g in near if scenes[groups[g][0]].bands[slot.source_bands[0]].same_grid(band))
        group = next(same, None)
        if group is None:
            binned.setdefault((*head, *(math.floor(x / width) for x in corner)), []).append(len(groups))
            groups.append([i])
        else:
            groups[group].append(i)
    return groups


class Places:
    """The windows of one reference scene, row by row from its upper left corner.

    Attributes:
      ground: Rectangle that holds all of them, in ``crs``.
    """

    def __init__(self, scene: OpenScene, layout: Layout, crs: CRS) -> None:
        """Lays out the windows.

        Args:
          scene: The reference scene.
          layout: The layout; its first slot gives the size.
          crs: Coordinate system of the places; the scene's own unless the first slot resamples.
        """
        slot = layout.slots[0]
        self._pixels, self._extent_m = slot.pixels, slot.pixels * slot.gsd_m
        self._stride_m = layout.stride_m or self._extent_m / 2
        self._raster = scene.bands[slot.source_bands[0]] if slot.resample == "none" else None
        if self._raster is not None:
            self.ground = self._raster.rect
            self._stride = max(1, round(self._stride_m / slot.gsd_m))
            sizes = (self._raster.height, self._raster.width)
            self._rows, self._columns = (max(0, (size - slot.pixels) // self._stride + 1) for size in sizes)
        else:
            self.ground = ground_rect(scene, slot, crs)
            sides = (self.ground.height_m, self.ground.width_m)
            self._rows, self._columns = (
                max(0, math.floor((side - self._extent_m) / self._stride_m + 1e-9) + 1) if math.isfinite(side) else 0 for side in sides
            )

    def __len__(self) -> int:
        return self._rows * self._columns

    def __iter__(self) -> Iterator[Rect]:
        for i, j in itertools.product(range(self._rows), range(self._columns)):
            if self._raster is not None:
                yield window_rect(self._raster, j * self._stride, i * self._stride, self._pixels)
            else:
                left, top = self.ground.left + j * self._stride_m, self.ground.top - i * self._stride_m
                yield Rect(left, top - self._extent_m, left + self._extent_m, top)


def window_rect(raster: BandRaster, column: int, row: int, pixels: int) -> Rect:
    """The ground of a window of a north-up raster."""
    (left, top), (right, bottom) = raster.transform @ (column, row), raster.transform @ (column + pixels, row + pixels)
    return Rect(left, bottom, right, top)
