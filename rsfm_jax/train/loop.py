"""The training loop: read a batch, take a step, now and then log, draw and save; stop when asked; continue where it stopped."""

import contextlib
import dataclasses
import json
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
from rsfm_jax.models.build import count_params
from rsfm_jax.parallel.chips import peak_flops
from rsfm_jax.parallel.processes import check_same, first_alone, is_first, say
from rsfm_jax.parallel.sharding import process_share, to_global
from rsfm_jax.train.checkpoint import Checkpoints
from rsfm_jax.train.flops import step_flops
from rsfm_jax.train.goodput import PROCESS_BEGAN, Clock, cost_of_start, goodput, summary_line
from rsfm_jax.train.interrupts import Interrupts
from rsfm_jax.train.metrics import MetricsLog, read_metrics
from rsfm_jax.train.pictures import draw, make_reconstruct
from rsfm_jax.train.pretrained import check_published, start_from_published
from rsfm_jax.train.probe import make_probe, probe_every
from rsfm_jax.train.probe_set import read_probe_set
from rsfm_jax.train.program import make_program
from rsfm_jax.train.progress import Progress
from rsfm_jax.train.state import TrainState, init_state
from rsfm_jax.train.step import Step
from rsfm_jax.train.workdir import CONFIG_FILE, SUMMARY_FILE, claim_workdir, describe_run


class NotFiniteError(RuntimeError):
    """The loss or the gradient is no longer a number; the message names the image sets of the step."""


@dataclasses.dataclass
class Pending:
    """A step whose metrics are still on the device."""

    step: int
    layout: str
    metrics: dict[str, jax.Array]
    global_index: np.ndarray
    probe: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


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
        self.program = program = make_program(config, dataset.layouts)
        *self._share, self._rows = process_share(program.mesh, config.data.global_batch_size)
        self.steps: dict[str, Step] = {layout.name: program.step(layout) for layout in dataset.layouts}  # compiled at their first batch
        self._reconstruct = {layout.name: make_reconstruct(program.model, config, layout, program.mesh) for layout in dataset.layouts}
        rows = config.data.global_batch_size
        self._flops = {layout.name: rows * step_flops(config, layout) for layout in dataset.layouts}
        self._pending: list[Pending] = []
        self._recent: dict[str, Batch] = {}
        self._probe, self._probe_every = None, 0
        if config.probe.path:
            labelled = read_probe_set(config.probe.path, dataset)
            self._probe, self._probe_every = make_probe(config, program, labelled), probe_every(config, program, labelled)

    def _layout(self, name: str) -> Layout:
        return next(layout for layout in self.dataset.layouts if layout.name == name)

    def initial_state(self) -> TrainState:
        """The state at step 0, drawn from the seed; with config.init.torch published weights are put in, or an `InputError` raised."""
        state = init_state(self.program.spec, self.program.optimizer, self.program.abstract, self.config.train.seed)
        return start_from_published(self.config.init.torch, self.program.spec, state) if self.config.init.torch else state

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
                clock = self._clock(log)
                while step < train.steps and not interrupts.stop(step):
                    state, step = self._advance(state, step, stream, clock), step + 1
                    if self._probe and step % self._probe_every == 0:
                        with clock.spent_on("probe_s"):
                            self._pending[-1].probe = self._probe(state.params)
                    saving = step % train.checkpoint_every == 0
                    drawing = train.picture_every > 0 and step % train.picture_every == 0
                    if saving or drawing or ((step - 1) % train.log_every == 0 and len(self._pending) > 1):
                        progress.show(self._log(log, stream, clock, self._take_pending(behind=not (saving or drawing))), clock.seconds)
                    if drawing:
                        with clock.spent_on("picture_s"):
                            self._draw(state, step, workdir, log)
                    if saving:
                        with clock.spent_on("checkpoint_s"):
                            checkpoints.save(step, self.program.release(state), stream.get_state(), run)
                if self._pending:
                    progress.show(self._log(log, stream, clock, self._take_pending(behind=False)), clock.seconds)
                with clock.spent_on("checkpoint_s"):
                    if step != checkpoints.newest:
                        checkpoints.save(step, self.program.release(state), stream.get_state(), run)
                    checkpoints.wait()
                rest = clock.rest()
        if is_first():
            say(summary_line(self._summarise(workdir, rest)))
        if step < train.steps:
            say(f"stopped at step {step} of {train.steps}, saved; the same command continues there")
            return interrupts.exit_code or EXIT_OK
        say(f"finished {train.steps} steps")
        return EXIT_OK

    def _start(self, checkpoints: Checkpoints, stream: BatchStream) -> tuple[TrainState, int]:
        restored = checkpoints.restore_latest(self.program.abstract)
        if restored is None:
            return self.program.hold(self.initial_state()), 0
        state, position = restored
        stream.set_state(position)
        return self.program.hold(state), int(state.step)

    def _clock(self, log: MetricsLog) -> Clock:
        peak = peak_flops(self.program.mesh.devices.flat[0])
        cost = cost_of_start(log.kept, log.dropped, PROCESS_BEGAN)
        return Clock(self.config.data.global_batch_size, peak and peak * self.program.mesh.size, cost)

    def _summarise(self, workdir: epath.Path, rest: dict[str, float]) -> dict[str, float]:
        found = goodput([*read_metrics(workdir), rest])
        (workdir / SUMMARY_FILE).write_text(json.dumps(found, indent=1) + "\n")
        return found

    def _announce(self, step: int, workdir: epath.Path) -> None:
        layouts = ", ".join(f"{name} ({counts['train']} sets)" for name, counts in self.dataset.sets.items() if counts.get("train"))
        mesh = " x ".join(f"{axis} {size}" for axis, size in self.program.mesh.shape.items())
        where = f"{self.program.mesh.size} device(s)" + (f" of {jax.process_count()} processes" if jax.process_count() > 1 else "")
        say(
            f"{count_params(self.program.model.shapes) / 1e6:.1f} M parameters on {where}: {mesh}",
            f"layouts: {layouts}",
            *([f"probe of {self.config.probe.path} every {self._probe_every} steps"] if self._probe else []),
            f"{'continuing at' if step else 'starting at'} step {step} of {self.config.train.steps} in {workdir}",
        )

    def _advance(self, state: TrainState, step: int, stream: BatchStream, clock: Clock) -> TrainState:
        with clock.spent_on("data_wait_s"):
            layout, batch = stream.next(step)
        placed, first = to_global(self.program.mesh, batch), layout.name not in self._recent
        self._recent[layout.name] = batch
        with clock.spent_on("compile_s") if first else contextlib.nullcontext():
            state, metrics = self.steps[layout.name](state, placed)
        self._pending.append(Pending(step + 1, layout.name, metrics, batch["global_index"]))
        return state

    def _take_pending(self, behind: bool) -> list[Pending]:
        """Steps to be logged; ``behind`` leaves the newest, so that the device has work while the others are read."""
        count = len(self._pending) - int(behind)
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _log(self, log: MetricsLog, stream: BatchStream, clock: Clock, steps: list[Pending]) -> dict[str, Any]:
        rows = []
        for pending in steps:
            values = jax.device_get(pending.metrics)
            row: dict[str, Any] = {"step": pending.step, "layout": pending.layout}
            row |= {name: float(values[name]) for name in ("loss", "lr", "grad_norm")}
            row |= {name: [float(x) for x in values[name]] for name in ("slot_losses", "slot_leaks")}
            row |= {name: float(value) for name, value in jax.device_get(pending.probe).items()}
            if not (np.isfinite(row["loss"]) and np.isfinite(row["grad_norm"])):
                log.write(rows)
                raise NotFiniteError(self._blame(pending, values, stream))
            rows.append(row)
            clock.count(self._flops[pending.layout])
        rows[-1] |= clock.lap(len(rows))
        log.write(rows)
        return rows[-1]

    def _blame(self, pending: Pending, values: dict[str, np.ndarray], stream: BatchStream) -> str:
        errors = values["example_errors"][self._rows]
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
            shown = self._reconstruct[name](state.params, to_global(self.program.mesh, batch))
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
    dataset = open_dataset(config.data.path, config.data.curation)
    fields = to_dict(config)
    del fields["data"]["path"], fields["data"]["curation"]  # may be folders of each host
    check_same("the config or the dataset", [fields, dataset.digest, dataset.curation_digest])
    trainer = Trainer(config, dataset)
    folder = epath.Path(workdir)
    if config.init.torch and not (folder / CONFIG_FILE).exists():
        check_published(config.init.torch, trainer.program.spec)  # or the folder would belong to a run that cannot start
    first_alone(lambda: claim_workdir(folder, config, dataset))
    with Interrupts(jax.process_count() > 1) as interrupts:
        return trainer.run(folder, interrupts)
