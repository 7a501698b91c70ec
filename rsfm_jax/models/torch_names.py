"""Parameters under PyTorch's names, and back: kernels are transposed weights, a stack of blocks is a list of them.

``blocks/layers/attn/qkv/kernel`` (L, D, 3D) is ``blocks.0.attn.qkv.weight`` (3D, D) and so on, ``patch_embed/slots/KEY/kernel`` is
``patch_embed.KEY.weight``; all else keeps its path, with dots. Knows no PyTorch: arrays are numpy's.

Legend: L blocks, D width.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
_LEAVES = {"kernel": "weight", "scale": "weight"}
_STACKED, _KINDS = "layers", "slots"


def to_torch(tree: Any, prefix: str = "") -> Arrays:
    """A tree of parameters as a flat state dict.

    Args:
      tree: Nested dicts of arrays, or one array.
      prefix: Name of the tree itself, with a dot at its end; of an array, without.

    Returns:
      Contiguous float32 arrays.
    """
    state = {}
    for path, leaf in _leaves(tree):
        array = np.asarray(leaf)
        parts = {name: array if i is None else array[i] for name, i in _names(path, len(array) if _STACKED in path else 0)}
        for name, part in parts.items():
            state[prefix + name] = np.ascontiguousarray(part.T if path[-1] == "kernel" else part, dtype=np.float32)
    return state


def from_torch(template: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """The tree that `to_torch` made a state dict of.

    Args:
      template: A tree of the structure and shapes wanted; its values are not read.
      arrays: The state dict.
      prefix: As `to_torch` was given it.

    Returns:
      Nested dicts of float32 arrays.

    Raises:
      KeyError: a name is missing.
      ValueError: an array of another shape.
    """
    tree: dict[str, Any] = {}
    for path, leaf in _leaves(template):
        parts = [arrays[prefix + name] for name, _ in _names(path, leaf.shape[0] if _STACKED in path else 0)]
        parts = [part.T if path[-1] == "kernel" else part for part in parts]
        value = np.stack(parts) if _STACKED in path else parts[0]
        if value.shape != leaf.shape:
            name = prefix + ".".join(path)
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(leaf.shape)}")
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = np.asarray(value, np.float32)
    return tree


def torch_names(template: Any, prefix: str = "") -> list[str]:
    """The names that `to_torch` gives a tree; its values are not read."""
    return [prefix + name for path, leaf in _leaves(template) for name, _ in _names(path, leaf.shape[0] if _STACKED in path else 0)]


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for name, part in tree.items():
        yield from _leaves(part, (*path, str(name)))


def _names(path: tuple[str, ...], layers: int) -> Iterator[tuple[str, int | None]]:
    """Names of a leaf, one for each block where it is stacked, with the block's number."""
    if not path:
        yield "", None
        return
    renamed = [*path[:-1], _LEAVES.get(path[-1], path[-1])]
    if _STACKED not in path:
        yield ".".join(part for part in renamed if part != _KINDS), None
        return
    at = path.index(_STACKED)
    for i in range(layers):
        yield ".".join([*renamed[:at], str(i), *renamed[at + 1 :]]), i
