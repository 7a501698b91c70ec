"""The training log on disk: metrics.jsonl and TensorBoard, continued without repetition after a restart."""

import json
from typing import Any

from etils import epath
import numpy as np
from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"


def read_metrics(workdir: epath.Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a last line that was cut short by a crash is left out."""
    file = epath.Path(workdir) / METRICS_FILE
    if not file.exists():
        return []
    *whole, last = file.read_text().split("\n")  # every whole line ends with a newline, so the rest is empty or cut short
    del last
    return [json.loads(line) for line in whole]


class MetricsLog:
    """Writes one JSON line and the TensorBoard scalars for every step; use as a context manager.

    Attributes:
      kept: Rows of earlier starts, up to the step this one goes on from.
      dropped: Rows of later steps, no longer in the file.
    """

    def __init__(self, workdir: epath.Path, step: int, writes: bool = True) -> None:
        """Opens the log at a step; rows of later steps, left by a run that was cut off, are dropped.

        Args:
          workdir: The run's folder.
          step: Steps done so far.
          writes: Whether this process of the run writes at all; only one may.
        """
        self._writes = writes
        self.kept: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        if not writes:
            return
        file = workdir / METRICS_FILE
        for row in read_metrics(workdir):
            (self.kept if row["step"] <= step else self.dropped).append(row)
        unfinished = file.with_name(file.name + ".unfinished")
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in self.kept))
        unfinished.replace(file)
        self._file = file.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writes:
            self._file.close()
            self._board.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows; each has ``step`` and scalars.

        Args:
          rows: New rows, in order of step.
        """
        if not self._writes:
            return
        self._file.write("".join(json.dumps(row) + "\n" for row in rows))
        self._file.flush()
        for row in rows:
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name, value, row["step"])
        self._board.flush()

    def picture(self, name: str, image_HW3: np.ndarray, step: int) -> None:
        """Adds a uint8 picture to TensorBoard."""
        self._board.add_image(name, image_HW3, step, dataformats="HWC")
