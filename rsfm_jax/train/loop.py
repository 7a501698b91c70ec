"""The training loop: read a batch, take a step, now and then log, draw and save; stop when asked; continue where it stopped."""

import dataclasses
from typing import Any

from etils import epath
import jax
import numpy as np
from PIL import Image

from rsfm_jax.config import Config, to_dict
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.stream import Batch, BatchStream
from rsfm_jax.errors import EXIT_OK
from rsfm_jax.layouts import Layout
from rsfm_jax.models.build import abstract_model, count_params
from rsfm_jax.models.spec import model_spec, token_layout
from rsfm_jax.objectives.masking import visible_count
from rsfm_jax.parallel.mesh import check_batch, make_mesh
from rsfm_jax.parallel.processes import check_same, first_alone, is_first, say
from rsfm_jax.parallel.sharding import process_share, to_global
from rsfm_jax.train.checkpoint import Checkpoints
from rsfm_jax.train.interrupts import Interrupts
from rsfm_jax.train.metrics import MetricsLog
from rsfm_jax.train.optimizer import learning_rate, make_optimizer
from rsfm_jax.train.pictures import draw, make_reconstruct
from rsfm_jax.train.pretrained import read_fitting, start_from_published
from rsfm_jax.train.progress import Clock, Progress
from rsfm_jax.train.state import TrainState, abstract_state, init_state
from rsfm_jax.train.step import Step, make_step
from rsfm_jax.train.workdir import CONFIG_FILE, claim_workdir, describe_run


class NotFiniteError(RuntimeError):
    """The loss or the gradient is no longer a number; the message names the image sets of the step."""


@dataclasses.dataclass
class Pending:
    """A step whose metrics are still on the device."""

    step: int
    layout: str
    metrics: dict[str, jax.Array]
    global_index: np.ndarray


class Trainer:
    """One run on one mesh."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        """Builds the model's definition, the optimiser, the mesh and the jitted steps; allocates nothing.

        Args:
          config: The experiment.
          dataset: The dataset.

        Raises:
          InputError: a mesh or batch size that does not fit.
        """
        self.config, self.dataset = config, dataset
        self.mesh = make_mesh(config.parallel)
        check_batch(self.mesh, config.data.global_batch_size)
        self._share = process_share(self.mesh, config.data.global_batch_size)
        self.spec = model_spec(config, dataset.layouts)
        for layout in dataset.layouts:
            for slot in token_layout(layout, config.tokenizer).layout.slots:
                visible_count(slot, config.mask.ratio)  # names a slot that the ratio leaves nothing
        self.model = abstract_model(self.spec)
        self.optimizer = make_optimizer(config, self.model.names)
        self.abstract = abstract_state(self.model, self.optimizer, self.mesh)
        layouts = {layout.name: layout for layout in dataset.layouts}
        self.steps: dict[str, Step] = {  # compiled at their first batch
            name: make_step(self.model, self.optimizer, config, layout, self.abstract, self.mesh) for name, layout in layouts.items()
        }
        self._reconstruct = {name: make_reconstruct(self.model, config, layout, self.mesh) for name, layout in layouts.items()}
        self._schedule = learning_rate(config)
        self._pending: list[Pending] = []
        self._recent: dict[str, Batch] = {}

    def _layout(self, name: str) -> Layout:
        return next(layout for layout in self.dataset.layouts if layout.name == name)

    def initial_state(self) -> TrainState:
        """The state at step 0, drawn from the seed; with config.init.torch published weights are put in, or an `InputError` raised."""
        state = init_state(self.spec, self.optimizer, self.abstract, self.config.train.seed)
        return start_from_published(self.config.init.torch, self.spec, state) if self.config.init.torch else state

    def run(self, workdir: epath.Path, interrupts: Interrupts) -> int:
        """Trains to the last step or until asked to stop.

        Args:
          workdir: The run's folder, already claimed.
          interrupts: Entered stop requests.

        Returns:
          The exit code: 0 when the last step is done, else that of the stop request.
        """
        train = self.config.train
        stream = BatchStream(self.dataset, self.config.data, train.seed, *self._share)
        with Checkpoints(workdir, train.keep_checkpoints) as checkpoints, stream:
            state, step = self._start(checkpoints, stream)
            self._announce(step, workdir)
            run = describe_run(self.config, self.dataset)
            with MetricsLog(workdir, step, is_first()) as log, Progress(step, train.steps, is_first()) as progress:
                clock = Clock(self.config.data.global_batch_size)
                while step < train.steps and not interrupts.stop(step):
                    state, step = self._advance(state, step, stream, clock), step + 1
                    saving = step % train.checkpoint_every == 0
                    if step % train.log_every == 0 or saving:
                        progress.show(self._log(log, stream, clock), clock.seconds)
                    if train.picture_every and step % train.picture_every == 0:
                        self._draw(state, step, workdir, log)
                    if saving:
                        checkpoints.save(step, state, stream.get_state(), run)
                if self._pending:
                    progress.show(self._log(log, stream, clock), clock.seconds)
                checkpoints.save(step, state, stream.get_state(), run)  # does nothing for a step already saved
        if step < train.steps:
            say(f"stopped at step {step} of {train.steps}, saved; the same command continues there")
            return interrupts.exit_code or EXIT_OK
        say(f"finished {train.steps} steps")
        return EXIT_OK

    def _start(self, checkpoints: Checkpoints, stream: BatchStream) -> tuple[TrainState, int]:
        restored = checkpoints.restore_latest(self.abstract)
        if restored is None:
            return self.initial_state(), 0
        state, position = restored
        stream.set_state(position)
        return state, int(state.step)

    def _announce(self, step: int, workdir: epath.Path) -> None:
        layouts = ", ".join(f"{name} ({counts['train']} sets)" for name, counts in self.dataset.sets.items() if counts.get("train"))
        mesh = " x ".join(f"{axis} {size}" for axis, size in self.mesh.shape.items())
        where = f"{self.mesh.size} device(s)" + (f" of {jax.process_count()} processes" if jax.process_count() > 1 else "")
        say(
            f"{count_params(self.model.shapes) / 1e6:.1f} M parameters on {where}: {mesh}",
            f"layouts: {layouts}",
            f"{'continuing at' if step else 'starting at'} step {step} of {self.config.train.steps} in {workdir}",
        )

    def _advance(self, state: TrainState, step: int, stream: BatchStream, clock: Clock) -> TrainState:
        with clock.waiting():
            layout, batch = stream.next(step)
        self._recent[layout.name] = batch
        state, metrics = self.steps[layout.name](state, to_global(self.mesh, batch))
        self._pending.append(Pending(step + 1, layout.name, metrics, batch["global_index"]))
        return state

    def _log(self, log: MetricsLog, stream: BatchStream, clock: Clock) -> dict[str, Any]:
        rows = []
        for pending in self._pending:
            values = jax.device_get(pending.metrics)
            row: dict[str, Any] = {"step": pending.step, "layout": pending.layout, "loss": float(values["loss"])}
            row |= {"lr": float(np.asarray(self._schedule(pending.step - 1))), "grad_norm": float(values["grad_norm"])}
            row |= {name: [float(x) for x in values[name]] for name in ("slot_losses", "slot_leaks")}
            if not (np.isfinite(row["loss"]) and np.isfinite(row["grad_norm"])):
                log.write(rows)
                raise NotFiniteError(self._blame(pending, values, stream))
            rows.append(row)
        rows[-1] |= clock.lap(len(rows))
        self._pending.clear()
        log.write(rows)
        return rows[-1]

    def _blame(self, pending: Pending, values: dict[str, np.ndarray], stream: BatchStream) -> str:
        share = len(pending.global_index)
        errors = values["example_errors"][self._share[0] * share :][:share]
        bad = [int(i) for i, error in zip(pending.global_index, errors, strict=True) if not np.isfinite(error)]
        named = ", ".join(f"{stream.key(pending.layout, i)} (global index {i})" for i in bad[:5])
        where = f"in image sets {named}" if bad else "in the gradient, with every image set's error finite"
        return (
            f"step {pending.step}, layout {pending.layout}: loss {values['loss']}, gradient norm {values['grad_norm']} {where}; "
            "the last checkpoint is from before it"
        )

    def _draw(self, state: TrainState, step: int, workdir: epath.Path, log: MetricsLog) -> None:
        folder = workdir / "pictures"
        for name, batch in self._recent.items():
            shown = self._reconstruct[name](state.params, to_global(self.mesh, batch))
            if not is_first():
                continue
            folder.mkdir(exist_ok=True)
            picture = draw(self._layout(name), self.dataset.statistics, jax.device_get(shown), self.config)
            Image.fromarray(picture).save(folder / f"step_{step:07d}_{name}.png")
            log.picture(f"reconstruction/{name}", picture, step)


def run_training(config: Config, workdir: str) -> int:
    """Trains a config in a folder, from the start or from its newest checkpoint.

    Args:
      config: The validated experiment.
      workdir: The run's folder.

    Returns:
      The exit code.

    Raises:
      InputError: a dataset, mesh, folder or file of weights that does not fit the config.
      NotFiniteError: the loss is no longer a number.
    """
    dataset = open_dataset(config.data.path)
    fields = to_dict(config)
    del fields["data"]["path"]  # may be a folder of each host
    check_same("the config or the dataset", [fields, dataset.digest])
    trainer = Trainer(config, dataset)
    folder = epath.Path(workdir)
    if config.init.torch and not (folder / CONFIG_FILE).exists():
        read_fitting(config.init.torch, trainer.spec)  # or the folder would belong to a run that cannot start
    first_alone(lambda: claim_workdir(folder, config, dataset))
    with Interrupts(jax.process_count() > 1) as interrupts:
        return trainer.run(folder, interrupts)
