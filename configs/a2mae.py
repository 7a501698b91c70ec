"""A2-MAE (arXiv 2406.08079) at the sizes of ViT; layouts come from the dataset.

Paper: A2-MAE (arXiv 2406.08079). The masking is the intention of its text (rsfm_jax/objectives/masking.py); AdamW's betas, weight decay and
clipping are the released code's. A `_released` variant takes that code's encodings, tokeniser and learning rate as well, with the intended
masking: it needs three members of one patch grid in every layout, and starts from an ImageNet MAE
(`--config.init.torch=mae_pretrain_vit_large.pth --config.model.cls_token=True`).
Hardware: an accelerator or several; on CPU use configs/demo.py. A `_pod` variant is for pods of 64 chips and more: MAE's batch of 4,096,
parameters divided by 16. docs/performance.md has what each size takes of a chip.
Command: `python -m rsfm_jax.train --config=configs/a2mae.py:vit_l --workdir=runs/run1 --config.data.path=data/run1`
Expected loss at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 sets of the demo's four layouts a step, one run; means of the
20 steps before): 1.70 at step 1, 1.09 at 50, 0.95 at 100, 0.86 at 200, 0.76 at 400; predicting each patch's mean scores 0.99. Not measured
at the sizes above.
"""

from rsfm_jax.config import Config, DataConfig, EncodingConfig, IngestConfig, OptimConfig, ParallelConfig, TokenizerConfig
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sizes import vit

_RELEASED, _POD = "_released", "_pod"


def layouts() -> tuple[Layout, ...]:
    """Sets of three images of 224 pixels, as in the paper: two dates of Sentinel-2, and Landsat 8 around them at a third of the GSD."""
    date = Slot("sentinel2_l2a", ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"), 10.0, 224, 16, resample="bilinear")
    landsat = Slot("landsat8_l1", ("B2", "B3", "B4", "B5", "B6", "B7"), 30.0, 224, 16)
    return (Layout("sentinel2_landsat8", (date, date, landsat)),)


def get_config(variant: str = "vit_l") -> Config:
    """The experiment at one size.

    Args:
      variant: A key of `rsfm_jax.sizes.SIZES`, given after a colon: ``configs/a2mae.py:vit_b``; or one with ``_released`` or ``_pod``
        after it.

    Returns:
      The config.
    """
    model = vit(variant.removesuffix(_RELEASED).removesuffix(_POD), f"configs/a2mae.py:{variant}")
    ingest = IngestConfig(layouts=layouts())
    if variant.endswith(_POD):
        return Config(ingest=ingest, data=DataConfig(global_batch_size=4096), model=model, parallel=ParallelConfig(fsdp=16))
    if not variant.endswith(_RELEASED):
        return Config(ingest=ingest, model=model)
    encoding = EncodingConfig("a2mae_released", geo="a2mae_released", time="none", identity="none", gsd=False, metadata_dropout=0.0)
    return Config(
        ingest=ingest,
        data=DataConfig(global_batch_size=128),
        tokenizer=TokenizerConfig("random3"),
        encoding=encoding,
        model=model,
        optim=OptimConfig(base_lr=1e-5),
    )
