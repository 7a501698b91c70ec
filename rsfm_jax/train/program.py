"""What a run computes, before anything is allocated: model, optimiser, mesh, the state's places, and a step for each layout."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from rsfm_jax.config import Config
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout
from rsfm_jax.models.build import AbstractModel, abstract_model
from rsfm_jax.models.spec import ModelSpec, model_spec, token_layout
from rsfm_jax.nn.apart import put_together, take_apart
from rsfm_jax.objectives.masking import visible_count
from rsfm_jax.parallel.mesh import check_batch, make_mesh
from rsfm_jax.parallel.sharding import batch_sharding, check_sharded
from rsfm_jax.train.optimizer import make_optimizer
from rsfm_jax.train.state import TrainState, abstract_state
from rsfm_jax.train.step import Batch, Step, make_step


@dataclasses.dataclass(frozen=True)
class Program:
    """A config laid out on devices.

    Attributes:
      config: The experiment.
      layouts: The layouts of its image sets.
      mesh: The devices.
      spec: The model's spec.
      model: The model's definition.
      optimizer: The update rule.
      abstract: Shapes, types and shardings of the state, as checkpoints keep it.
    """

    config: Config
    layouts: tuple[Layout, ...]
    mesh: Mesh
    spec: ModelSpec
    model: AbstractModel
    optimizer: optax.GradientTransformation
    abstract: TrainState

    @property
    def held(self) -> TrainState:
        """Shapes, types and shardings of the state as the steps take it: with model.unroll=0 one array a layer."""
        return self.abstract if self.config.model.unroll else take_apart(self.abstract)

    def hold(self, state: TrainState) -> TrainState:
        """Makes of a state as in `abstract` one as in `held`; with model.unroll=0 both are in memory for a moment."""
        if self.config.model.unroll:
            return state
        return jax.jit(take_apart, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.held))(state)

    def release(self, held: TrainState) -> TrainState:
        """The inverse of `hold`; here too both are in memory for a moment."""
        if self.config.model.unroll:
            return held
        return jax.jit(put_together, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.abstract))(held)

    def step(self, layout: Layout) -> Step:
        """The jitted step of one layout, compiled at its first batch; takes and returns a state as in `held`."""
        return make_step(self.model, self.optimizer, self.config, layout, self.held, self.mesh)

    def abstract_batch(self, layout: Layout) -> Batch:
        """Shapes, types and shardings of a batch of `rsfm_jax.data.stream`, on the mesh."""
        placed, rows = batch_sharding(self.mesh), self.config.data.global_batch_size

        def array(dtype: Any, *dims: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *dims), dtype, sharding=placed)

        members = []
        for slot in layout.slots:
            image = (slot.pixels, slot.pixels, len(slot.bands))
            member = {"pixels": array(jnp.float32, *image), "valid": array(jnp.bool_, *image)}
            members.append(member | {"grid_m": array(jnp.float32, 4), "time": array(jnp.float32, 3)})
        place = {"geosot": array(jnp.uint8, 256), "lonlat_deg": array(jnp.float32, 3)}
        return {"global_index": array(jnp.uint32), "members": members, "place": place}


def make_program(config: Config, layouts: tuple[Layout, ...], devices: list[Any] | None = None) -> Program:
    """Lays a config out on devices; allocates nothing.

    Args:
      config: The experiment.
      layouts: The layouts of its image sets.
      devices: All devices of the run by default.

    Returns:
      The program.

    Raises:
      InputError: layouts, a mesh or a batch size that do not fit.
    """
    mesh = make_mesh(config.parallel, devices)
    check_batch(mesh, config.data.global_batch_size, config.train.microbatches)
    kind = mesh.devices.flat[0].device_kind
    if config.model.attention == "cudnn" and not kind.startswith("NVIDIA"):
        raise InputError(f"config.model.attention='cudnn': needs NVIDIA GPUs, and the devices here are {kind!r}; set it to 'plain'")
    spec = model_spec(config, layouts)
    for layout in layouts:
        for slot in token_layout(layout, config.tokenizer).layout.slots:
            visible_count(slot, config.mask.ratio)  # names a slot that the ratio leaves nothing
    model = abstract_model(spec)
    optimizer = make_optimizer(config, model.names)
    abstract = abstract_state(model, optimizer, mesh)
    check_sharded(mesh, abstract.params, config.parallel.max_whole_share)
    return Program(config, layouts, mesh, spec, model, optimizer, abstract)
