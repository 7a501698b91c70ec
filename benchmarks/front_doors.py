"""The package's front doors, run as a user runs them."""

import pathlib
import subprocess
import sys

from rsfm_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_module(module: str, *words: str, quiet: bool = False) -> None:
    """Runs ``python -m module words`` at the root of the repository.

    Args:
      module: The module.
      *words: Its command line.
      quiet: Whether its standard output is thrown away.

    Raises:
      InputError: it ended with another exit code than 0.
    """
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False, stdout=subprocess.DEVNULL if quiet else None)
    if done.returncode:
        raise InputError(f"python -m {module} {' '.join(words)}: exit code {done.returncode}")
