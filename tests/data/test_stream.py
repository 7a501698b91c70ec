"""The stream is a function of seed and step: order, shards and positions."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from rsfm_jax.config import DataConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.data.stream import BatchStream, layout_at
from rsfm_jax.errors import InputError

Read = tuple[str, dict[str, Any]]


def read(dataset: Dataset, steps: int, seed: int = 0, batch: int = 8, shard: tuple[int, int] = (0, 1), start: Any = None) -> list[Read]:
    """The batches of steps ``0 .. steps - 1``, or of as many steps from a (step, state)."""
    with BatchStream(dataset, DataConfig(global_batch_size=batch), seed, *shard) as stream:
        first = 0
        if start:
            first, state = start
            stream.set_state(state)
        return [(layout.name, values) for layout, values in (stream.next(step) for step in range(first, first + steps))]


def position(dataset: Dataset, steps: int, batch: int = 8, shard: tuple[int, int] = (0, 1)) -> Any:
    with BatchStream(dataset, DataConfig(global_batch_size=batch), 0, *shard) as stream:
        for step in range(steps):
            stream.next(step)
        return json.loads(json.dumps(stream.get_state()))  # as a checkpoint keeps it


def assert_same(ours: list[Read], theirs: list[Read]) -> None:
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a["global_index"], b["global_index"])
        for member, other in zip(a["members"], b["members"], strict=True):
            for name in member:
                np.testing.assert_array_equal(member[name], other[name])
        for name in a["place"]:
            np.testing.assert_array_equal(a["place"][name], b["place"][name])


def pixels_by_index(batches: list[Read]) -> dict[tuple[str, int], bytes]:
    """What each example of some batches looks like, by layout and global index."""
    return {
        (name, int(index)): b"".join(member["pixels"][row].tobytes() for member in values["members"])
        for name, values in batches
        for row, index in enumerate(values["global_index"])
    }


def test_same_seed_and_step_same_batch(tiny_dataset: Dataset):
    assert_same(read(tiny_dataset, 6), read(tiny_dataset, 6))


def test_another_seed_another_order(tiny_dataset: Dataset):
    ours, theirs = read(tiny_dataset, 6), read(tiny_dataset, 6, seed=1)
    shared = {key for key, pixels in pixels_by_index(theirs).items() if pixels_by_index(ours).get(key) == pixels}
    assert len(shared) < 10


def test_layouts_are_drawn_by_their_share_and_depend_on_the_step_alone(tiny_dataset: Dataset):
    weights = np.array([3.0, 1.0])
    drawn = [layout_at(tiny_dataset.layouts, weights, 7, step).name for step in range(2000)]
    assert 0.70 < drawn.count("series") / 2000 < 0.80
    assert drawn[1234] == layout_at(tiny_dataset.layouts, weights, 7, 1234).name
    assert drawn != [layout_at(tiny_dataset.layouts, weights, 8, step).name for step in range(2000)]


def test_an_epoch_is_a_permutation_and_indices_never_return(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[0]
    one = dataclasses.replace(tiny_dataset, layouts=(layout,))
    sets = tiny_dataset.sets[layout.name]["train"]
    assert sets % 8 == 0
    batches = read(one, 2 * sets // 8)
    indices = [int(i) for _, values in batches for i in values["global_index"]]
    assert indices == list(range(2 * sets))
    decode = Decoder(tiny_dataset, layout)
    records = tiny_dataset.source(layout, "train")
    every = sorted(b"".join(member["pixels"].tobytes() for member in decode(records[i])["members"]) for i in range(sets))
    seen = list(pixels_by_index(batches).values())
    assert sorted(seen[:sets]) == every
    assert sorted(seen[sets:]) == every
    assert seen[:sets] != seen[sets:]  # each epoch has its own order


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_reads_the_same_batches(tiny_dataset: Dataset, processes: int):
    whole = read(tiny_dataset, 6)
    shards = [read(tiny_dataset, 6, shard=(i, processes)) for i in range(processes)]
    for step, (name, values) in enumerate(whole):
        parts = [shard[step] for shard in shards]
        assert {part[0] for part in parts} == {name}
        assert {len(part[1]["global_index"]) for part in parts} == {8 // processes}
        assert sorted(int(i) for part in parts for i in part[1]["global_index"]) == sorted(values["global_index"].tolist())
        together = {key: pixels for part in parts for key, pixels in pixels_by_index([part]).items()}
        assert together == pixels_by_index([whole[step]])


def test_continues_where_it_stopped(tiny_dataset: Dataset):
    assert_same(read(tiny_dataset, 5, start=(7, position(tiny_dataset, 7))), read(tiny_dataset, 12)[7:])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (4, 2), (2, 1)])
def test_continues_on_another_number_of_processes(tiny_dataset: Dataset, before: int, after: int):
    states = [position(tiny_dataset, 7, shard=(i, before)) for i in range(before)]
    assert all(state == states[0] for state in states)  # any process may write the checkpoint
    expected = read(tiny_dataset, 12)[7:]
    shards = [read(tiny_dataset, 5, shard=(i, after), start=(7, states[0])) for i in range(after)]
    for step, (_, values) in enumerate(expected):
        together = [int(i) for shard in shards for i in shard[step][1]["global_index"]]
        assert sorted(together) == sorted(values["global_index"].tolist())
    found = {key: pixels for shard in shards for key, pixels in pixels_by_index(shard).items()}
    assert found == pixels_by_index(expected)


def test_a_name_for_every_example(tiny_dataset: Dataset):
    with BatchStream(tiny_dataset, DataConfig(global_batch_size=8), 0, 0, 1) as stream:
        layout, batch = stream.next(0)
        decode = Decoder(tiny_dataset, layout)
        by_key = {record["key"].decode(): record for record in tiny_dataset.source(layout, "train")}
        for row, index in enumerate(batch["global_index"]):
            example = decode(by_key[stream.key(layout.name, int(index))])
            np.testing.assert_array_equal(example["members"][0]["pixels"], batch["members"][0]["pixels"][row])
            np.testing.assert_array_equal(example["place"]["geosot"], batch["place"]["geosot"][row])


def test_a_batch_that_does_not_divide_by_the_processes(tiny_dataset: Dataset):
    with pytest.raises(InputError, match=r"global_batch_size=8: must be a multiple of the 3 processes"):
        read(tiny_dataset, 1, shard=(0, 3))


def test_a_position_of_other_layouts(tiny_dataset: Dataset):
    state = position(tiny_dataset, 1)
    state.pop("landsat")
    with pytest.raises(InputError, match=r"position is of layouts \['series'\]"):
        read(tiny_dataset, 1, start=(1, state))


def test_layout_balance_moves_the_shares_from_proportional_to_equal(tiny_dataset: Dataset):
    sets = {layout.name: tiny_dataset.sets[layout.name]["train"] for layout in tiny_dataset.layouts}
    share = {}
    for balance in (1.0, 0.0):
        with BatchStream(tiny_dataset, DataConfig(global_batch_size=1, layout_balance=balance), 3, 0, 1) as stream:
            drawn = [stream.next(step)[0].name for step in range(600)]
        share[balance] = drawn.count("series") / len(drawn)
    assert share[1.0] == pytest.approx(sets["series"] / sum(sets.values()), abs=0.06)
    assert share[0.0] == pytest.approx(0.5, abs=0.06)
