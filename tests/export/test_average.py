"""Averages of checkpoints: the arithmetic of parameters, and what is refused."""

import json
import pathlib

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.errors import InputError
from rsfm_jax.export.checkpoint import read_checkpoint
from rsfm_jax.export.folder import export_run


@pytest.mark.parametrize(("decay", "shares"), [(1.0, {20: 1 / 3, 30: 1 / 3, 40: 1 / 3}), (0.5, {20: 1 / 7, 30: 2 / 7, 40: 4 / 7})])
def test_the_average_of_parameters(trained: pathlib.Path, decay: float, shares: dict[int, float]):
    found = read_checkpoint(trained, None, average=3, decay=decay)
    assert found.step == 40
    assert found.averaged == pytest.approx(shares)
    parts = [jax.tree.map(lambda x, w=w: w * x.astype(np.float64), read_checkpoint(trained, s).params) for s, w in shares.items()]
    expected = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found.params, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype("float32")}


def test_an_average_is_exported_and_said(trained: pathlib.Path, tmp_path: pathlib.Path):
    result = export_run(trained, tmp_path / "weights", step=30, average=2)
    assert result["parity_max_abs"] <= 1e-4
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["training"]["averaged"] == {"20": 0.5, "30": 0.5}
    assert "averaged over the checkpoints of steps 20, 30" in (tmp_path / "weights" / "README.md").read_text()


@pytest.mark.parametrize(
    ("average", "decay", "said"),
    [
        (0, 1.0, "at least one checkpoint"),
        (2, 0.0, r"a decay in \(0, 1\]"),
        (4, 1.0, r"only 3 checkpoints up to step 40 .* \[20, 30, 40\]"),
    ],
)
def test_bad_averages(trained: pathlib.Path, average: int, decay: float, said: str):
    with pytest.raises(InputError, match=said):
        read_checkpoint(trained, None, average, decay)
