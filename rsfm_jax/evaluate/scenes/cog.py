"""Cloud-optimised GeoTIFFs from pieces: bands of rows in, one file out, in memory bounded by GDAL's block cache.

Legend: D bands of the file.
"""

from collections.abc import Iterable, Mapping
import colorsys
import dataclasses
import pathlib
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster

from rsfm_jax.evaluate.scenes.reading import CACHE_BYTES
from rsfm_jax.ingest.raster import pixels_window

Colour = tuple[int, ...]  # red, green, blue, alpha, 0 to 255
_GOLDEN = (5**0.5 - 1) / 2  # of a turn of the colour circle from one class to the next
_BLOCK_BYTES = 16 * 2**20  # of all bands together: a COG's bands are interleaved by pixel


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid of an output.

    Attributes:
      height: Rows.
      width: Columns.
      transform: Cell to ground, an affine.
      crs: Coordinate system.
    """

    height: int
    width: int
    transform: Any
    crs: Any


def class_colours(count: int) -> dict[int, Colour]:
    """Colours of classes 0 to ``count`` - 1, unlike those of their neighbours in number."""
    turns = [(k * _GOLDEN % 1, 0.65 - 0.25 * (k % 2), 0.9 - 0.15 * (k % 3)) for k in range(count)]
    return {k: (*(round(255 * part) for part in colorsys.hsv_to_rgb(*turn)), 255) for k, turn in enumerate(turns)}


def write_cog(
    folder: pathlib.Path,
    pieces: Iterable[np.ndarray],
    grid: Grid,
    count: int,
    nodata: float,
    tags: Mapping[str, str],
    half: bool = False,
    colours: Mapping[int, Colour] | None = None,
) -> pathlib.Path:
    """Writes a tiled, compressed GeoTIFF with overviews, by way of an uncompressed one beside it.

    Args:
      folder: Where to write.
      pieces: (D, rows, columns) from the top down; float (means in overviews) or uint8 (the most frequent class in overviews).
      grid: The file's grid.
      count: D.
      nodata: Value of cells without an observation.
      tags: Metadata of the file.
      half: Keep floats in 16 bits; readers see float32.
      colours: Of the values of one band of uint8; None for none.

    Returns:
      The file.
    """
    plain, whole = folder / "plain.tif", folder / "whole.tif"
    side = max(64, min(512, 16 * int((_BLOCK_BYTES / (4 * count)) ** 0.5 // 16)))
    pieces = iter(pieces)
    first = next(pieces)
    is_float = first.dtype.kind == "f"
    profile = {"driver": "GTiff", "count": count, "height": grid.height, "width": grid.width, "crs": grid.crs, "transform": grid.transform}
    profile |= {"dtype": "float32" if is_float else str(first.dtype), "nodata": nodata, "BIGTIFF": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": side, "blockysize": side, "interleave": "band"}
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        with rasterio.open(plain, "w", **profile) as dataset:
            dataset.update_tags(**tags)
            if colours is not None:
                dataset.write_colormap(1, dict(colours))
            row, piece = 0, first
            while piece is not None:
                dataset.write(piece.astype(profile["dtype"], copy=False), window=pixels_window(0, row, grid.width, piece.shape[1]))
                row, piece = row + piece.shape[1], next(pieces, None)
        assert row == grid.height, f"{row} rows of {grid.height}"
        options = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": side, "BIGTIFF": "IF_SAFER"}
        options |= {"OVERVIEW_RESAMPLING": "AVERAGE" if is_float else "MODE"} | ({"NBITS": 16} if half else {})
        copy_raster(plain, whole, driver="COG", **options)
    plain.unlink()
    return whole
