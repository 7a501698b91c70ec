"""Attention and the stack of blocks: what may be attended to, and that recomputing, unrolling and types change nothing that matters."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsfm_jax.models.build  # noqa: F401 - allows building outside a mesh
from rsfm_jax.nn.layers import Attention, Block
from rsfm_jax.nn.stack import BlockStack

B, T, D, A, L = 2, 6, 24, 3, 3


def tokens(seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (B, T, D))


def stack(remat: str = "none", unroll: int = 1, dtype: str = "float32") -> BlockStack:
    return BlockStack(D, L, A, 2.0, jnp.dtype(dtype), remat, unroll, nnx.Rngs(0))


def run(blocks: BlockStack) -> tuple[jax.Array, jax.Array, nnx.State]:
    """Output, and gradients by input and parameters, of a sum over the output."""
    graphdef, params = nnx.split(blocks)
    real = jnp.ones((B, T), bool).at[0, 4:].set(False)
    weight = jax.random.normal(jax.random.key(9), (B, T, D))

    def loss(x: jax.Array, params: nnx.State) -> tuple[jax.Array, jax.Array]:
        out = nnx.merge(graphdef, params)(x, real)
        return (out * weight).sum(), out

    (_, out), (x_grad, grads) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(tokens(), params)
    return out, x_grad, nnx.to_pure_dict(grads)


def test_attention_is_softmax_over_real_tokens():
    layer = Attention(D, A, jnp.dtype("float32"), nnx.Rngs(0))
    real = np.array([[True] * 4 + [False] * 2, [True] * T])
    x = np.asarray(tokens(), np.float64)
    qkv = x @ np.asarray(layer.qkv.kernel[...], np.float64) + np.asarray(layer.qkv.bias[...], np.float64)
    q, k, v = (qkv[..., i * D : (i + 1) * D].reshape(B, T, A, D // A) for i in range(3))
    scores = np.einsum("btae,bsae->bats", q, k) / np.sqrt(D // A)
    weights = np.exp(scores) * real[:, None, None, :]
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("bats,bsae->btae", weights, v).reshape(B, T, D) @ np.asarray(layer.proj.kernel[...], np.float64)
    found = layer(tokens().reshape(B * T, D), T, jnp.asarray(real)).reshape(B, T, D)
    np.testing.assert_allclose(found, expected + np.asarray(layer.proj.bias[...]), atol=1e-5)


def test_tokens_without_observation_reach_nobody():
    block = Block(D, A, 2.0, jnp.dtype("float32"), nnx.Rngs(0))
    real = jnp.array([[True] * 4 + [False] * 2, [True] * T])

    def others(x: jax.Array) -> jax.Array:
        return jnp.where(real[..., None], block(x.reshape(B * T, D), T, real).reshape(B, T, D), 0.0)

    changed = tokens().at[0, 4:].set(1e3)
    np.testing.assert_array_equal(others(tokens()), others(changed))
    grad = jax.grad(lambda x: jnp.square(others(x)).sum())(tokens())
    assert not np.asarray(grad)[~np.asarray(real)].any()
    assert (np.abs(grad).sum(axis=-1) > 0)[real].all()
    assert abs(others(tokens()) - others(tokens().at[1, 4:].set(1e3))).max() > 1e-3  # a real token does reach the others


def test_examples_do_not_see_each_other():
    changed = tokens().at[1].set(7.0)
    real = jnp.ones((B, T), bool)
    np.testing.assert_array_equal(stack()(tokens(), real)[0], stack()(changed, real)[0])


def test_blocks_differ_and_run_in_order():
    blocks = stack()
    kernels = np.asarray(blocks.layers.mlp.fc1.kernel[...])
    assert kernels.shape == (L, D, 2 * D)
    assert abs(kernels[0] - kernels[1]).max() > 0.1
    graphdef, state = nnx.split(blocks.layers)
    x = tokens().reshape(B * T, D)
    for i in range(L):
        x = nnx.merge(graphdef, jax.tree.map(lambda leaf, i=i: leaf[i], state))(x, T, jnp.ones((B, T), bool))
    np.testing.assert_allclose(blocks(tokens(), jnp.ones((B, T), bool)), x.reshape(B, T, D), atol=1e-5)


@pytest.mark.parametrize(("remat", "unroll"), [("dots", 1), ("full", 1), ("none", 0), ("full", 0), ("none", 3)])
def test_recomputing_and_unrolling_change_nothing(remat: str, unroll: int):
    for ours, expected in zip(jax.tree.leaves(run(stack(remat, unroll))), jax.tree.leaves(run(stack())), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-5)


def test_bfloat16_products_stay_near_float32():
    low, full = run(stack(dtype="bfloat16")), run(stack())
    assert low[0].dtype == jnp.float32  # the residual stream
    assert {leaf.dtype for leaf in jax.tree.leaves(low[2])} == {jnp.dtype("float32")}
    spread = float(jnp.std(full[0]))
    assert 0 < abs(low[0] - full[0]).max() < 0.05 * spread
    assert abs(low[1] - full[1]).max() < 0.05 * float(abs(full[1]).max())
