"""How many image sets a second the input gives, where the time goes, and whether an accelerator would be kept busy.

Stages are timed one after the other on one thread, in seconds of a core: on a machine that does other things too they stay what they are.
The stream is timed as the run would use it, in seconds of the clock.
"""

from collections.abc import Callable
import dataclasses
import os
import statistics
import time
from typing import Any

import numpy as np

from rsfm_jax.config import DataConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.data.stream import BatchStream
from rsfm_jax.layouts import Layout
from rsfm_jax.parallel.chips import GPU_PEAK_FLOPS, TPU_PEAK_FLOPS

PEAK_FLOPS = TPU_PEAK_FLOPS | GPU_PEAK_FLOPS
_LEAST_TIMES_READY = 4  # a round is at least so many times as long as what readers hold ready, which would count as read at once
HOST_CORES = {"v5e": 28, "v5p": 52, "v6e": 22, "h100": 26, "h200": 28, "a100": 12}
"""Virtual CPUs of the host for each chip: cloud.google.com, machine types ct5lp-hightpu-8t, ct5p-hightpu-4t, ct6e-standard-8t,
a3-highgpu-8g, a3-ultragpu-8g, a2-highgpu-8g."""


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What was measured of one layout.

    Attributes:
      layout: Its name.
      record_mib: Mean size of a record before compression, MiB.
      example_mib: Size of an image set in a batch, MiB.
      stages_ms: Milliseconds of one core for each image set, by stage.
      stream_sets_per_s: As configured, by the clock, of each round.
      readers: How it was read, in words.
    """

    layout: str
    record_mib: float
    example_mib: float
    stages_ms: dict[str, float]
    stream_sets_per_s: list[float]
    readers: str

    @property
    def sets_per_core_s(self) -> float:
        """Image sets that one core makes in a second."""
        return 1e3 / sum(self.stages_ms.values())

    @property
    def sets_per_s(self) -> float:
        """Median of the stream as configured."""
        return statistics.median(self.stream_sets_per_s)


def core_ms(work: Callable[[], Any], sets: int) -> float:
    """Milliseconds of this process's cores that some work takes for each of its image sets."""
    begin = time.process_time()
    work()
    return 1e3 * (time.process_time() - begin) / sets


def stages(dataset: Dataset, layout: Layout, batch: int, sets: int, rounds: int) -> dict[str, float]:
    """Times the stages of reading one after the other, on this thread.

    Args:
      dataset: The dataset.
      layout: One of its layouts.
      batch: Image sets in a batch.
      sets: Image sets of a round.
      rounds: Rounds; each stage's median counts.

    Returns:
      Milliseconds of a core for each image set, by stage.
    """
    records, decoder = dataset.records(layout, "train"), Decoder(dataset, layout)
    batches = np.random.default_rng(0).integers(0, len(records), (max(sets // batch, 1), batch)).tolist()
    spent: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        walked = {
            "read and decompress": lambda numbers: [len(records.serialised[i]) for i in numbers],
            "find the features": lambda numbers: [len(records[i]) for i in numbers],
            "normalise into the batch": lambda numbers: decoder.batch((records[i] for i in numbers), batch),
        }
        before = 0.0
        for name, work in walked.items():
            total = core_ms(lambda work=work: [work(numbers) and None for numbers in batches], len(batches) * batch)
            spent.setdefault(name, []).append(total - before)
            before = total
    return {name: statistics.median(values[1:]) for name, values in spent.items()}


def stream_rate(dataset: Dataset, config: DataConfig, layout: Layout, batches: int, rounds: int) -> list[float]:
    """Image sets a second that arrive in this process, read as configured; one number for each round after a first that is not counted."""
    one = dataclasses.replace(dataset, layouts=(layout,))
    rates = []
    with BatchStream(one, config, 0, 0, 1) as stream:
        step = 0
        ready = max(config.prefetch_batches, config.read_threads) * max(config.read_processes, 1) + config.read_processes
        batches = max(batches, _LEAST_TIMES_READY * ready)
        for _ in range(ready):  # what the readers had made ahead says nothing of how fast they are
            stream.next(step)
            step += 1
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(batches):
                stream.next(step)
                step += 1
            rates.append(batches * config.global_batch_size / (time.perf_counter() - begin))
    return rates


def measure(dataset: Dataset, config: DataConfig, layout: Layout, sets: int, rounds: int) -> Throughput:
    """Measures one layout.

    Args:
      dataset: The dataset.
      config: How it would be read.
      layout: One of its layouts.
      sets: About how many image sets a round reads.
      rounds: Rounds.

    Returns:
      What was found.
    """
    records, size = dataset.records(layout, "train"), config.global_batch_size
    example = Decoder(dataset, layout)(records[0])
    arrays = [array for member in example["members"] for array in member.values()] + list(example["place"].values())
    few = range(min(len(records), 16))
    readers = (
        f"{config.read_processes} process(es) of {config.read_threads} thread(s)" if config.read_processes else "threads of this process: "
    )
    return Throughput(
        layout=layout.name,
        record_mib=sum(len(records.serialised[i]) for i in few) / len(few) / 2**20,
        example_mib=sum(array.nbytes for array in arrays) / 2**20,
        stages_ms=stages(dataset, layout, size, sets, rounds),
        stream_sets_per_s=stream_rate(dataset, config, layout, max(sets // size, 1), rounds),
        readers=readers if config.read_processes else f"{readers}{config.read_threads}",
    )


def needed_sets_per_s(accelerator: str, gflop_per_set: float, mfu: float) -> float:
    """Image sets that one chip can take in a second: its peak times the share of it that a run reaches, over the FLOPs of a set."""
    return PEAK_FLOPS[accelerator] * mfu / (gflop_per_set * 1e9)


def table(found: Throughput) -> str:
    """What was measured, for people."""
    total = sum(found.stages_ms.values())
    rows = [f"layout {found.layout}: {found.record_mib:.2f} MiB a record, {found.example_mib:.2f} MiB a set in the batch"]
    rows += [f"  {name:26}{value:9.3f} ms of a core{value / total:7.1%}" for name, value in found.stages_ms.items()]
    rows += [f"  {'one core':26}{found.sets_per_core_s:9,.0f} sets/s"]
    low, high = min(found.stream_sets_per_s), max(found.stream_sets_per_s)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows += [f"  {'as configured':26}{found.sets_per_s:9,.0f} sets/s ({low:,.0f} to {high:,.0f}) by {found.readers}; {cores} core(s) here"]
    return "\n".join(rows)


def verdict(found: Throughput, needed: float, accelerator: str) -> tuple[bool, str]:
    """Whether the input keeps up.

    Args:
      found: What was measured.
      needed: Image sets a second.
      accelerator: A chip of `HOST_CORES`, or empty.

    Returns:
      Whether the stream as configured gives as much, and what to know about it.
    """
    cores = needed / found.sets_per_core_s
    said = f"  {found.layout}: {needed:,.0f} sets/s needed, {found.sets_per_s:,.0f} given here; the work of {cores:.1f} core(s) like these"
    if accelerator:
        said += f" for each {accelerator}, whose host has {HOST_CORES[accelerator]}"
    if found.sets_per_s >= needed:
        return True, f"{said}: keeps up"
    return False, f"{said}: does not keep up; raise config.data.read_threads or read_processes, or read on a host with more cores"
