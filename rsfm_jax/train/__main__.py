"""Front door of training: a config and a folder in, checkpoints, metrics and pictures out; the same command continues a stopped run."""

import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import EXIT_CRASHED, InputError, exit_code

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: checkpoints, metrics, pictures; all processes of a run see the same")
_CLUSTER = flags.DEFINE_bool("cluster", False, "one of the processes that Cloud TPU, GKE or Slurm started together")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, for processes started by hand")
_COUNT = flags.DEFINE_integer("process_count", None, "number of processes, with --coordinator")
_INDEX = flags.DEFINE_integer("process_index", None, "this process's number from 0, with --coordinator")
_JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout_s", 300, "how long a run's processes wait for each other at the start, seconds")


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    logging.set_verbosity(logging.WARNING)
    config = cli.loaded_config(_CONFIG, required=True)
    workdir = cli.required_flag("workdir", _WORKDIR.value, "runs/first")
    if "://" in workdir:
        raise InputError(f"--workdir={workdir}: must be a folder that all processes see; mount the bucket and give the folder")
    from rsfm_jax.parallel.processes import join  # after the input has been checked: importing jax takes seconds

    join(_COORDINATOR.value, _COUNT.value, _INDEX.value, _CLUSTER.value, _JOIN_TIMEOUT.value)
    from rsfm_jax.train.loop import NotFiniteError, run_training

    try:
        return run_training(config, workdir)
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CRASHED


if __name__ == "__main__":
    sys.exit(exit_code(_run))
