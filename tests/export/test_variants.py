"""Every kind of encoder leaves as PyTorch weights that compute the same, on the real chips."""

import pathlib

import jax
import numpy as np
import pytest

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.models.build import init_params
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.workdir import describe_run
from tests.models.test_variants import VARIANTS, variant

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")


@pytest.mark.parametrize("name", VARIANTS)
def test_features_equal_jax(name: str, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    from rsfm_jax.export.folder import Trained, write_folder

    config = variant(tiny, name)
    spec = model_spec(config, tiny_dataset.layouts)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.05, x.shape).astype(np.float32), init_params(spec, 0))  # no zero biases
    result = write_folder(Trained(spec, params, describe_run(config, tiny_dataset), 0), tiny_dataset, tmp_path / "weights")
    assert len(result["parity"]) == 2 * len(tiny_dataset.layouts)
    assert 0 < result["parity_max_abs"] <= 1e-4
