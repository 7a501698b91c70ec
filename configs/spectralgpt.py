"""A SpectralGPT-like MAE (arXiv 2311.07113): tokens of three neighbouring bands, learned positions, 90 % masked.

Paper: SpectralGPT: Spectral Remote Sensing Foundation Model. Sentinel-2's twelve bands make four tokens of three bands a patch, masked
independently at 0.9. Like, not equal: the spectral place is a learned token of each group, and the loss is norm-pix alone.
Hardware: an accelerator or several.
Command: `python -m rsfm_jax.train --config=configs/spectralgpt.py:vit_b --workdir=runs/spectralgpt --config.data.path=data/s2`
Layouts: one slot of sentinel2_l1c or sentinel2_l2a with these twelve bands on one grid.
Expected loss at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 chips of twelve bands at 60 m a step, one run; means of the 20
steps before): 2.83 at step 1, 0.75 at 50, 0.72 at 100, 0.70 at 200, 0.68 at 400; predicting each patch's mean scores 0.92. Not measured at
the sizes above.
"""

from rsfm_jax.config import Config, EncodingConfig, MaskConfig, TokenizerConfig
from rsfm_jax.sizes import vit


def get_config(variant: str = "vit_b") -> Config:
    """The experiment at one size, a key of `rsfm_jax.sizes.SIZES`."""
    groups = "B01 B02 B03 | B04 B05 B06 | B07 B08 B8A | B09 B11 B12"
    return Config(
        mask=MaskConfig(ratio=0.9, table=("any: independent",)),
        tokenizer=TokenizerConfig(groups=tuple(f"{sensor}: {groups}" for sensor in ("sentinel2_l1c", "sentinel2_l2a"))),
        encoding=EncodingConfig("learned", geo="none", time="none", identity="slot", gsd=False, metadata_dropout=0.0),
        model=vit(variant, f"configs/spectralgpt.py:{variant}"),
    )
