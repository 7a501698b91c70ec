"""Front door of training: a config and a folder in, checkpoints, metrics and pictures out; the same command continues a stopped run."""

import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import exit_code

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: checkpoints, metrics, pictures")


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    logging.set_verbosity(logging.WARNING)
    config = cli.loaded_config(_CONFIG, required=True)
    workdir = cli.required_flag("workdir", _WORKDIR.value, "runs/first")
    from rsfm_jax.train.loop import NotFiniteError, run_training  # after the input has been checked: importing jax takes seconds

    try:
        return run_training(config, workdir)
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(exit_code(_run))
