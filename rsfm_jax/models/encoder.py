"""The ViT encoder that all members of a set share.

A token is the embedding of one patch of one token slot, plus what it is told of where, when and by what it was seen. Only visible patches
are embedded. Members are concatenated along the tokens, so attention runs across sensors and dates.

Legend: B batch, T tokens of all members, L blocks, N patches of a member, K visible patches, P values of a patch, D width.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from rsfm_jax.layouts import Layout
from rsfm_jax.models.encodings import Batch, Encodings, take_tokens
from rsfm_jax.models.spec import ModelSpec
from rsfm_jax.models.tokenizer import make_linears
from rsfm_jax.nn.layers import layer_norm, token
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.nn.stack import BlockStack


def attention_groups(layout: Layout, counts: Sequence[int], joint: bool) -> np.ndarray | None:
    """Which tokens attend to which.

    Args:
      layout: The token layout.
      counts: Tokens of each slot.
      joint: Whether acquisitions see each other.

    Returns:
      None where all attend to all, else the number of each token's acquisition, int32 (sum of counts,).
    """
    if joint:
        return None
    numbers = {i: number for number, group in enumerate(layout.acquisitions()) for i in group}
    return np.concatenate([np.full(count, numbers[t], np.int32) for t, count in enumerate(counts)])


class Encoder(nnx.Module):
    """Patch embeddings, encodings, blocks and a final norm."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        """Builds the encoder.

        Args:
          spec: Sizes and slots.
          rngs: Source of the initial parameters.
        """
        config = spec.config
        dtype = jnp.dtype(config.compute_dtype)
        self.joint = config.joint
        self.patch_embed = make_linears(spec, config.width, True, dtype, rngs)
        self.encodings = Encodings(spec, config.width, False, rngs)
        self.cls_token = token(config.width, rngs) if config.cls_token else None
        self.blocks = BlockStack(
            config.width, config.depth, config.heads, config.mlp_ratio, dtype, config.remat, config.unroll, rngs, config.attention
        )
        self.norm = layer_norm(config.width, rngs)

    def __call__(
        self,
        layout: Layout,
        batch: Batch,
        ids_keep: Sequence[Int[Array, "B _"]] | None = None,
        shown: Sequence[Bool[Array, "B"]] | None = None,
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Encodes the visible patches of all members jointly.

        Args:
          layout: The sets' token layout.
          batch: ``members``, for each slot ``pixels`` (B, H, W, C), ``valid``, ``grid_m`` (B, 4) and ``time`` (B, 3), and ``place``.
          ids_keep: For each slot the visible patches, int (B, K); None keeps all, in order.
          shown: For each slot whether the member is shown at all, bool (B,); None shows all.

        Returns:
          float32 tokens (B, sum of K, D), the class token first where there is one, then member by member; and which of them hold a valid
          pixel, bool (B, sum of K).
        """
        x_BTD, real_BT, groups_T = self._embed(layout, batch, ids_keep, shown)
        return self.norm(self.blocks(x_BTD, real_BT, groups_T)), real_BT

    def layers(self, layout: Layout, batch: Batch) -> Float[Array, "L B T D"]:
        """Encodes all patches and returns the tokens after each block, before the final norm; see `__call__`."""
        return self.blocks.layer_by_layer(*self._embed(layout, batch, None, None))

    def _embed(
        self, layout: Layout, batch: Batch, ids_keep: Sequence[jax.Array] | None, shown: Sequence[jax.Array] | None
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"], np.ndarray | None]:
        """The tokens before the first block, which of them hold a valid pixel, and their attention groups."""
        tokens, real = [], []
        for t, (slot, member) in enumerate(zip(layout.slots, batch["members"], strict=True)):
            ids_BK = None if ids_keep is None else ids_keep[t]
            patches_BNP = patchify(jnp.where(member["valid"], member["pixels"], 0.0), slot.patch)
            real_BN = patchify(member["valid"], slot.patch).any(axis=-1)
            if ids_BK is not None:
                patches_BNP, real_BN = take_tokens(patches_BNP, ids_BK), take_tokens(real_BN, ids_BK)
            tokens.append(self.patch_embed(slot, patches_BNP) + self.encodings(layout, batch, t, ids_BK))
            real.append(real_BN if shown is None else real_BN & shown[t][:, None])
        groups_T = attention_groups(layout, [x.shape[1] for x in tokens], self.joint)
        x_BTD, real_BT = jnp.concatenate(tokens, axis=1), jnp.concatenate(real, axis=1)
        if self.cls_token is not None:
            first_B1D = jnp.broadcast_to(self.cls_token[...], (x_BTD.shape[0], 1, x_BTD.shape[2]))
            x_BTD, real_BT = with_class_token(first_B1D, x_BTD, real_BT)
        return x_BTD, real_BT, groups_T


def with_class_token(
    first_B1D: Float[Array, "B 1 D"], x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"]
) -> tuple[Float[Array, "B T2 D"], Bool[Array, "B T2"]]:
    """Puts the class token, which always counts as an observation, before the others."""
    return jnp.concatenate([first_B1D, x_BTD], axis=1), jnp.concatenate([jnp.ones_like(real_BT[:, :1]), real_BT], axis=1)
