"""Front door of the input: how fast a dataset can be read here, before an accelerator is taken. Exit code 0: keeps up, 3: does not.

    python -m rsfm_jax.data --benchmark --config=configs/a2mae.py:vit_l --config.data.path=data/run1 --accelerator=h100 --gflop_per_set=385

What is needed is given with --sets_per_s, or for one chip as its peak x --mfu / --gflop_per_set. FLOPs a set: what rsfm_jax.compile prints
as FLOPs a step, of a chip, over the sets a chip has in a step. With neither, it only measures.
"""

import dataclasses
import json
import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.config import Config
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.data.throughput import PEAK_FLOPS, Throughput, measure, needed_sets_per_s, table, verdict
from rsfm_jax.errors import EXIT_OK, InputError, exit_code

EXIT_TOO_SLOW = 3
_CONFIG = cli.define_config()
_BENCHMARK = flags.DEFINE_bool("benchmark", False, "measure reading")
_SETS = flags.DEFINE_integer("sets", 512, "about how many image sets a round reads")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "rounds; medians count")
_NEEDED = flags.DEFINE_float("sets_per_s", None, "image sets a second that this host's accelerators take")
_ACCELERATOR = flags.DEFINE_string("accelerator", None, f"the chip to feed, one of {', '.join(PEAK_FLOPS)}")
_GFLOP = flags.DEFINE_float("gflop_per_set", None, "10^9 operations of a train step for each image set")
_MFU = flags.DEFINE_float("mfu", 0.5, "share of the chip's peak that the run reaches")
_JSON = flags.DEFINE_bool("json", False, "print one JSON line for each layout instead of a table")


def _needed() -> float | None:
    name, gflop = _ACCELERATOR.value, _GFLOP.value
    if name is not None and name not in PEAK_FLOPS:
        raise InputError(f"--accelerator={name}: must be one of {', '.join(PEAK_FLOPS)}")
    for flag, value in (("sets_per_s", _NEEDED.value), ("gflop_per_set", gflop), ("mfu", _MFU.value)):
        if value is not None and not value > 0:
            raise InputError(f"--{flag}={value:g}: must be positive")
    if _NEEDED.value is not None:
        if gflop is not None:
            raise InputError("--sets_per_s and --gflop_per_set both say what is needed; give one of them")
        return _NEEDED.value
    if (name is None) != (gflop is None):
        raise InputError("--accelerator and --gflop_per_set go together (rsfm_jax.compile prints FLOPs a step), or give --sets_per_s")
    return None if name is None or gflop is None else needed_sets_per_s(name, gflop, _MFU.value)


def _report(found: Throughput, needed: float | None) -> bool:
    enough, said = (True, "") if needed is None else verdict(found, needed, _ACCELERATOR.value or "")
    if _JSON.value:
        rates = {"sets_per_s": found.sets_per_s, "sets_per_core_s": found.sets_per_core_s}
        print(json.dumps(dataclasses.asdict(found) | rates | {"needed_sets_per_s": needed, "enough": enough}), flush=True)
    else:
        print("\n".join(filter(None, (table(found), said))), flush=True)
    return enough


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return EXIT_OK
    cli.parse(sys.argv)
    logging.set_verbosity(logging.ERROR)
    if not _BENCHMARK.value:
        raise InputError("say what to do: --benchmark")
    if min(_SETS.value, _ROUNDS.value) < 1:
        raise InputError("--sets and --rounds must be at least 1")
    config: Config = cli.loaded_config(_CONFIG, required=True)
    needed = _needed()
    dataset = open_dataset(config.data.path, config.data.curation)
    enough = [_report(measure(dataset, config.data, layout, _SETS.value, _ROUNDS.value), needed) for layout in dataset.layouts]
    return EXIT_OK if all(enough) else EXIT_TOO_SLOW


if __name__ == "__main__":
    sys.exit(exit_code(_run))
