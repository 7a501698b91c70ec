"""Where and when a patch is: sine-cosine codes of ground positions in metres, of dates and of the GSD.

A position is measured from the centre of its image set, so members of different sensors are co-registered and a patch keeps its code
when the GSD or the chip size changes.

Legend: B batch, N patches of one member, D width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

EPOCH_YEAR = 2000.0
YEAR_FEATURES = 16
SEASON_HARMONICS = 4
TIME_FEATURES = YEAR_FEATURES + 2 * SEASON_HARMONICS
DAYS_PER_YEAR = 365.2425
GSD_FEATURES = 16
GSD_PER_OCTAVE = 10.0


def sincos(position: Float[Array, "*shape"], dim: int) -> Float[Array, "*shape {dim}"]:
    """Codes positions by ``dim / 2`` sines followed by as many cosines.

    Args:
      position: Any shape; the highest frequency turns by 1 radian per unit.
      dim: Number of values, even; frequency i is ``10000 ** (-i / (dim / 2))``.

    Returns:
      float32, shape of ``position`` with ``dim`` appended.

    Source: MAE (arXiv 2111.06377), facebookresearch/mae pos_embed; Scale-MAE (arXiv 2212.14532) for positions on the ground.
    """
    half = dim // 2
    frequency = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = position[..., None].astype(jnp.float32) * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def patch_centres_m(grid_m_B4: Float[Array, "B 4"], rows: int, columns: int, patch: int) -> Float[Array, "B {rows*columns} 2"]:
    """Ground positions of the centres of a member's patches.

    Args:
      grid_m_B4: Left edge, upper edge (metres from the set's centre, x east, y north), pixel width, pixel height; float32.
      rows: Patches from north to south.
      columns: Patches from west to east.
      patch: Pixels along a patch's side.

    Returns:
      float32 (B, N, 2): metres to the east and to the south of the set's centre, row by row.
    """
    left, top, width, height = (grid_m_B4[:, i, None] for i in range(4))
    east = left + (jnp.arange(columns) + 0.5) * patch * width
    south = -top + (jnp.arange(rows) + 0.5) * patch * height
    shape = (grid_m_B4.shape[0], rows, columns)
    pair = jnp.stack([jnp.broadcast_to(east[:, None, :], shape), jnp.broadcast_to(south[:, :, None], shape)], axis=-1)
    return pair.reshape(shape[0], rows * columns, 2)


def encode_positions(centres_m_BN2: Float[Array, "B N 2"], unit_m: float, dim: int) -> Float[Array, "B N {dim}"]:
    """Two-dimensional sine-cosine codes: half of the width for the column, half for the row.

    Args:
      centres_m_BN2: From `patch_centres_m`.
      unit_m: Ground distance that counts as one step.
      dim: Width, a multiple of 4.

    Returns:
      float32 (B, N, D).
    """
    steps = centres_m_BN2 / unit_m
    return jnp.concatenate([sincos(steps[..., 0], dim // 2), sincos(steps[..., 1], dim // 2)], axis=-1)


def time_features(time_B3: Float[Array, "B 3"]) -> Float[Array, "B F"]:
    """Features of acquisition dates.

    Args:
      time_B3: Known (1 or 0), year, day of year; float32.

    Returns:
      float32 (B, TIME_FEATURES): codes of the years since 2000 and harmonics of the season.
    """
    season = 2 * jnp.pi * time_B3[:, 2:3] / DAYS_PER_YEAR * jnp.arange(1.0, SEASON_HARMONICS + 1)
    return jnp.concatenate([sincos(time_B3[:, 1] - EPOCH_YEAR, YEAR_FEATURES), jnp.sin(season), jnp.cos(season)], axis=-1)


def gsd_features(grid_m_B4: Float[Array, "B 4"]) -> Float[Array, "B F"]:
    """Features of the GSD: codes of its binary logarithm, float32 (B, GSD_FEATURES)."""
    gsd_m = jnp.sqrt(grid_m_B4[:, 2] * grid_m_B4[:, 3])
    return sincos(GSD_PER_OCTAVE * jnp.log2(gsd_m), GSD_FEATURES)
