import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import Config
from rsfm_jax.models.build import abstract_model
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.optimizer import decay_mask, learning_rate, make_optimizer
from tests import tiny_config


def test_all_but_biases_and_norms_decay():
    names = abstract_model(model_spec(tiny_config.get_config(), tiny_config.layouts())).names
    mask = {
        jax.tree_util.keystr(path, simple=True, separator="/"): decays
        for path, decays in jax.tree_util.tree_leaves_with_path(decay_mask(names))
    }
    assert {path for path, decays in mask.items() if not decays} == {path for path in mask if path.endswith(("/bias", "/scale"))}
    for path in ("encoder/blocks/layers/attn/qkv/kernel", "decoder/mask_token", "encoder/encodings/time/unknown"):
        assert mask[path]
    for path in ("encoder/blocks/layers/norm1/scale", "encoder/blocks/layers/mlp/fc1/bias", "encoder/norm/bias"):
        assert not mask[path]


def test_schedule():
    config = Config()
    config.optim.base_lr, config.optim.warmup_steps, config.train.steps, config.data.global_batch_size = 1e-3, 10, 110, 512
    schedule = learning_rate(config)
    assert schedule(0) == 0
    np.testing.assert_allclose(schedule(5), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(schedule(10), 2e-3, rtol=1e-6)  # twice the reference batch of 256
    np.testing.assert_allclose(schedule(60), 1e-3, rtol=1e-5)  # half of the cosine
    np.testing.assert_allclose(schedule(110), 0, atol=1e-9)


@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
def test_the_update_is_clipped_adamw(clip_norm: float):
    """Two steps against the rule written out: clip (0: not), moments, bias correction, decoupled decay of the matrix alone."""
    config = Config()
    config.optim.base_lr, config.optim.warmup_steps, config.train.steps, config.data.global_batch_size = 0.1, 1, 100, 256
    config.optim.clip_norm = clip_norm
    names = {"kernel": ("embed", "mlp"), "bias": ("mlp",)}
    params = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 2.0)}
    optimizer = make_optimizer(config.validate(), names)
    state = optimizer.init(params)
    m, v = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for step, (kernel, bias) in enumerate(((3.0, -4.0), (30.0, 1.0))):  # a norm that changes: Adam alone does not see the scale
        grads = {"kernel": jnp.full((2, 2), kernel), "bias": jnp.full((2,), bias)}
        updates, state = optimizer.update(grads, state, params)
        norm = np.sqrt(4 * kernel**2 + 2 * bias**2) if clip_norm else 1.0
        for name, gradient in (("kernel", kernel / norm), ("bias", bias / norm)):
            m[name], v[name] = 0.9 * m[name] + 0.1 * gradient, 0.95 * v[name] + 0.05 * gradient**2
            adam = (m[name] / (1 - 0.9 ** (step + 1))) / (np.sqrt(v[name] / (1 - 0.95 ** (step + 1))) + 1e-8)
            decay = 0.05 * 2.0 if name == "kernel" else 0.0
            np.testing.assert_allclose(updates[name], -float(learning_rate(config)(step)) * (adam + decay), rtol=1e-5)
