"""Every kind of encoder leaves as PyTorch weights that compute the same, on the real chips."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from rsfm_jax.config import Config, EncodingConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.models.build import init_params
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.workdir import describe_run
from tests.models.test_variants import VARIANTS, variant

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")


def export(config: Config, dataset: Dataset, out: pathlib.Path) -> dict[str, Any]:
    """Exports an encoder that was never trained, with no bias at zero."""
    from rsfm_jax.export.checkpoint import Trained
    from rsfm_jax.export.folder import write_folder

    spec = model_spec(config, dataset.layouts)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.05, x.shape).astype(np.float32), init_params(spec, 0))
    return write_folder(Trained(spec, params, describe_run(config, dataset), 0), dataset, out)


@pytest.mark.parametrize("name", VARIANTS)
def test_features_equal_jax(name: str, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    result = export(variant(tiny, name), tiny_dataset, tmp_path / "weights")
    assert len(result["parity"]) == 2 * len(tiny_dataset.layouts)
    assert 0 < result["parity_max_abs"] <= 1e-4


def test_features_of_the_released_layout_equal_jax(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    """It is tied to its number of members and their one grid, so only the layout of two dates can have it."""
    config = variant(tiny, "random3")
    config.encoding = EncodingConfig("a2mae_released", geo="a2mae_released", time="none", identity="none", gsd=False)
    config.model.width, config.model.heads = 256 * 3, 4
    series = dataclasses.replace(tiny_dataset, layouts=tiny_dataset.layouts[:1])
    result = export(config.validate(), series, tmp_path / "weights")
    assert len(result["parity"]) == 2
    assert 0 < result["parity_max_abs"] <= 1e-4
