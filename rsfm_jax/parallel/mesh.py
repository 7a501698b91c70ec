"""The device mesh: four named axes, sizes from the config."""

import math
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh
import numpy as np

from rsfm_jax.config import ParallelConfig
from rsfm_jax.errors import InputError

AXES = ("data", "fsdp", "tensor", "expert")
BATCH_AXES = ("data", "fsdp")


def make_mesh(config: ParallelConfig, devices: list[Any] | None = None) -> Mesh:
    """Lays devices out on the mesh axes.

    Args:
      config: Axis sizes; -1 takes what is left.
      devices: All devices of the run by default.

    Returns:
      A mesh with the axes ('data', 'fsdp', 'tensor', 'expert'), all of type Auto.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    if config.expert != 1:
        raise InputError(f"config.parallel.expert={config.expert}: no parameter is divided over experts yet; set it to 1")
    devices = jax.devices() if devices is None else devices
    sizes = list(config.sizes())
    named = dict(zip(AXES, sizes, strict=True))
    if -1 in sizes:
        fixed = math.prod(size for size in sizes if size != -1)
        if len(devices) % fixed:
            raise InputError(f"config.parallel={named}: {len(devices)} devices do not divide by {fixed}")
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        raise InputError(f"config.parallel={named}: makes {math.prod(sizes)} devices, there are {len(devices)}; set one axis to -1")
    return Mesh(_arrange(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arrange(sizes: list[int], devices: list[Any]) -> np.ndarray:
    """Devices in the mesh's order: axes along the links of a slice, 'data' alone across slices."""
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    data, *others = sizes
    if data % slices:
        raise InputError(
            f"config.parallel: 'data' is {data} and must be a multiple of the {slices} slices, for only it may cross the network between "
            "them; lower fsdp or tensor"
        )
    within, across = [data // slices, *others], [slices] + [1] * len(others)
    return mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)


def check_batch(mesh: Mesh, global_batch_size: int, microbatches: int = 1) -> None:
    """Raises `InputError` when the global batch, or a part of it, does not divide over the batch axes of the mesh."""
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if global_batch_size % (shards * microbatches):
        parts = f" x config.train.microbatches = {shards * microbatches}" if microbatches > 1 else f" = {shards}"
        raise InputError(f"config.data.global_batch_size={global_batch_size}: must be a multiple of data x fsdp{parts}")
