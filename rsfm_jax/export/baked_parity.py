"""The proof that a file that one sensor and date were baked into computes what JAX computes, layer by layer, on real chips.

The written file is read back as its users would. A second file of another height is baked, written and read back too, so that height and
width differ. Chips come from the run's dataset, repeated or cut to the size; pixels without observation are the band's mean on both sides,
for such formats know no mask.
"""

import dataclasses
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
import torch

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.errors import InputError
from rsfm_jax.export.baking import Baked, bake, one_image
from rsfm_jax.export.checkpoint import Trained
from rsfm_jax.export.files import PARITY_MASK_RATIO, Format, Predict
from rsfm_jax.export.parity import CHIPS, require_parity
from rsfm_jax.layouts import Layout
from rsfm_jax.models.build import abstract_model, merge
from rsfm_jax.objectives.masking import Masks


def check_baked(
    folder: pathlib.Path, chosen: Format, baked: Baked, trained: Trained, config: Config, dataset: Dataset, decoder: bool
) -> list[dict[str, Any]]:
    """Compares tokens after every block and after the norm.

    Args:
      folder: The written folder.
      chosen: Its format.
      baked: What was written.
      trained: What it was made of.
      config: The run's config.
      dataset: Where the chips come from.
      decoder: Whether the decoder went along.

    Returns:
      A row for each size: ``input``, ``chips``, ``tokens_max_abs``, ``layers_max_abs``, ``layers`` (how many were compared), and with a
      decoder ``predictions_max_abs``.

    Raises:
      InputError: the dataset has no chip of the sensor and bands.
      ParityError: a difference above 1e-4.
    """
    (height, width), patch = baked.size, baked.slot.patch
    taller = height + patch if height + patch != width else height + 2 * patch
    oblong = bake(trained, dataclasses.replace(baked.choice, pixels=(taller, width)))
    with tempfile.TemporaryDirectory() as other:
        chosen.write(oblong, config, pathlib.Path(other), False)
        rows = [_row(folder, chosen, baked, trained, config, dataset), _row(pathlib.Path(other), chosen, oblong, trained, config, dataset)]
    if decoder:
        assert chosen.predict
        rows[0]["predictions_max_abs"] = _predictions(chosen.predict(folder), baked, trained, dataset)
    for row in rows:
        require_parity(row)
    return rows


def _row(folder: pathlib.Path, chosen: Format, baked: Baked, trained: Trained, config: Config, dataset: Dataset) -> dict[str, Any]:
    pixels = real_pixels(dataset, baked)
    with jax.default_matmul_precision("highest"):
        encode = jax_encoder(trained, Layout("baked", (baked.slot,)))
        tokens, layers = jax.device_get(encode(one_image(baked.slot, baked.choice, pixels, baked.columns)))
    with torch.no_grad():
        found, found_layers = chosen.read(baked, config, folder)(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))
    compared = [(a, b) for a, b in zip(layers, found_layers, strict=True) if b is not None]
    return {
        "input": f"{baked.choice.sensor}, {baked.size[0]} x {baked.size[1]} pixels",
        "chips": len(pixels),
        "tokens_max_abs": float(np.abs(tokens - found.numpy()).max()),
        "layers_max_abs": max(float(np.abs(a - b.numpy()).max()) for a, b in compared),
        "layers": len(compared),
    }


def _predictions(predict: Predict, baked: Baked, trained: Trained, dataset: Dataset) -> float:
    """Largest difference of the predicted patches, three quarters of them hidden."""
    pixels = real_pixels(dataset, baked)
    noise = np.random.default_rng(0).random((len(pixels), baked.grid[0] * baked.grid[1]), np.float32)
    order = np.argsort(noise, axis=1).astype(np.int32)
    kept = int(noise.shape[1] * (1 - PARITY_MASK_RATIO))
    hidden = np.argsort(order, axis=1) >= kept
    shown = np.ones(len(pixels), bool)
    masks = Masks(
        (order[:, :kept],), (np.argsort(order, axis=1).astype(np.int32),), (hidden,), (shown,), (np.zeros(len(pixels), np.float32),)
    )
    model = merge(abstract_model(trained.spec).graphdef, trained.params)
    with jax.default_matmul_precision("highest"):
        decode = jax.jit(lambda batch, masks: model(Layout("baked", (baked.slot,)), batch, Masks(*masks)))
        (predicted,) = decode(one_image(baked.slot, baked.choice, pixels, baked.columns), dataclasses.astuple(masks))
    values = np.asarray(predicted).reshape(*noise.shape, -1, len(baked.slot.bands))[..., list(baked.columns)].reshape(*noise.shape, -1)
    with torch.no_grad():
        found = predict(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), torch.from_numpy(noise))
    return float(np.abs(values - found.numpy()).max())


def jax_encoder(trained: Trained, layout: Layout) -> Any:
    """From a batch of a layout, jitted, to tokens after the norm (B, T, D) and after each block (L, B, T, D)."""
    graphdef = abstract_model(trained.spec).graphdef

    @jax.jit
    def encode(batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        encoder = merge(graphdef, trained.params).encoder
        return encoder(layout, batch)[0], encoder.layers(layout, batch)

    return encode


def real_pixels(dataset: Dataset, baked: Baked) -> np.ndarray:
    """Normalised pixels of real chips in the size and bands of a baked model, float32 (B, H, W, C).

    Raises:
      InputError: no layout of the dataset has the sensor and bands.
    """
    names = [band["name"] for band in baked.bands]
    for layout in dataset.layouts:
        for i, slot in enumerate(layout.slots):
            if slot.sensor == baked.choice.sensor and set(names) <= set(slot.bands):
                records = dataset.source(layout, "train")
                decode = Decoder(dataset, layout)
                members = [decode(records[r])["members"][i] for r in range(min(CHIPS, len(records)))]
                columns = [slot.bands.index(name) for name in names]
                pixels = np.stack([np.where(member["valid"], member["pixels"], 0.0) for member in members])[..., columns]
                repeats = [(0, max(0, side - have)) for side, have in zip(baked.size, pixels.shape[1:3], strict=True)]
                pixels = np.pad(pixels, ((0, 0), *repeats, (0, 0)), mode="wrap")
                return pixels[:, : baked.size[0], : baked.size[1]].astype(np.float32)
    raise InputError(f"the parity check needs chips of {baked.choice.sensor} with bands {', '.join(names)}, and the dataset has none")
