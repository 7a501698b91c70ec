"""The line on the terminal: step, loss, learning rate, image sets per second, share of time waiting for data, time left."""

import sys
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
