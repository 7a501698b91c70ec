"""Ctrl-C and SIGTERM ask the loop to stop after the step in hand; a second Ctrl-C stops at once."""

import signal
from types import FrameType, TracebackType

from rsfm_jax.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED


class Interrupts:
    """Collects stop requests while it is entered.

    Attributes:
      exit_code: None while nobody asked to stop, else the exit code that the front door returns.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_PREEMPTED
