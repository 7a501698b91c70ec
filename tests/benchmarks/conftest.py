"""Benchmarks run as users run them."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def benchmark_script(repo):
    """A function of a script's name and its flags to the finished process."""

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"benchmarks/{name}.py", *words]
        return subprocess.run(command, cwd=repo, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)

    return run
