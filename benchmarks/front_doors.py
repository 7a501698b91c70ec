"""The package's front doors, run as a user runs them, and what their runs are known by."""

import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys
from typing import Any

from rsfm_jax.config import to_dict
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


def fingerprint(section: Any) -> str:
    """Eight digits that differ where a config or a section does, so that what another config made is never taken for this one's."""
    plain = to_dict(section) if dataclasses.is_dataclass(section) else section
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def final_loss(workdir: pathlib.Path) -> dict[str, float]:
    """Mean loss of each layout over the last tenth of a run's steps."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["step"] > 0.9 * rows[-1]["step"]]
    by_layout = {name: [row["loss"] for row in last if row["layout"] == name] for name in sorted({row["layout"] for row in last})}
    return {name: sum(losses) / len(losses) for name, losses in by_layout.items()}
