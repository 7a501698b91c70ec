"""Starting from published ViT weights (config.init.torch): the checks, the new parameters, and a report of what went where.

PyTorch reads the file; it is imported only where there is one.
"""

import dataclasses
import types
from typing import Any

import jax
import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.models.build import Params
from rsfm_jax.models.spec import ModelSpec
from rsfm_jax.parallel.processes import say, whole
from rsfm_jax.train.exported import check_size, is_exported, load_exported, read_exported
from rsfm_jax.train.published_parts import RGB, PublishedParts, hidden_size
from rsfm_jax.train.state import TrainState


def load_published(file: str, spec: ModelSpec, params: Params) -> tuple[Params, list[str]]:
    """Puts published weights into a model's parameters.

    Blocks, norms, the class token (with its position added) and MAE's decoder are taken as they are, patch embeddings for each kind of
    token slot by `rsfm_jax.torch.adapting`: resized to its patch, and its bands told by the sensor's display bands. Learned positions are
    interpolated to the table; positions that the model computes are not read from the file.

    Args:
      file: A file or folder that `rsfm_jax.torch.published.read_published` reads, or one that `rsfm_jax.export` wrote, see
        `rsfm_jax.train.exported`.
      spec: The model's spec.
      params: From `rsfm_jax.models.build.init_params`, numpy or jax arrays; not changed.

    Returns:
      New parameters, nested dict of float32 numpy arrays, and a report, line by line: what was taken, what stays random, what in the file
      is left out and why.

    Raises:
      InputError: PyTorch is missing, the file is not a ViT's, or its encoder is not of the model's size; names the file, both sizes and the
        override that fits.
    """
    if is_exported(file):
        taken, (start, *report) = load_exported(file, spec, params)
        merged, random = _merged(params, taken)
        return merged, [start, *report, *(f"  stays random: {name}" for name in random)]
    vit, adapting = read_fitting(file, spec), _torch_room(file)[1]
    parts = PublishedParts(spec, vit, adapting)
    taken = {"encoder": parts.encoder(params["encoder"])}
    if parts.has_decoder():
        taken["decoder"] = parts.decoder(params["decoder"])
    merged, random = _merged(params, taken)
    heads = f"config.model.heads={spec.config.heads}"
    if "decoder" in taken:
        heads += f" and decoder_heads={spec.config.decoder_heads}"
    reasons: dict[str, list[str]] = {}
    for key, reason in vit.left_out.items():
        reasons.setdefault(reason, []).append(key)
    left_out = [f"{reason} ({', '.join(keys)})" for reason, keys in reasons.items()] + parts.left_out
    return merged, [
        f"started from {file} ({vit.format}: width {vit.width}, depth {vit.depth}, patch {vit.patch}, {vit.bands} bands)",
        f"  weights do not show how many heads they have: {heads} must be that of the weights",
        *(f"  taken: {line}" for line in parts.taken),
        *(f"  stays random: {name}" for name in random),
        *(f"  left out: {line}" for line in left_out),
    ]


def start_from_published(file: str, spec: ModelSpec, state: TrainState) -> TrainState:
    """The state at step 0 with published weights put in, and the report printed; moments stay as they are.

    Args:
      file: See `load_published`.
      spec: The model's spec.
      state: From `rsfm_jax.train.state.init_state`.

    Returns:
      A state with the same shardings.

    Raises:
      InputError: see `load_published`.
    """
    params, report = load_published(file, spec, whole(state.params))
    say(*report)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state.params)
    return dataclasses.replace(state, params=jax.device_put(params, shardings, may_alias=False))  # the step donates them


def check_published(file: str, spec: ModelSpec) -> None:
    """Reads weights and refuses those that the model can't start from; see `load_published`."""
    if is_exported(file):
        read_exported(file, spec)
    else:
        read_fitting(file, spec)


def read_fitting(file: str, spec: ModelSpec) -> Any:
    """Reads a file and checks that its encoder is of the model's size.

    Args:
      file: See `load_published`.
      spec: The model's spec.

    Returns:
      A `rsfm_jax.torch.published.PublishedVit`.

    Raises:
      InputError: see `load_published`.
    """
    published, _ = _torch_room(file)
    try:
        vit = published.read_published(file)
    except InputError as error:
        raise InputError(f"config.init.torch: {error}") from None
    check_size(file, spec, vit.width, vit.depth, hidden_size(vit.encoder))
    if vit.bands != len(RGB) and spec.tokenizer.kind != "wavelength":
        raise InputError(
            f"config.init.torch={file}: its patch embedding reads {vit.bands} bands, expected 3 (red, green, blue); give weights of RGB "
            "images, or --config.tokenizer.kind=wavelength, whose patch embedding starts anew"
        )
    return vit


def _torch_room(file: str) -> tuple[types.ModuleType, types.ModuleType]:
    try:
        from rsfm_jax.torch import adapting, published
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rsfm_jax"):
            raise
        raise InputError(f"config.init.torch={file}: {error.name} is missing, which reads it; pip install 'rsfm_jax[torch]'") from None
    return published, adapting


def _merged(params: Params, taken: Params, path: str = "") -> tuple[Params, list[str]]:
    """The parameters with those taken put in, as copies, and the names of the largest parts of which nothing was taken."""
    merged, random = {}, []
    for name, part in params.items():
        if name not in taken:
            merged[name] = jax.tree.map(np.array, part)
            random.append(f"{path}{name}")
        elif isinstance(part, dict):
            merged[name], more = _merged(part, taken[name], f"{path}{name}.")
            random += more
        else:
            merged[name] = np.array(taken[name], np.float32, order="C")
    return merged, random
