"""Where a run's time goes: steps, waiting for data, compilation, checkpoints, pictures, probes, and what restarts cost.

Every lap's row in metrics.jsonl has the seconds of each, and the first row after a start has what the start cost, so the file alone tells
the whole run's goodput, over all its starts: the share of its time that was spent on steps that count.
"""

from collections.abc import Iterable, Iterator
import contextlib
import time
from typing import Any

PROCESS_BEGAN = time.time()  # as this room is imported; what comes before is a second or two of Python
SPANS: tuple[str, ...] = ("data_wait_s", "compile_s", "checkpoint_s", "picture_s", "probe_s")
RESTART: tuple[str, ...] = ("start_s", "lost_s", "down_s")


class Clock:
    """Time spent in the loop, and on what."""

    def __init__(self, batch: int, peak_flops: float | None, began: dict[str, float] | None = None) -> None:
        """Starts now.

        Args:
          batch: Image sets in one step.
          peak_flops: FLOP/s of all devices together at their peak; None where unknown.
          began: What the start cost, for the first lap's row; see `cost_of_start`.
        """
        self._batch, self._peak, self._first = batch, peak_flops, began or {}
        self._begin = self._lap = time.perf_counter()
        self._spent, self._flops = dict.fromkeys(SPANS, 0.0), 0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._begin

    @contextlib.contextmanager
    def spent_on(self, span: str) -> Iterator[None]:
        """Counts the time inside as one of `SPANS`."""
        since = time.perf_counter()
        yield
        self._spent[span] += time.perf_counter() - since

    def count(self, flops: int) -> None:
        """Counts a step.

        Args:
          flops: Its FLOPs, over all devices.
        """
        self._flops += flops

    def lap(self, steps: int) -> dict[str, float]:
        """Ends a lap.

        Args:
          steps: Steps done in it.

        Returns:
          ``seconds``, ``sets_per_s``, ``data_wait_share``, the seconds of each of `SPANS`, ``step_s`` (what is left, for one step),
          ``flops_per_s`` over all devices, ``mfu`` where the peak is known, ``unix_s``, and in the first lap what the start cost.
        """
        now = time.perf_counter()
        wall = now - self._lap
        row: dict[str, float] = {"seconds": wall, "sets_per_s": steps * self._batch / wall, "unix_s": time.time()}
        row |= self._spent | {"data_wait_share": self._spent["data_wait_s"] / wall, "step_s": (wall - sum(self._spent.values())) / steps}
        row |= {"flops_per_s": self._flops / wall}
        if self._peak:
            row["mfu"] = row["flops_per_s"] / self._peak
        row |= self._first
        self._lap, self._first, self._spent, self._flops = now, {}, dict.fromkeys(SPANS, 0.0), 0
        return row

    def rest(self) -> dict[str, float]:
        """What came after the last lap, as a checkpoint: ``seconds``, those of each of `SPANS`, and the start's cost if no lap had it."""
        return {"seconds": time.perf_counter() - self._lap} | self._spent | self._first


def cost_of_start(kept: Iterable[dict[str, Any]], dropped: Iterable[dict[str, Any]], began_unix_s: float) -> dict[str, float]:
    """What it costs to start a run, or to go on with one.

    Args:
      kept: Rows of metrics.jsonl up to the checkpoint.
      dropped: Rows after it, whose steps are taken again.
      began_unix_s: When this process began.

    Returns:
      ``start_s``, from the process's begin to now, and ``starts``, 1; after an earlier start also ``lost_s``, logged work after the
      checkpoint, and ``down_s``, from the last logged step to this process's begin: with a checkpoint that ended the earlier start, and
      with starts that logged nothing. What earlier starts cost whose rows are dropped, for they ended before they saved, is added in.
    """
    cost = {"start_s": time.time() - began_unix_s, "starts": 1}
    rows = [row for row in (*kept, *dropped) if "unix_s" in row]
    if rows:
        lost = [row for row in dropped if "unix_s" in row]
        cost["lost_s"] = sum(row["seconds"] + row.get("start_s", 0.0) + row.get("lost_s", 0.0) for row in lost)
        cost["down_s"] = max(began_unix_s - rows[-1]["unix_s"], 0.0) + sum(row.get("down_s", 0.0) for row in lost)
        cost["starts"] += sum(row.get("starts", 0) for row in lost)
    return cost


def goodput(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Adds up a run.

    Args:
      rows: Its metrics.jsonl, and `Clock.rest` of the last start.

    Returns:
      ``total_s`` (all but ``down_s``), ``goodput`` (share of it spent on steps that count), the sum of each of `SPANS`
      and `RESTART`, ``starts``, and ``mfu`` over the time of the laps where it was known.
    """
    laps = [row for row in rows if "seconds" in row]
    sums = {name: sum(row.get(name, 0.0) for row in laps) for name in (*SPANS, *RESTART)}
    wall = sum(row["seconds"] for row in laps)
    total = wall + sums["start_s"] + sums["lost_s"]
    productive = wall - sum(sums[name] for name in SPANS)
    found = {"total_s": total, "goodput": productive / total if total else 0.0, **sums, "starts": sum(row.get("starts", 0) for row in laps)}
    known = [row for row in laps if "mfu" in row]
    if known:
        found["mfu"] = sum(row["mfu"] * row["seconds"] for row in known) / sum(row["seconds"] for row in known)
    return found


def summary_line(found: dict[str, float]) -> str:
    """The result of `goodput` in one line."""
    total = found["total_s"] or 1.0
    parts = [("data", "data_wait_s"), ("compilation", "compile_s"), ("checkpoints", "checkpoint_s"), ("pictures", "picture_s")]
    parts += [("probes", "probe_s")] if found.get("probe_s") else []
    parts += [("starting", "start_s"), ("lost to restarts", "lost_s")]
    shares = ", ".join(f"{name} {found[key] / total:.1%}" for name, key in parts)
    mfu = f"; MFU {found['mfu']:.1%}" if "mfu" in found else ""
    return f"goodput {found['goodput']:.1%} of {found['total_s']:.0f} s in {found['starts']:.0f} start(s): {shares}{mfu}"
