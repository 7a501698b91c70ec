"""Programs without a scan hold the state apart, one array a layer: numbers, checkpoints and places on the mesh stay the same."""

import dataclasses
import pathlib

from etils import epath
import jax
import numpy as np
import pytest

from rsfm_jax.config import Config, ParallelConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.nn.apart import Apart
from rsfm_jax.parallel.sharding import to_global
from rsfm_jax.train.checkpoint import Checkpoints
from rsfm_jax.train.loop import run_training
from rsfm_jax.train.metrics import read_metrics
from rsfm_jax.train.program import Program, make_program
from rsfm_jax.train.state import TrainState, init_state
from tests.helpers import first_batches


def program_of(config: Config, dataset: Dataset, unroll: int) -> Program:
    model, parallel = dataclasses.replace(config.model, unroll=unroll), ParallelConfig(2, 2)
    return make_program(dataclasses.replace(config, model=model, parallel=parallel), dataset.layouts, jax.devices()[:4])


def first_state(program: Program) -> TrainState:
    return init_state(program.spec, program.optimizer, program.abstract, seed=0)


def test_taken_apart_and_put_together_bit_for_bit(tiny: Config, tiny_dataset: Dataset):
    program = program_of(tiny, tiny_dataset, 0)
    state = first_state(program)
    held = program.hold(state)
    kernel = state.params["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["kernel"]
    apart = held.params["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["kernel"]
    assert isinstance(apart, Apart)
    assert len(apart.layers) == tiny.model.depth
    for i, layer in enumerate(apart.layers):
        np.testing.assert_array_equal(layer, kernel[i])
        assert layer.sharding.shard_shape(layer.shape) == kernel.sharding.shard_shape(kernel.shape)[1:]
    assert not any(isinstance(x, Apart) for x in jax.tree.leaves(held.params["decoder"]["embed"], is_leaf=lambda x: isinstance(x, Apart)))
    together = program.release(held)
    assert jax.tree.structure(together) == jax.tree.structure(state)
    for ours, expected in zip(jax.tree.leaves(together), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.sharding == expected.sharding
    assert program_of(tiny, tiny_dataset, 1).hold(state) is state


def test_steps_apart_are_steps_of_the_stack(tiny: Config, tiny_dataset: Dataset):
    batches, found = first_batches(tiny_dataset, tiny.data.global_batch_size, 4), {}
    assert {layout.name for layout, _ in batches} == {layout.name for layout in tiny_dataset.layouts}
    for unroll in (0, 1):
        program = program_of(tiny, tiny_dataset, unroll)
        steps = {layout.name: program.step(layout) for layout in tiny_dataset.layouts}
        held, found[unroll] = program.hold(first_state(program)), []
        for layout, batch in batches:
            held, metrics = steps[layout.name](held, to_global(program.mesh, batch))
            found[unroll] += [float(metrics[name]) for name in ("loss", "grad_norm")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.fixture(scope="module")
def unrolled(tiny_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the tiny experiment with all layers unrolled."""
    from tests import tiny_config

    config = tiny_config.get_config()
    config.data.path, config.model.unroll, config.train.picture_every = str(tiny_path), 0, 40
    workdir = tmp_path_factory.mktemp("unrolled") / "run"
    assert run_training(config, str(workdir)) == 0
    return workdir


def test_a_run_and_its_pictures(unrolled: pathlib.Path, trained: pathlib.Path):
    ours, theirs = (read_metrics(workdir) for workdir in (unrolled, trained))
    np.testing.assert_allclose([row["loss"] for row in ours], [row["loss"] for row in theirs], rtol=2e-4)
    assert {row["layout"] for row in ours[:4]} == {"series", "landsat"}
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose([row[name] for row in ours[:4]], [row[name] for row in theirs[:4]], rtol=1e-5)
    assert sorted(file.name for file in (unrolled / "pictures").iterdir()) == ["step_0000040_landsat.png", "step_0000040_series.png"]


def test_its_checkpoints_are_stacked(unrolled: pathlib.Path, tiny: Config, tiny_dataset: Dataset):
    program = program_of(tiny, tiny_dataset, 1)
    with Checkpoints(epath.Path(unrolled), keep=None) as checkpoints:
        restored = checkpoints.restore_latest(program.abstract)
    assert restored is not None
    assert jax.tree.structure(restored[0]) == jax.tree.structure(program.abstract)
    assert int(restored[0].step) == tiny.train.steps
