"""The step benchmark, as a user runs it, on the smallest model."""

import json

import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("transformers", reason="transformers isn't installed; it is the peer")

FLAGS = ("--size=tiny", "--batch=4", "--steps=1", "--rounds=2")


def test_both_are_timed_in_turn(benchmark_script):
    done = benchmark_script("step", *FLAGS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ratio_ours_over_torch"] == pytest.approx(found["ours_s"] / found["torch_s"])
    assert found["ratios"][0] <= found["ratios"][1]
    assert found["ours_mfu"] == pytest.approx(found["flops"] / found["ours_s"] / found["peak_flops"])
    assert done.stdout.count("round ") == 2


def test_without_a_gpu_it_says_so(benchmark_script):
    done = benchmark_script("step", *FLAGS, "--backend=gpu")
    assert done.returncode == 2
    assert "jax sees no GPU here" in done.stderr
    assert "{" not in done.stdout
