"""Samples from images with label rasters, shapes or boxes: at points, at labelled pixels, or on a lattice.

Legend: N samples, H W pixels.
"""

import pathlib

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.imagery import Image, Places, cut, open_images
from rsfm_jax.evaluate.samples.labels import attribute, existing, label_map, labels_of, read_shapes, to_targets
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Samples, has_label
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.evaluate.tasks.task_sources import Imagery, Rasters

Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # rows, columns, targets and shapes, each (N,)


def read_rasters(task: Task, root: pathlib.Path, file: pathlib.Path) -> Samples:
    """Reads the samples of a task whose source is of kind `rasters`.

    Args:
      task: The task.
      root: Folder that paths are relative to.
      file: The task file, for messages.

    Returns:
      The samples.

    Raises:
      InputError: Anything wrong with images or labels, or no sample is left.
    """
    source = task.source
    assert isinstance(source, Rasters)
    images = open_images(source, root, file)
    dropped: dict[str, int] = {}
    found: list[Found] = []
    maps: list[np.ndarray] = []
    shapes = 0
    for image in images:
        if source.at == "points":
            part = _points(task, image, root, file)
        else:
            targets, shape = _map(task, image, root, file, dropped)
            maps.append(targets)
            if source.at == "grid":
                assert source.stride_px
                rows, columns = lattice(source, source.stride_px, targets.shape)
                part = rows, columns, targets[rows, columns], np.full(len(rows), -1, np.int64)  # groups are blocks of ground
            else:
                part = _labelled(source, targets, shape, dropped)
        rows, columns, target, shape = part
        found.append((rows, columns, target, np.where(shape >= 0, shape + shapes, -1)))
        shapes += int(shape.max(initial=-1)) + 1
    image_of = np.repeat(np.arange(len(images)), [len(rows) for rows, *_ in found])
    rows, columns, targets, shape = (np.concatenate(parts) for parts in zip(*found, strict=True))
    places, whole = Places(image_of, rows, columns, shape), task.kind == "segmentation"
    keep = np.ones(len(rows), bool)
    if not whole:
        keep = has_label(targets)
        dropped["no label"] = int((~keep).sum())
    at = np.flatnonzero(keep)
    made = cut(source, images, places.take(at), whole, dropped)
    kept = at[made.kept]
    if not whole:
        names = tuple((task.classes or {}).values())
        return Samples(made.chips, targets[kept], names, made.groups, made.columns, dropped)
    windows = np.stack([_window(source, maps[image_of[i]], int(rows[i]), int(columns[i])) for i in kept])
    unseen = ~made.chips.valid.all(axis=1)
    dropped["labelled pixels without an observation in every band"] = int((unseen & (windows != NO_LABEL)).sum())
    windows[unseen] = NO_LABEL
    return Samples(made.chips, windows, tuple((task.classes or {}).values()), made.groups, made.columns, dropped)


def _map(task: Task, image: Image, root: pathlib.Path, file: pathlib.Path, dropped: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Targets (H, W), and the shape that each pixel is of, -1 for none."""
    assert isinstance(task.source, Rasters)
    made = label_map(task, labels_of(task.source.labels, image, file), image, root, file)
    for reason, count in made.dropped.items():
        dropped[reason] = dropped.get(reason, 0) + count
    return made.targets, np.full(made.targets.shape, -1, np.int64) if made.shape is None else made.shape


def _points(task: Task, image: Image, root: pathlib.Path, file: pathlib.Path) -> Found:
    assert isinstance(task.source, Rasters)
    labels = labels_of(task.source.labels, image, file)
    path = existing(root, labels.file, f"{file}: source: labels")
    frame = read_shapes(labels, path, image, f"{file}: source: labels")
    wrong = frame.geometry.isna() | (frame.geometry.geom_type != "Point")
    if wrong.any():
        raise InputError(f"{path}: {int(wrong.sum())} of {len(frame)} shapes are no points; expected points, or at: pixels")
    targets = to_targets(task, attribute(labels, frame, path), str(path))
    rows, columns = image.pixels(np.asarray(frame.geometry.x), np.asarray(frame.geometry.y))
    return rows, columns, targets, np.full(len(rows), -1, np.int64)


def _labelled(source: Rasters, targets: np.ndarray, shape: np.ndarray, dropped: dict[str, int]) -> Found:
    """Every pixel with a label, or some of each shape."""
    rows, columns = np.nonzero(has_label(targets))
    owner = shape[rows, columns]
    if source.most_per_shape is not None:
        order = np.random.default_rng(source.draw_seed).permutation(len(rows))
        order = order[np.argsort(owner[order], kind="stable")]
        sorted_owner = owner[order]
        rank = np.arange(len(order)) - np.searchsorted(sorted_owner, sorted_owner)
        chosen = np.sort(order[(rank < source.most_per_shape) | (sorted_owner < 0)])
        dropped["not drawn"] = dropped.get("not drawn", 0) + len(rows) - len(chosen)
        rows, columns, owner = rows[chosen], columns[chosen], owner[chosen]
    return rows, columns, targets[rows, columns], owner


def lattice(source: Imagery, stride_px: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, int64 (N,), of every pixel of a lattice whose window lies within an image of H and W pixels."""
    starts = (np.arange(0, size - source.window_px + 1, stride_px) + source.before for size in shape)
    rows, columns = (axis.reshape(-1) for axis in np.meshgrid(*starts, indexing="ij"))
    return rows, columns


def _window(source: Rasters, targets: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = row - source.before, column - source.before
    return targets[top : top + source.window_px, left : left + source.window_px].copy()
