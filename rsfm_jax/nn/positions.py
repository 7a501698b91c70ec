"""Where a patch is and how large its pixels are: sine-cosine codes of positions on the ground or in the chip, and of the GSD.

Metres are measured from the centre of the image set, so members of different sensors are co-registered and a patch keeps its code when
the GSD or the chip size changes.

Legend: B batch, N patches of one member, D width, X coordinates of a position.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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


def patch_indices(rows: int, columns: int) -> Float[Array, "{rows*columns} 2"]:
    """Column and row number of each patch, row by row, float32 (N, 2)."""
    row, column = jnp.mgrid[:rows, :columns].reshape(2, -1).astype(jnp.float32)
    return jnp.stack([column, row], axis=-1)


def encode_positions(steps_BNX: Float[Array, "B N X"], dims: tuple[int, ...]) -> Float[Array, "B N {sum(dims)}"]:
    """Sine-cosine codes of each coordinate, one after the other.

    Args:
      steps_BNX: Positions; one unit is one step of the highest frequency.
      dims: Width of each coordinate's code, even.

    Returns:
      float32 (B, N, D), D the sum of ``dims``.
    """
    return jnp.concatenate([sincos(steps_BNX[..., x], dim) for x, dim in enumerate(dims)], axis=-1)


def resize_table(table_GGD: Float[Array, "G G D"], rows: int, columns: int) -> Float[Array, "{rows*columns} D"]:
    """Learned positions of a square grid, interpolated bilinearly to another grid, float32 (N, D); the same values on the same grid."""
    G, _, D = table_GGD.shape
    if (rows, columns) == (G, G):
        return table_GGD.reshape(G * G, D)
    return jax.image.resize(table_GGD, (rows, columns, D), "bilinear", antialias=False).reshape(rows * columns, D)


def gsd_features(grid_m_B4: Float[Array, "B 4"]) -> Float[Array, "B F"]:
    """Features of the GSD: codes of its binary logarithm, float32 (B, GSD_FEATURES)."""
    gsd_m = jnp.sqrt(grid_m_B4[:, 2] * grid_m_B4[:, 3])
    return sincos(GSD_PER_OCTAVE * jnp.log2(gsd_m), GSD_FEATURES)
