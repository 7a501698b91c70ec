"""The ablation that A2-MAE's claim needs, at small size: four maskings x {geo on, off} x {GSD on, off}, and MAE.

Paper: A2-MAE (arXiv 2406.08079). A variant is `MASK`, `MASK-nogeo`, `MASK-nogsd` or `MASK-nogeo-nogsd`:
    random        every slot draws its own mask, even slots of one acquisition
    independent   every acquisition draws its own mask
    consistent    every slot hides the anchor's hidden ground
    anchor_aware  other sensors are consistent, other dates independent (the default of configs/a2mae.py)
Targets are the values themselves: norm-pix throws away each patch's brightness, which the probed land cover needs (docs/ablation.md).
`nogeo` leaves out the location, `nogsd` the code of the GSD and with it the metres in the positions. `mae` encodes every acquisition alone,
with index positions and nothing else told but sensor and bands. All variants have equal steps, tokens and parameters of the blocks.
Hardware: 2 CPU cores. Command: `python benchmarks/ablation.py --data=FOLDER --seeds=3`, or one run:
`python -m rsfm_jax.train --config=configs/ablation.py:anchor_aware --workdir=runs/anchor_aware --config.data.path=runs/ablation/data`
Expected loss: docs/ablation.md.
"""

import dataclasses

from configs import demo
from rsfm_jax.config import Config, DataConfig, EncodingConfig, IngestConfig, LossConfig, MaskConfig, OptimConfig, TrainConfig
from rsfm_jax.errors import InputError, nearest
from rsfm_jax.layouts import Layout, Slot

LAND_COVER_BANDS = ("B1", "B2", "B3", "B4", "B5")
TABLES = {
    "random": ("any: independent",),
    "independent": ("acquisition=same: consistent", "any: independent"),
    "consistent": ("any: consistent",),
    "anchor_aware": ("acquisition=same: consistent", "sensor=same: independent", "any: consistent"),
}


def layouts() -> tuple[Layout, ...]:
    """Landsat 7 as it is probed, at its own resolution and at half of it; Landsat 7 with Landsat 8; Sentinel-2 at two dates."""
    fine = Slot("landsat7_l1", LAND_COVER_BANDS, 28.5, pixels=32, patch=4, acquisition="a")
    coarse = Slot("landsat7_l1", LAND_COVER_BANDS, 57.0, pixels=16, patch=4, acquisition="a", resample="average")
    land_cover = Layout("land_cover", (fine, coarse), stride_m=8 * 28.5)
    date = Slot("sentinel2_l3a", ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"), 10.0, pixels=24, patch=4)
    two_dates = Layout("sentinel2_pair", (date, date), stride_m=80.0)
    return (land_cover, next(layout for layout in demo.layouts() if layout.name == "landsat7_landsat8"), two_dates)


def get_config(variant: str = "anchor_aware") -> Config:
    """One run of the grid."""
    mask, *without = variant.split("-")
    known = ("mae", *TABLES)
    if mask not in known or set(without) - {"nogeo", "nogsd"} or (mask == "mae" and without):
        wanted = f"one of {', '.join(known)}, the last four also with -nogeo, -nogsd or both"
        raise InputError(f"configs/ablation.py:{variant}: no such variant; {wanted}{nearest(mask, known)}")
    encoding = EncodingConfig()
    if mask == "mae":
        encoding = EncodingConfig("index", geo="none", time="none", identity="slot", gsd=False, metadata_dropout=0.0)
    if "nogeo" in without:
        encoding.geo = "none"
    if "nogsd" in without:
        encoding.positions, encoding.gsd = "index", False
    return Config(
        ingest=IngestConfig(layouts=layouts(), min_valid_share=0.5),
        data=DataConfig(global_batch_size=32),
        mask=MaskConfig(table=TABLES.get(mask, TABLES["random"])),
        encoding=encoding,
        loss=LossConfig(norm_pix=False),
        model=dataclasses.replace(
            demo.get_config().model, width=128, depth=4, heads=4, decoder_width=64, decoder_depth=3, decoder_heads=4, joint=mask != "mae"
        ),
        optim=OptimConfig(base_lr=8e-3, warmup_steps=40),
        train=TrainConfig(steps=1300, log_every=100, checkpoint_every=500, picture_every=0),
    )
