"""A Prithvi-EO-2.0-like MAE (arXiv 2412.02732): three-dimensional positions, codes of date and location with learned scales.

Paper: Prithvi-EO-2.0. Positions code column, row and date number in 6 : 6 : 4 of the width; year, day of year, latitude and longitude are
added with scales that start at 0.1; metadata is dropped at 10 %. Like, not equal: a tubelet is one date, and the mask of every date has
its own exact count.
Hardware: an accelerator or several.
Command: `python -m rsfm_jax.train --config=configs/prithvi.py:vit_l --workdir=runs/prithvi --config.data.path=data/series`
Layouts: several slots of one sensor and one grid.
Expected loss at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 sets of three Sentinel-2 dates a step, one run; means of the
20 steps before): 1.47 at step 1, 0.78 at 50, 0.47 at 100, 0.41 at 200 and 400; predicting each patch's mean scores 0.99. Not measured at
the sizes above.
"""

from rsfm_jax.config import Config, EncodingConfig, MaskConfig
from rsfm_jax.sizes import vit


def get_config(variant: str = "vit_l") -> Config:
    """The experiment at one size, a key of `rsfm_jax.sizes.SIZES`."""
    model = vit(variant, f"configs/prithvi.py:{variant}")
    model.cls_token = True
    encoding = EncodingConfig("3d", geo="prithvi", time="prithvi", identity="none", gsd=False, metadata_dropout=0.1)
    return Config(mask=MaskConfig(table=("any: independent",)), encoding=encoding, model=model)
