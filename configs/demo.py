"""A small A2-MAE on the example scenes: every part of the real path, on two CPU cores, in minutes.

Paper: A2-MAE (arXiv 2406.08079) at toy size, over four layouts of real image sets.
Hardware: 2 CPU cores. Command: `make demo`, or step by step

    python -m rsfm_jax.ingest --scenes examples/scenes --out demo/data --config=configs/demo.py
    python -m rsfm_jax.train --config=configs/demo.py --workdir=demo/run --config.data.path=demo/data
    python -m rsfm_jax.export --workdir=demo/run --out=demo/weights

Expected loss (norm-pix; predicting each patch's mean scores 0.98-0.99): means of 20 steps 1.80 from step 1, 1.06 from 41, 0.94 from 91,
0.75 from 391, and 0.77 as the mean of the last 50 of 700 steps. By layout at the end: Sentinel-2 series 0.45, Sentinel-2 with 13 bands
0.80, Landsat 0.94, Sentinel-1 0.98 (speckle: nothing learned).
"""

from rsfm_jax.config import Config, DataConfig, IngestConfig, ModelConfig, OptimConfig, TrainConfig
from rsfm_jax.layouts import Layout, Slot

_S2_10M = ("B02", "B03", "B04", "B08")
_S2_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
_S2_60M = ("B01", "B09", "B10")
_OLI_30M = ("B2", "B3", "B4", "B5", "B6", "B7")
_ETM_30M = ("B1", "B2", "B3", "B4", "B5", "B7")


def layouts() -> tuple[Layout, ...]:
    """The four kinds of image set in the example scenes."""
    one_sentinel2 = Layout(
        "sentinel2_13_bands",
        (
            Slot("sentinel2_l1c", _S2_10M, 10.0, pixels=72, patch=8, acquisition="a"),
            Slot("sentinel2_l1c", _S2_20M, 20.0, pixels=36, patch=4, acquisition="a"),
            Slot("sentinel2_l1c", _S2_60M, 60.0, pixels=12, patch=4, acquisition="a"),
        ),
        stride_m=240.0,
    )
    series = tuple(Slot("sentinel2_l3a", _S2_10M + _S2_20M, 10.0, pixels=32, patch=4) for _ in range(3))
    landsat = Layout(
        "landsat7_landsat8",
        (
            Slot("landsat8_l1", _OLI_30M, 30.0, pixels=24, patch=4, acquisition="oli"),
            Slot("landsat8_l1", ("B8",), 15.0, pixels=48, patch=8, acquisition="oli"),
            Slot("landsat7_l1", _ETM_30M, 30.0, pixels=24, patch=4),
        ),
        stride_m=30.0,
    )
    radar = tuple(Slot("sentinel1_grd", ("VV",), 20.0, pixels=64, patch=8) for _ in range(2))
    return (
        one_sentinel2,
        Layout("sentinel2_series", series, stride_m=160.0, sets_per_place=3),
        landsat,
        Layout("sentinel1_pair", radar, stride_m=320.0),
    )


def get_config() -> Config:
    """The demo's experiment."""
    return Config(
        ingest=IngestConfig(layouts=layouts(), split_cell_m=3000.0, val_share=0.1),
        data=DataConfig(global_batch_size=32, layout_balance=0.5),
        model=ModelConfig(
            width=192,
            depth=6,
            heads=6,
            decoder_width=96,
            decoder_depth=2,
            decoder_heads=6,
            compute_dtype="float32",
            remat="none",
            unroll=0,
        ),
        optim=OptimConfig(base_lr=6e-3, warmup_steps=40),
        train=TrainConfig(steps=700, log_every=10, checkpoint_every=100, picture_every=350),
    )
