"""Random crops and flips of whole image sets, on device: all members together, so that they stay on one ground.

A crop keeps a part of the ground, the same for all members: every member is resampled to the pixels it had, and its grid follows, about the
crop's own centre. So masks and positions in metres still follow the ground. Draws are a function of one key per example.

Legend: B batch, H W pixels, C bands, X a side's pixels in, Y out.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rsfm_jax.config import AugmentConfig

Batch = dict[str, Any]
Grid = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
_TAP = 1e-6  # a pixel with a smaller weight has no part in a resampled one


def augment(config: AugmentConfig, keys_B: Key[Array, "B"], batch: Batch) -> Batch:
    """Crops and flips the sets of a batch.

    Args:
      config: What is drawn.
      keys_B: One random key for each example.
      batch: ``members``, for each slot ``pixels`` float32 (B, H, W, C), ``valid`` bool (B, H, W, C) and ``grid_m`` float32 (B, 4).

    Returns:
      The batch with other pixels, validity and grids; times and place are as before, so the place is that of the whole chip. A resampled
      pixel is valid where all pixels it is made of are.

    Source: MAE (arXiv 2111.06377), random resized crop and flip; Scale-MAE (arXiv 2212.14532) for the GSD that follows the crop.
    """
    members = batch["members"]
    if config.crop_min_area < 1:
        draw = functools.partial(_draw_crop, min_area=config.crop_min_area, max_aspect=config.crop_max_aspect)
        scale_B2, shift_B2 = jax.vmap(draw)(keys_B, _shared_ground(members))
        members = [m | jax.vmap(_crop)(m["pixels"], m["valid"], m["grid_m"], scale_B2, shift_B2) for m in members]
    if config.flip != "none":
        turns_B3 = jax.vmap(lambda key: jax.random.bernoulli(jax.random.split(key, 4)[3], shape=(3,)))(keys_B)
        turn = functools.partial(_turn, dihedral=config.flip == "dihedral")
        members = [m | jax.vmap(turn)(m["pixels"], m["valid"], m["grid_m"], turns_B3) for m in members]
    return batch | {"members": members}


def _edges(grid_B4: jax.Array, size: tuple[int, int]) -> Grid:
    left, upper, width, height = jnp.moveaxis(grid_B4, -1, 0)
    return left, upper - size[0] * height, left + size[1] * width, upper


def _shared_ground(members: list[Batch]) -> Float[Array, "B 4"]:
    """Left, lower, right and upper edge of the ground that all members cover."""
    edges = [_edges(member["grid_m"], member["valid"].shape[1:3]) for member in members]
    left, lower, right, upper = (jnp.stack(edge) for edge in zip(*edges, strict=True))
    return jnp.stack([left.max(axis=0), lower.max(axis=0), right.min(axis=0), upper.min(axis=0)], axis=-1)


def _draw_crop(key: jax.Array, shared_4: jax.Array, min_area: float, max_aspect: float) -> tuple[jax.Array, jax.Array]:
    """Factor of the ground, and the point that becomes the centre in metres, (x, y) each; no crop where members share no ground."""
    area_key, aspect_key, place_key, _ = jax.random.split(key, 4)
    area = jax.random.uniform(area_key, minval=min_area, maxval=1.0)
    widest = jnp.minimum(jnp.log(max_aspect), -jnp.log(area))
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=-1.0, maxval=1.0) * widest)
    scale_2 = jnp.stack([jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)])
    room_2 = shared_4[2:] - shared_4[:2]
    shift_2 = (1 - scale_2) * (shared_4[:2] + jax.random.uniform(place_key, (2,)) * room_2)
    overlap = (room_2 > 0).all()
    return jnp.where(overlap, scale_2, 1.0), jnp.where(overlap, shift_2, 0.0)


def _crop(pixels_HWC: jax.Array, valid_HWC: jax.Array, grid_4: jax.Array, scale_2: jax.Array, shift_2: jax.Array) -> Batch:
    H, W, _ = valid_HWC.shape
    left, upper, width, height = grid_4
    new = grid_4 * jnp.concatenate([scale_2, scale_2])
    columns = cubic_weights(W, (new[0] + shift_2[0] - left) / width, scale_2[0])
    rows = cubic_weights(H, (upper - new[1] - shift_2[1]) / height, scale_2[1])
    pixels = jnp.einsum("ih,hwc,jw->ijc", rows, jnp.where(valid_HWC, pixels_HWC, 0.0), columns, precision="highest")
    taps = (jnp.abs(x) > _TAP for x in (rows, columns))
    rows_taken, columns_taken = (x.astype(jnp.float32) for x in taps)
    gaps = jnp.einsum("ih,hwc,jw->ijc", rows_taken, (~valid_HWC).astype(jnp.float32), columns_taken)
    valid = gaps < 0.5
    return {"pixels": jnp.where(valid, pixels, 0.0), "valid": valid, "grid_m": new}


def cubic_weights(pixels: int, start: jax.Array, scale: jax.Array) -> Float[Array, "Y X"]:
    """Weights that resample a stretch of a line of pixels to as many pixels as the whole line has.

    Args:
      pixels: Pixels of the line.
      start: Where the stretch begins, in pixels from the line's edge.
      scale: Its share of the line, at most 1.

    Returns:
      float32 (pixels, pixels), each row with the sum 1: the cubic kernel with a = -0.5 (Keys 1981), cut off at the line's ends.
    """
    centres_Y = start + (jnp.arange(pixels) + 0.5) * scale - 0.5
    d = jnp.abs(centres_Y[:, None] - jnp.arange(pixels))
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = jnp.where(d < 1, near, jnp.where(d < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _turn(pixels_HWC: jax.Array, valid_HWC: jax.Array, grid_4: jax.Array, turns_3: jax.Array, dihedral: bool) -> Batch:
    """Mirrors columns; dihedral: mirrors rows and swaps both as well; each where its turn says so."""
    mirror_columns, mirror_rows, swap = turns_3
    H, W, _ = valid_HWC.shape
    left, lower, right, upper = _edges(grid_4, (H, W))
    _, _, width, height = grid_4
    images = [pixels_HWC, valid_HWC]
    images = [jnp.where(mirror_columns, x[:, ::-1], x) for x in images]
    left = jnp.where(mirror_columns, -right, left)
    grid = jnp.stack([left, upper, width, height])
    if dihedral:
        images = [jnp.where(mirror_rows, x[::-1], x) for x in images]
        images = [jnp.where(swap, x.swapaxes(0, 1), x) for x in images]
        upper = jnp.where(mirror_rows, -lower, upper)
        grid = jnp.where(swap, jnp.stack([-upper, -left, height, width]), jnp.stack([left, upper, width, height]))
    return {"pixels": images[0], "valid": images[1], "grid_m": grid}
