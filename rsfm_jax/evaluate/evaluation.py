"""The whole of one evaluation: task file, samples, splits, models, rows, report."""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any

import torch

from rsfm_jax.errors import InputError, first_line
from rsfm_jax.evaluate.networks.restore import restoration_rows
from rsfm_jax.evaluate.networks.segment import segmentation_rows
from rsfm_jax.evaluate.plots import make_figures
from rsfm_jax.evaluate.probing.features import Model, check_model, load_model
from rsfm_jax.evaluate.probing.retrieval import retrieval_rows
from rsfm_jax.evaluate.report import CACHE, check_out, write_report
from rsfm_jax.evaluate.runner import describe, feature_sets, probe_rows, summarise
from rsfm_jax.evaluate.samples.restored import RestoredSamples
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task


def evaluate(
    folders: Sequence[pathlib.Path],
    file: pathlib.Path,
    out: pathlib.Path,
    root: pathlib.Path,
    device: str = "cpu",
    batch_size: int = 64,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluates models on a task and writes the report.

    Args:
      folders: Of the models, each exported in format "rsfm".
      file: The task file.
      out: Folder of the report.
      root: Folder that paths in the task are relative to.
      device: Of PyTorch.
      batch_size: Chips that the encoder sees at a time.
      say: Told of progress, line by line.

    Returns:
      The content of results.json.

    Raises:
      InputError: Anything wrong with models, task or data; nothing is written but features.
    """
    check_out(out)
    _check_device(device)
    task = read_task(file)
    models = _models(folders, device)
    if not root.is_dir():
        raise InputError(f"--data_root={root}: no such folder")
    samples = read_samples(task, root, file)
    say(f"{len(samples)} samples; left out: {samples.dropped}")
    for model in models:
        for chips in samples.seen:
            check_model(model, chips, task.encoding)
    splits, retrieved = make_splits(task, samples), []
    if isinstance(samples, RestoredSamples):
        rows, features, examples = restoration_rows(task, samples, splits, models, device, batch_size, say)
    elif task.kind == "segmentation":
        rows, features, examples = segmentation_rows(task, samples, splits, models, device, batch_size, say)
    else:
        sets = feature_sets(task, samples, models, out / CACHE, device, batch_size, say)
        retrieved = [] if task.retrieval is None else retrieval_rows(task, samples, splits, sets)
        rows, features, examples = probe_rows(task, samples, splits, sets, say)
    means, transfer = summarise(task, rows)
    results = describe(task, samples, splits, models) | {"figures": list(task.figures), "features": features}
    results |= {"means": means, "transfer": transfer, "retrieval": retrieved, "rows": rows}
    write_report(out, results, make_figures(task, means, samples, examples))
    return results


def _models(folders: Sequence[pathlib.Path], device: str) -> list[Model]:
    """Models, named after their folders, or their paths where folders of one name are given."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--model={folder}: no such folder")
    names = [folder.resolve().name for folder in folders]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"--model: {', '.join(map(str, folders))}: a folder is given twice")
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return [load_model(folder, name, device) for folder, name in zip(folders, names, strict=True)]


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device={device}: PyTorch cannot use it ({first_line(error)})") from None
