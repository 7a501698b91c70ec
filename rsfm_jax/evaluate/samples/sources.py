"""From a task to its samples, whatever their source, and the checks that all samples must pass."""

import pathlib

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.catalogue import read_catalogue
from rsfm_jax.evaluate.samples.points import read_points
from rsfm_jax.evaluate.samples.rasters import read_rasters
from rsfm_jax.evaluate.samples.restored import read_restored
from rsfm_jax.evaluate.samples.samples import Samples
from rsfm_jax.evaluate.tasks.task import Task

READERS = {"rasters": read_rasters, "points": read_points, "tfds": read_catalogue, "restored": read_restored}


def read_samples(task: Task, root: pathlib.Path, file: pathlib.Path) -> Samples:
    """Reads the samples of a task.

    Args:
      task: The task.
      root: Folder that paths in the task are relative to.
      file: The task file, for messages.

    Returns:
      The samples; what was left out is counted in them.

    Raises:
      InputError: Anything wrong with what the source names, or a class that no sample has.
    """
    samples = READERS[task.source.kind](task, root, file)
    empty = [name for name, count in samples.counts().items() if not count]
    if empty and task.kind in ("classification", "segmentation"):
        what = "pixel" if task.kind == "segmentation" else "sample"
        raise InputError(f"{file}: no {what} is of class {', '.join(empty)}; leave it out of classes (dropped: {samples.dropped})")
    if task.kind == "regression" and not np.isfinite(samples.targets).all():
        raise InputError(f"{file}: {int((~np.isfinite(samples.targets)).sum())} targets are not finite")
    return samples
