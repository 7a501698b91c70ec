"""Recycled memory under arrays of JAX, which on a CPU may lie on the memory of the numpy array they were made of."""

import jax
import numpy as np
import pytest

from rsfm_jax.config import ParallelConfig
from rsfm_jax.data.memory import Recycler
from rsfm_jax.parallel.mesh import make_mesh
from rsfm_jax.parallel.sharding import to_global


@pytest.mark.parametrize("devices", [1, 8])
def test_what_jax_was_given_stays(devices: int):
    recycler, mesh = Recycler(), make_mesh(ParallelConfig(), jax.devices()[:devices])
    placed = []
    for value in range(6):
        (array,) = recycler.arrays([((8, 64, 64), np.float32)])
        array[...] = value
        placed.append(to_global(mesh, {"pixels": array})["pixels"])
        del array
    for value, array in enumerate(placed):
        assert (np.asarray(array) == value).all()
