"""What was trained: a run's checkpoint, or the average of several, on one device in float32, and the dataset it saw."""

import dataclasses
import pathlib
from typing import Any

from etils import epath
import jax
import numpy as np

from rsfm_jax.config import ParallelConfig, config_from_dict
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.errors import InputError, first_line
from rsfm_jax.layouts import layout_from_dict
from rsfm_jax.models.build import Params, abstract_model
from rsfm_jax.models.spec import ModelSpec, model_spec
from rsfm_jax.parallel.mesh import make_mesh
from rsfm_jax.train.checkpoint import FOLDER, UNREADABLE, Checkpoints
from rsfm_jax.train.optimizer import make_optimizer
from rsfm_jax.train.state import abstract_state


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint's content, in float32 on one device.

    Attributes:
      spec: The model's spec, with compute_dtype float32.
      params: The whole model's parameters, numpy arrays.
      run: What the checkpoint says of its run.
      step: Its step, the newest of several.
      averaged: The share of each step's parameters, where several were averaged.
    """

    spec: ModelSpec
    params: Params
    run: dict[str, Any]
    step: int
    averaged: dict[int, float] = dataclasses.field(default_factory=dict)


def read_checkpoint(workdir: pathlib.Path, step: int | None, average: int = 1, decay: float = 1.0) -> Trained:
    """Reads a run's checkpoint, or averages several.

    Args:
      workdir: The run's folder.
      step: A step that has a checkpoint; None for the newest.
      average: How many checkpoints up to that step to average.
      decay: Each older checkpoint counts this much of the next newer one: 1 is the plain mean, less an exponential moving average.

    Returns:
      What was trained.

    Raises:
      InputError: no such run or checkpoint, or too few of them.
    """
    if average < 1 or not 0 < decay <= 1:
        raise InputError(f"--average={average} --average_decay={decay:g}: average at least one checkpoint, with a decay in (0, 1]")
    if not (workdir / FOLDER).is_dir():
        raise InputError(f"--workdir={workdir}: no run with checkpoints there; train one with python -m rsfm_jax.train --workdir={workdir}")
    with Checkpoints(epath.Path(workdir), keep=None) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise InputError(f"--workdir={workdir}: the run has no finished checkpoint yet")
        if step is not None and step not in steps:
            raise InputError(f"--step={step}: no checkpoint of that step in {workdir}; there are {steps}")
        step = steps[-1] if step is None else step
        chosen = [s for s in steps if s <= step][-average:]
        if len(chosen) < average:
            raise InputError(f"--average={average}: only {len(chosen)} checkpoints up to step {step} in {workdir}; there are {steps}")
        weights = np.array([decay ** (len(chosen) - 1 - i) for i in range(len(chosen))])
        shares = {s: float(share) for s, share in zip(chosen, weights / weights.sum(), strict=True)}
        newest = _read(checkpoints, workdir, step)
        if average == 1:
            return newest
        mean = jax.tree.map(lambda x: x * np.float64(shares[step]), newest.params)
        for s in chosen[:-1]:
            mean = jax.tree.map(
                lambda total, x, share=shares[s]: total + x * np.float64(share), mean, _read(checkpoints, workdir, s).params
            )
        return dataclasses.replace(newest, params=jax.tree.map(lambda x: x.astype(np.float32), mean), averaged=shares)


def _read(checkpoints: Checkpoints, workdir: pathlib.Path, step: int) -> Trained:
    try:
        run = checkpoints.run(step)
        config = config_from_dict(run["config"])
        config.model.compute_dtype, config.model.attention = "float32", "plain"
        spec = model_spec(config, [layout_from_dict(layout) for layout in run["layouts"]])
        model = abstract_model(spec)
        mesh = make_mesh(ParallelConfig(1, 1, 1, 1), jax.devices()[:1])
        state, _ = checkpoints.restore(step, abstract_state(model, make_optimizer(config, model.names), mesh))
        return Trained(spec, jax.device_get(state.params), run, step)
    except UNREADABLE as error:
        raise InputError(
            f"--workdir={workdir}: checkpoint {step} cannot be read ({first_line(error)}); try --step, of {checkpoints.steps()}"
        ) from None


def dataset_of(trained: Trained, data: str | None) -> Dataset:
    """Opens the dataset of the run.

    Args:
      trained: What was trained.
      data: Where the dataset is, if it has moved.

    Returns:
      The dataset.

    Raises:
      InputError: it is not there, or another one.
    """
    path = data or trained.run["config"]["data"]["path"]
    try:
        dataset = open_dataset(path)
    except InputError as error:
        raise InputError(f"the parity check needs chips of the run's dataset: {error}; if it has moved, give --data=FOLDER") from None
    if dataset.digest != trained.run["dataset_digest"]:
        raise InputError(f"--data={path}: is not the dataset of the run (its digest differs)")
    return dataset
