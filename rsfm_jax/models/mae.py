"""The masked autoencoder over image sets: encoder on visible patches, decoder on all of them, one prediction head per kind of slot.

Legend: B batch, N patches of a member, K visible patches, P values of a patch, D width.
"""

from collections.abc import Sequence

from flax import nnx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rsfm_jax.config import Layout
from rsfm_jax.models.encoder import Encoder, Member, MemberCode, take_tokens
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.nn.layers import layer_norm, linear, token
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.nn.positions import encode_positions, patch_centres_m
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
        self.position_unit_m = config.position_unit_m
        self.embed = linear(config.width, width, ("features", "embed"), dtype, rngs)
        self.mask_token = token(width, rngs)
        self.member_code = MemberCode(spec, width, rngs)
        self.blocks = BlockStack(
            width, config.decoder_depth, config.decoder_heads, config.mlp_ratio, dtype, config.remat, config.unroll, rngs
        )
        self.norm = layer_norm(width, rngs)
        self.pred = nnx.Dict({slot_key(s): linear(width, s.patch_values, ("embed", "values"), dtype, rngs) for s in spec.slots})

    def __call__(
        self,
        layout: Layout,
        members: Sequence[Member],
        encoded_BKD: Float[Array, "B K D"],
        kept: Sequence[int],
        ids_restore: Sequence[Int[Array, "B _"]],
    ) -> list[Float[Array, "B _ _"]]:
        """Predicts all patches of all members.

        Args:
          layout: The sets' layout.
          members: For each slot ``valid`` (B, H, W, C), ``grid_m`` and ``time``; pixels are not read.
          encoded_BKD: The encoder's tokens, member by member.
          kept: Number of visible patches of each slot.
          ids_restore: For each slot the place of every patch in the order (visible patches, removed patches), int (B, N).

        Returns:
          For each slot float32 (B, N, P).
        """
        B, K, D = encoded_BKD.shape
        visible = self.embed(encoded_BKD.reshape(B * K, D)).reshape(B, K, -1).astype(jnp.float32)
        tokens, real, start = [], [], 0
        for slot, member, K_t, restore_BN in zip(layout.slots, members, kept, ids_restore, strict=True):
            height, width = member["valid"].shape[1:3]
            masked = jnp.broadcast_to(self.mask_token[...], (B, restore_BN.shape[1] - K_t, visible.shape[-1]))
            full = take_tokens(jnp.concatenate([visible[:, start : start + K_t], masked], axis=1), restore_BN)
            centres = patch_centres_m(member["grid_m"], height // slot.patch, width // slot.patch, slot.patch)
            positions = encode_positions(centres, self.position_unit_m, full.shape[-1])
            tokens.append(full + positions + self.member_code(slot_key(slot), member)[:, None])
            real.append(patchify(member["valid"], slot.patch).any(axis=-1))
            start += K_t
        decoded = self.norm(self.blocks(jnp.concatenate(tokens, axis=1), jnp.concatenate(real, axis=1)))
        predictions, start = [], 0
        for slot, part in zip(layout.slots, tokens, strict=True):
            N = part.shape[1]
            flat = decoded[:, start : start + N].reshape(B * N, -1)
            predictions.append(self.pred[slot_key(slot)](flat).reshape(B, N, -1).astype(jnp.float32))
            start += N
        return predictions


class MAE(nnx.Module):
    """Encoder and decoder together.

    Source: MAE (arXiv 2111.06377) for the asymmetric autoencoder; A2-MAE (arXiv 2406.08079) for joint encoding of an image set. Unlike
    A2-MAE's released code every member has its own patch embedding and head, and is told apart by sensor, GSD and date.
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
        self, layout: Layout, members: Sequence[Member], ids_keep: Sequence[Int[Array, "B _"]], ids_restore: Sequence[Int[Array, "B _"]]
    ) -> list[Float[Array, "B _ _"]]:
        """Predicts the normalised values of every patch from the visible ones.

        Args:
          layout: The sets' layout.
          members: See `Encoder.__call__`.
          ids_keep: For each slot the visible patches, int (B, K).
          ids_restore: For each slot the inverse order, int (B, N).

        Returns:
          For each slot float32 (B, N, P).
        """
        encoded, _ = self.encoder(layout, members, ids_keep)
        return self.decoder(layout, members, encoded, [ids.shape[1] for ids in ids_keep], ids_restore)
