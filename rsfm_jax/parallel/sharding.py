"""The sharding table: what each logical axis of a parameter means on the mesh, and where batches go."""

import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.parallel.mesh import BATCH_AXES

LOGICAL_TO_MESH: dict[str, str | None] = {
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "values": None,
    "features": None,
    "layers": None,
}


def partition_spec(names: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of a parameter with these logical axes; vectors (one axis beside 'layers') stay whole."""
    if sum(name != "layers" for name in names) < 2:
        return PartitionSpec()
    return PartitionSpec(*(LOGICAL_TO_MESH[name] if name else None for name in names))


def param_shardings(mesh: Mesh, names: Any, shapes: Any) -> Any:
    """Shardings of all parameters.

    Args:
      mesh: The mesh.
      names: Pytree of tuples of logical axis names.
      shapes: Pytree of the same structure with shapes.

    Returns:
      Pytree of `NamedSharding`.

    Raises:
      InputError: a dimension does not divide by its mesh axis.
    """

    def one(path: Any, axes: tuple[str | None, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        spec = partition_spec(axes)
        for size, axis in zip(leaf.shape, spec, strict=False):
            if axis and size % mesh.shape[axis]:
                raise InputError(
                    f"config.parallel.{axis}={mesh.shape[axis]}: does not divide parameter {jax.tree_util.keystr(path)} of shape "
                    f"{leaf.shape}; choose a divisor of {size}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, names, shapes, is_leaf=lambda x: isinstance(x, tuple))


def check_sharded(mesh: Mesh, params: Any, limit: float) -> None:
    """Checks that a mesh which divides parameters divides enough of them.

    Args:
      mesh: The mesh.
      params: Pytree of `jax.ShapeDtypeStruct` with shardings.
      limit: Largest share of the values that every device may hold whole.

    Raises:
      InputError: more than that is whole, with the largest such parameters.
    """
    if mesh.shape["fsdp"] * mesh.shape["tensor"] == 1:
        return
    rows = [(leaf.size, jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    whole = sorted(((size, name) for size, name, leaf in rows if leaf.sharding.is_fully_replicated), reverse=True)
    share = sum(size for size, _ in whole) / sum(size for size, _, _ in rows)
    if share > limit:
        named = ", ".join(f"{name} ({size} values)" for size, name in whole[:3])
        raise InputError(
            f"config.parallel={dict(mesh.shape)}: {share:.1%} of the parameters are whole on every device, more than "
            f"config.parallel.max_whole_share={limit:g}: {named}; set fsdp=1, or raise max_whole_share"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension over 'data' and 'fsdp'."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


class MeshPlacement:
    """The table applied to what a model computes (`rsfm_jax.nn.placing.Placement`)."""

    def __init__(self, mesh: Mesh) -> None:
        """Takes the mesh of the step that is traced."""
        self._mesh = mesh

    def rows(self, x: jax.Array) -> jax.Array:
        """Lays an array out with its first dim over 'data' and 'fsdp', the others whole."""
        return jax.lax.with_sharding_constraint(x, batch_sharding(self._mesh))

    def weight(self, w: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
        """Gathers a parameter over 'fsdp', where its gradient is summed and scattered; 'tensor' keeps its shards."""
        own = partition_spec(axes)
        needed = PartitionSpec(*(None if axis == "fsdp" else axis for axis in own))
        return w if own == needed else _gathered(NamedSharding(self._mesh, own), NamedSharding(self._mesh, needed), w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gathered(own: NamedSharding, needed: NamedSharding, w: jax.Array) -> jax.Array:
    del own
    return jax.lax.with_sharding_constraint(w, needed)


def _gathered_forward(own: NamedSharding, needed: NamedSharding, w: jax.Array) -> tuple[jax.Array, None]:
    return _gathered(own, needed, w), None


def _gathered_backward(own: NamedSharding, needed: NamedSharding, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    del needed
    return (jax.lax.with_sharding_constraint(gradient, own),)


_gathered.defvjp(_gathered_forward, _gathered_backward)


def placement(mesh: Mesh) -> MeshPlacement | None:
    """The placement for a model traced on a mesh; None on a single device, where there is nothing to say."""
    return MeshPlacement(mesh) if mesh.size > 1 else None


def process_share(mesh: Mesh, rows: int) -> tuple[int, int]:
    """Which block of a global batch the devices of this process hold.

    Args:
      mesh: The mesh.
      rows: Examples in the global batch.

    Returns:
      The block's number, and the number of blocks. Processes that share the rows of a batch, because a 'tensor' axis spans them, have the
      same number.

    Raises:
      InputError: the rows of this process are not one block.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    spans = {index[0].indices(rows)[:2] for index in held if index is not None}
    start, stop = min(first for first, _ in spans), max(last for _, last in spans)
    size = stop - start
    if sum(last - first for first, last in spans) != size or start % size or rows % size:
        raise InputError(
            f"config.parallel={dict(mesh.shape)}: the devices of process {jax.process_index()} hold rows of a batch that are no one block; "
            "let data x fsdp be a multiple or a divisor of the number of processes"
        )
    return start // size, rows // size


def to_global(mesh: Mesh, batch: Any) -> Any:
    """Makes global arrays of this process's share of a batch.

    Args:
      mesh: The mesh.
      batch: Pytree of numpy arrays with a leading batch dimension.

    Returns:
      Pytree of global `jax.Array`, sharded over the batch axes.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)
