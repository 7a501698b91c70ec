"""The ViT encoder that all members of a set share.

A token is the linear embedding of one patch of one slot, plus the code of its ground position, plus what is known of its member: sensor and
bands, GSD, date. Only visible patches are embedded. Members are concatenated along the tokens, so attention runs across sensors and dates.

Legend: B batch, T members, N patches of a member, K visible patches, P values of a patch, D width.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from rsfm_jax.config import Layout
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.nn.layers import layer_norm, linear, token
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.nn.positions import GSD_FEATURES, TIME_FEATURES, encode_positions, gsd_features, patch_centres_m, time_features
from rsfm_jax.nn.stack import BlockStack

Member = dict[str, jax.Array]


def take_tokens(x_BN_: Shaped[Array, "B N *rest"], ids_BK: Int[Array, "B K"]) -> Shaped[Array, "B K *rest"]:
    """Gathers tokens along axis 1: (B, N, ...) and (B, K) give (B, K, ...)."""
    return jnp.take_along_axis(x_BN_, ids_BK.reshape(ids_BK.shape + (1,) * (x_BN_.ndim - 2)), axis=1)


class MemberCode(nnx.Module):
    """What is known of a member as one vector: sensor and bands, GSD, date or a learned token for an unknown date."""

    def __init__(self, spec: ModelSpec, width: int, rngs: nnx.Rngs) -> None:
        """Builds the tables.

        Args:
          spec: The model's slots.
          width: D.
          rngs: Source of the initial parameters.
        """
        self.slot = nnx.Dict({slot_key(slot): token(width, rngs) for slot in spec.slots})
        self.gsd = linear(GSD_FEATURES, width, ("features", "embed"), jnp.float32, rngs)
        self.time = linear(TIME_FEATURES, width, ("features", "embed"), jnp.float32, rngs)
        self.time_unknown = token(width, rngs)

    def __call__(self, key: str, member: Member) -> Float[Array, "B D"]:
        """Codes one member.

        Args:
          key: The slot's key.
          member: With ``grid_m`` (B, 4) and ``time`` (B, 3).

        Returns:
          float32 (B, D).
        """
        known = member["time"][:, :1] > 0
        time = jnp.where(known, self.time(time_features(member["time"])), self.time_unknown[...])
        return self.slot[key][...] + self.gsd(gsd_features(member["grid_m"])) + time


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
        self.position_unit_m = config.position_unit_m
        embeddings = {slot_key(s): linear(s.patch_values, config.width, ("values", "embed"), dtype, rngs) for s in spec.slots}
        self.patch_embed = nnx.Dict(embeddings)
        self.member_code = MemberCode(spec, config.width, rngs)
        self.blocks = BlockStack(config.width, config.depth, config.heads, config.mlp_ratio, dtype, config.remat, config.unroll, rngs)
        self.norm = layer_norm(config.width, rngs)

    def __call__(
        self, layout: Layout, members: Sequence[Member], ids_keep: Sequence[Int[Array, "B _"]] | None
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Encodes the visible patches of all members jointly.

        Args:
          layout: The sets' layout.
          members: For each slot ``pixels`` (B, H, W, C), ``valid``, ``grid_m`` (B, 4) and ``time`` (B, 3).
          ids_keep: For each slot the visible patches, int (B, K); None keeps all, in order.

        Returns:
          float32 tokens (B, sum of K, D), member by member, and which of them hold a valid pixel, bool (B, sum of K).
        """
        tokens, real = [], []
        for i, (slot, member) in enumerate(zip(layout.slots, members, strict=True)):
            height, width = member["pixels"].shape[1:3]
            patches_BNP = patchify(jnp.where(member["valid"], member["pixels"], 0.0), slot.patch)
            real_BN = patchify(member["valid"], slot.patch).any(axis=-1)
            centres_BN2 = patch_centres_m(member["grid_m"], height // slot.patch, width // slot.patch, slot.patch)
            if ids_keep is not None:
                patches_BNP, real_BN, centres_BN2 = (take_tokens(x, ids_keep[i]) for x in (patches_BNP, real_BN, centres_BN2))
            key, (B, K, P) = slot_key(slot), patches_BNP.shape
            embedded = self.patch_embed[key](patches_BNP.reshape(B * K, P)).reshape(B, K, -1).astype(jnp.float32)
            positions = encode_positions(centres_BN2, self.position_unit_m, embedded.shape[-1])
            tokens.append(embedded + positions + self.member_code(key, member)[:, None])
            real.append(real_BN)
        real_BT = jnp.concatenate(real, axis=1)
        return self.norm(self.blocks(jnp.concatenate(tokens, axis=1), real_BT)), real_BT
