"""The share of the in-loop probe, as a user measures it, on the smallest model."""

import json

import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("transformers", reason="transformers isn't installed; it is the peer of benchmarks/step.py")


def test_the_share_is_of_steps_and_probe_together(benchmark_script):
    done = benchmark_script("probe_share", "--size=tiny", "--chips=20", "--batch=4", "--steps=1", "--rounds=2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["share"] == pytest.approx(found["probe_s"] / (found["every"] * found["step_s"] + found["probe_s"]))
    assert found["shares"][0] <= found["shares"][1]
    assert found["every"] >= 100


def test_too_few_chips_for_the_classes(benchmark_script):
    done = benchmark_script("probe_share", "--size=tiny", "--chips=19")
    assert done.returncode == 2
    assert "--chips at least 20" in done.stderr
