"""The line on the terminal: step, loss, learning rate, image sets per second, share of time waiting for data, time left."""

from collections.abc import Iterator
import contextlib
import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """A progress bar on a terminal, plain lines elsewhere; use as a context manager."""

    def __init__(self, step: int, steps: int, shows: bool = True) -> None:
        """Starts at a step.

        Args:
          step: Steps done so far.
          steps: Steps of the whole run.
          shows: Whether this process of the run shows anything.
        """
        self._shows, self._live = shows, shows and sys.stderr.isatty()
        form = "{n_fmt}/{total_fmt} |{bar}| {postfix} [{elapsed}<{remaining}]"
        self._bar = tqdm(total=steps, initial=step, disable=not self._live, bar_format=form, dynamic_ncols=True)
        self._first, self._steps = step, steps

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, row: dict[str, Any], seconds: float) -> None:
        """Shows the newest logged step.

        Args:
          row: A row of metrics.jsonl with loss, lr, sets_per_s and data_wait_share.
          seconds: Time since the loop began.
        """
        if not self._shows:
            return
        step = row["step"]
        text = f"loss {row['loss']:.4f} lr {row['lr']:.2e} {row['sets_per_s']:.1f} sets/s wait {row['data_wait_share']:.1%}"
        if self._live:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        else:
            left = seconds / max(step - self._first, 1) * (self._steps - step)
            print(f"step {step}/{self._steps} {text} ETA {left:.0f} s", flush=True)


class Clock:
    """Time spent in the loop, and how much of it was spent waiting for data."""

    def __init__(self, batch: int) -> None:
        """Starts now.

        Args:
          batch: Image sets in one step.
        """
        self._batch, self._begin = batch, time.perf_counter()
        self._lap, self._waited = self._begin, 0.0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._begin

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        since = time.perf_counter()
        yield
        self._waited += time.perf_counter() - since

    def lap(self, steps: int) -> dict[str, float]:
        """Ends a lap.

        Args:
          steps: Steps done in it.

        Returns:
          ``sets_per_s``, ``data_wait_share`` and ``seconds`` of the lap.
        """
        now = time.perf_counter()
        spent = now - self._lap
        figures = {"sets_per_s": steps * self._batch / spent, "data_wait_share": self._waited / spent, "seconds": spent}
        self._lap, self._waited = now, 0.0
        return figures
