"""Values that contradict what is said of them, looked for in a scene before any of it is cut into chips.

- A collar: one value that no measurement has, or that all bands share, in a large share of the pixels and connected to the raster's edge,
  where nobody states nodata.
- Radar that should be in decibels and has no negative value.

What is read of a scene is bounded: rasters up to 512 pixels are read whole, larger ones by their overviews, or in a few windows along
their edges; only what looks like a collar there is looked at as a whole, with one pixel in several.

Legend: H W pixels, C bands, N pixels in a row.
"""

from collections.abc import Iterator

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.raster import BandRaster, OpenScene

_LEAST_SHARE = 0.01  # of the pixels in border-connected regions, and of the pixels on the edge
_LOOK_PIXELS = 512
_WINDOWS_A_SIDE = 5
_WINDOW_PIXELS = 16
_FILLS = (-99999, -32768, -32767, -9999, -999, -99, 32767, 65535)


def check_values(scenes: list[OpenScene], reader: ChipReader) -> None:
    """Refuses scenes whose values contradict what is said of them.

    Args:
      scenes: Open scenes.
      reader: Reads them.

    Raises:
      InputError: a collar that nobody states to be nodata, or radar values that are no decibels; names what to write.
    """
    for scene in scenes:
        for bands in _unstated(scene):
            _check_collar(scene, bands, reader)
        for name, raster in scene.bands.items():
            if raster.source.band.unit == "dB" and raster.source.unit is None and raster.conversion is None:
                _check_decibels(scene, name, reader)


def _unstated(scene: OpenScene) -> Iterator[tuple[str, ...]]:
    """Bands on one grid of which nobody says what is missing."""
    grids: list[list[str]] = []
    for name, raster in scene.bands.items():
        if raster.nodata_from != "nobody" or raster.own_mask or raster.conversion:
            continue
        same = (grid for grid in grids if scene.bands[grid[0]].same_grid(raster))
        if (grid := next(same, None)) is not None:
            grid.append(name)
        else:
            grids.append([name])
    yield from map(tuple, grids)


def _suspects(raster: BandRaster) -> list[float]:
    """Values of a band's type that stand for "nothing" somewhere. 0 m of elevation is the sea, and -1 m and 255 m are land."""
    dtype = np.dtype(raster.dtype)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    some = {*_FILLS, limits.max, float(np.finfo(np.float32).min)} | ({limits.min} if limits.min < 0 else set())
    if raster.source.band.unit != "m":
        some |= {0, -1, 255}
    return sorted(float(value) for value in some if limits.min <= value <= limits.max)


def _check_collar(scene: OpenScene, bands: tuple[str, ...], reader: ChipReader) -> None:
    rasters = [scene.bands[name] for name in bands]
    for value, names in _on_edge(rasters, bands, _edge(scene, bands, reader)):
        image_HWC = _look(scene, names, reader)
        region_HW = border_connected((image_HWC == value).all(axis=-1))
        share = float(region_HW.mean())
        if share < _LEAST_SHARE or not _observed(scene, names, region_HW, reader):
            continue
        who = f"{scene.scene.described_in}: scene {scene.scene.id!r}, band{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
        files = ", ".join(sorted({str(scene.bands[name].source.path) for name in names}))
        raise InputError(
            f"{who}: {files} has {100 * share:.3g} % pixels of value {value:.10g} in border-connected regions, and nobody states nodata; "
            f"add nodata: {value:.10g} to scenes.yaml, or nodata: none if they are observations"
        )


def _on_edge(rasters: list[BandRaster], bands: tuple[str, ...], edge_NC: np.ndarray) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Suspect values, with the bands that have them on a large share of the edge: all at once, or one where no measurement can be."""
    for value in sorted({value for raster in rasters for value in _suspects(raster)}):
        same_NC = edge_NC == value
        if same_NC.size and same_NC.all(axis=-1).mean() >= _LEAST_SHARE:
            yield value, bands
            continue
        for c, raster in enumerate(rasters):
            low, high = raster.source.band.valid_range
            possible = low <= raster.scale * value + raster.offset <= high
            if same_NC.size and not possible and same_NC[:, c].mean() >= _LEAST_SHARE:
                yield value, (bands[c],)


def _edge(scene: OpenScene, bands: tuple[str, ...], reader: ChipReader) -> np.ndarray:
    """Values along the raster's edge, float64 (N, C), NaN where not valid."""
    first = scene.bands[bands[0]]
    if max(first.height, first.width) <= _LOOK_PIXELS or reader.has_overviews(scene, bands):
        image_HWC = _look(scene, bands, reader)
        return np.concatenate([image_HWC[0], image_HWC[-1], image_HWC[:, 0], image_HWC[:, -1]])
    size, found = min(_WINDOW_PIXELS, first.height, first.width), []
    for at in np.linspace(0, 1, _WINDOWS_A_SIDE):
        column, row = round(at * (first.width - size)), round(at * (first.height - size))
        for c, r, line in (
            (column, 0, np.s_[0]),
            (column, first.height - size, np.s_[-1]),
            (0, row, np.s_[:, 0]),
            (first.width - size, row, np.s_[:, -1]),
        ):
            dn_HWC, valid_HWC = reader.read_window(scene, bands, c, r, size)
            found.append(np.where(valid_HWC, dn_HWC.astype(np.float64), np.nan)[line])
    return np.concatenate(found)


def _look(scene: OpenScene, bands: tuple[str, ...], reader: ChipReader) -> np.ndarray:
    """A raster in at most 512 x 512 pixels, nearest neighbours, float64 (H, W, C); what is missing is NaN where it was read whole."""
    first = scene.bands[bands[0]]
    if max(first.height, first.width) > _LOOK_PIXELS:
        shape = (min(first.height, _LOOK_PIXELS), min(first.width, _LOOK_PIXELS))
        return np.stack([reader.read_small(scene, name, shape).astype(np.float64) for name in bands], axis=-1)
    dn_HWC, valid_HWC = reader.read_window(scene, bands, 0, 0, max(first.height, first.width))
    return np.where(valid_HWC, dn_HWC.astype(np.float64), np.nan)[: first.height, : first.width]


def _observed(scene: OpenScene, bands: tuple[str, ...], region_HW: np.ndarray, reader: ChipReader) -> bool:
    """Whether most of a region counts as observed: a quality raster may leave it out already."""
    first = scene.bands[bands[0]]
    places = np.argwhere(region_HW)
    places = places[np.linspace(0, len(places) - 1, 16).round().astype(int)] + 0.5
    places = np.floor(places * (first.height / region_HW.shape[0], first.width / region_HW.shape[1])).astype(int)
    valid = [bool(reader.read_window(scene, bands, int(column), int(row), 1)[1].all()) for row, column in places]
    return sum(valid) > len(valid) / 2


def border_connected(mask_HW: np.ndarray) -> np.ndarray:
    """The part of a mask that is connected to the edge of the image.

    Args:
      mask_HW: Bool.

    Returns:
      Bool (H, W): pixels of the mask that an edge pixel of it reaches over the four neighbours.
    """
    region_HW = np.zeros_like(mask_HW)
    for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        region_HW[line] = mask_HW[line]
    while True:
        grown_HW = region_HW.copy()
        grown_HW[1:] |= region_HW[:-1]
        grown_HW[:-1] |= region_HW[1:]
        grown_HW[:, 1:] |= region_HW[:, :-1]
        grown_HW[:, :-1] |= region_HW[:, 1:]
        grown_HW &= mask_HW
        if np.array_equal(grown_HW, region_HW):
            return region_HW
        region_HW = grown_HW


def _check_decibels(scene: OpenScene, name: str, reader: ChipReader) -> None:
    raster = scene.bands[name]
    size = min(64, raster.height, raster.width)
    values = []
    for row in {round(at * (raster.height - size)) for at in (0.1, 0.5, 0.9)}:
        for column in {round(at * (raster.width - size)) for at in (0.1, 0.5, 0.9)}:
            dn_HWC, valid_HWC = reader.read_window(scene, (name,), column, row, size)
            values.append(raster.scale * dn_HWC[valid_HWC].astype(np.float64) + raster.offset)
    seen = np.concatenate(values)
    if seen.size and seen.min() >= 0:
        median = float(np.median(seen))
        likely = "power" if median < 5 else "amplitude"
        raise InputError(
            f"{scene.scene.described_in}: scene {scene.scene.id!r}, band {name!r}: the values of {raster.source.path} should be decibels, "
            f"but none is negative (they go from {seen.min():.3g} to {seen.max():.3g}, median {median:.3g}), as in linear {likely}; "
            "state unit: power or unit: amplitude in scenes.yaml, or unit: dB if they are decibels"
        )
