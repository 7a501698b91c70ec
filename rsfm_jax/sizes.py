"""The sizes of ViT, in one table.

Sources: ViT (arXiv 2010.11929) for S to H, DeiT (arXiv 2012.12877) for Ti, Scaling ViT (arXiv 2106.04560) for g; MAE (arXiv 2111.06377) for
the decoder.
"""

from rsfm_jax.config import ModelConfig
from rsfm_jax.errors import InputError, nearest

SIZES = {  # width, depth, heads, MLP ratio
    "vit_ti": (192, 12, 3, 4.0),
    "vit_s": (384, 12, 6, 4.0),
    "vit_b": (768, 12, 12, 4.0),
    "vit_l": (1024, 24, 16, 4.0),
    "vit_h": (1280, 32, 16, 4.0),
    "vit_g": (1408, 40, 16, 48 / 11),
}


def vit(size: str, where: str) -> ModelConfig:
    """A network of one size with MAE's decoder (512 wide, 8 blocks, 16 heads).

    Args:
      size: A key of `SIZES`.
      where: The config file and its argument, for the message.

    Returns:
      The model's config.

    Raises:
      InputError: no such size.
    """
    if size not in SIZES:
        raise InputError(f"{where}: no such size {size!r} (there are {', '.join(SIZES)}){nearest(size, SIZES)}")
    width, depth, heads, mlp_ratio = SIZES[size]
    return ModelConfig(width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio)
