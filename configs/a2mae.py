"""A2-MAE (arXiv 2406.08079) at the sizes of ViT; layouts come from the dataset.

Paper: A2-MAE (arXiv 2406.08079). The masking is the intention of its text (rsfm_jax/objectives/masking.py); AdamW's betas, weight decay and
clipping are the released code's. A `_released` variant takes that code's encodings, tokeniser and learning rate as well, with the intended
masking: it needs three members of one patch grid in every layout, and starts from an ImageNet MAE
(`--config.init.torch=mae_pretrain_vit_large.pth --config.model.cls_token=True`).
Hardware: an accelerator or several; on CPU use configs/demo.py.
Command: `python -m rsfm_jax.train --config=configs/a2mae.py:vit_l --workdir=runs/run1 --config.data.path=data/run1`
Expected loss: not measured at these sizes; at toy size, from 1.80 to 0.77 in 700 steps (configs/demo.py, norm-pix).
"""

from rsfm_jax.config import Config, DataConfig, EncodingConfig, OptimConfig, TokenizerConfig
from rsfm_jax.sizes import vit

_RELEASED = "_released"


def get_config(variant: str = "vit_l") -> Config:
    """The experiment at one size.

    Args:
      variant: A key of `rsfm_jax.sizes.SIZES`, given after a colon: ``configs/a2mae.py:vit_b``; or one with ``_released`` after it.

    Returns:
      The config.
    """
    model = vit(variant.removesuffix(_RELEASED), f"configs/a2mae.py:{variant}")
    if not variant.endswith(_RELEASED):
        return Config(model=model)
    encoding = EncodingConfig("a2mae_released", geo="a2mae_released", time="none", identity="none", gsd=False, metadata_dropout=0.0)
    return Config(
        data=DataConfig(global_batch_size=128),
        tokenizer=TokenizerConfig("random3"),
        encoding=encoding,
        model=model,
        optim=OptimConfig(base_lr=1e-5),
    )
