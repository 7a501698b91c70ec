"""A2-MAE (arXiv 2406.08079) at the sizes of ViT; layouts come from the dataset.

Paper: A2-MAE (arXiv 2406.08079). The masking is the intention of its text (rsfm_jax/objectives/masking.py); AdamW's betas, weight decay and
clipping are the released code's; the learning rate is MAE's, for training from random weights.
Hardware: an accelerator or several; on CPU use configs/demo.py.
Command: `python -m rsfm_jax.train --config=configs/a2mae.py:vit_l --workdir=runs/run1 --config.data.path=data/run1`
Expected loss: not measured yet at these sizes; configs/demo.py has a measured curve at toy size.
"""

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.errors import InputError, nearest

SIZES = {  # width, depth, heads
    "vit_s": (384, 12, 6),
    "vit_b": (768, 12, 12),
    "vit_l": (1024, 24, 16),
}


def get_config(variant: str = "vit_l") -> Config:
    """The experiment at one size.

    Args:
      variant: A key of `SIZES`, given after a colon: ``configs/a2mae.py:vit_b``.

    Returns:
      The config.
    """
    if variant not in SIZES:
        raise InputError(f"configs/a2mae.py:{variant}: no such variant (there are {', '.join(SIZES)}){nearest(variant, SIZES)}")
    width, depth, heads = SIZES[variant]
    return Config(model=ModelConfig(width=width, depth=depth, heads=heads))
