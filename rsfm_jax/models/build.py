"""From a spec to parameters and back: the model's definition apart from its values.

Outside this file parameters are plain nested dicts of arrays; ``nnx.merge(graphdef, params)`` makes a callable model of them.
"""

import dataclasses
from typing import Any

from flax import nnx
import jax

from rsfm_jax.models.mae import MAE
from rsfm_jax.models.spec import ModelSpec

Params = dict[str, Any]
nnx.use_eager_sharding(False)  # annotated models are built outside a mesh; shardings come from the table


@dataclasses.dataclass(frozen=True)
class AbstractModel:
    """A model without values.

    Attributes:
      graphdef: Structure, for ``nnx.merge``.
      shapes: Nested dict of `jax.ShapeDtypeStruct`.
      names: Nested dict of tuples of logical axis names.
    """

    graphdef: Any
    shapes: Params
    names: Params


def abstract_model(spec: ModelSpec) -> AbstractModel:
    """Builds a model's definition without allocating anything."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: MAE(spec, nnx.Rngs(0))))
    shapes, names = nnx.to_pure_dict(state), {}
    for path, variable in nnx.to_flat_state(state):
        node = names
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = tuple(variable.get_metadata()["out_sharding"])
    return AbstractModel(graphdef, shapes, names)


def init_params(spec: ModelSpec, seed: int) -> Params:
    """Draws initial parameters, float32, a function of the seed alone; can be jitted with any output shardings."""
    return nnx.to_pure_dict(nnx.state(MAE(spec, nnx.Rngs(seed))))


def merge(graphdef: Any, params: Params) -> MAE:
    """A callable model."""
    return nnx.merge(graphdef, params)


def count_params(shapes: Params) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))
