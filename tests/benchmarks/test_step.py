"""The step benchmark, as a user runs it, on the smallest model."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("transformers", reason="transformers isn't installed; it is the peer")


def _run(repo, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/step.py", "--size=tiny", "--batch=4", "--steps=1", "--rounds=2", *words]
    return subprocess.run(command, cwd=repo, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)


def test_both_are_timed_in_turn(repo):
    done = _run(repo)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ratio_ours_over_torch"] == pytest.approx(found["ours_s"] / found["torch_s"])
    assert found["ratios"][0] <= found["ratios"][1]
    assert found["ours_mfu"] == pytest.approx(found["flops"] / found["ours_s"] / found["peak_flops"])
    assert done.stdout.count("round ") == 2


def test_without_a_gpu_it_says_so(repo):
    done = _run(repo, "--backend=gpu")
    assert done.returncode == 2
    assert "jax sees no GPU here" in done.stderr
    assert "{" not in done.stdout
