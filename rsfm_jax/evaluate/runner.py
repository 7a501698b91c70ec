"""One task, any number of models: features once, every probe on every split, baselines always beside the models, means and transfer tables.

The result is one dict of plain values for JSON; `rsfm_jax.evaluate.report` writes it.
"""

from collections.abc import Callable, Sequence
import dataclasses
import importlib.metadata
import json
import pathlib
import statistics
from typing import Any

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.aggregate import over_seeds, transfer_table
from rsfm_jax.evaluate.probing.features import FeatureSet, Model, baseline_features, encoder_features, random_model
from rsfm_jax.evaluate.probing.probe_models import BASELINE
from rsfm_jax.evaluate.probing.probes import Samples as ProbeSamples
from rsfm_jax.evaluate.probing.probes import fit_probe, probe
from rsfm_jax.evaluate.probing.splits import Split
from rsfm_jax.evaluate.samples.noise import noisy_chips
from rsfm_jax.evaluate.samples.samples import Chips, Samples
from rsfm_jax.evaluate.tasks.task import LESS_IS_BETTER, Task, Transfer

KEYS = ("features", "layer", "pooling", "probe", "mode", "per_class")
EXAMPLES = 12  # chips of the test side whose predictions are shown
PACKAGES = ("rsfm_jax", "torch", "scikit-learn", "numpy", "rasterio", "geopandas")
Row = dict[str, Any]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Chips of the test side with what one model predicts.

    Attributes:
      title: Which model and probe.
      rows: Indices of the samples, int64 (M,).
      predicted: As the samples' targets, of those rows.
    """

    title: str
    rows: np.ndarray
    predicted: np.ndarray


def probe_rows(
    task: Task,
    samples: Samples,
    splits: Sequence[Split],
    sets: Sequence[FeatureSet],
    say: Say,
) -> tuple[list[Row], list[Row], Examples]:
    """Runs the probes of a task that is not segmentation or restoration.

    Args:
      task: The task.
      samples: Its samples.
      splits: Of them.
      sets: Of `feature_sets`.
      say: Told of progress.

    Returns:
      A row for each split, feature set, probe, number of labels and seed; what is known of each feature set; and examples.

    Raises:
      InputError: What probes refuse.
    """
    groups = inner_groups(task, samples)
    rows: list[Row] = []
    for number, split in enumerate(splits):
        for one in sets:
            say(f"probes of {_name(one.keys)}, split {number + 1} of {len(splits)}")
            rows += _probe_one(task, samples, groups, split, one, keep_baseline=one is sets[0])
    described = [{**one.keys, "width": one.values.shape[1], "filled": one.filled} for one in sets if one.seed in (None, task.seeds[0])]
    return rows, described, _examples(task, samples, groups, splits[0], next(one for one in sets if one.keys["layer"] is not None))


def inner_groups(task: Task, samples: Samples) -> np.ndarray:
    """Groups that no inner fold tears, int64 (N,): the samples' own, or those of the task's column."""
    if task.inner_groups is None:
        return samples.groups
    return np.unique(samples.column(task.inner_groups), return_inverse=True)[1].reshape(-1)


def feature_sets(
    task: Task, samples: Samples, models: Sequence[Model], cache: pathlib.Path | None, device: str, batch: int, say: Say
) -> list[FeatureSet]:
    """Features of all that needs no training, of every model, and of encoders of its config that were never trained, one for each seed.

    Args:
      task: The task.
      samples: Its samples.
      models: The encoders.
      cache: Folder of features that were computed already, or None.
      device: Of the encoders.
      batch: Chips at a time.
      say: Told of progress.

    Returns:
      Feature sets, those without an encoder first; with their noise where the task states that of the chips.

    Raises:
      InputError: What chips, noise or encoders refuse.
    """
    encoders = [(one, seed) for model in models for one, seed in _and_untrained(model, task.seeds, device)]

    def of(chips: Chips, what: str) -> list[FeatureSet]:
        sets = baseline_features(chips, task.baselines)
        for model, seed in encoders:
            if seed is None:
                say(f"features of {model.name}{what}")
            found = encoder_features(model, chips, task.encoding, cache, device, batch)
            sets += [dataclasses.replace(one, seed=seed) for one in found]
        return sets

    sets = of(samples.chips, "")
    if task.noise is None:
        return sets
    draws = [of(noisy_chips(samples, task.noise, k), f", noise {k + 1} of {task.noise.draws}") for k in range(task.noise.draws)]
    noise = [np.stack([one.values.astype(np.float32) for one in same], axis=1) for same in zip(*draws, strict=True)]
    return [dataclasses.replace(one, noise=drawn) for one, drawn in zip(sets, noise, strict=True)]


def _and_untrained(model: Model, seeds: Sequence[int], device: str) -> list[tuple[Model, int | None]]:
    """A model, which is for all seeds, and an encoder of its config that was never trained for each of them."""
    return [(model, None), *((random_model(model, seed, device), seed) for seed in seeds)]


def _probe_one(task: Task, samples: Samples, groups: np.ndarray, split: Split, one: FeatureSet, keep_baseline: bool) -> list[Row]:
    assert task.kind not in ("segmentation", "restoration")
    train, test = _sides(samples, groups, split, one)
    classes = samples.names if task.kind == "classification" else None
    rows = []
    for per_class in task.per_class:
        try:
            seeds = task.seeds if one.seed is None else (one.seed,)
            found = probe(task.probes, task.kind, train, test, seeds, classes, per_class, components=task.qda_components)
        except InputError as error:
            raise InputError(f"task {task.name}: split {split.keys or 'into two'}, {_name(one.keys)}: {error}") from None
        for row in found:
            ours = row["probe"] != BASELINE[task.kind]
            if ours or keep_baseline:  # the row without features is the same for all of them
                keys = one.keys if ours else {"features": "none", "layer": None, "pooling": None}
                rows.append({"task": task.name, **split.keys, **keys, "mode": None, **row})
    return rows


def _sides(samples: Samples, groups: np.ndarray, split: Split, one: FeatureSet) -> tuple[ProbeSamples, ProbeSamples]:
    everything = ProbeSamples(one.values, samples.targets, groups, one.noise)
    return everything.take(split.train), everything.take(split.test)


def _examples(task: Task, samples: Samples, groups: np.ndarray, split: Split, one: FeatureSet) -> Examples:
    """Predictions of the first probe on the first model's first features, on the first split."""
    assert task.kind not in ("segmentation", "restoration")
    train, _ = _sides(samples, groups, split, one)
    name = task.probes[0]
    count = len(samples.names) if task.kind == "classification" else 0
    fitted = fit_probe(name, task.kind, train, task.seeds[0], count, components=task.qda_components)
    rows = np.sort(np.random.default_rng(0).permutation(split.test)[:EXAMPLES])
    outputs = fitted.outputs(one.values[rows], None if one.noise is None else one.noise[rows])
    predicted = {"classification": lambda: outputs.argmax(axis=1), "multilabel": lambda: outputs >= 0.5, "regression": lambda: outputs}
    return Examples(f"{name} on {_name(one.keys)}", rows, predicted[task.kind]())


def summarise(task: Task, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Means over seeds, those over folds first, and transfer tables.

    Args:
      task: The task.
      rows: Of `probe_rows`, of segmentation or restoration.

    Returns:
      Means, the best first, with `KEYS`, the pair of groups where there are such, `folds`, and each figure with its deviation over seeds;
      and the tables of `transfer_table` for the first figure, with `KEYS`.
    """
    first = task.figures[0]
    pairs = ["train_group", "test_group"] if isinstance(task.split, Transfer) else []
    by = [*KEYS, *pairs]
    means = over_seeds(_over_folds(rows, by, task.figures), [*by, "folds"], task.figures)
    sign = 1 if first in LESS_IS_BETTER else -1
    means.sort(key=lambda row: (row["per_class"] is not None, row["per_class"] or 0, row[first] is None, sign * (row[first] or 0.0)))
    tables = []
    for identity in dict.fromkeys(tuple(row[key] for key in KEYS) for row in means) if pairs else ():
        same = sorted(
            (row for row in means if tuple(row[key] for key in KEYS) == identity), key=lambda row: [str(row[key]) for key in pairs]
        )
        tables.append({**dict(zip(KEYS, identity, strict=True)), "rows": transfer_table(same, first)})
    return means, tables


def _over_folds(rows: Sequence[Row], by: Sequence[str], figures: Sequence[str]) -> list[Row]:
    """One row for each seed: plain means over folds, None where a fold has none."""
    together: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        together.setdefault((*(row[key] for key in by), row["seed"]), []).append(row)
    made = []
    for same in together.values():
        mean = {key: same[0][key] for key in (*by, "seed")} | {"folds": len(same)}
        for key in figures:
            values = [row[key] for row in same]
            mean[key] = None if None in values else statistics.fmean(values)
        made.append(mean)
    return made


def describe(task: Task, samples: Samples, splits: Sequence[Split], models: Sequence[Model]) -> dict[str, Any]:
    """What the results are of: task, samples, sides, models, versions; plain values for JSON."""
    sides = []
    for split in splits:
        counts = {side: samples.counts(rows) for side, rows in (("train", split.train), ("test", split.test))}
        absent = [name for name, count in counts["train"].items() if not count]
        sides.append(
            {
                **split.keys,
                "train_n": len(split.train),
                "test_n": len(split.test),
                "dropped": split.dropped,
                "counts": counts,
                "not_trained_on": absent,
            }
        )
    chips = samples.chips
    return {
        "task": json.loads(json.dumps(dataclasses.asdict(task), default=str)),  # YAML makes dates, and keys that are numbers
        "samples": {
            "n": len(samples),
            "chip": list(chips.values.shape[1:]),
            "inputs": [dataclasses.asdict(kind) for seen in samples.seen for kind in seen.inputs],
            "counts": samples.counts(),
            "dropped": samples.dropped,
            "digest": samples.digest(),
            "columns": list(samples.columns),
        },
        "splits": sides,
        "models": [{"name": model.name, "source": model.source, "sha256": model.digest} for model in models],
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def _name(keys: dict[str, Any]) -> str:
    return keys["features"] if keys["layer"] is None else f"{keys['features']}, layer {keys['layer']}, {keys['pooling']}"
