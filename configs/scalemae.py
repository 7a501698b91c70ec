"""Scale-MAE's positions (arXiv 2212.14532): patch index times GSD over one metre; the rest is MAE.

Paper: Scale-MAE: A Scale-Aware Masked Autoencoder. The random crop rescales the GSD, and with it the positions. Not built: its Laplacian
decoder of two frequencies.
Hardware: an accelerator or several.
Command: `python -m rsfm_jax.train --config=configs/scalemae.py:vit_l --workdir=runs/scalemae --config.data.path=data/single`
Expected loss at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 chips of one Sentinel-2 date a step, one run; means of the 20
steps before): 1.54 at step 1, 0.57 at 50, 0.42 at 100, 0.38 at 200, 0.37 at 400; predicting each patch's mean scores 0.99. Not measured at
the sizes above.
"""

from configs import mae
from rsfm_jax.config import Config
from rsfm_jax.sizes import vit


def get_config(variant: str = "vit_l") -> Config:
    """The experiment at one size, a key of `rsfm_jax.sizes.SIZES`."""
    config = mae.get_config()
    config.model = vit(variant, f"configs/scalemae.py:{variant}")
    config.model.cls_token = True
    config.encoding.positions, config.encoding.position_unit_m = "gsd", 1.0
    config.augment.crop_max_aspect = 1.0  # one GSD for an image
    return config
