"""The ways to compute attention agree: values and gradients, with tokens left out and in groups."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax import config
from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.nn.attention import ATTENTIONS, cudnn_attention, plain_attention
from rsfm_jax.train.program import make_program

B, T, A, E = 2, 21, 3, 8
GROUPS = np.repeat([0, 1, 2], 7)
anywhere = functools.partial(cudnn_attention, implementation="xla")  # the same masks, padding and layout, without the GPU's kernel


def read(attention: Any, groups: np.ndarray | None, kind: str) -> tuple[np.ndarray, ...]:
    """Output and the gradients of queries, keys and values, float32."""
    parts = [jnp.asarray(part, kind) for part in np.random.default_rng(0).normal(size=(3, B, T, A, E))]
    weight = np.random.default_rng(1).normal(size=(B, T, A, E))
    real = np.ones((B, T), bool)
    real[0, 5:12] = real[1, ::2] = False

    def loss(*qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = attention(*qkv, jnp.asarray(real), groups)
        return (out.astype(jnp.float32) * weight).sum(), out

    (_, out), grads = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*parts)
    assert out.dtype == kind
    return tuple(np.asarray(x, np.float32) for x in (out, *grads))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["joint", "groups"])
@pytest.mark.parametrize(("kind", "close"), [("float32", 2e-6), ("bfloat16", 6e-2)])
def test_both_are_the_same_attention(groups: np.ndarray | None, kind: str, close: float):
    for ours, expected in zip(read(anywhere, groups, kind), read(plain_attention, groups, kind), strict=True):
        np.testing.assert_allclose(ours, expected, atol=close)


def test_groups_change_the_result():
    assert np.abs(read(anywhere, GROUPS, "float32")[0] - read(anywhere, None, "float32")[0]).max() > 0.1


@pytest.mark.parametrize("attention", [anywhere, plain_attention], ids=["cudnn", "plain"])
def test_absent_tokens_reach_nobody(attention: Any):
    q, k, v = jnp.asarray(np.random.default_rng(0).normal(size=(3, B, T, A, E)), jnp.float32)
    real = jnp.ones((B, T), bool).at[0, 5:12].set(False)
    found = attention(q, k, v, real)
    np.testing.assert_array_equal(found, attention(q, k.at[0, 5:12].set(9.0), v.at[0, 5:12].set(9.0), real))
    assert np.abs(found - attention(q, k.at[0, 4].set(9.0), v.at[0, 4].set(9.0), real))[0].min() > 0


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs a GPU")
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["joint", "groups"])
def test_cudnn_is_the_same_attention(groups: np.ndarray | None):
    for ours, expected in zip(read(cudnn_attention, groups, "bfloat16"), read(plain_attention, groups, "bfloat16"), strict=True):
        np.testing.assert_allclose(ours, expected, atol=6e-2)


def test_the_config_names_them():
    assert tuple(ATTENTIONS) == config.ATTENTIONS


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_without_a_gpu_it_is_refused(tiny: Config, tiny_dataset: Dataset):
    tiny.model.attention, tiny.model.compute_dtype = "cudnn", "bfloat16"
    with pytest.raises(InputError, match=r"config.model.attention='cudnn': needs NVIDIA GPUs, and the devices here are 'cpu'"):
        make_program(tiny, tiny_dataset.layouts)
