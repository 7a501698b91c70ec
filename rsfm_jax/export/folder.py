"""From a run's checkpoint to a model folder, all or nothing.

model.safetensors   the encoder's weights, timm's names
config.json         bands with wavelength and unit, mean and std in that unit, sizes, encodings, pooling, hashes, versions
modeling_rsfm.py    the model, needs torch and safetensors only
README.md           the model card
parity.json         differences to the JAX features on real chips
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
from typing import Any

from etils import epath
import jax
import numpy as np
from safetensors.numpy import load_file, save

from rsfm_jax.config import ParallelConfig, config_from_dict
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.errors import InputError
from rsfm_jax.export.description import describe_model, model_card
from rsfm_jax.export.parity import check_parity
from rsfm_jax.export.weights import StateDict, encoder_state_dict
from rsfm_jax.layouts import layout_from_dict
from rsfm_jax.models.build import Params, abstract_model
from rsfm_jax.models.spec import ModelSpec, model_spec
from rsfm_jax.parallel.mesh import make_mesh
from rsfm_jax.staging import check_free, new_folder
import rsfm_jax.torch.modeling_rsfm
from rsfm_jax.train.checkpoint import FOLDER, UNREADABLE, Checkpoints, first_line
from rsfm_jax.train.optimizer import make_optimizer
from rsfm_jax.train.state import abstract_state


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint's content, in float32 on one device."""

    spec: ModelSpec
    params: Params
    run: dict[str, Any]
    step: int


def read_checkpoint(workdir: pathlib.Path, step: int | None) -> Trained:
    """Reads a run's checkpoint.

    Args:
      workdir: The run's folder.
      step: A step that has a checkpoint; None for the newest.

    Returns:
      What was trained.

    Raises:
      InputError: no such run or checkpoint.
    """
    if not (workdir / FOLDER).is_dir():
        raise InputError(f"--workdir={workdir}: no run with checkpoints there; train one with python -m rsfm_jax.train --workdir={workdir}")
    with Checkpoints(epath.Path(workdir), keep=None) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise InputError(f"--workdir={workdir}: the run has no finished checkpoint yet")
        if step is not None and step not in steps:
            raise InputError(f"--step={step}: no checkpoint of that step in {workdir}; there are {steps}")
        step = steps[-1] if step is None else step
        try:
            return _restore(checkpoints, step)
        except UNREADABLE as error:
            raise InputError(
                f"--workdir={workdir}: checkpoint {step} cannot be read ({first_line(error)}); try --step, of {steps}"
            ) from None


def _restore(checkpoints: Checkpoints, step: int) -> Trained:
    run = checkpoints.run(step)
    config = config_from_dict(run["config"])
    config.model.compute_dtype, config.model.attention = "float32", "plain"
    spec = model_spec(config, [layout_from_dict(layout) for layout in run["layouts"]])
    model = abstract_model(spec)
    mesh = make_mesh(ParallelConfig(1, 1, 1, 1), jax.devices()[:1])
    state, _ = checkpoints.restore(step, abstract_state(model, make_optimizer(config, model.names), mesh))
    return Trained(spec, jax.device_get(state.params), run, step)


def export_run(workdir: pathlib.Path, out: pathlib.Path, step: int | None = None, data: str | None = None) -> dict[str, Any]:
    """Writes the model folder of a run and proves its parity.

    Args:
      workdir: The run's folder.
      out: The folder to make; must not exist, or be empty.
      step: Which checkpoint; None for the newest.
      data: The run's dataset, where it has moved.

    Returns:
      ``step``, ``parameters``, ``parity_max_abs`` and the rows of ``parity``.

    Raises:
      InputError: anything wrong with the input; nothing is left at ``out``.
      ParityError: the features differ; nothing is left at ``out``.
    """
    check_free(out, "out")
    trained = read_checkpoint(workdir, step)
    return write_folder(trained, _dataset_of(trained, data), out)


def write_folder(trained: Trained, dataset: Dataset, out: pathlib.Path) -> dict[str, Any]:
    """Writes the model folder of what was trained; see `export_run`."""
    weights = encoder_state_dict(trained.spec, trained.params)
    description = describe_model(trained.spec, trained.run, trained.step)
    with new_folder(out, "out") as folder:
        _write_weights(weights, folder / "model.safetensors")
        shutil.copyfile(rsfm_jax.torch.modeling_rsfm.__file__, folder / "modeling_rsfm.py")
        description["sha256"] = {name: _sha256(folder / name) for name in ("model.safetensors", "modeling_rsfm.py")}
        (folder / "config.json").write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
        parity = check_parity(folder, trained.spec, trained.params, dataset)
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        (folder / "README.md").write_text(model_card(description, parity))
    return {
        "step": trained.step,
        "parameters": sum(int(x.size) for x in weights.values()),
        "parity_max_abs": max(row["tokens_max_abs"] for row in parity),
        "parity": parity,
    }


def _dataset_of(trained: Trained, data: str | None) -> Dataset:
    path = data or trained.run["config"]["data"]["path"]
    try:
        dataset = open_dataset(path)
    except InputError as error:
        raise InputError(f"the parity check needs chips of the run's dataset: {error}; if it has moved, give --data=FOLDER") from None
    if dataset.digest != trained.run["dataset_digest"]:
        raise InputError(f"--data={path}: is not the dataset of the run (its digest differs)")
    return dataset


def _write_weights(weights: StateDict, file: pathlib.Path) -> None:
    file.write_bytes(save(weights, metadata={"format": "pt"}))
    written = load_file(file)
    wrong = [name for name, array in weights.items() if not np.array_equal(written[name], array)]
    if wrong or set(written) != set(weights):
        raise RuntimeError(f"{file}: does not read back as written: {wrong or sorted(set(written) ^ set(weights))}")


def _sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
