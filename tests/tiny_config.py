"""The smallest experiment that still has two layouts, two sensors, two GSDs and two dates; the tests' own config file."""

from rsfm_jax.config import Config, DataConfig, IngestConfig, ModelConfig, OptimConfig, TrainConfig
from rsfm_jax.layouts import Layout, Slot

_RGBN = ("B02", "B03", "B04", "B08")


def layouts() -> tuple[Layout, ...]:
    """One sensor at two dates, and two sensors, one of them with a sharper band of the same acquisition."""
    series = tuple(Slot("sentinel2_l3a", _RGBN, 10.0, pixels=16, patch=4) for _ in range(2))
    landsat = (
        Slot("landsat8_l1", ("B4", "B5", "B6"), 30.0, pixels=16, patch=4, acquisition="oli"),
        Slot("landsat8_l1", ("B8",), 15.0, pixels=32, patch=4, acquisition="oli"),
        Slot("landsat7_l1", ("B3", "B4", "B5"), 30.0, pixels=16, patch=4),
    )
    return Layout("series", series, stride_m=320.0), Layout("landsat", landsat, stride_m=120.0)


def get_config() -> Config:
    """A run of 40 steps, a second or two once compiled."""
    return Config(
        ingest=IngestConfig(layouts=layouts(), split_cell_m=1500.0),
        data=DataConfig(global_batch_size=8),
        model=ModelConfig(
            width=48,
            depth=2,
            heads=3,
            decoder_width=24,
            decoder_depth=1,
            decoder_heads=3,
            compute_dtype="float32",
            remat="none",
            unroll=1,
        ),
        optim=OptimConfig(base_lr=6e-2, warmup_steps=2),
        train=TrainConfig(steps=40, log_every=1, checkpoint_every=10, picture_every=0),
    )
