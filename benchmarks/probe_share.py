"""How much of training's time the in-loop probe takes where `config.probe.every` is left open.

    python benchmarks/probe_share.py --size=base --chips=1000 --batch=32

Steps and probes in turn in one process, for `--rounds` rounds after one that is not counted, of MAE (mask ratio 0.75, targets and sizes as
in benchmarks/step.py) and a labelled set of as many chips of the same size, half of them to test. The share is that of a probe's median
time, waited for to its end, in the steps between two probes and the probe itself. Random pixels: the figures are of time, not of accuracy.
The last line is JSON.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from benchmarks.parity_mae import SIZES, Size, camera
from benchmarks.step import Ours, our_config, timed
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.train.probe import make_probe, probe_every
from rsfm_jax.train.probe_set import ProbeSet

CLASSES = 10


def labelled_set(size: Size, chips: int) -> ProbeSet:
    """Random chips with random classes, every second one to test."""
    side, rng = size.images[0][0], np.random.default_rng(1)
    slot = camera(side, size.patch).slots[0]
    pixels = rng.normal(size=(chips, side, side, len(slot.bands))).astype(np.float32)
    labels, test = rng.integers(0, CLASSES, chips).astype(np.int32), np.arange(chips) % 2 == 1
    return ProbeSet(slot, pixels, np.ones(pixels.shape, bool), labels, test, CLASSES)


def measure(size: Size, backend: str, chips: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Times both in turn.

    Args:
      size: Of the model.
      backend: ``cpu`` or ``gpu``.
      chips: Of the labelled set.
      batch: Images in a step.
      steps: Steps of a turn.
      rounds: Rounds that count.

    Returns:
      Medians, steps between two probes, the probe's share of the time and its extremes over the rounds.
    """
    side = size.images[0][0]
    config, data = our_config(size, batch, backend), labelled_set(size, chips)
    training = Ours(config, np.random.default_rng(0).normal(size=(batch, side, side, 3)).astype(np.float32), size.patch)
    probe, every = make_probe(config, training.program, data), probe_every(config, training.program, data)
    step_s, probe_s = [], []
    for number in range(rounds + 1):
        spent = timed(training.turn, steps)
        begin = time.perf_counter()
        figures = jax.block_until_ready(probe(training.state.params))
        took = time.perf_counter() - begin
        assert all(0 <= float(value) <= 1 for value in figures.values())
        if number:
            step_s.append(spent)
            probe_s.append(took)
            print(f"round {number}: {spent:.4f} s a step, {took:.4f} s a probe", flush=True)
    shares = sorted(b / (every * a + b) for a, b in zip(step_s, probe_s, strict=True))
    a, b = statistics.median(step_s), statistics.median(probe_s)
    found: dict[str, Any] = {"share": b / (every * a + b), "shares": [shares[0], shares[-1]], "step_s": a, "probe_s": b, "every": every}
    return found | {"chips": chips, "batch": batch, "device": jax.devices()[0].device_kind, "jax": jax.__version__}


def run(given: argparse.Namespace) -> None:
    """Checks the numbers, measures and prints."""
    if min(given.batch, given.steps, given.rounds) < 1 or given.chips < 2 * CLASSES:
        raise InputError(f"--batch, --steps and --rounds must be at least 1, --chips at least {2 * CLASSES}")
    backend = "gpu" if jax.default_backend() == "gpu" else "cpu"
    print(json.dumps(measure(SIZES[given.size], backend, given.chips, given.batch, given.steps, given.rounds)), flush=True)


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--chips", type=int, default=1000, help="labelled chips")
    parser.add_argument("--batch", type=int, default=32, help="images in a step")
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    given = parser.parse_args()
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
