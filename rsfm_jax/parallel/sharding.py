"""The sharding table: what each logical axis of a parameter means on the mesh, and where batches go."""

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


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension over 'data' and 'fsdp'."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


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
