"""Which calls read the channels of a chip from a scene's files: one for each file, straight into the chip's memory where that can be."""

import dataclasses

import numpy as np

from rsfm_jax.ingest.raster import BandRaster, OpenScene


@dataclasses.dataclass(frozen=True)
class FileBands:
    """The bands that one call reads from one file: their numbers in it, and their channels as a slice of equal steps."""

    path: str
    indexes: list[int]
    channels: slice
    raster: BandRaster


@dataclasses.dataclass(frozen=True)
class Plan:
    """What reading some bands of a scene takes, worked out once: files, the nodata of channels that have one, and that of all, if one."""

    scene: OpenScene
    files: list[FileBands]
    dtype: np.dtype
    nodata: list[tuple[slice, np.generic]]
    same_nodata: np.generic | None


def plan_reading(scene: OpenScene, bands: tuple[str, ...]) -> Plan:
    """Works out how to read some bands of a scene.

    Args:
      scene: The open scene.
      bands: Band names, in channel order.

    Returns:
      One call for each file, or for each band that is converted.
    """
    rasters = [scene.bands[name] for name in bands]
    channels: dict[tuple, list[int]] = {}  # one read for each file: pixel-interleaved files decode all bands at once
    nodata: dict[np.generic, list[int]] = {}
    for c, raster in enumerate(rasters):
        channels.setdefault((raster.source.path, c if raster.conversion else None), []).append(c)
        value = raster.stored_nodata
        if value is not None and not raster.conversion:
            nodata.setdefault(value, []).append(c)
    files = [
        FileBands(rasters[part.start].source.path, [raster.index for raster in rasters[part]], part, rasters[part.start])
        for together in channels.values()
        for part in _slices(together)
    ]
    whole = {value for value, together in nodata.items() if len(together) == len(bands)}
    values = [(part, value) for value, together in nodata.items() for part in _slices(together)]
    return Plan(scene, files, np.result_type(*(raster.dtype for raster in rasters)), values, next(iter(whole), None))


def _slices(channels: list[int]) -> list[slice]:
    """Increasing channels as one slice of equal steps where they are one, else one by one."""
    step = channels[1] - channels[0] if len(channels) > 1 else 1
    if channels == list(range(channels[0], channels[-1] + 1, step)):
        return [slice(channels[0], channels[-1] + 1, step)]
    return [slice(c, c + 1, 1) for c in channels]
