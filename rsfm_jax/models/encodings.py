"""What a token is told besides its pixels: where its patch is, where the set is, when it was seen, by what, at which GSD.

Each part is one knob of `rsfm_jax.config.EncodingConfig`. Unknown metadata is a learned token, never a zero that means a place or a date.

Legend: B batch, N patches of a member, K those of them that are asked for, D width, X coordinates of a position.
"""

from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from rsfm_jax.layouts import Layout
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.nn.dates import TIME_FEATURES, prithvi_time, satmae_time, time_features
from rsfm_jax.nn.layers import Linear, token
from rsfm_jax.nn.places import CARTESIAN_FEATURES, GEOSOT_FEATURES, cartesian_features, geosot_features, prithvi_place
from rsfm_jax.nn.positions import GSD_FEATURES, encode_positions, gsd_features, patch_centres_m, patch_indices, resize_table, sincos

Batch = dict[str, Any]
LEARNED_GRID = 14  # patches along a side of the learned positions' table, as in a ViT/16 at 224 pixels
STRENGTH_START = 0.1  # Prithvi's scales of time and place


def take_tokens(x_BN_: Shaped[Array, "B N *rest"], ids_BK: Int[Array, "B K"]) -> Shaped[Array, "B K *rest"]:
    """Gathers tokens along axis 1: (B, N, ...) and (B, K) give (B, K, ...)."""
    return jnp.take_along_axis(x_BN_, ids_BK.reshape(ids_BK.shape + (1,) * (x_BN_.ndim - 2)), axis=1)


def position_dims(kind: str, width: int, coordinates: int) -> tuple[int, ...]:
    """Width of each coordinate's code: equal parts, or column, row and time as 6 : 6 : 4 for '3d' (Prithvi)."""
    if kind == "3d":
        return (width * 6 // 16, width * 6 // 16, width * 4 // 16)
    return (width // coordinates,) * coordinates


class Place(nnx.Module):
    """Where the set lies, as one vector that all its tokens share, or a learned token where that is unknown."""

    def __init__(self, kind: str, width: int, rngs: nnx.Rngs) -> None:
        """Builds the parameters.

        Args:
          kind: ``encoding.geo``.
          width: D; 256 in the released layout, where the bits are the code.
          rngs: Source of the initial parameters.
        """
        self.kind = kind
        self.unknown = token(width, rngs)
        if kind in ("a2mae", "cartesian"):
            self.proj = Linear(GEOSOT_FEATURES if kind == "a2mae" else CARTESIAN_FEATURES, width, ("features", "embed"), jnp.float32, rngs)
        elif kind == "prithvi":
            self.strength = strength(rngs)

    def __call__(self, place: Batch, width: int) -> Float[Array, "B D"]:
        """Codes the places of a batch.

        Args:
          place: ``geosot`` uint8 (B, 256) and ``lonlat_deg`` float32 (B, 3): known, longitude, latitude.
          width: D.

        Returns:
          float32 (B, D).
        """
        known, lonlat_deg = place["lonlat_deg"][:, :1] > 0, place["lonlat_deg"][:, 1:]
        if self.kind == "a2mae":
            code = self.proj(geosot_features(place["geosot"]))
        elif self.kind == "cartesian":
            code = self.proj(cartesian_features(lonlat_deg))
        elif self.kind == "prithvi":
            code = self.strength[...] * prithvi_place(lonlat_deg, width)
        else:
            code = geosot_features(place["geosot"])
        return jnp.where(known, code, self.unknown[...])


class Time(nnx.Module):
    """When a member was seen, as one vector, or a learned token where that is unknown."""

    def __init__(self, kind: str, width: int, rngs: nnx.Rngs) -> None:
        """Builds the parameters of ``encoding.time``."""
        self.kind = kind
        self.unknown = token(width, rngs)
        if kind == "season":
            self.proj = Linear(TIME_FEATURES, width, ("features", "embed"), jnp.float32, rngs)
        elif kind == "prithvi":
            self.strength = strength(rngs)

    def __call__(self, time_B3: Float[Array, "B 3"], width: int) -> Float[Array, "B D"]:
        """Codes dates (known, year, day of year) as float32 (B, D)."""
        if self.kind == "season":
            code = self.proj(time_features(time_B3))
        elif self.kind == "prithvi":
            code = self.strength[...] * prithvi_time(time_B3, width)
        else:
            code = satmae_time(time_B3, width // 3)
        return jnp.where(time_B3[:, :1] > 0, code, self.unknown[...])


def strength(rngs: nnx.Rngs) -> nnx.Param:
    """A learned factor (1,) that starts at `STRENGTH_START`."""
    del rngs
    return nnx.Param(nnx.with_partitioning(nnx.initializers.constant(STRENGTH_START), ("features",))(jax.random.key(0), (1,)))


class Encodings(nnx.Module):
    """All that is added to an embedded patch."""

    def __init__(self, spec: ModelSpec, width: int, decoder: bool, rngs: nnx.Rngs) -> None:
        """Builds the parameters.

        Args:
          spec: The model's spec.
          width: D.
          decoder: Whether these are the decoder's, which A2-MAE's released layout encodes otherwise.
          rngs: Source of the initial parameters.
        """
        encoding = spec.encoding
        self.encoding, self.width, self.decoder = encoding, width, decoder
        self.numbers = {slot_key(slot): number for slot, number in zip(spec.slots, spec.numbers, strict=True)}
        self.tail = {
            "time": width // 8 * 3 if encoding.time == "satmae" else 0,
            "number": width // 4 if encoding.identity == "satmae" else 0,
        }
        if encoding.positions == "learned":
            shape, init = (LEARNED_GRID, LEARNED_GRID, width - sum(self.tail.values())), nnx.initializers.normal(0.02)
            self.position_table = nnx.Param(nnx.with_partitioning(init, (None, None, "embed"))(rngs.params(), shape))
        if encoding.identity == "slot":
            self.slot = nnx.Dict({slot_key(slot): token(width, rngs) for slot in spec.slots})
        if encoding.gsd:
            self.gsd = Linear(GSD_FEATURES, width, ("features", "embed"), jnp.float32, rngs)
        if encoding.time != "none":
            self.time = Time(encoding.time, self.tail["time"] or width, rngs)
        if encoding.geo != "none" and not (decoder and encoding.geo == "a2mae_released"):
            self.place = Place(encoding.geo, GEOSOT_FEATURES if encoding.geo == "a2mae_released" else width, rngs)

    def __call__(self, layout: Layout, batch: Batch, t: int, ids_BK: Int[Array, "B K"] | None) -> Float[Array, "B K D"]:
        """Codes the patches of one token slot.

        Args:
          layout: The token layout.
          batch: ``members`` with ``valid``, ``grid_m`` and ``time``, and ``place``.
          t: The token slot.
          ids_BK: The patches asked for, int (B, K); None for all, in order.

        Returns:
          float32 (B, K, D).
        """
        member, key = batch["members"][t], slot_key(layout.slots[t])
        positions = self._positions(layout, batch, t, ids_BK)
        B, K, _ = positions.shape
        parts = [positions]
        if self.encoding.geo == "a2mae_released" and not self.decoder:
            parts.insert(0, self.place(batch["place"], GEOSOT_FEATURES)[:, None])
        if self.tail["time"]:
            parts.append(self.time(member["time"], self.tail["time"])[:, None])
        if self.tail["number"]:
            parts.append(sincos(jnp.full((B, 1), float(self.numbers[key])), self.tail["number"]))
        code = jnp.concatenate([jnp.broadcast_to(x, (B, K, x.shape[-1])) for x in parts], axis=-1)
        shared = self._shared(key, member, batch["place"])
        return code if shared is None else code + shared[:, None]

    def _shared(self, key: str, member: Batch, place: Batch) -> jax.Array | None:
        parts = []
        if self.encoding.identity == "slot":
            parts.append(jnp.asarray(self.slot[key][...])[None])
        if self.encoding.gsd:
            parts.append(self.gsd(gsd_features(member["grid_m"])))
        if self.encoding.time not in ("none", "satmae"):
            parts.append(self.time(member["time"], self.width))
        if self.encoding.geo not in ("none", "a2mae_released"):
            parts.append(self.place(place, self.width))
        return sum(parts[1:], parts[0]) if parts else None

    def _positions(self, layout: Layout, batch: Batch, t: int, ids_BK: jax.Array | None) -> jax.Array:
        kind, slot, member = self.encoding.positions, layout.slots[t], batch["members"][t]
        B, height, width, _ = member["valid"].shape
        rows, columns, dim = height // slot.patch, width // slot.patch, self.width - sum(self.tail.values())
        index_BN2 = jnp.broadcast_to(patch_indices(rows, columns), (B, rows * columns, 2))
        unit = self.encoding.position_unit_m
        if kind == "learned":
            coded = jnp.broadcast_to(resize_table(jnp.asarray(self.position_table[...]), rows, columns), (B, rows * columns, dim))
            return coded if ids_BK is None else take_tokens(coded, ids_BK)
        if kind == "metres":
            steps = patch_centres_m(member["grid_m"], rows, columns, slot.patch) / unit
        elif kind == "gsd":
            steps = index_BN2 * member["grid_m"][:, None, 2:] / unit
        elif kind == "3d":
            steps = jnp.concatenate([index_BN2, jnp.full((B, rows * columns, 1), float(t))], axis=-1)
        elif kind == "a2mae_released":
            grids = [member] if self.decoder else batch["members"]
            steps = jnp.concatenate([index_BN2 * m["grid_m"][:, None, 2:] for m in grids], axis=-1)
            dim -= 0 if self.decoder else GEOSOT_FEATURES
        else:
            steps = index_BN2
        steps = steps if ids_BK is None else take_tokens(steps, ids_BK)
        return encode_positions(steps, position_dims(kind, dim, steps.shape[-1]))
