"""Every tokeniser, encoding and kind of attention: it computes, each of its parameters learns, and it leaves as PyTorch weights."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.models.build import abstract_model, init_params
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.step import loss_fn
from tests.helpers import batch_of

VARIANTS: dict[str, dict[str, Any]] = {
    "groups": {"tokenizer.groups": ("sentinel2_l3a: B02 B03 | B04 B08", "landsat8_l1: B4 B5 | B6 | B8")},
    "random3": {"tokenizer.kind": "random3"},
    "wavelength": {"tokenizer.kind": "wavelength"},
    "index": {"encoding.positions": "index", "encoding.geo": "none", "encoding.gsd": False, "encoding.time": "none"},
    "gsd": {"encoding.positions": "gsd", "encoding.position_unit_m": 1.0},
    "3d": {"encoding.positions": "3d", "encoding.geo": "prithvi", "encoding.time": "prithvi"},
    "learned": {"encoding.positions": "learned", "encoding.geo": "cartesian"},
    "satmae": {"encoding.time": "satmae", "encoding.identity": "satmae", "encoding.positions": "index", "encoding.geo": "none"},
    "mae": {"encoding.identity": "none", "encoding.geo": "none", "encoding.positions": "index", "model.cls_token": True},
    "alone": {"model.joint": False},
}


def variant(config: Config, name: str) -> Config:
    """A config with the overrides of a variant."""
    config = dataclasses.replace(config, **{f.name: dataclasses.replace(getattr(config, f.name)) for f in dataclasses.fields(config)})
    for field, value in VARIANTS[name].items():
        section, knob = field.split(".")
        setattr(getattr(config, section), knob, value)
    config.model.width, config.model.decoder_width, config.model.heads, config.model.decoder_heads = 64, 32, 4, 4
    return config.validate()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_every_variant_learns(name: str, tiny: Config, tiny_dataset: Dataset):
    config = variant(tiny, name)
    config.encoding.metadata_dropout = 0.5
    spec = model_spec(config, tiny_dataset.layouts)
    model = abstract_model(spec)
    params = jax.jit(lambda: init_params(spec, 0))()
    grad = {
        layout.name: jax.jit(jax.value_and_grad(lambda p, b, layout=layout: loss_fn(p, model, config, layout, b)[0]))
        for layout in tiny_dataset.layouts
    }
    learns = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    for layout in tiny_dataset.layouts:
        loss, grads = grad[layout.name](params, batch_of(tiny_dataset, layout, 8))
        assert 0.5 < float(loss) < 5
        learns = jax.tree.map(lambda a, g: a | (np.asarray(g) != 0), learns, grads)
    idle = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(learns) if leaf.mean() < 0.8]
    unused = ["['place']['proj']['kernel']"]  # bits of the footprint that no set of this region has
    if name == "wavelength":
        unused.append("['codes']")  # of bands that no slot has
    assert [path for path in idle if not any(word in path for word in unused)] == []
