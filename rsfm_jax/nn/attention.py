"""Scaled dot-product attention, by what computes it.

Legend: B batch, T tokens, A heads, E head dim.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

Heads = Float[Array, "B T A E"]
_MULTIPLE = 8  # of tokens, for cuDNN: with a mask it wants an even number


def plain_attention(q_BTAE: Heads, k_BTAE: Heads, v_BTAE: Heads, real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None = None) -> Heads:
    """Products and a softmax in float32, divided by its sum after the product with the values; the compiler fuses what it can.

    Args:
      q_BTAE: Queries.
      k_BTAE: Keys.
      v_BTAE: Values.
      real_BT: Which tokens hold an observation; the others are never attended to.
      groups_T: Number of each token's group, int (T,): tokens attend within their group; None: all to all.

    Returns:
      Mixed values, in the type of ``v_BTAE``.
    """
    q_BATE, k_BATE, v_BATE = (x.transpose(0, 2, 1, 3) for x in (q_BTAE, k_BTAE, v_BTAE))
    scores = jnp.einsum("bate,base->bats", q_BATE * q_BATE.shape[-1] ** -0.5, k_BATE, preferred_element_type=jnp.float32)
    scores = jnp.where(_allowed(real_BT, groups_T), scores, -1e9)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    mixed = jnp.einsum("bats,base->bate", weights.astype(v_BATE.dtype), v_BATE, preferred_element_type=jnp.float32)
    return (mixed / weights.sum(axis=-1, keepdims=True)).astype(v_BATE.dtype).transpose(0, 2, 1, 3)


def cudnn_attention(
    q_BTAE: Heads,
    k_BTAE: Heads,
    v_BTAE: Heads,
    real_BT: Bool[Array, "B T"],
    groups_T: np.ndarray | None = None,
    implementation: str = "cudnn",
) -> Heads:
    """Flash attention of cuDNN, bfloat16 on NVIDIA GPUs; tokens are padded to a multiple of 8 that nobody attends to.

    Takes and returns what `plain_attention` does. ``implementation`` is that of `jax.nn.dot_product_attention`; "xla" runs anywhere.
    """
    B, T, _, E = q_BTAE.shape
    more = -T % _MULTIPLE
    padded = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q_BTAE, k_BTAE, v_BTAE))
    groups_T = groups_T if groups_T is None else np.pad(groups_T, (0, more))
    allowed = jnp.broadcast_to(_allowed(jnp.pad(real_BT, ((0, 0), (0, more))), groups_T), (B, 1, T + more, T + more))
    kernel: Any = jax.nn.dot_product_attention
    return kernel(*padded, mask=allowed, scale=E**-0.5, implementation=implementation)[:, :T]


def _allowed(real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None) -> Bool[Array, "B 1 _ T"]:
    allowed = real_BT[:, None, None, :]
    return allowed if groups_T is None else allowed & (groups_T[:, None] == groups_T[None, :])


ATTENTIONS: dict[str, Callable[..., Heads]] = {"plain": plain_attention, "cudnn": cudnn_attention}
