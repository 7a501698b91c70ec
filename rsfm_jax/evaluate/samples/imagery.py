"""Chips of georeferenced scenes: which scenes a task names, and windows of them around pixels, in physical units.

Scenes are described and opened as `rsfm_jax.ingest` does it; bands, scales, offsets and nodata follow its rules.

Legend: N places, C bands, H W pixels.
"""

from collections import Counter
import dataclasses
import pathlib

import numpy as np

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.samples import MIN_VALID_SHARE, Chips, Columns, Ground, Input, blocks_of_ground, draw
from rsfm_jax.evaluate.tasks.restored_source import Restored
from rsfm_jax.evaluate.tasks.task_sources import Imagery
from rsfm_jax.geo import Rect, year_and_day
from rsfm_jax.ingest.chips import ChipReader, physical
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.raster import BandRaster, OpenScene, open_scene, to_lonlat
from rsfm_jax.ingest.scenes import Scene, read_scene
from rsfm_jax.ingest.statistics import RangeCheck


@dataclasses.dataclass(frozen=True)
class Image:
    """A scene with the grid that its chips are cut from.

    Attributes:
      scene: The open scene.
      grid: Its first band.
    """

    scene: OpenScene
    grid: BandRaster

    @property
    def id(self) -> str:
        """The scene's id."""
        return self.scene.scene.id

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its bands."""
        return tuple(self.scene.bands)

    def ground(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Places (N, 2), x then y, of corners of pixels; add a half for their centres."""
        t = self.grid.transform
        return np.stack([t.c + t.a * columns, t.f + t.e * rows], axis=-1)

    def pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, int64 (N,), of the pixels that hold places; may lie outside."""
        t = self.grid.transform
        return np.floor((y - t.f) / t.e).astype(np.int64), np.floor((x - t.c) / t.a).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Places:
    """Pixels to cut chips around; each array is (N,).

    Attributes:
      image: Number of the image.
      row: Row on its grid; may lie outside.
      column: Column; may lie outside.
      shape: Number of the polygon or box the label is from, -1 for none.
    """

    image: np.ndarray
    row: np.ndarray
    column: np.ndarray
    shape: np.ndarray

    def take(self, chosen: np.ndarray) -> "Places":
        """The places at indices, or where bool."""
        return Places(self.image[chosen], self.row[chosen], self.column[chosen], self.shape[chosen])


@dataclasses.dataclass(frozen=True)
class Cut:
    """Chips around places.

    Attributes:
      chips: Those of the places that were kept.
      kept: Which those are, int64.
      groups: Samples that no inner fold tears, int64: of one shape, else of one block of ground of a chip's size.
      columns: `scene`, `sensor`, the task's own, and `shape`, the number of the polygon or box, where labels are such.
    """

    chips: Chips
    kept: np.ndarray
    groups: np.ndarray
    columns: Columns


def open_images(source: Imagery, root: pathlib.Path, file: pathlib.Path) -> list[Image]:
    """Opens the images of a source.

    Args:
      source: The source.
      root: Folder that paths are relative to.
      file: The task file, for messages.

    Returns:
      The images, in the order of their descriptions.

    Raises:
      InputError: A description or file is wrong, ids repeat, or images differ in their number of bands or are not on a grid in metres.
    """
    images = []
    for scene in _scenes(source, root, file):
        opened = open_scene(scene)
        grid = next(iter(opened.bands.values()))
        who = f"{scene.described_in}: scene {scene.id!r}"
        if not grid.north_up or not opened.metric:
            raise InputError(
                f"{who}: is rotated or not in metres ({opened.crs.to_string()[:40]}); warp it to a projection such as UTM (gdalwarp)"
            )
        others = [name for name, band in opened.bands.items() if not band.same_grid(grid)]
        if others and source.resample is None:
            raise InputError(
                f"{who}: bands {', '.join(others)} are on another grid than the first; leave them out, or state resample: bilinear"
            )
        images.append(Image(opened, grid))
    counts = {len(image.bands) for image in images}
    if len(counts) > 1 and not isinstance(source, Restored):
        raise InputError(f"{file}: source: images have {sorted(counts)} bands; expected the same number of all")
    twice = [name for name, n in Counter(image.id for image in images).items() if n > 1]
    if twice:
        raise InputError(f"{file}: source: images: id {twice[0]!r} is used twice")
    for name, entries in source.columns.items():
        ids = [image.id for image in images]
        for scene_id in entries:
            if scene_id not in ids:
                raise InputError(f"{file}: source: columns: {name}: there is no image {scene_id!r}{nearest(scene_id, ids)}")
        missing = [scene_id for scene_id in ids if scene_id not in entries]
        if missing:
            raise InputError(f"{file}: source: columns: {name}: has no entry for image {missing[0]!r}")
    return images


def cut(source: Imagery, images: list[Image], places: Places, whole: bool, dropped: dict[str, int]) -> Cut:
    """Cuts chips, drawing among the places whose windows lie within the image.

    Args:
      source: Window, draw and resampling.
      images: The images that places count.
      places: Where.
      whole: Whether a sample is about its whole chip, which must then be half observed; else its pixel must be, in every band.
      dropped: What is left out is added here.

    Returns:
      The chips.

    Raises:
      InputError: No chip is left, or values are not in the unit of their band.
    """
    before, side = source.before, source.window_px
    heights = np.array([image.grid.height for image in images])[places.image]
    widths = np.array([image.grid.width for image in images])[places.image]
    fits = (places.row >= before) & (places.row - before + side <= heights)
    fits &= (places.column >= before) & (places.column - before + side <= widths)
    dropped["window leaves the image"] = int((~fits).sum())
    asked = np.flatnonzero(fits)
    chosen = asked[draw(len(asked), source.most, source.draw_seed)]
    dropped["not drawn"] = dropped.get("not drawn", 0) + len(asked) - len(chosen)
    kept, values, valid, ranges = [], [], [], RangeCheck()
    with ChipReader() as reader:
        for index in chosen:
            image = images[places.image[index]]
            row, column = int(places.row[index]), int(places.column[index])
            chip, seen = read_chip(reader, image, row - before, column - before, side, source.resample)
            share = seen.mean(axis=(1, 2)).min() if whole else float(seen[:, before, before].all())
            if share < MIN_VALID_SHARE:
                continue
            for band, plane, observed in zip(image.scene.bands.values(), chip, seen, strict=True):
                ranges.add(image.id, band.source.band, plane[observed])
            kept.append(index)
            values.append(chip)
            valid.append(seen)
    dropped[f"less than {MIN_VALID_SHARE:.0%} observed" if whole else "nodata at the pixel"] = len(chosen) - len(kept)
    if not kept:
        raise InputError(f"no sample is left of {len(places.row)}; dropped: {dropped}")
    ranges.check()
    rows = np.asarray(kept, np.int64)
    chips = assemble(images, places.take(rows), before, np.stack(values), np.stack(valid))
    columns = _columns(source, images, places.image[rows])
    if (places.shape[rows] >= 0).any():
        columns["shape"] = places.shape[rows]
    return Cut(chips, rows, _groups(images, places.take(rows), chips, side), columns)


def _scenes(source: Imagery, root: pathlib.Path, file: pathlib.Path) -> list[Scene]:
    if isinstance(source.images, str):
        folder = root / source.images
        if not folder.is_dir() or not any(folder.rglob("scenes.yaml")):
            raise InputError(f"{file}: source: images: {folder} is no folder with a scenes.yaml in it")
        return find_scenes(folder)
    if not isinstance(source.images, list) or not source.images:
        raise InputError(f"{file}: source: images: expected a list of scenes with the fields of scenes.yaml, or the folder of one")
    return [read_scene(file, f"source: images[{i}]", entry, root) for i, entry in enumerate(source.images)]


def read_chip(reader: ChipReader, image: Image, row: int, column: int, side: int, resample: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Physical values float32 (C, H, W) of a window of the first band's grid, 0 where invalid, and valid."""
    on_grid = tuple(name for name, band in image.scene.bands.items() if band.same_grid(image.grid))
    planes = dict(zip(on_grid, _channels(*reader.read_window(image.scene, on_grid, column, row, side)), strict=True))
    if len(on_grid) < len(image.bands):
        (left, top), (right, bottom) = image.ground(np.array([row, row + side]), np.array([column, column + side]))
        rect = Rect(left, bottom, right, top)
        for name in set(image.bands) - set(on_grid):
            (planes[name],) = _channels(*reader.read_resampled(image.scene, (name,), image.scene.crs, rect, side, resample or "bilinear"))
    dn, valid = (np.stack([planes[name][i] for name in image.bands]) for i in (0, 1))
    scale, offset = (np.array([getattr(band, key) for band in image.scene.bands.values()])[:, None, None] for key in ("scale", "offset"))
    return physical(dn, valid, scale, offset), valid


def _channels(dn_HWC: np.ndarray, valid_HWC: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(dn_HWC[..., c], valid_HWC[..., c]) for c in range(dn_HWC.shape[-1])]


def assemble(images: list[Image], places: Places, before: int, values: np.ndarray, valid: np.ndarray) -> Chips:
    """Chips with their kinds, dates and ground; they begin ``before`` rows above and columns left of their places."""
    kinds = [Input(image.scene.scene.sensor.name, image.bands, round(image.grid.gsd_m, 6)) for image in images]
    inputs = tuple(dict.fromkeys(kinds))
    n, side = len(values), values.shape[-1]
    place, corners, time = np.empty((n, 2)), np.empty((n, 4, 2)), np.zeros((n, 3), np.float32)
    for i, image in enumerate(images):
        here = places.image == i
        top, left = places.row[here] - before, places.column[here] - before
        place[here] = image.ground(places.row[here] + 0.5, places.column[here] + 0.5)
        xy = np.stack([image.ground(top + r, left + c) for r, c in ((0, 0), (0, side), (side, side), (side, 0))], axis=1)
        corners[here] = to_lonlat(image.scene.crs, xy.reshape(-1, 2)).reshape(-1, 4, 2) if here.any() else xy
        time[here] = year_and_day(image.scene.scene.acquired_utc)
    systems = {images[i].scene.crs.to_string() for i in np.unique(places.image)}
    ground = Ground(systems.pop() if len(systems) == 1 else None, place[:, 0], place[:, 1], corners)
    input_of = np.array([inputs.index(kind) for kind in kinds])[places.image]
    return Chips(values, valid, inputs, input_of, time, ground, before)


def _groups(images: list[Image], places: Places, chips: Chips, side: int) -> np.ndarray:
    assert chips.ground is not None
    gsd_m = max(images[i].grid.gsd_m for i in np.unique(places.image))
    blocks = blocks_of_ground(places.image, chips.ground.x_m, chips.ground.y_m, side * gsd_m)
    return np.where(places.shape >= 0, places.shape, places.shape.max(initial=-1) + 1 + blocks)


def _columns(source: Imagery, images: list[Image], image_of: np.ndarray) -> Columns:
    table = {"scene": [image.id for image in images], "sensor": [image.scene.scene.sensor.name for image in images]}
    table |= {name: [entries[image.id] for image in images] for name, entries in source.columns.items()}
    return {name: np.array(entries)[image_of] for name, entries in table.items()}
