"""The run's folder: whose it is, and what the run is.

config.json       the resolved config and the digests of the dataset and its curation
checkpoints/      Orbax
metrics.jsonl     one line per step
summary.json      where the time went, over all starts, written as a process ends
tensorboard/      the same, and the pictures
pictures/         reconstructions
"""

import importlib.metadata
import json
from typing import Any

from etils import epath

from rsfm_jax.config import Config, config_from_dict, differing_fields, to_dict
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"
_PACKAGES = ("rsfm_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def claim_workdir(workdir: epath.Path, config: Config, dataset: Dataset) -> None:
    """Makes a run's folder, or checks that it is this run's.

    Args:
      workdir: The folder.
      config: The resolved config.
      dataset: The dataset.

    Raises:
      InputError: the folder holds something else, or a run that computes something else.
    """
    file = workdir / CONFIG_FILE
    try:
        if not (workdir.exists() and file.exists()):
            if workdir.exists() and any(workdir.iterdir()):
                raise InputError(f"--workdir={workdir}: holds something that is not a run of this program; choose another folder")
            workdir.mkdir(parents=True, exist_ok=True)
            unfinished = workdir.parent / f".{workdir.name}-{CONFIG_FILE}"
            digests = {"dataset_digest": dataset.digest, "curation_digest": dataset.curation_digest}
            unfinished.write_text(json.dumps({"config": to_dict(config)} | digests, indent=1) + "\n")
            unfinished.replace(file)
            return
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be used ({error}); choose another folder") from None
    try:
        claimed = json.loads(file.read_text())
        changes = differing_fields(config_from_dict(claimed["config"]), config)
    except (json.JSONDecodeError, KeyError) as error:
        raise InputError(f"{file}: not a config of this program ({error}); choose another --workdir") from None
    if changes:
        raise InputError(f"--workdir={workdir}: belongs to a run with another config ({'; '.join(changes)}); choose another folder")
    if claimed["dataset_digest"] != dataset.digest:
        raise InputError(f"--workdir={workdir}: belongs to a run on another dataset than {dataset.path}; choose another folder")
    before = claimed.get("curation_digest", "")
    if before != dataset.curation_digest:
        read = f"the sets kept by {dataset.curation}" if dataset.curation else "all sets"
        was = "the sets kept by another curation" if before else "all sets"
        raise InputError(f"--workdir={workdir}: belongs to a run on {was}, and config.data.curation asks for {read}; choose another folder")


def describe_run(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What a run is, as JSON: config, layouts, statistics, digests, versions. Every checkpoint holds it."""
    return {
        "config": to_dict(config),
        "layouts": [to_dict(layout) for layout in dataset.layouts],
        "statistics": dataset.statistics,
        "dataset_digest": dataset.digest,
        "curation_digest": dataset.curation_digest,
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
