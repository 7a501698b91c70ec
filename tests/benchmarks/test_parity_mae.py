"""The parity benchmark, as a user runs it, on the smallest model."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("transformers", reason="transformers isn't installed; it is the reference")

from benchmarks.parity_mae import LIMITS, SIZES, broken, cosine, plain_mae, read, run_jax, run_torch, sincos_positions, tensors, worst_of


def test_the_smallest_model_is_within_the_limits(benchmark_script):
    done = benchmark_script("parity_mae", "--size=tiny", "--steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == set(LIMITS)
    assert 0 <= figures["loss_rel"] <= LIMITS["loss_rel"]
    assert LIMITS["grad_cos_min"] <= figures["grad_cos_min"] <= 1 + 1e-12
    assert 0 < figures["param_max_abs"] <= LIMITS["param_max_abs"]
    assert "32 x 24" in done.stdout


def test_broken_limits_are_noticed():
    good = {"loss_rel": 0.0, "grad_cos_min": 1.0, "param_max_abs": 0.0}
    assert broken(worst_of([good, good])) == []
    for name, bad in (("loss_rel", 1e-4), ("grad_cos_min", 0.9999), ("param_max_abs", float("nan")), ("grad_cos_min", float("nan"))):
        for found in ([good, good | {name: bad}], [good | {name: bad}, good]):
            assert broken(worst_of(found)) == [name]


def test_another_number_of_heads_is_noticed(tmp_path):
    size = SIZES["tiny"]
    run_torch(size, (32, 24), 1, tmp_path)
    theirs = tensors(read(tmp_path / "grads", plain_mae(size.model, size.patch)[1]))
    for heads, least in ((3, 0.99999), (2, -1.0)):
        other = dataclasses.replace(size, model=dataclasses.replace(size.model, heads=heads))
        _, grads, _ = run_jax(other, (32, 24), 1, tmp_path / "start")
        ours, name = tensors(grads), "encoder.blocks.0.attn.q.kernel"
        assert least < cosine(ours[name], theirs[name]) < (0.9 if heads == 2 else 1 + 1e-12)


def test_cosine_and_positions():
    x = np.array([1.0, 2.0, 3.0], np.float32)
    assert cosine(x, 2 * x) == pytest.approx(1)
    assert cosine(x, -x) == pytest.approx(-1)
    positions = sincos_positions(2, 3, 8)
    assert positions.shape == (1, 7, 8)
    assert not positions[0, 0].any()
    np.testing.assert_allclose(
        positions[0, 3], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02), 0, 0, 1, 1], atol=1e-6
    )  # row 0, column 2
