"""Anchor-aware masking in ground coordinates.

One member of the set is the anchor and draws a random field over its patches. Every other member gets its policy from its relation to the
anchor: `consistent` hides the patches whose ground the anchor hides, by overlap area, across GSDs and footprints; `independent` draws anew,
for the same sensor at another time. Slots of one acquisition always share one draw: bands of one moment would leak each other.

Where patches nest (equal patches on the ground) another member shows none of the hidden ground. Where a patch of one member covers
several of another some leak cannot be avoided: the counts are exact, and a coarse patch over a fine random mask always holds hidden
ground; `anchor='coarsest'` leaks least. Ground beyond the anchor's chip is hidden at random with the same ratio, so no part of a larger
member is favoured.

Grids are axis-aligned, so the overlap of two members' patches is the product of a row and a column fraction and the hidden share of every
patch is ``R M C^T`` for the anchor's hidden patches M: two small products, static shapes.

All of it is a function of one key per example. Each member keeps exactly ``visible_count`` patches; patches without a valid pixel are
hidden first.

Source: A2-MAE (arXiv 2406.08079), the intention its text states; the released code keeps only patches of the first image.

Legend: B batch, T members, N patches of a member, K visible patches; I J rows and columns of patches.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rsfm_jax.config import Layout, MaskConfig, Slot

_TIE = 1e-3  # weight of the random order among patches that are hidden to the same share
_NEVER_VISIBLE = 4.0  # added to patches without a valid pixel, above any other score


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masks:
    """Masks of a batch, a tuple entry for each slot.

    Attributes:
      ids_keep: Visible patches, int32 (B, K).
      ids_restore: Place of each patch in the order (visible, removed); the inverse of that order, int32 (B, N).
      hidden: 1 where a patch is removed, bool (B, N).
    """

    ids_keep: tuple[Any, ...]
    ids_restore: tuple[Any, ...]
    hidden: tuple[Any, ...]


def visible_count(patches: int, ratio: float) -> int:
    """How many of a member's patches stay visible: round(N (1 - ratio)), at least one and not all."""
    return min(max(round(patches * (1.0 - ratio)), 1), patches - 1)


def sample_masks(
    keys_B: Key[Array, "B"], layout: Layout, config: MaskConfig, grids_m: Sequence[Float[Array, "B 4"]], real: Sequence[Bool[Array, "B _"]]
) -> Masks:
    """Draws the masks of a batch.

    Args:
      keys_B: One random key for each example, a function of seed and global index.
      layout: The sets' layout.
      config: Ratio, anchor and policies.
      grids_m: For each slot the pixel grid, float32 (B, 4); see `rsfm_jax.nn.positions.patch_centres_m`.
      real: For each slot which patches hold a valid pixel, bool (B, N).

    Returns:
      The masks.
    """

    def one(key: jax.Array, grids: list[jax.Array], real_N: list[jax.Array]) -> Masks:
        scores = _scores(key, layout, config, grids, real_N)
        orders = [jnp.argsort(s.reshape(-1) + _NEVER_VISIBLE * ~r, stable=True) for s, r in zip(scores, real_N, strict=True)]
        restores = [jnp.argsort(order) for order in orders]
        counts = [visible_count(slot.tokens, config.ratio) for slot in layout.slots]
        return Masks(
            ids_keep=tuple(order[:count] for order, count in zip(orders, counts, strict=True)),
            ids_restore=tuple(restores),
            hidden=tuple(restore >= count for restore, count in zip(restores, counts, strict=True)),
        )

    return jax.vmap(one)(keys_B, list(grids_m), list(real))


@dataclasses.dataclass(frozen=True)
class _Draw:
    """What one slot draws for itself.

    Attributes:
      noise_IJ: Random order of its patches, in [0, 1); the lowest stay visible.
      wide_noise: The same on a grid that goes on for ``pad`` patches beyond the chip on every side.
      wide_hidden: 1 where hidden: exactly counted inside the chip, with the probability of the ratio outside of it.
      pad: Patches beyond the chip.
    """

    noise_IJ: jax.Array
    wide_noise: jax.Array
    wide_hidden: jax.Array
    pad: int


def _draw(key: jax.Array, layout: Layout, number: int, ratio: float, real_N: jax.Array) -> _Draw:
    slot = layout.slots[number]
    reach_m = max(other.pixels * other.gsd_m / 2 + other.gsd_m for other in layout.slots) + slot.gsd_m  # snapping moves members by pixels
    pad = max(0, math.ceil((reach_m - slot.pixels * slot.gsd_m / 2) / (slot.patch * slot.gsd_m)))
    noise_IJ = jax.random.uniform(key, (slot.grid, slot.grid))
    ranks = jnp.argsort(jnp.argsort(noise_IJ.reshape(-1) + _NEVER_VISIBLE * ~real_N))
    hidden_IJ = (ranks >= visible_count(slot.tokens, ratio)).reshape(noise_IJ.shape)
    wide_noise = jax.random.uniform(jax.random.fold_in(key, 1), (slot.grid + 2 * pad, slot.grid + 2 * pad))
    wide_hidden = jax.lax.dynamic_update_slice(wide_noise >= 1.0 - ratio, hidden_IJ, (pad, pad))
    wide_noise = jax.lax.dynamic_update_slice(wide_noise, noise_IJ, (pad, pad))
    return _Draw(noise_IJ, wide_noise, wide_hidden.astype(jnp.float32), pad)


def _scores(key: jax.Array, layout: Layout, config: MaskConfig, grids: list[jax.Array], real_N: list[jax.Array]) -> list[jax.Array]:
    """The score (I, J) of each slot's patches: the lowest stay visible."""
    slots, T = layout.slots, len(layout.slots)
    anchor_key, *keys = jax.random.split(key, T + 1)
    draws = [_draw(keys[t], layout, t, config.ratio, real_N[t]) for t in range(T)]
    if config.anchor != "random":
        by_gsd = min if config.anchor == "finest" else max
        return _scores_for(by_gsd(range(T), key=lambda i: slots[i].gsd_m), layout, config, grids, draws)
    chosen = jax.random.randint(anchor_key, (), 0, T)
    every = [_scores_for(anchor, layout, config, grids, draws) for anchor in range(T)]
    return [sum(jnp.where(chosen == anchor, every[anchor][t], 0.0) for anchor in range(T)) for t in range(T)]  # pyright: ignore[reportReturnType]


def _scores_for(anchor: int, layout: Layout, config: MaskConfig, grids: list[jax.Array], draws: list[_Draw]) -> list[jax.Array]:
    leads = {i: group[0] for group in layout.acquisitions() for i in group}
    scores = []
    for t in range(len(layout.slots)):
        follows = anchor if policy(layout, config, anchor, t) == "consistent" else leads[t]
        scores.append(draws[t].noise_IJ if follows == t else _follow(layout.slots, grids, draws, follows, t))
    return scores


def policy(layout: Layout, config: MaskConfig, anchor: int, member: int) -> str:
    """The policy of a member, from its relation to the anchor; the anchor's own acquisition always follows it."""
    a, m = layout.slots[anchor], layout.slots[member]
    if anchor == member or (a.acquisition and a.acquisition == m.acquisition):
        return "consistent"
    return config.other_time if a.sensor == m.sensor else config.other_sensor


def _follow(slots: Sequence[Slot], grids: list[jax.Array], draws: list[_Draw], leader: int, member: int) -> jax.Array:
    """Scores a member's patches by the share of their ground that the leader hides.

    Ties are broken by the noise of the leader and of the slot with the smallest patches, both by ground, so that members with the same grid
    break them alike.
    """
    finest = min(range(len(slots)), key=lambda t: slots[t].patch * slots[t].gsd_m)

    def on_member(source: int, wide: jax.Array) -> jax.Array:
        R, C = overlap_fractions(grids[member], slots[member], grids[source], slots[source], draws[source].pad)
        return R @ wide @ C.T

    tie = on_member(leader, draws[leader].wide_noise) + on_member(finest, draws[finest].wide_noise)
    return on_member(leader, draws[leader].wide_hidden) + _TIE * tie / 2


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
