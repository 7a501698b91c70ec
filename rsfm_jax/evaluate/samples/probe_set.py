"""The samples of a task as the labelled set that training is probed with: the file of `config.probe.path`.

`rsfm_jax.train.probe_set` reads it and says what it holds.
"""

from collections.abc import Sequence
import os
import pathlib
from typing import Any

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.samples.samples import Samples
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import Task, read_task


def make_probe_set(file: pathlib.Path, root: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
    """Writes the samples of a task, the training side first, as an ``.npz`` for `config.probe.path`.

    Training sees chips as a whole: which pixel of a chip the label is of, where it lies and when it was seen are not in the file.

    Args:
      file: The task file; a classification of chips of one sensor, its bands and GSD, split once.
      root: Folder that paths in the task are relative to.
      out: The file to write; must not exist.

    Returns:
      Plain values: ``train_n``, ``test_n``, ``counts`` of each class on each side, ``chip`` (bands, rows, columns), ``sensor``, ``bands``,
      ``gsd_m``, and ``dropped``, how many samples are in neither side, by reason.

    Raises:
      InputError: The file exists, the task is of another sort (names the key), or what reading it raises.
    """
    if out.exists():
        raise InputError(f"--probe_set={out}: exists already; choose another name, or delete it first")
    if not root.is_dir():
        raise InputError(f"--data_root={root}: no such folder")
    task = read_task(file)
    if task.kind != "classification":
        raise InputError(f"{file}: kind is {task.kind!r}; the probe of training takes classification")
    samples = read_samples(task, root, file)
    split = _one_split(file, task, samples, make_splits(task, samples))
    chips, rows = samples.chips, np.concatenate([split.train, split.test])
    kind = chips.inputs[0]
    fields = {
        "values": chips.values[rows].transpose(0, 2, 3, 1),
        "valid": chips.valid[rows].transpose(0, 2, 3, 1),
        "labels": samples.targets[rows],
        "test": np.arange(len(rows)) >= len(split.train),
        "sensor": kind.sensor,
        "bands": np.array(kind.bands),
        "gsd_m": kind.gsd_m,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **fields)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return {
        "train_n": len(split.train),
        "test_n": len(split.test),
        "counts": {side: samples.counts(chosen) for side, chosen in (("train", split.train), ("test", split.test))},
        "chip": list(chips.values.shape[1:]),
        "sensor": kind.sensor,
        "bands": list(kind.bands),
        "gsd_m": kind.gsd_m,
        "dropped": samples.dropped | split.dropped,
    }


def _one_split(file: pathlib.Path, task: Task, samples: Samples, splits: Sequence[Split]) -> Split:
    """The only split of samples that one file can hold; refuses others."""
    inputs = samples.chips.inputs
    if len(inputs) > 1:
        kinds = "; ".join(f"{kind.sensor} {' '.join(kind.bands)} at {kind.gsd_m:g} m" for kind in inputs)
        raise InputError(f"{file}: source: the samples are of {kinds}; the probe of training takes one sensor with one GSD")
    if len(splits) > 1:
        raise InputError(
            f"{file}: split of kind {task.split.kind!r} makes {len(splits)} splits; the probe of training takes one: spatial, column"
        )
    (split,) = splits
    trained, tested = samples.counts(split.train), samples.counts(split.test)
    unseen = [name for name in samples.names if tested[name] and not trained[name]]
    if unseen or sum(map(bool, trained.values())) < 2:
        raise InputError(
            f"{file}: split: the training side has {trained}; the probe of training needs two classes or more, and each that is tested "
            f"(without samples to learn from: {', '.join(unseen) or 'none'})"
        )
    return split
