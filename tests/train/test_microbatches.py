"""A batch in parts is the batch: loss, metrics, gradient and the step they lead to."""

import dataclasses

import jax
import numpy as np
import pytest

from rsfm_jax.config import Config, TrainConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.parallel.sharding import to_global
from rsfm_jax.train.loop import Trainer
from tests.helpers import batch_of, parts

MESHES = ((1, 1), (2, 2))


@pytest.mark.parametrize("mesh", MESHES)
def test_parts_add_up_to_the_whole(tiny: Config, tiny_dataset: Dataset, mesh: tuple[int, int]):
    layout, tiny.data.global_batch_size = tiny_dataset.layouts[1], 8
    batch = batch_of(tiny_dataset, layout, 8)
    batch["members"][0]["valid"][:3] = False  # so that the parts do not have as many patches each
    batch["members"][1]["valid"][5, :9] = False
    found = {}
    for count in (1, 2):
        config = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, microbatches=count))
        made = parts(config, tiny_dataset, *mesh)
        state, metrics = made.steps[layout.name](made.state, to_global(made.mesh, batch))
        found[count] = jax.device_get((metrics, state.params))
    whole, split = found[1][0], found[2][0]
    assert set(whole) == set(split)
    for name in ("loss", "slot_losses", "slot_leaks", "grad_norm", "lr"):
        np.testing.assert_allclose(split[name], whole[name], rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(split["example_errors"], whole["example_errors"], rtol=1e-4, atol=1e-6)
    assert len(set(whole["example_errors"].tolist())) == 8
    for ours, expected in zip(jax.tree.leaves(found[2][1]), jax.tree.leaves(found[1][1]), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_parts_that_do_not_divide_over_the_mesh(tiny: Config, tiny_dataset: Dataset):
    tiny.train = TrainConfig(steps=40, microbatches=2)
    with pytest.raises(InputError, match=r"must be a multiple of data x fsdp x config.train.microbatches = 16"):
        Trainer(tiny, tiny_dataset)
