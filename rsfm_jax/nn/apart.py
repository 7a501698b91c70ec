"""Stacked parameters, or one array a layer.

Blocks are stacked along a leading layer axis: so a scan reads them, so checkpoints keep them, and no other code need know how many there
are. A program without a scan (`model.unroll` = 0) would copy each layer out of the stack before its products and put the gradients
together again; between its steps the state is therefore held apart, one array a layer, and put together when it is saved.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

LAYERS_AXIS = "layers"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Apart:
    """A stacked array as one array a layer.

    Attributes:
      layers: The arrays, all of one shape.
    """

    layers: tuple[Any, ...]


def _is_apart(x: Any) -> bool:
    return isinstance(x, Apart)


def take_apart(tree: Any) -> Any:
    """One array a layer.

    Args:
      tree: Pytree of arrays or `jax.ShapeDtypeStruct`; those under a key 'layers' are stacked.

    Returns:
      The same with `Apart` in the place of each stacked array.
    """

    def one(path: tuple[Any, ...], leaf: Any) -> Any:
        if all(getattr(key, "key", None) != LAYERS_AXIS for key in path):
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            sharding = leaf.sharding and NamedSharding(leaf.sharding.mesh, PartitionSpec(*leaf.sharding.spec[1:]))
            return Apart((jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding),) * leaf.shape[0])
        return Apart(tuple(leaf[i] for i in range(leaf.shape[0])))

    return jax.tree_util.tree_map_with_path(one, tree)


def put_together(tree: Any) -> Any:
    """The inverse of `take_apart`, for arrays."""
    return jax.tree.map(lambda x: jnp.stack(x.layers) if _is_apart(x) else x, tree, is_leaf=_is_apart)


def layer(tree: Any, index: int) -> Any:
    """One layer of a pytree whose arrays are all `Apart`."""
    return jax.tree.map(lambda x: x.layers[index], tree, is_leaf=_is_apart)


def any_apart(tree: Any) -> bool:
    """Whether a pytree has any `Apart`."""
    return any(map(_is_apart, jax.tree.leaves(tree, is_leaf=_is_apart)))
