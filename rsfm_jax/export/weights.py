"""Flax parameters to a PyTorch state dict with timm's names: kernels transposed, stacked layers taken apart."""

from typing import Any

import numpy as np

from rsfm_jax.models.build import Params, abstract_model, merge
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.models.tokenizer import WaveLinears

StateDict = dict[str, np.ndarray]


def encoder_state_dict(spec: ModelSpec, params: Params) -> StateDict:
    """The encoder's parameters under the names of `rsfm_jax/torch/modeling_rsfm.py`.

    Patch embeddings that are generated from wavelengths are worked out for each kind of slot.

    Args:
      spec: The model's spec, with compute_dtype float32.
      params: The whole model's parameters.

    Returns:
      Contiguous float32 arrays: ``patch_embed.*``, ``encodings.*``, ``cls_token``, ``blocks.N.*``, ``norm.*``.
    """
    encoder = params["encoder"]
    state: StateDict = {}
    for name, part in encoder.items():
        if name == "blocks":
            for path, stacked in _leaves(part["layers"]):
                for i, leaf in enumerate(np.asarray(stacked)):
                    state |= _renamed(("blocks", str(i), *path), leaf)
        elif name == "patch_embed":
            state |= _patch_embeddings(spec, params)
        else:
            for path, leaf in _leaves(part):
                state |= _renamed((name, *path), np.asarray(leaf))
    return state


def _patch_embeddings(spec: ModelSpec, params: Params) -> StateDict:
    embed, state = merge(abstract_model(spec).graphdef, params).encoder.patch_embed, {}
    for slot in spec.slots:
        key = slot_key(slot)
        if isinstance(embed, WaveLinears):
            kernel, bias = embed.weights(slot)
        else:
            kernel, bias = (params["encoder"]["patch_embed"]["slots"][key][name] for name in ("kernel", "bias"))
        state |= _renamed(("patch_embed", key, "kernel"), np.asarray(kernel)) | _renamed(("patch_embed", key, "bias"), np.asarray(bias))
    return state


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for name, part in tree.items() for leaf in _leaves(part, (*path, str(name)))]


def _renamed(path: tuple[str, ...], leaf: np.ndarray) -> StateDict:
    """A kernel (inputs, outputs) becomes a weight (outputs, inputs), a norm's scale a weight; safetensors wants them contiguous."""
    if path[-1] == "kernel":
        path, leaf = (*path[:-1], "weight"), leaf.T
    elif path[-1] == "scale":
        path = (*path[:-1], "weight")
    return {".".join(path): np.ascontiguousarray(leaf, dtype=np.float32)}
