"""Normalised surface models: the elevation of a surface less that of the terrain below it, on the surface's chip.

Both must be heights above the same vertical datum; files do not say reliably whether they are, and nothing here can tell.

Legend: H W pixels.
"""

import numpy as np
from rasterio.crs import CRS

from rsfm_jax.geo import Rect
from rsfm_jax.ingest.chips import ChipReader, physical
from rsfm_jax.ingest.raster import OpenScene
from rsfm_jax.layouts import Slot

_BAND = "elevation"


def read_height(
    reader: ChipReader, surface: OpenScene, terrain: OpenScene, slot: Slot, crs: CRS, rect: Rect, window: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a chip of heights above the terrain.

    Args:
      reader: Reads the chips.
      surface: The scene that fills the slot.
      terrain: The scene whose elevation is taken off; it is resampled bilinearly onto the slot's grid.
      slot: The slot; its ``resample`` is the surface's.
      crs: Coordinate system of the chip.
      rect: The chip's ground in ``crs``.
      window: First (column, row) of the chip on the surface's own grid, or None when the surface is resampled.

    Returns:
      Metres, float32 (H, W, 1), and valid bool (H, W, 1): where both are.
    """
    if window is not None:
        surface_dn, surface_valid = reader.read_window(surface, (_BAND,), *window, slot.pixels)
    else:
        surface_dn, surface_valid = reader.read_resampled(surface, (_BAND,), crs, rect, slot.pixels, slot.resample, rounded=False)
    terrain_dn, terrain_valid = reader.read_resampled(terrain, (_BAND,), crs, rect, slot.pixels, "bilinear", rounded=False)
    valid = surface_valid & terrain_valid
    metres = _metres(surface, surface_dn) - _metres(terrain, terrain_dn)
    return physical(metres, valid, 1.0, 0.0), valid


def _metres(scene: OpenScene, dn: np.ndarray) -> np.ndarray:
    band = scene.bands[_BAND]
    return band.scale * dn.astype(np.float64) + band.offset
