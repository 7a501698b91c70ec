"""Samples from a prepared TFDS dataset (EuroSAT, BigEarthNet, So2Sat, ...), read without TensorFlow.

Legend: N samples, C bands, H W pixels, K labels.
"""

import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.samples import MIN_VALID_SHARE, Chips, Input, Samples, draw
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.evaluate.tasks.task_sources import Catalogue
from rsfm_jax.ingest.chips import physical
from rsfm_jax.ingest.statistics import RangeCheck
from rsfm_jax.sensors import get_sensor

UNSEEN = f"less than {MIN_VALID_SHARE:.0%} observed, or nodata in the middle"


def read_catalogue(task: Task, root: pathlib.Path, file: pathlib.Path) -> Samples:
    """Reads the samples of a task whose source is of kind `tfds`. A sample's pixel is the middle one of its chip.

    Args:
      task: The task.
      root: Folder that `data_dir` is relative to.
      file: The task file, for messages.

    Returns:
      The samples. Where they lie is not known; each is a group of its own for inner folds, or shares it with its scene.

    Raises:
      InputError: The dataset is not prepared, a split, feature or band is not there, or values are not in the unit of their band.
    """
    source = task.source
    assert isinstance(source, Catalogue)
    who = f"{file}: source"
    sensor = get_sensor(source.sensor)
    bands = tuple(source.bands)
    for name in bands:
        sensor.band(name)
    builder = _builder(source, root, who)
    names = _names(task, builder, source, who)
    dropped = {"not drawn": 0, UNSEEN: 0}
    values, valid, targets, ranges = [], [], [], RangeCheck()
    table: dict[str, list[Any]] = {name: [] for name in ("scene", "split", *source.groups)}
    for split in source.splits:
        if split.partition("[")[0] not in builder.info.splits:
            raise InputError(f"{who}: {source.name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
        examples = builder.as_data_source(split)
        chosen = draw(len(examples), source.most, source.draw_seed)
        dropped["not drawn"] += len(examples) - len(chosen)
        for index in chosen.tolist():
            example = examples[index]
            chip, seen = _chip(source, example, who)
            if seen.mean(axis=(1, 2)).min() < MIN_VALID_SHARE or not seen[:, seen.shape[1] // 2, seen.shape[2] // 2].all():
                dropped[UNSEEN] += 1
                continue
            for name, plane, observed in zip(bands, chip, seen, strict=True):
                ranges.add(f"{source.name} {split}", sensor.band(name), plane[observed])
            values.append(chip)
            valid.append(seen)
            targets.append(_target(task, _at(example, source.label, who), names, who))
            entries = {name: _text(_at(example, name, who)) for name in source.groups}
            entries |= {"split": split, "scene": f"{split} {index}" if source.scene is None else _text(_at(example, source.scene, who))}
            for name, entry in entries.items():
                table[name].append(entry)
    if len({chip.shape for chip in values}) != 1:
        raise InputError(f"{who}: chips have the shapes {sorted({chip.shape for chip in values})}; expected one, of at least one chip")
    ranges.check()
    n, side = len(values), values[0].shape[-1]
    chips = Chips(
        values=np.stack(values),
        valid=np.stack(valid),
        inputs=(Input(source.sensor, bands, source.gsd_m),),
        input_of=np.zeros(n, np.int64),
        time=np.zeros((n, 3), np.float32),
        ground=None,
        before=side // 2,
    )
    columns = {name: np.array(entries) for name, entries in table.items()} | {"sensor": np.full(n, source.sensor)}
    return Samples(chips, np.stack(targets), names, np.unique(columns["scene"], return_inverse=True)[1].reshape(-1), columns, dropped)


def _builder(source: Catalogue, root: pathlib.Path, who: str) -> Any:
    folder = None if source.data_dir is None else str(root / source.data_dir)
    try:
        return read_only_builder.builder_from_files(source.name, data_dir=folder, file_format="array_record")
    except (tfds.core.DatasetNotFoundError, FileNotFoundError, AssertionError, ValueError):
        given = f", data_dir={folder!r}" if folder else ""
        raise InputError(
            f"{who}: the dataset {source.name!r} is not prepared in {folder or 'the folder of TFDS, ~/tensorflow_datasets'}; where "
            'TensorFlow is installed: python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{source.name}'{given}, file_format='array_record').download_and_prepare()\""
        ) from None


def _names(task: Task, builder: Any, source: Catalogue, who: str) -> tuple[str, ...]:
    """Names of classes or labels: the task's, or the feature's."""
    if task.kind == "regression":
        return ()
    if task.classes is not None:
        return tuple(task.classes.values())
    feature = dict(builder.info.features).get(source.label)
    feature = getattr(feature, "feature", feature)  # of a sequence, what it is a sequence of
    if not isinstance(feature, tfds.features.ClassLabel):
        raise InputError(f"{who}: label {source.label!r} has no names in {source.name}; state classes, values and names")
    return tuple(feature.names)


def _chip(source: Catalogue, example: dict[str, Any], who: str) -> tuple[np.ndarray, np.ndarray]:
    """Physical values float32 (C, H, W), 0 where invalid, and valid."""
    planes = []
    for name, at in source.bands.items():
        stored = np.asarray(_at(example, at.feature, who))
        channels = stored.shape[2] if stored.ndim == 3 else 1
        if stored.ndim not in (2, 3) or (at.index is None and channels > 1) or not 1 <= (at.index or 1) <= channels:
            raise InputError(f"{who}: bands: {name}: feature {at.feature!r} has the shape {stored.shape} and index is {at.index}")
        planes.append(stored if stored.ndim == 2 else stored[..., (at.index or 1) - 1])
    if len({plane.shape for plane in planes}) > 1:
        shapes = ", ".join(f"{name} {plane.shape}" for name, plane in zip(source.bands, planes, strict=True))
        raise InputError(f"{who}: bands have different sizes ({shapes}); choose those of one size")
    stored = np.stack(planes).astype(np.float64)
    valid = np.isfinite(stored) & (True if source.nodata is None else stored != source.nodata)
    return physical(stored, valid, source.scale, source.offset), valid


def _target(task: Task, value: Any, names: tuple[str, ...], who: str) -> Any:
    if task.kind == "regression":
        return np.float64(value)
    if task.kind == "multilabel":
        return np.isin(np.arange(len(names)), np.asarray(value))
    keys = list(task.classes) if task.classes else list(range(len(names)))
    found = _text(value) if isinstance(value, bytes | str) else int(value)
    if found not in keys:
        raise InputError(f"{who}: a label is {found!r}; expected one of the classes {', '.join(map(str, keys))}")
    return np.int64(keys.index(found))


def _at(example: dict[str, Any], name: str, who: str) -> Any:
    """A feature of an example, with / between the names of nested ones."""
    value: Any = example
    for part in name.split("/"):
        if not isinstance(value, dict) or part not in value:
            names = sorted(value) if isinstance(value, dict) else []
            raise InputError(f"{who}: examples have no feature {name!r} (there are {', '.join(names)}){nearest(part, names)}")
        value = value[part]
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
