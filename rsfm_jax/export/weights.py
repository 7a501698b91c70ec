"""Flax parameters to a PyTorch state dict with timm's names: kernels transposed, stacked layers taken apart."""

from typing import Any

import numpy as np

from rsfm_jax.models.build import Params

StateDict = dict[str, np.ndarray]


def encoder_state_dict(params: Params) -> StateDict:
    """The encoder's parameters under the names of `rsfm_jax/torch/modeling_rsfm.py`.

    Args:
      params: The whole model's parameters.

    Returns:
      Contiguous float32 arrays: ``patch_embed.*``, ``member_code.*``, ``blocks.N.*``, ``norm.*``.
    """
    encoder = params["encoder"]
    state: StateDict = {}
    for name, part in encoder.items():
        if name == "blocks":
            for path, stacked in _leaves(part["layers"]):
                for i, leaf in enumerate(np.asarray(stacked)):
                    state |= _renamed(("blocks", str(i), *path), leaf)
        else:
            for path, leaf in _leaves(part):
                state |= _renamed((name, *path), np.asarray(leaf))
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
