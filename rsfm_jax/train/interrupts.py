"""Ctrl-C and SIGTERM ask the loop to stop after the step in hand; a second Ctrl-C stops at once.

A checkpoint that is being written is waited for even then.

In a run of several processes one that is asked to stop tells the others, and all stop after the same step: JAX's preemption service waits
for SIGTERM, so this code leaves that signal to it and turns a Ctrl-C into one.
"""

import os
import signal
from types import FrameType, TracebackType

from rsfm_jax.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED
from rsfm_jax.parallel.processes import others_stopped


class Interrupts:
    """Collects stop requests while it is entered.

    Attributes:
      exit_code: None while nobody asked to stop, else the exit code that the front door returns.
    """

    def __init__(self, several: bool) -> None:
        """Prepares.

        Args:
          several: Whether the run has several processes.
        """
        self.exit_code: int | None = None
        self._several = several
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, step: int) -> bool:
        """Whether to stop now; to be asked before every step, in all processes.

        Args:
          step: Steps done.

        Returns:
          The same answer in all processes.
        """
        if self._several and others_stopped(step):
            self.exit_code = self.exit_code or EXIT_PREEMPTED
            return True
        return not self._several and self.exit_code is not None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_PREEMPTED
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
