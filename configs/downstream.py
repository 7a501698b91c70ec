"""Two small encoders for the tasks of docs/evaluation.md: A2-MAE, and a plain MAE over the same image sets.

Paper: A2-MAE (arXiv 2406.08079), MAE (arXiv 2111.06377), at toy size. `mae` encodes every acquisition alone, with index positions, masks
drawn for each image by itself, and nothing told but sensor and bands. Both have equal sets, steps, tokens and parameters of the blocks;
targets are the values themselves (docs/ablation.md says why).
Hardware: 2 CPU cores. Command: `python benchmarks/downstream.py --data=FOLDER`, or one run:
`python -m rsfm_jax.train --config=configs/downstream.py:a2mae --workdir=runs/a2mae --config.data.path=runs/downstream/data`
Expected loss: docs/evaluation.md.
"""

import dataclasses

from configs import demo
from configs.ablation import LAND_COVER_BANDS, TABLES
from rsfm_jax.config import Config, DataConfig, EncodingConfig, IngestConfig, LossConfig, MaskConfig, OptimConfig, TrainConfig
from rsfm_jax.errors import InputError, nearest
from rsfm_jax.layouts import Layout, Slot

_SIZES = (  # of the tasks' chips: sensor, bands, GSD m, pixels, patch, stride in pixels
    ("land_cover", "landsat7_l1", LAND_COVER_BANDS, 28.5, 32, 4, 8),
    ("crowns", "neon_rgb", ("R", "G", "B"), 0.1, 64, 8, 8),
    ("buildings", "worldview2_pan", ("P",), 0.5, 64, 8, 16),
)


def layouts() -> tuple[Layout, ...]:
    """For every task its chips at their own resolution and at half of it, which are two images of one moment."""
    made = []
    for name, sensor, bands, gsd_m, pixels, patch, stride_px in _SIZES:
        fine = Slot(sensor, bands, gsd_m, pixels=pixels, patch=patch, acquisition="a")
        coarse = Slot(sensor, bands, 2 * gsd_m, pixels=pixels // 2, patch=patch, acquisition="a", resample="average")
        made.append(Layout(name, (fine, coarse), stride_m=stride_px * gsd_m))
    return tuple(made)


def get_config(variant: str = "a2mae") -> Config:
    """One of the two encoders.

    Args:
      variant: `a2mae` or `mae`, given after a colon: ``configs/downstream.py:mae``.

    Returns:
      The config.
    """
    known = ("a2mae", "mae")
    if variant not in known:
        raise InputError(f"configs/downstream.py:{variant}: no such variant; one of {', '.join(known)}{nearest(variant, known)}")
    plain = variant == "mae"
    alone = EncodingConfig("index", geo="none", time="none", identity="slot", gsd=False, metadata_dropout=0.0)
    return Config(
        ingest=IngestConfig(layouts=layouts()),
        data=DataConfig(global_batch_size=32, layout_balance=0.0),
        mask=MaskConfig(table=TABLES["random" if plain else "anchor_aware"]),
        encoding=alone if plain else EncodingConfig(),
        loss=LossConfig(norm_pix=False),
        model=dataclasses.replace(demo.get_config().model, decoder_depth=4, joint=not plain),
        optim=OptimConfig(base_lr=6e-3, warmup_steps=60),
        train=TrainConfig(steps=2400, log_every=50, checkpoint_every=400, picture_every=1200),
    )
