"""The masked autoencoder over image sets: encoder on visible patches, decoder on all of them, one prediction head per kind of slot.

Legend: B batch, N patches of a member, K visible patches, P values of a patch, D width.
"""

from collections.abc import Sequence
from typing import Any

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rsfm_jax.layouts import Layout
from rsfm_jax.models.encoder import Encoder, attention_groups, with_class_token
from rsfm_jax.models.encodings import Batch, Encodings, take_tokens
from rsfm_jax.models.spec import ModelSpec
from rsfm_jax.models.tokenizer import make_linears
from rsfm_jax.nn.layers import Linear, layer_norm, token
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.nn.stack import BlockStack


class Decoder(nnx.Module):
    """Puts mask tokens where patches were removed and predicts the values of every patch."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        """Builds the decoder.

        Args:
          spec: Sizes and slots.
          rngs: Source of the initial parameters.
        """
        config = spec.config
        dtype, width = jnp.dtype(config.compute_dtype), config.decoder_width
        self.joint, self.cls_token = config.joint, config.cls_token
        self.embed = Linear(config.width, width, ("features", "embed"), dtype, rngs)
        self.mask_token = token(width, rngs)
        self.encodings = Encodings(spec, width, True, rngs)
        self.blocks = BlockStack(
            width,
            config.decoder_depth,
            config.decoder_heads,
            config.mlp_ratio,
            dtype,
            config.remat,
            config.unroll,
            rngs,
            config.attention,
        )
        self.norm = layer_norm(width, rngs)
        self.pred = make_linears(spec, width, False, dtype, rngs)

    def __call__(
        self, layout: Layout, batch: Batch, encoded_BKD: Float[Array, "B K D"], masks: Any, real: Sequence[Bool[Array, "B _"]]
    ) -> list[Float[Array, "B _ _"]]:
        """Predicts all patches of all members.

        Args:
          layout: The sets' token layout.
          batch: As for the encoder; pixels are not read.
          encoded_BKD: The encoder's tokens.
          masks: `rsfm_jax.objectives.masking.Masks`.
          real: For each slot which patches hold a valid value, bool (B, N); the others are never attended to.

        Returns:
          For each slot float32 (B, N, P).
        """
        B, K, D = encoded_BKD.shape
        visible = self.embed(encoded_BKD.reshape(B * K, D)).reshape(B, K, -1).astype(jnp.float32)
        tokens, start = [], int(self.cls_token)
        for t, (restore_BN, shown_B) in enumerate(zip(masks.ids_restore, masks.shown, strict=True)):
            count = masks.ids_keep[t].shape[1]
            kept = jnp.where(shown_B[:, None, None], visible[:, start : start + count], self.mask_token[...])
            removed = jnp.broadcast_to(self.mask_token[...], (B, restore_BN.shape[1] - count, visible.shape[-1]))
            full = take_tokens(jnp.concatenate([kept, removed], axis=1), restore_BN)
            tokens.append(full + self.encodings(layout, batch, t, None))
            start += count
        counts = [x.shape[1] for x in tokens]
        groups_T = attention_groups(layout, counts, self.joint)
        x_BTD, real_BT = jnp.concatenate(tokens, axis=1), jnp.concatenate(real, axis=1)
        if self.cls_token:
            x_BTD, real_BT = with_class_token(visible[:, :1], x_BTD, real_BT)
        decoded = self.norm(self.blocks(x_BTD, real_BT, groups_T))
        starts = [int(self.cls_token) + sum(counts[:t]) for t in range(len(counts))]
        return [self.pred(slot, decoded[:, s : s + n]) for slot, s, n in zip(layout.slots, starts, counts, strict=True)]


class MAE(nnx.Module):
    """Encoder and decoder together.

    Source: MAE (arXiv 2111.06377) for the asymmetric autoencoder; A2-MAE (arXiv 2406.08079) for joint encoding of an image set. Unlike
    A2-MAE's released code every kind of member has its own patch embedding and head, and is told apart by sensor, GSD and date.
    """

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        """Builds both halves.

        Args:
          spec: Sizes and slots.
          rngs: Source of the initial parameters.
        """
        self.encoder = Encoder(spec, rngs)
        self.decoder = Decoder(spec, rngs)

    def __call__(
        self, layout: Layout, batch: Batch, masks: Any, real: Sequence[Bool[Array, "B _"]] | None = None
    ) -> list[Float[Array, "B _ _"]]:
        """Predicts every patch from the visible ones, in the terms of `rsfm_jax.objectives.reconstruction.target_scale`.

        Args:
          layout: The sets' token layout.
          batch: See `Encoder.__call__`.
          masks: `rsfm_jax.objectives.masking.Masks`.
          real: For each slot which patches hold a valid value, bool (B, N), where that is more than the encoder was shown; None: as shown.

        Returns:
          For each slot float32 (B, N, P).
        """
        if real is None:
            real = [patchify(m["valid"], slot.patch).any(axis=-1) for slot, m in zip(layout.slots, batch["members"], strict=True)]
        encoded, _ = self.encoder(layout, batch, masks.ids_keep, masks.shown)
        return self.decoder(layout, batch, encoded, masks, real)
