"""Ground overlap of members' patches, and the random field that a member draws over its ground.

Grids are axis-aligned, so the share of one member's patch that lies in another's is the product of a row and a column fraction, and the
share of every patch that a field M covers is ``R M C^T``: two small products, static shapes.

Legend: B batch, N patches of a member; I J rows and columns of patches.
"""

from collections.abc import Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rsfm_jax.layouts import Slot

NEVER_VISIBLE = 1024.0  # added to the score of patches without a valid pixel, above any other score


@dataclasses.dataclass(frozen=True)
class Field:
    """What one slot draws over its ground, on its own patch grid and ``pad`` patches beyond it on every side.

    Attributes:
      noise_IJ: Random order of its patches, in [0, 1); the lowest stay visible.
      wide_noise: The same, with the ground around.
      hidden_IJ: 1 where the order hides a patch, float32.
      wide_hidden_around: 1 where ground around the chip is hidden, with the probability of the ratio; 0 inside.
      pad: Patches beyond the chip.
    """

    noise_IJ: jax.Array
    wide_noise: jax.Array
    hidden_IJ: jax.Array
    wide_hidden_around: jax.Array
    pad: int


def draw_field(key: jax.Array, slots: Sequence[Slot], number: int, visible: int, real_N: jax.Array) -> Field:
    """Draws a slot's field.

    Args:
      key: The example's key for this slot.
      slots: All slots of the layout; the field reaches as far as any of them.
      number: Which of them draws.
      visible: How many of its patches stay visible.
      real_N: Which of its patches hold a valid pixel, bool (N,); the others are hidden first.

    Returns:
      The field.
    """
    slot = slots[number]
    reach_m = max(other.pixels * other.gsd_m / 2 + other.gsd_m for other in slots) + slot.gsd_m  # snapping moves members by pixels
    pad = max(0, math.ceil((reach_m - slot.pixels * slot.gsd_m / 2) / (slot.patch * slot.gsd_m)))
    noise_IJ = jax.random.uniform(key, (slot.grid, slot.grid))
    ranks = jnp.argsort(jnp.argsort(noise_IJ.reshape(-1) + NEVER_VISIBLE * ~real_N))
    hidden_IJ = (ranks >= visible).reshape(noise_IJ.shape).astype(jnp.float32)
    around = jax.random.uniform(jax.random.fold_in(key, 1), (slot.grid + 2 * pad, slot.grid + 2 * pad))
    inside = jnp.pad(jnp.ones_like(noise_IJ), pad) > 0
    hidden_around = jnp.where(inside, 0.0, around >= visible / slot.tokens)
    return Field(noise_IJ, jax.lax.dynamic_update_slice(around, noise_IJ, (pad, pad)), hidden_IJ, hidden_around, pad)


def overlap_fractions(
    grid_m_4: Float[Array, "4"], slot: Slot, other_grid_m_4: Float[Array, "4"], other: Slot, pad: int = 0
) -> tuple[Float[Array, "I I2"], Float[Array, "J J2"]]:
    """Shares of one member's patch rows and columns that lie in another member's patch rows and columns.

    Args:
      grid_m_4: Pixel grid of the member, float32 (4,).
      slot: Its slot.
      other_grid_m_4: Pixel grid of the other member.
      other: Its slot.
      pad: Patches by which the other member's grid goes on beyond its chip, on every side.

    Returns:
      R (I, I' + 2 pad) and C (J, J' + 2 pad); the share of patch (i, j) that lies in the other's patch (i', j') is ``R[i, i'] * C[j, j']``.
    """

    def fractions(start: jax.Array, pixel: jax.Array, other_start: jax.Array, other_pixel: jax.Array) -> jax.Array:
        size, other_size = pixel * slot.patch, other_pixel * other.patch
        low = start + jnp.arange(slot.grid) * size
        other_low = other_start + jnp.arange(-pad, other.grid + pad) * other_size
        shared = jnp.minimum(low[:, None] + size, other_low + other_size) - jnp.maximum(low[:, None], other_low)
        return jnp.maximum(shared, 0.0) / size

    south, other_south = -grid_m_4[1], -other_grid_m_4[1]
    rows = fractions(south, grid_m_4[3], other_south, other_grid_m_4[3])
    return rows, fractions(grid_m_4[0], grid_m_4[2], other_grid_m_4[0], other_grid_m_4[2])
