"""Front door of export: a run's folder in, a PyTorch model folder with proven parity out."""

import importlib.util
import pathlib
import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import InputError, exit_code

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_OUT = flags.DEFINE_string("out", None, "model folder to make")
_STEP = flags.DEFINE_integer("step", None, "export the checkpoint of this step; the newest by default")
_DATA = flags.DEFINE_string("data", None, "the run's dataset, if it is no longer where it was trained")


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what reading only implies
    workdir = pathlib.Path(cli.required_flag("workdir", _WORKDIR.value, "runs/first"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "weights/"))
    for package in ("torch", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"export needs the package {package}: pip install 'rsfm_jax[torch]' (for the CPU wheel on Linux: --extra-index-url https://download.pytorch.org/whl/cpu)"
            )
    from rsfm_jax.export.folder import export_run  # imports torch
    from rsfm_jax.export.parity import ParityError

    try:
        result = export_run(workdir, out, _STEP.value, _DATA.value)
    except ParityError as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    print(f"{'layout':<32} {'chips':>6} {'tokens, max abs':>16} {'pooled, max abs':>16}")
    for row in result["parity"]:
        print(f"{row['layout']:<32} {row['chips']:>6} {row['tokens_max_abs']:>16.2e} {row['pooled_max_abs']:>16.2e}")
    print(f"wrote {out}: step {result['step']}, {result['parameters'] / 1e6:.1f} M parameters")
    print(f"features equal JAX's within {result['parity_max_abs']:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(_run))
