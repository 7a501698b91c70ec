"""Published weights for other models: positions on another grid, patches of another side, bands that are not red, green and blue.

All are numpy arrays in PyTorch's layouts, as `rsfm_jax.torch.published` reads them.

Legend: D width, C bands, p patch side in pixels, N patches (a square grid, row by row).
"""

from collections.abc import Sequence
import math

import numpy as np
import torch
import torch.nn.functional as F

from rsfm_jax.errors import InputError


def interpolate_positions(pos_embed: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Position embeddings for another grid, bicubic, as MAE's and timm's users resize them.

    Args:
      pos_embed: (1, 1 + N, D).
      rows: Rows of patches.
      columns: Columns of patches.

    Returns:
      (rows * columns, D) float32, row by row, without the class token's; unchanged for an equal grid.

    Raises:
      InputError: ``pos_embed`` is not of a square grid, or the new grid is empty.
    """
    grid = _grid(pos_embed)
    if min(rows, columns) < 1:
        raise InputError(f"a grid of {rows} x {columns} patches is empty; both must be at least 1")
    if (rows, columns) != grid.shape[:2]:
        image = torch.from_numpy(grid).permute(2, 0, 1)[None]
        resized = F.interpolate(image, size=(rows, columns), mode="bicubic", align_corners=False, antialias=False)
        grid = resized[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(grid.reshape(rows * columns, -1))


def is_sincos(pos_embed: np.ndarray) -> bool:
    """Whether positions are MAE's fixed 2-D sines and cosines, the column's in the first half, within 1e-4.

    Args:
      pos_embed: (1, 1 + N, D); the class token's row may be anything.

    Returns:
      True if they are.

    Raises:
      InputError: ``pos_embed`` is not of a square grid.
    """
    grid = _grid(pos_embed)
    side, _, width = grid.shape
    if width % 4:
        return False
    angle = np.arange(side)[:, None] * 10000.0 ** (-np.arange(width // 4) / (width // 4))
    axis = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    expected = np.concatenate(np.broadcast_arrays(axis[None, :], axis[:, None]), axis=-1)
    return np.allclose(grid, expected, rtol=0, atol=1e-4)


def resize_patch(weight: np.ndarray, patch: int) -> np.ndarray:
    """A patch embedding for another patch side: FlexiViT's PI-resize (https://arxiv.org/abs/2212.08013, section 3.4).

    With B the bilinear, antialiased resize of a patch x, the new weight v minimises the expected ``(<x, w> - <Bx, v>)**2``. A larger patch
    loses nothing, so embeddings stay equal for every x. A smaller one can't keep all: with independent pixels, as the paper takes them,
    even a uniform patch changes its embedding, by about a sixth from 16 to 4 pixels. Real patches are smooth, so here constants and linear
    ramps have 1000 times the deviation of anything else; they keep their embedding (a side of 1 pixel keeps constants only).

    Args:
      weight: (D, C, p, p).
      patch: New side in pixels.

    Returns:
      (D, C, patch, patch) float32; a copy for an equal side.

    Raises:
      InputError: ``weight`` is not of square patches, or the side is not positive.
    """
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or patch < 1:
        raise InputError(f"a patch embedding {weight.shape} can't be resized to side {patch}; expected (D, C, p, p) and a positive side")
    width, bands, side, _ = weight.shape
    if patch == side:
        return weight.astype(np.float32)
    pixels = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side)
    resize_T = F.interpolate(pixels, size=(patch, patch), mode="bilinear", align_corners=False, antialias=True).flatten(1)
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    ramps = F.normalize(torch.stack([place.new_ones(side, side), *torch.meshgrid(place, place, indexing="ij")]).flatten(1), dim=1)
    deviation = torch.eye(side * side, dtype=torch.float64) + 1000 * ramps.T @ ramps
    solve = torch.linalg.pinv(deviation @ resize_T) @ deviation
    resized = torch.tensor(np.ascontiguousarray(weight), dtype=torch.float64).flatten(2) @ solve.T
    return resized.reshape(width, bands, patch, patch).float().numpy()


def inflate_bands(weight: np.ndarray, roles: Sequence[str | None]) -> np.ndarray:
    """An RGB patch embedding for other bands.

    The kernels of the n new bands sum to what the three sum to, so that a patch that is equal in all bands keeps its embedding. A band
    with a role gets its channel's kernel times 3 / n; the bands without one share equally what is left of the sum. So where no band has a
    role, or red, green and blue occur once each among others, the bands without one get the mean of the three times 3 / n; and with two
    roles of n = 3 bands, the last gets the third channel's kernel. Where every band has a role, all share what is left. Exactly red, green
    and blue, in any order, are copies.

    Args:
      weight: (D, 3, p, p), bands in the order red, green, blue.
      roles: For each new band "red", "green", "blue" or None.

    Returns:
      (D, len(roles), p, p) float32.

    Raises:
      InputError: ``weight`` is not of three bands, or a role is unknown.
    """
    rgb = ("red", "green", "blue")
    if weight.ndim != 4 or weight.shape[1] != 3:
        raise InputError(f"a patch embedding {weight.shape} can't be inflated; expected (D, 3, p, p) for red, green, blue")
    wrong = [role for role in roles if role not in (*rgb, None)]
    if wrong or not roles:
        raise InputError(f"band roles are {list(roles)}; expected at least one of 'red', 'green', 'blue' and None")
    if set(roles) == set(rgb) and len(roles) == 3:
        return np.stack([weight[:, rgb.index(role)] for role in roles if role], axis=1).astype(np.float32)
    inflated = np.zeros((weight.shape[0], len(roles), *weight.shape[2:]))
    for i, role in enumerate(roles):
        if role:
            inflated[:, i] = weight[:, rgb.index(role)] * (3 / len(roles))
    rest = [i for i, role in enumerate(roles) if role is None] or list(range(len(roles)))
    left = weight.sum(axis=1, dtype=np.float64) - inflated.sum(axis=1)
    inflated[:, rest] += (left / len(rest))[:, None]
    return inflated.astype(np.float32)


def _grid(pos_embed: np.ndarray) -> np.ndarray:
    """(1, 1 + N, D) to (side, side, D), without the class token's."""
    tokens = pos_embed.shape[1] - 1 if pos_embed.ndim == 3 and len(pos_embed) == 1 else 0
    side = math.isqrt(max(tokens, 0))
    if side == 0 or side * side != tokens:
        raise InputError(f"position embeddings have shape {pos_embed.shape}; expected (1, 1 + side * side, width)")
    return pos_embed[0, 1:].reshape(side, side, -1).astype(np.float32)
