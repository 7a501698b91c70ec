"""Images to patches and back, channel fastest, as MAE does.

Legend: B batch, H W pixels, C bands, N patches, P values of one patch (patch x patch x C).
"""

from jaxtyping import Array, Shaped


def patchify(image_BHWC: Shaped[Array, "B H W C"], patch: int) -> Shaped[Array, "B N P"]:
    """Cuts images into patches, row by row.

    Args:
      image_BHWC: Images of any type; H and W are multiples of ``patch``.
      patch: Pixels along a patch's side.

    Returns:
      (B, N, P) of the same type; within a patch rows come first, then columns, then bands.
    """
    B, H, W, C = image_BHWC.shape
    tiles = image_BHWC.reshape(B, H // patch, patch, W // patch, patch, C)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(B, (H // patch) * (W // patch), patch * patch * C)


def unpatchify(patches_BNP: Shaped[Array, "B N P"], patch: int, rows: int, columns: int) -> Shaped[Array, "B H W C"]:
    """Puts patches back into images; the inverse of `patchify`.

    Args:
      patches_BNP: Patches, row by row.
      patch: Pixels along a patch's side.
      rows: Patches from top to bottom.
      columns: Patches from left to right.

    Returns:
      (B, rows * patch, columns * patch, C).
    """
    B, _, P = patches_BNP.shape
    tiles = patches_BNP.reshape(B, rows, columns, patch, patch, P // (patch * patch))
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(B, rows * patch, columns * patch, P // (patch * patch))
