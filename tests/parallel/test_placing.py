"""What crosses between devices: parameters, a layer at a time, never activations."""

import jax
from jax.sharding import Mesh
import numpy as np
import pytest

from rsfm_jax.compile.hlo import Program, collectives
from rsfm_jax.config import Config, ParallelConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.parallel.mesh import AXES, make_mesh
from rsfm_jax.parallel.sharding import process_share
from rsfm_jax.train.program import make_program


@pytest.mark.parametrize("sizes", [(2, 4, 1), (1, 8, 1), (2, 2, 2)])
def test_only_parameters_are_gathered(tiny: Config, tiny_dataset: Dataset, sizes: tuple[int, int, int]):
    tiny.parallel = ParallelConfig(*sizes)
    program = make_program(tiny, tiny_dataset.layouts)
    layout = tiny_dataset.layouts[0]
    compiled = program.step(layout).lower(program.held, program.abstract_batch(layout)).compile()
    found = collectives(Program(compiled.as_text()), 8)
    kernels = [leaf for leaf in jax.tree.leaves(program.model.shapes) if leaf.ndim >= 2]
    largest = max(4 * leaf.size // (leaf.shape[0] if leaf.ndim == 3 else 1) for leaf in kernels)
    gathers = [c for c in found if c.kind == "all-gather"]
    assert len(gathers) > 10
    assert max(c.largest_bytes for c in gathers) <= largest
    if sizes[2] == 1:
        assert not [c for c in found if c.kind == "all-to-all"]


def test_parameters_that_stay_whole_are_refused(tiny: Config, tiny_dataset: Dataset):
    tiny.parallel = ParallelConfig(2, 4, max_whole_share=0.001)
    with pytest.raises(InputError, match=r"of the parameters are whole on every device, more than config.parallel.max_whole_share=0.001: "):
        make_program(tiny, tiny_dataset.layouts)
    tiny.parallel = ParallelConfig(8, 1, max_whole_share=0.001)
    assert make_program(tiny, tiny_dataset.layouts).mesh.shape["fsdp"] == 1  # asked to be whole


class Chip:
    """A device as far as laying out a mesh of two slices goes."""

    platform, device_kind, process_index = "tpu", "TPU v5 lite", 0

    def __init__(self, index: int) -> None:
        self.id, self.slice_index, self.core_on_chip = index, index // 4, 0
        self.coords = (index % 2, index // 2 % 2, 0)


def test_a_process_may_hold_rows_apart(monkeypatch: pytest.MonkeyPatch):
    """Hosts of 2 x 2 chips on a 4 x 4 slice, data along one side and fsdp along the other."""
    chips = [Chip(i) for i in range(16)]
    for i, chip in enumerate(chips):
        chip.process_index = i // 8 * 2 + i % 4 // 2
    mesh = Mesh(np.array(chips).reshape(4, 4, 1, 1), AXES)
    seen = []
    for process in range(4):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        seen.append(process_share(mesh, 32))
    assert [(index, count) for index, count, _ in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert seen[0][2].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert sorted(row for _, _, rows in seen for row in rows) == list(range(32))
    chips[0].process_index, chips[5].process_index = 1, 3
    with pytest.raises(InputError, match="overlapping or uneven rows"):
        process_share(mesh, 32)


def test_only_data_crosses_slices():
    chips = [Chip(i) for i in range(8)]
    mesh = make_mesh(ParallelConfig(-1, 4), chips)
    assert [{chip.slice_index for chip in row} for row in mesh.devices[:, :, 0, 0]] == [{0}, {1}]
    with pytest.raises(InputError, match="'data' is 1 and must be a multiple of the 2 slices"):
        make_mesh(ParallelConfig(-1, 8), chips)
