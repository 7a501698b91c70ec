"""The sharding table against the demo's model, and a golden file of every parameter's shape and place on three meshes.

After a change that is meant, write the golden file again and read the difference: RSFM_WRITE_GOLDEN=1 pytest tests/parallel
"""

import json
import os
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import optax
import pytest

from configs import demo
from rsfm_jax.config import ParallelConfig
from rsfm_jax.errors import InputError
from rsfm_jax.models.build import AbstractModel, abstract_model
from rsfm_jax.models.spec import model_spec
from rsfm_jax.parallel.mesh import make_mesh
from rsfm_jax.parallel.sharding import LOGICAL_TO_MESH, batch_sharding, param_shardings, partition_spec, to_global
from rsfm_jax.train.optimizer import make_optimizer
from rsfm_jax.train.state import abstract_state

_MESHES = {"data1_fsdp1": (1, 1), "data2_fsdp4": (2, 4), "data2_fsdp2_tensor2": (2, 2, 2)}


def mesh_of(data: int, fsdp: int, tensor: int = 1) -> Mesh:
    return make_mesh(ParallelConfig(data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])


@pytest.fixture(scope="module")
def model() -> AbstractModel:
    return abstract_model(model_spec(demo.get_config(), demo.layouts()))


def parameter_table(model: AbstractModel) -> dict[str, Any]:
    table = {
        jax.tree_util.keystr(path, simple=True, separator="/"): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.shapes)
    }
    for name, sizes in _MESHES.items():
        shardings = param_shardings(mesh_of(*sizes), model.names, model.shapes)
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings):
            row = table[jax.tree_util.keystr(path, simple=True, separator="/")]
            row[name] = {"spec": str(tuple(sharding.spec)), "shard": list(sharding.shard_shape(tuple(row["shape"])))}
    return table


def test_parameters_and_their_places_are_the_golden_ones(model: AbstractModel, repo: pathlib.Path):
    golden = repo / "tests" / "golden" / "params_demo.json"
    table = parameter_table(model)
    if os.environ.get("RSFM_WRITE_GOLDEN"):
        golden.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(row)}' for name, row in sorted(table.items())) + "\n}\n")
    assert table == json.loads(golden.read_text())


def test_the_table_knows_every_logical_axis(model: AbstractModel):
    used = {name for axes in jax.tree.leaves(model.names, is_leaf=lambda x: isinstance(x, tuple)) for name in axes}
    assert used <= set(LOGICAL_TO_MESH)
    assert {"embed", "mlp", "heads", "values", "features", "layers"} <= used


def test_every_kernel_is_sharded_over_fsdp(model: AbstractModel):
    shardings = param_shardings(mesh_of(2, 4), model.names, model.shapes)
    for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(model.shapes), jax.tree.leaves(shardings), strict=True):
        stacked = "blocks" in jax.tree_util.keystr(path)
        expected = leaf.size // 4 if leaf.ndim - stacked >= 2 else leaf.size
        assert np.prod(sharding.shard_shape(leaf.shape)) == expected, path


def test_specs():
    assert partition_spec(("embed",)) == PartitionSpec()
    assert partition_spec(("layers", "embed")) == PartitionSpec()
    assert partition_spec(("layers", "embed", "mlp")) == PartitionSpec(None, "fsdp", "tensor")
    assert partition_spec(("values", "embed")) == PartitionSpec(None, "fsdp")


def test_a_parameter_that_does_not_divide_is_named(model: AbstractModel):
    mesh = make_mesh(ParallelConfig(1, 5), jax.devices()[:5])
    with pytest.raises(InputError, match=r"config\.parallel\.fsdp=5: does not divide parameter \['decoder'\].*choose a divisor of 96"):
        param_shardings(mesh, model.names, model.shapes)


@pytest.mark.parametrize("sizes", _MESHES.values(), ids=_MESHES.keys())
def test_moments_lie_where_their_parameters_lie(model: AbstractModel, sizes: tuple[int, ...]):
    optimizer = make_optimizer(demo.get_config(), model.names)
    state = abstract_state(model, optimizer, mesh_of(*sizes))
    places = jax.tree.map(lambda leaf: (leaf.shape, leaf.sharding), state.params)
    (adam,) = (
        part for part in jax.tree.leaves(state.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState)) if hasattr(part, "mu")
    )
    for moments in (adam.mu, adam.nu):
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.sharding), moments) == places
    assert adam.count.sharding.spec == PartitionSpec()


def test_batches_are_divided_over_both_batch_axes():
    mesh = mesh_of(2, 4)
    batch = {"x": np.arange(16 * 3, dtype=np.float32).reshape(16, 3), "members": [{"valid": np.ones((16, 2), bool)}]}
    placed = to_global(mesh, batch)
    assert placed["x"].sharding == batch_sharding(mesh)
    assert {shard.data.shape for shard in placed["x"].addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(placed["x"], batch["x"])
    assert placed["members"][0]["valid"].dtype == bool
