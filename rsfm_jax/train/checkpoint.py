"""Checkpoints: the state, the position in the data, and what the run is, written together by Orbax.

A checkpoint of step N holds everything that step N + 1 depends on. Saves run beside the training; a save cut short leaves only a temporary
folder, which the next start removes. Restoring works on any mesh.
"""

import contextlib
import pathlib
from typing import Any

from absl import logging
from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from rsfm_jax.errors import InputError, first_line
from rsfm_jax.train.state import TrainState

FOLDER = "checkpoints"
UNREADABLE = (ValueError, KeyError, TypeError, FileNotFoundError, RuntimeError)  # what Orbax raises for a damaged checkpoint


def _absolute(folder: epath.Path) -> epath.Path:
    """Orbax refuses to write below a relative path; one with a scheme, as gs://, is absolute."""
    return folder if folder.is_absolute() else epath.Path(pathlib.Path.cwd() / folder)


class Checkpoints:
    """The checkpoints of one run; use as a context manager, leaving it waits for the last save.

    Attributes:
      newest: The last step that this run saved or restored; None before.
    """

    def __init__(self, workdir: epath.Path, keep: int | None) -> None:
        """Opens the folder, made when missing.

        Args:
          workdir: The run's folder.
          keep: Newest checkpoints to keep; None opens for reading only.
        """
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(keep) if keep else None,
            cleanup_tmp_directories=keep is not None,
            create=keep is not None,
            read_only=keep is None,
        )
        self._manager = ocp.CheckpointManager(_absolute(workdir) / FOLDER, options=options)
        self.newest: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._manager.close()

    def wait(self) -> None:
        """Returns once everything is written; Ctrl-C does not cut it short."""
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                self._manager.wait_until_finished()
                return

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, position: dict[str, Any], run: dict[str, Any]) -> None:
        """Starts a save, unless the step is saved already; returns once the state has been copied.

        Args:
          step: Steps done.
          state: The state.
          position: Position in the data.
          run: What the run is: config, layouts, statistics, versions; JSON.
        """
        if step == self.newest:
            return
        for damaged in (later for later in self.steps() if self.newest is not None and later > self.newest):
            self._manager.delete(damaged)  # could not be read at the start, and stands in the way of this one
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position), run=ocp.args.JsonSave(run))
        if not self._manager.save(step, args=items, force=True):
            raise RuntimeError(f"checkpoint of step {step} was refused; the newest is {self._manager.latest_step()}")
        self.newest = step

    def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Reads a checkpoint onto the shardings of ``abstract``.

        Args:
          step: A step of `steps`.
          abstract: Shapes, types and shardings.

        Returns:
          The state and the position in the data.
        """
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        state = restored["state"]
        missing = [jax.tree_util.keystr(p) for p, leaf in jax.tree_util.tree_leaves_with_path(state) if not isinstance(leaf, jax.Array)]
        if missing:
            raise RuntimeError(f"checkpoint of step {step} lacks {missing}")
        return state, restored["position"]

    def restore_latest(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Reads the newest checkpoint that can be read, or returns None when there is none.

        Raises:
          InputError: there are checkpoints and none can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                restored = self.restore(step, abstract)
            except UNREADABLE as error:
                logging.warning("checkpoint of step %d cannot be read (%s); trying the one before", step, first_line(error))
            else:
                self.newest = step
                return restored
        if steps:
            raise InputError(f"none of the checkpoints {steps} can be read; they are damaged or of another model")
        return None

    def run(self, step: int) -> dict[str, Any]:
        """What the run of a checkpoint is: the JSON given to `save`."""
        return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]
