"""Samples from a table of places: a CSV with coordinates, targets and columns of groups, over images."""

import pathlib

import numpy as np
import pandas
from rasterio import warp
from rasterio.crs import CRS

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.imagery import Image, Places, cut, open_images
from rsfm_jax.evaluate.samples.labels import existing, system_of, to_targets
from rsfm_jax.evaluate.samples.samples import Samples, has_label
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.evaluate.tasks.task_sources import Points


def read_points(task: Task, root: pathlib.Path, file: pathlib.Path) -> Samples:
    """Reads the samples of a task whose source is of kind `points`. A point that several images hold is a sample in each.

    Args:
      task: The task.
      root: Folder that paths are relative to.
      file: The task file, for messages.

    Returns:
      The samples.

    Raises:
      InputError: A file or column is missing, coordinates or targets are wrong, or no sample is left.
    """
    source = task.source
    assert isinstance(source, Points)
    images = open_images(source, root, file)
    path = existing(root, source.file, f"{file}: source: file")
    try:
        table = pandas.read_csv(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from None
    named = [source.x, source.y, *source.target, *source.groups, *([] if source.image is None else [source.image])]
    for name in named:
        if name not in table:
            columns = [str(column) for column in table.columns]
            raise InputError(f"{path}: has no column {name!r}; it has {', '.join(columns)}{nearest(name, columns)}")
    clash = [name for name in source.groups if name in ("scene", "sensor", *source.columns)]
    if clash:
        raise InputError(f"{file}: source: groups: {clash[0]!r} is also a column that the images give; rename one")
    targets = _targets(task, source, table, path)
    labelled = has_label(targets[:, 0] if targets.ndim == 2 else targets)
    dropped = {"no label": int((~labelled).sum())}
    places, row_of = _places(source, table, images, np.flatnonzero(labelled), path, dropped)
    made = cut(source, images, places, False, dropped)
    rows = row_of[made.kept]
    kept = targets[rows] > 0 if targets.ndim == 2 else targets[rows]
    names = source.target if task.kind == "multilabel" else tuple((task.classes or {}).values())
    columns = made.columns | {name: np.asarray(table[name])[rows] for name in source.groups}
    for name in source.groups:
        missing = pandas.isna(columns[name])
        if missing.any():
            raise InputError(f"{path}: column {name!r} is empty in {int(missing.sum())} of the rows used")
        columns[name] = columns[name].astype(str) if columns[name].dtype == object else columns[name]
    return Samples(made.chips, kept, names, made.groups, columns, dropped)


def _targets(task: Task, source: Points, table: pandas.DataFrame, path: pathlib.Path) -> np.ndarray:
    """Classes or quantities (M,), or labels int (M, K) with -1 in rows that lack one."""
    if task.kind != "multilabel":
        return to_targets(task, np.asarray(table[source.target[0]]), f"{path}: column {source.target[0]!r}")
    labels = table[list(source.target)]
    strange = ~(labels.isin([0, 1]) | labels.isna()).to_numpy()
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise InputError(f"{path}: {source.target[column]} is {labels.iat[row, column]!r} in row {row + 1}; expected 0 or 1")
    complete = ~labels.isna().any(axis=1)
    return np.where(np.asarray(complete)[:, None], labels.fillna(0).to_numpy(np.int64), -1)


def _places(
    source: Points, table: pandas.DataFrame, images: list[Image], rows: np.ndarray, path: pathlib.Path, dropped: dict[str, int]
) -> tuple[Places, np.ndarray]:
    """Where the points of rows lie in the images that hold them, and which row each place is of."""
    xy = np.stack([np.asarray(pandas.to_numeric(table[name], errors="coerce"), np.float64) for name in (source.x, source.y)], axis=1)[rows]
    if not np.isfinite(xy).all():
        raise InputError(f"{path}: {source.x} or {source.y} is no number in {int((~np.isfinite(xy)).any(axis=1).sum())} rows with a label")
    system = system_of(source.crs, f"{path}")
    if system == CRS.from_epsg(4326) and (np.abs(xy) > [180, 90]).any():
        raise InputError(f"{path}: {source.x}, {source.y} go up to {np.abs(xy).max(axis=0)}; expected degrees, or state their crs")
    parts, found = [], np.zeros(len(rows), bool)
    for i, image in enumerate(images):
        asked = np.ones(len(rows), bool) if source.image is None else np.asarray(table[source.image].astype(str))[rows] == image.id
        x, y = warp.transform(system, image.scene.crs, xy[:, 0], xy[:, 1])[:2]
        row, column = image.pixels(np.asarray(x), np.asarray(y))
        inside = asked & (row >= 0) & (row < image.grid.height) & (column >= 0) & (column < image.grid.width)
        found |= inside
        at = np.flatnonzero(inside)
        parts.append((np.full(len(at), i), row[at], column[at], np.full(len(at), -1), rows[at]))
    dropped["in no image"] = int((~found).sum())
    image_of, row, column, shape, row_of = (np.concatenate(axis).astype(np.int64) for axis in zip(*parts, strict=True))
    return Places(image_of, row, column, shape), row_of
