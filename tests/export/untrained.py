"""Models that were never trained, small, on the example scenes; the tests and harness/make_folders.py export them."""

import dataclasses

import jax
import numpy as np

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.export.baking import Choice
from rsfm_jax.export.checkpoint import Trained
from rsfm_jax.models.build import init_params
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.workdir import describe_run

SENTINEL = Choice("sentinel2_l3a", pixels=(20, 16), gsd_m=12.0, acquired="2018-07-08")


def never_trained(config: Config, dataset: Dataset) -> Trained:
    """Random parameters, no bias at zero."""
    spec = model_spec(config, dataset.layouts)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.05, x.shape).astype(np.float32), init_params(spec, 0))
    return Trained(spec, params, describe_run(config, dataset), 0)


def with_class_token(tiny: Config, dataset: Dataset) -> Trained:
    """The same with a class token."""
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, cls_token=True))
    return never_trained(config, dataset)
