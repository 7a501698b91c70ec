"""MAE (arXiv 2111.06377), to the letter, at the sizes of ViT; the baseline of all others.

Paper: Masked Autoencoders Are Scalable Vision Learners. Class token, index positions, no metadata, norm-pix loss, AdamW (0.9, 0.95), weight
decay 0.05, base learning rate 1.5e-4, no clipping, random resized crop of 20 to 100 % of the area and horizontal flip.
benchmarks/parity_mae.py proves loss, gradients and steps equal to those of the ViTMAE of transformers. Not the paper's: a batch of 4096 for
800 epochs, which the data must decide. Give it a dataset whose layouts have one slot; several would be encoded jointly.
Hardware: an accelerator or several.
Command: `python -m rsfm_jax.train --config=configs/mae.py:vit_b --workdir=runs/mae --config.data.path=data/single`
Expected loss at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 chips of one Sentinel-2 date a step, one run; means of the 20
steps before): 1.51 at step 1, 0.56 at 50, 0.41 at 100, 0.37 at 200 and 400; predicting each patch's mean scores 0.99. Crops are enlarged
and so smooth, hence the low end. Not measured at the sizes above.
"""

from rsfm_jax.config import AugmentConfig, Config, DataConfig, EncodingConfig, MaskConfig, OptimConfig
from rsfm_jax.sizes import vit


def plain_encoding() -> EncodingConfig:
    """Index positions and nothing else."""
    return EncodingConfig("index", geo="none", time="none", identity="none", gsd=False, metadata_dropout=0.0)


def get_config(variant: str = "vit_b") -> Config:
    """The experiment at one size, a key of `rsfm_jax.sizes.SIZES`."""
    model = vit(variant, f"configs/mae.py:{variant}")
    model.cls_token = True
    return Config(
        data=DataConfig(global_batch_size=1024),
        augment=AugmentConfig(crop_min_area=0.2, flip="horizontal"),
        mask=MaskConfig(table=("any: independent",)),
        encoding=plain_encoding(),
        model=model,
        optim=OptimConfig(base_lr=1.5e-4, clip_norm=0.0),
    )
