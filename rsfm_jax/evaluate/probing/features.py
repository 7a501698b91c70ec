"""Features of chips: from an encoder, once for each model and kept on disk, and from what needs no training.

Legend: N chips, C bands, H W pixels, D encoder width, F features, d draws of noise.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import torch
from torch import nn

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.baselines import raw_pixels, window_statistics
from rsfm_jax.evaluate.samples.samples import Chips, Input
from rsfm_jax.evaluate.tasks.task import Baselines, Encoding
from rsfm_jax.torch.features import layer_grids
from rsfm_jax.torch.folders import folder_digest, open_encoder
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder

UNTRAINED = "random init"


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """One matrix to probe.

    Attributes:
      keys: `features` (what made it), `layer` and `pooling`, None where they do not apply.
      values: float32 or float64 (N, F).
      filled: Values that were not observed and had to be filled or left out.
      seed: The only one of the task's seeds that the features are for, where each seed has its own encoder; None for all of them.
      noise: The features with noise added to the chips, float32 (N, d, F), or None.
    """

    keys: dict[str, Any]
    values: np.ndarray
    filled: int = 0
    seed: int | None = None
    noise: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """An encoder to be judged.

    Attributes:
      name: In tables.
      encoder: The encoder, in evaluation mode.
      digest: SHA-256 of its config.json, which holds that of the weights.
      source: Folder, or how it was made.
    """

    name: str
    encoder: RSFMEncoder
    digest: str
    source: str


def load_model(folder: pathlib.Path, name: str, device: str) -> Model:
    """Loads an exported folder of format "rsfm".

    Args:
      folder: The folder.
      name: For tables.
      device: Of the encoder.

    Returns:
      The model.

    Raises:
      InputError: see `rsfm_jax.torch.folders.open_encoder`.
    """
    return Model(name, open_encoder(folder).to(device), folder_digest(folder), str(folder))


def random_model(model: Model, seed: int, device: str) -> Model:
    """An encoder of the same config that was never trained: Xavier-uniform matrices, zero biases, tokens from N(0, 0.02), as pretraining
    starts.

    Args:
      model: Whose config is taken.
      seed: Draws the parameters.
      device: Of the encoder.

    Returns:
      The model, named after the other.
    """  # noqa: D205
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = RSFMEncoder(model.encoder.config)
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        tokens = [p for name, p in encoder.named_parameters() if name.split(".")[-1] in ("unknown", "cls_token") or ".slot." in name]
        for token in tokens:
            nn.init.normal_(token, std=0.02)
    digest = hashlib.sha256(f"{UNTRAINED} {seed} of {json.dumps(encoder.config, sort_keys=True)}".encode()).hexdigest()
    return Model(f"{UNTRAINED} of {model.name}", encoder.eval().to(device), digest, f"seed {seed}")


def member(chips: Chips, kind: Input, rows: np.ndarray, encoding: Encoding, device: str) -> tuple[dict[str, Any], torch.Tensor | None]:
    """What the encoder takes for chips of one kind: the member, and the footprints or None."""
    made: dict[str, Any] = {
        "sensor": kind.sensor,
        "bands": kind.bands,
        "gsd_m": kind.gsd_m,
        "values": torch.from_numpy(chips.values[rows]).to(device),
        "valid": torch.from_numpy(chips.valid[rows]).to(device),
    }
    if encoding.patch is not None:
        made["patch"] = encoding.patch
    if encoding.date:
        made["time"] = torch.from_numpy(chips.time[rows]).to(device)
    if not encoding.location or chips.ground is None:
        return made, None
    return made, torch.from_numpy(chips.ground.footprint_deg[rows]).to(device)


def check_model(model: Model, chips: Chips, encoding: Encoding) -> None:
    """Raises InputError unless the encoder knows the chips' sensors and bands, its patches divide them, and it has the layers."""
    who, side, depth = f"--model={model.source}", chips.values.shape[-1], len(model.encoder.blocks)
    for kind in chips.inputs:
        try:
            slot = model.encoder.find_slot(kind.sensor, kind.bands, encoding.patch)
        except ValueError as error:
            raise InputError(f"{who}: {error}") from None
        if side % slot["patch"]:
            raise InputError(f"{who}: chips of {side} pixels are no multiple of its patch, {slot['patch']}; give another window_px")
    for layer in encoding.layers:
        if not -depth <= layer < depth:
            raise InputError(f"{who}: encoding.layers has {layer}; the encoder has {depth} blocks, expected {-depth} to {depth - 1}")


def encoder_features(
    model: Model, chips: Chips, encoding: Encoding, cache: pathlib.Path | None = None, device: str = "cpu", batch_size: int = 64
) -> list[FeatureSet]:
    """Features of every tapped layer and pooling, computed once: a file in ``cache`` holds them by the digests of model and chips.

    Args:
      model: The encoder.
      chips: The chips.
      encoding: Layers, pooling, and what the encoder is told.
      cache: Folder of such files; None to compute in any case.
      device: Where to compute.
      batch_size: Chips at a time.

    Returns:
      A set for each layer and pooling.

    Raises:
      InputError: The encoder does not know the sensor or its bands, or refuses the values' unit.
    """
    check_model(model, chips, encoding)
    told = (encoding.layers, encoding.location, encoding.date, encoding.patch, model.digest, chips.digest())
    file = None if cache is None else cache / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:24]}.npz"
    if file is not None and file.is_file():
        with np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files}
    else:
        arrays = _encode(model, chips, encoding, device, batch_size)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".unfinished")
            with unfinished.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
            unfinished.rename(file)
    sets = []
    for layer in encoding.layers:
        for pooling in encoding.pooling:
            values = np.concatenate([arrays[f"{part} {layer}"] for part in ("mean", "token") if part in pooling.split("+")], axis=1)
            sets.append(FeatureSet({"features": model.name, "layer": layer, "pooling": pooling}, values))
    return sets


@torch.no_grad()
def _encode(model: Model, chips: Chips, encoding: Encoding, device: str, batch_size: int) -> dict[str, np.ndarray]:
    """By "mean LAYER" and "token LAYER", float32 (N, D)."""
    width, encoder = model.encoder.config["width"], model.encoder
    arrays = {f"{part} {layer}": np.empty((len(chips), width), np.float32) for part in ("mean", "token") for layer in encoding.layers}
    first = 0 if encoder.cls_token is None else 1
    for number, kind in enumerate(chips.inputs):
        patch = encoder.find_slot(kind.sensor, kind.bands, encoding.patch)["patch"]
        here = chips.before // patch
        of_kind = np.flatnonzero(chips.input_of == number)
        for start in range(0, len(of_kind), batch_size):
            rows = of_kind[start : start + batch_size]
            inputs, footprint_deg = member(chips, kind, rows, encoding, device)
            try:
                encoded = encoder([inputs], footprint_deg, return_layers=True)
            except ValueError as error:
                raise InputError(f"--model={model.source}: {error}") from None
            grids = layer_grids(encoder, encoded, layers=encoding.layers, norm=True)
            real = encoded.real[:, first:].unflatten(1, grids[0].shape[-2:])[:, None].to(grids[0].dtype)
            for layer, grid in zip(encoding.layers, grids, strict=True):
                arrays[f"mean {layer}"][rows] = ((grid * real).sum(dim=(2, 3)) / real.sum(dim=(2, 3)).clamp(min=1)).cpu().numpy()
                arrays[f"token {layer}"][rows] = grid[:, :, here, here].cpu().numpy()
    return arrays


def baseline_features(chips: Chips, baselines: Baselines) -> list[FeatureSet]:
    """Features without an encoder.

    Args:
      chips: The chips.
      baselines: Sides of the windows around the sample's pixel; larger ones than the chip are the chip.

    Returns:
      `raw_pixels` of the middle of the chip; `window_statistics`, mean and standard deviation over windows, the whole chip by default,
      with the pixel's own bands before them.
    """
    raw, raw_filled = raw_pixels(*_middle(chips, baselines.raw_px))
    parts, counts = zip(
        raw_pixels(*_middle(chips, 1)),
        *(window_statistics(*_middle(chips, side)) for side in baselines.statistics_px or (chips.values.shape[-1],)),
        strict=True,
    )
    none = {"layer": None, "pooling": None}
    return [
        FeatureSet({"features": "raw_pixels", **none}, raw, raw_filled),
        FeatureSet({"features": "window_statistics", **none}, np.concatenate(parts, axis=1), sum(counts)),
    ]


def _middle(chips: Chips, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and valid of a window with the sample's pixel at its middle, or as near as the chip allows."""
    size = chips.values.shape[-1]
    side = min(side, size)
    start = min(max(chips.before - side // 2, 0), size - side)
    window = np.s_[:, :, start : start + side, start : start + side]
    return chips.values[window], chips.valid[window]
