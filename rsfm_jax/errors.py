"""The one exception that means "the input is wrong", and the front doors' exit codes.

Every front door turns an `InputError` into one message on standard error and exit code 2. Anything else that escapes is a
defect of ours and keeps its traceback.
"""

from collections.abc import Callable, Iterable
import difflib
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_OK = 0
EXIT_CRASHED = 1
EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 42
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file, the field and the fix."""


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the choice closest to ``word``, or an empty string when none is close."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def exit_code(run: Callable[[], int | None]) -> int:
    """Runs a front door's work and returns its exit code, printing an `InputError` as one message.

    Args:
      run: The work; returns an exit code, or None for success.

    Returns:
      The exit code of ``run``, 2 after an `InputError`, 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return run() or EXIT_OK
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the program like any other exit, so that what is half-written is removed."""
    del frame
    sys.exit(128 + number)
