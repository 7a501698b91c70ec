"""SatMAE (arXiv 2207.08051): temporal (several dates) or spectral (band groups).

Paper: SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery. `temporal` codes year, month and hour of each
member beside its positions; `spectral` splits Sentinel-2 into the three groups of bands, each with its own embedding, token and code,
masked independently, which the paper found better. The codes take the paper's share of the width (equal to its sizes at ViT-L; the
decoder's codes in proportion). Not the paper's: bands are standardised, not clipped at two standard deviations;
`temporal` takes chips as they are, without the random crop at their own scale.
Hardware: an accelerator or several.
Command: `python -m rsfm_jax.train --config=configs/satmae.py:spectral --workdir=runs/satmae --config.data.path=data/run1`
with `--config.model.width=768 ...` for other sizes. Layouts: for `spectral` one slot of sentinel2_l1c or sentinel2_l2a on a 10 m grid
(B01, B09, B10 left out, as in the paper); for `temporal` several slots of one sensor.
Expected loss of `temporal` at small scale (`python benchmarks/loss_curves.py`: 128 x 4, 32 sets of three Sentinel-2 dates a step, one run;
means of the 20 steps before): 1.64 at step 1, 0.82 at 50, 0.49 at 100, 0.42 at 200, 0.40 at 400; predicting each patch's mean scores 0.99.
`spectral`, 32 chips of ten bands at 20 m: 2.00, 0.82, 0.72, 0.69, 0.68; 0.98. Not measured at the size above.
"""

from configs.mae import plain_encoding
from rsfm_jax.config import AugmentConfig, Config, MaskConfig, TokenizerConfig
from rsfm_jax.errors import InputError, nearest
from rsfm_jax.sizes import vit

VARIANTS = ("temporal", "spectral")
GROUPS = "B02 B03 B04 B08 | B05 B06 B07 B8A | B11 B12"


def get_config(variant: str = "spectral") -> Config:
    """The experiment, ViT-L: ``temporal`` or ``spectral``."""
    if variant not in VARIANTS:
        raise InputError(f"configs/satmae.py:{variant}: no such variant (there are {', '.join(VARIANTS)}){nearest(variant, VARIANTS)}")
    model, encoding, tokenizer = vit("vit_l", "configs/satmae.py"), plain_encoding(), TokenizerConfig()
    model.cls_token = True
    if variant == "temporal":
        encoding.time = "satmae"
    else:
        encoding.identity = "satmae"
        tokenizer.groups = (f"sentinel2_l1c: {GROUPS}", f"sentinel2_l2a: {GROUPS}")
    mask = MaskConfig(table=("any: independent",))
    augment = AugmentConfig(crop_min_area=0.2, flip="horizontal") if variant == "spectral" else AugmentConfig()
    return Config(augment=augment, mask=mask, tokenizer=tokenizer, encoding=encoding, model=model)
