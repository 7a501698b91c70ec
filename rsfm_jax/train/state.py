"""The training state: step, parameters, optimiser moments, and where each of them lies on the mesh."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from rsfm_jax.models.build import AbstractModel, init_params
from rsfm_jax.models.spec import ModelSpec
from rsfm_jax.parallel.sharding import param_shardings, replicated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What an optimiser step changes.

    Attributes:
      step: Steps done, int32.
      params: Nested dict of float32 arrays.
      opt_state: State of the optimiser.
    """

    step: Any
    params: Any
    opt_state: Any


def abstract_state(model: AbstractModel, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state's shapes, types and shardings, nothing allocated; moments are sharded like their parameters.

    Args:
      model: The model's definition.
      optimizer: The update rule.
      mesh: The mesh.

    Returns:
      A `TrainState` of `jax.ShapeDtypeStruct` with shardings.
    """
    whole = replicated(mesh)
    shardings = param_shardings(mesh, model.names, model.shapes)
    opt_shapes = jax.eval_shape(optimizer.init, model.shapes)
    opt_shardings = optax.tree_map_params(
        optimizer, lambda _, sharding: sharding, opt_shapes, shardings, transform_non_params=lambda _: whole
    )

    def placed(leaf: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
        params=jax.tree.map(placed, model.shapes, shardings),
        opt_state=jax.tree.map(placed, opt_shapes, opt_shardings),
    )


def init_state(spec: ModelSpec, optimizer: optax.GradientTransformation, abstract: TrainState, seed: int) -> TrainState:
    """Draws the initial state, each shard on its own device; the values do not depend on the mesh.

    Args:
      spec: The model's spec.
      optimizer: The update rule.
      abstract: From `abstract_state`.
      seed: The run's seed.

    Returns:
      The state at step 0.
    """

    def build() -> TrainState:
        params = init_params(spec, seed)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(build, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))()
