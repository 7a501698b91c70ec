"""Samples of restoration: chips of a target image, and of each input the same ground, degraded or with gaps.

Legend: N samples, C bands, H W pixels.
"""

import dataclasses
import hashlib
import pathlib

import numpy as np

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.imagery import Image, Places, assemble, cut, open_images, read_chip
from rsfm_jax.evaluate.samples.rasters import lattice
from rsfm_jax.evaluate.samples.samples import MIN_VALID_SHARE, Chips, Samples, blocks_of_ground
from rsfm_jax.evaluate.samples.spoiling import area_mean, draw_gaps
from rsfm_jax.evaluate.tasks.restored_source import Restored
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.statistics import RangeCheck

ON_GRID_PX = 1e-3  # how far, in pixels, an input's grid may be off the target's corners


@dataclasses.dataclass(frozen=True)
class RestoredSamples(Samples):
    """Image sets and what is to be made of them. `chips` are the targets' images, and `targets` their values.

    Attributes:
      members: The inputs, each of one kind, on the targets' ground; the first has the targets' bands.
      keeps: Whether the first input is the target with gaps, so that what it has is kept.
    """

    members: tuple[Chips, ...]
    keeps: bool

    @property
    def seen(self) -> tuple[Chips, ...]:
        """The inputs."""
        return self.members

    def digest(self) -> str:
        """SHA-256 of all images."""
        return hashlib.sha256("".join(chips.digest() for chips in (self.chips, *self.members)).encode()).hexdigest()

    @property
    def gap(self) -> np.ndarray:
        """Where the target was observed in all bands and the first input in none, bool (N, H, W); False where it has another size."""
        return _gap(self.chips, self.members[0])


def read_restored(task: Task, root: pathlib.Path, file: pathlib.Path) -> RestoredSamples:
    """Reads the samples of a task whose source is of kind `restored`.

    Args:
      task: The task.
      root: Folder that paths are relative to.
      file: The task file, for messages.

    Returns:
      The samples. The column `scene` is the target of the first set that shares ground with the sample's, `target` its own.

    Raises:
      InputError: Anything wrong with images or sets, or no sample is left.
    """
    source = task.source
    assert isinstance(source, Restored)
    images = open_images(source, root, file)
    sets = _sets(source, images, file)
    found = [lattice(source, source.stride_px, (images[target].grid.height, images[target].grid.width)) for target, _ in sets]
    set_of = np.repeat(np.arange(len(sets)), [len(rows) for rows, _ in found])
    rows, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    dropped: dict[str, int] = {}
    if not len(rows):
        raise InputError(f"{file}: source: no window of {source.window_px} pixels lies within a target")
    targets = np.array([target for target, _ in sets])
    places = Places(targets[set_of], rows, columns, np.full(len(rows), -1, np.int64))
    made = cut(source, images, places, True, dropped)
    kept, set_of = places.take(made.kept), set_of[made.kept]
    members = [_member(source, images, [inputs[t] for _, inputs in sets], set_of, kept, t) for t in range(len(sets[0][1]))]
    observed = np.stack([chips.valid.mean(axis=(2, 3)).min(axis=1) for chips in members]).min(axis=0) >= MIN_VALID_SHARE
    dropped[f"less than {MIN_VALID_SHARE:.0%} of an input observed"] = int((~observed).sum())
    if not observed.any():
        raise InputError(f"{file}: source: no sample is left of {len(rows)}; dropped: {dropped}")
    chips = _of_one_kind(made.chips.take(observed))
    members = [_spoil(source, one.take(observed), set_of[observed], kept.take(observed), t) for t, one in enumerate(members)]
    if source.gaps is not None:
        missed = np.asarray(_gap(chips, members[0]).any(axis=(1, 2)))
        dropped["no pixel of the gaps was observed"] = int((~missed).sum())
        if not missed.any():
            raise InputError(f"{file}: source: no sample is left of {len(rows)}; dropped: {dropped}")
        chips, members = chips.take(missed), [one.take(missed) for one in members]
        observed[observed] = missed
    scene_of = _shared_ground(images, targets)[set_of[observed]]
    ids = np.array([image.id for image in images])
    others = {name: column[observed] for name, column in made.columns.items()}
    assert chips.ground is not None
    groups = blocks_of_ground(scene_of, chips.ground.x_m, chips.ground.y_m, source.window_px * chips.inputs[0].gsd_m)
    table = others | {"scene": ids[scene_of], "target": ids[targets[set_of[observed]]]}
    return RestoredSamples(chips, chips.values, (), groups, table, dropped, tuple(members), source.gaps is not None)


def _gap(target: Chips, first: Chips) -> np.ndarray:
    """Where the target was observed in all bands and the first input in none, bool (N, H, W); False where it has another size."""
    whole = np.asarray(target.valid.all(axis=1))
    return whole & ~np.asarray(first.valid.any(axis=1)) if first.valid.shape == target.valid.shape else np.zeros_like(whole)


def _sets(source: Restored, images: list[Image], file: pathlib.Path) -> list[tuple[int, tuple[int, ...]]]:
    """Numbers of the images of each set, which are alike and on one grid."""
    ids, sets = [image.id for image in images], []
    for number, one in enumerate(source.sets):
        where = f"{file}: source: sets[{number}]"
        for name in (one.target, *one.inputs):
            if name not in ids:
                raise InputError(f"{where}: there is no image {name!r}{nearest(name, ids)}; there are {', '.join(ids)}")
        target, inputs = images[ids.index(one.target)], [images[ids.index(name)] for name in one.inputs]
        if inputs[0].bands != target.bands:
            raise InputError(
                f"{where}: target {target.id!r} has the bands {', '.join(target.bands)} and the first input {inputs[0].id!r} "
                f"{', '.join(inputs[0].bands)}; expected the same in the same order"
            )
        for image in inputs:
            _must_fit(source, target, image, where)
        sets.append((ids.index(target.id), tuple(ids.index(image.id) for image in inputs)))
    for t, numbers in enumerate(zip(*((target, *inputs) for target, inputs in sets), strict=True)):
        kinds = {(images[i].scene.scene.sensor.name, images[i].bands, round(images[i].grid.gsd_m, 6)) for i in numbers}
        if len(kinds) > 1:
            what = "targets" if t == 0 else f"inputs number {t}"
            raise InputError(f"{file}: source: sets: {what} are of {len(kinds)} sensors, bands or GSDs; expected one: {sorted(kinds)}")
    return sets


def _must_fit(source: Restored, target: Image, image: Image, where: str) -> None:
    """Refuses an input whose pixels do not fill a target's window, or whose degraded size is none."""
    who = f"{where}: input {image.id!r}"
    if image.scene.crs != target.scene.crs:
        raise InputError(f"{who} is in {image.scene.crs.to_string()[:40]} and the target in another coordinate system; warp it (gdalwarp)")
    side = source.window_px * target.grid.gsd_m / image.grid.gsd_m
    step = source.stride_px * target.grid.gsd_m / image.grid.gsd_m
    ratio = source.degrade or 1
    if abs(side - round(side)) > ON_GRID_PX or abs(step - round(step)) > ON_GRID_PX or round(side) % ratio:
        raise InputError(
            f"{who}: a window of {source.window_px} pixels of {target.grid.gsd_m:g} m, every {source.stride_px}, is {side:g} of its own, "
            f"every {step:g}; expected whole numbers, the first a multiple of degrade ({ratio})"
        )
    row, column = _corner(target, image, np.array([0]), np.array([0]))
    off = max(abs(row[0] - round(row[0])), abs(column[0] - round(column[0])))
    if off > ON_GRID_PX:
        raise InputError(f"{who}: is {off:g} of its pixels off the target's grid; warp it so that corners of pixels meet (gdalwarp)")


def _corner(target: Image, image: Image, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column on an image's grid, float (N,), of the upper left corners of a target's pixels."""
    x, y = target.ground(rows, columns).T
    t = image.grid.transform
    return (y - t.f) / t.e, (x - t.c) / t.a


def _member(source: Restored, images: list[Image], of_set: list[int], set_of: np.ndarray, places: Places, t: int) -> Chips:
    """Chips of one input on the targets' ground, as they are in the files."""
    numbers = np.array(of_set)[set_of]
    side = round(source.window_px * images[places.image[0]].grid.gsd_m / images[numbers[0]].grid.gsd_m)
    corner = np.empty((2, len(numbers)), np.int64)
    for target, number in np.unique(np.stack([places.image, numbers]), axis=1).T:
        here = (places.image == target) & (numbers == number)
        top, left = places.row[here] - source.before, places.column[here] - source.before
        corner[:, here] = np.rint(_corner(images[target], images[number], top, left))
    ranges, read = RangeCheck(), []
    with ChipReader() as reader:
        for number, row, column in zip(numbers, *corner, strict=True):
            chip, seen = read_chip(reader, images[number], int(row), int(column), side, None)
            for band, plane, observed in zip(images[number].scene.bands.values(), chip, seen, strict=True):
                ranges.add(images[number].id, band.source.band, plane[observed])
            read.append((chip, seen))
    ranges.check()
    values, valid = (np.stack(parts) for parts in zip(*read, strict=True))
    return _of_one_kind(assemble(images, Places(numbers, corner[0], corner[1], places.shape), 0, values, valid))


def _of_one_kind(chips: Chips) -> Chips:
    """Chips that are all of one kind, without the kinds of other images."""
    (kind,) = np.unique(chips.input_of)
    return dataclasses.replace(chips, inputs=(chips.inputs[kind],), input_of=np.zeros_like(chips.input_of))


def _spoil(source: Restored, chips: Chips, set_of: np.ndarray, places: Places, t: int) -> Chips:
    """An input with gaps, or degraded."""
    values, valid = chips.values, chips.valid
    if source.gaps is not None and t == 0:
        side, how = values.shape[-1], source.gaps
        seeds = zip(set_of.tolist(), places.row.tolist(), places.column.tolist(), strict=True)
        gaps = np.stack([draw_gaps(side, how.share, how.blob_px, (how.seed, *seed)) for seed in seeds])
        valid = valid & ~gaps[:, None]
        values = np.where(valid, values, np.float32(0))
    if source.degrade is not None:
        values, valid = area_mean(values, valid, source.degrade)
    kinds = tuple(dataclasses.replace(kind, gsd_m=kind.gsd_m * (source.degrade or 1)) for kind in chips.inputs)
    return dataclasses.replace(chips, values=values, valid=valid, inputs=kinds)


def _shared_ground(images: list[Image], targets: np.ndarray) -> np.ndarray:
    """For each set, the number of the target image of the first set that shares ground with it, directly or through others."""
    rects = [(images[i].scene.crs, images[i].grid.rect) for i in targets]
    first = np.arange(len(rects))
    for a, (crs_a, one) in enumerate(rects):
        for b, (crs_b, other) in enumerate(rects[:a]):
            both = one.intersection(other)
            if crs_a == crs_b and both.width_m > 0 and both.height_m > 0:
                joined = (first[a], first[b])
                first[np.isin(first, joined)] = min(joined)
    return targets[first]
