"""Features of pixels of a scene from a trained or untrained encoder, frozen."""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.land_cover import Scene
from configs.ablation import LAND_COVER_BANDS, get_config, layouts
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.export.checkpoint import read_checkpoint
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import Params, abstract_model, init_params, merge
from rsfm_jax.models.one_image import one_image_batch
from rsfm_jax.models.spec import ModelSpec, model_spec

Features = Callable[[np.ndarray, np.ndarray], np.ndarray]
BEFORE_PX = 17  # of a window's pixels lie before the probed one, which then is near the middle of its patch
_CHUNK = 256


def encoder_features(workdir: pathlib.Path, step: int, scene: Scene, layer: str) -> Features:
    """Features of a run's checkpoint.

    Args:
      workdir: The run's folder.
      step: Of the checkpoint.
      scene: The scene.
      layer: ``"middle"`` or ``"last"``: after half of the blocks, or all; the final norm follows in both.

    Returns:
      From rows and columns, int (N,), to features, float32 (N, 2 D).
    """
    trained = read_checkpoint(workdir, step)
    return _features(trained.spec, trained.params, open_dataset(trained.run["config"]["data"]["path"]), scene, layer)


def initial_features(dataset: pathlib.Path, scene: Scene, seed: int, layer: str) -> Features:
    """Features of an encoder that was never trained; see `encoder_features`."""
    spec = model_spec(get_config(), layouts())
    return _features(spec, jax.jit(lambda: init_params(spec, seed))(), open_dataset(str(dataset)), scene, layer)


def _features(spec: ModelSpec, params: Params, dataset: Dataset, scene: Scene, layer: str) -> Features:
    slot = next(layout for layout in layouts() if layout.name == "land_cover").slots[0]
    depth = spec.config.depth // (2 if layer == "middle" else 1)
    spec = dataclasses.replace(spec, config=dataclasses.replace(spec.config, depth=depth))
    encoder = params["encoder"] | {"blocks": jax.tree.map(lambda x: x[:depth], params["encoder"]["blocks"])}
    model, layout = abstract_model(spec), Layout("probe", (slot,))
    encode = jax.jit(lambda batch: _pixel_features(merge(model.graphdef, params | {"encoder": encoder}), layout, batch))
    mean_C, std_C = dataset.mean_std(slot)
    assert scene.bands == LAND_COVER_BANDS

    def features_of(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(rows), _CHUNK):
            windows, valid = _windows(scene, rows[start : start + _CHUNK], columns[start : start + _CHUNK], slot)
            pixels = np.where(valid, (windows - mean_C) / std_C, 0).astype(np.float32)
            missing = _CHUNK - len(pixels)
            pixels, valid = (np.pad(x, ((0, missing), *[(0, 0)] * 3)) for x in (pixels, valid))
            parts.append(np.asarray(encode(one_image_batch([(pixels, valid)], slot.gsd_m)))[: _CHUNK - missing])
        return np.concatenate(parts)

    return features_of


def _windows(scene: Scene, rows: np.ndarray, columns: np.ndarray, slot: Slot) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.arange(slot.pixels) - BEFORE_PX
    at = (rows[:, None, None] + offsets[:, None], columns[:, None, None] + offsets)
    return scene.image[at], np.broadcast_to(scene.valid[at][..., None], (*at[0].shape[:1], slot.pixels, slot.pixels, len(slot.bands)))


def _pixel_features(model: Any, layout: Layout, batch: dict[str, Any]) -> jax.Array:
    tokens, real = model.encoder(layout, batch)
    slot = layout.slots[0]
    here = BEFORE_PX // slot.patch * (slot.grid + 1)
    weight = real[..., None].astype(jnp.float32)
    mean = (tokens * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1.0)
    return jnp.concatenate([tokens[:, here], mean], axis=-1)
