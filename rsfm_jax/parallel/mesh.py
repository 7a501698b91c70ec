"""The device mesh: four named axes, sizes from the config."""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

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
    sizes = list(dataclasses.astuple(config))
    if -1 in sizes:
        fixed = math.prod(size for size in sizes if size != -1)
        if len(devices) % fixed:
            raise InputError(f"config.parallel={dict(zip(AXES, sizes, strict=True))}: {len(devices)} devices do not divide by {fixed}")
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        raise InputError(
            f"config.parallel={dict(zip(AXES, sizes, strict=True))}: makes {math.prod(sizes)} devices, there are {len(devices)}; "
            "set one axis to -1"
        )
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def check_batch(mesh: Mesh, global_batch_size: int) -> None:
    """Raises `InputError` when the global batch does not divide over the batch axes of the mesh."""
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if global_batch_size % shards:
        raise InputError(f"config.data.global_batch_size={global_batch_size}: must be a multiple of data x fsdp = {shards}")
