"""Batches of one layout: the order of Grain's own elastic iterator, and the same from threads and processes."""

import dataclasses
import time
from typing import Any

from grain.experimental import ElasticIterator
import grain.python as grain
import numpy as np
import pytest

from rsfm_jax.config import DataConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.data.stream import BatchStream


def leaves(batch: dict[str, Any]) -> list[np.ndarray]:
    return [batch["global_index"], *(group[name] for group in (*batch["members"], batch["place"]) for name in sorted(group))]


def assert_same(ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def one_layout(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, layouts=dataset.layouts[:1])


def read(dataset: Dataset, first: int, last: int, state: Any = None, **reading: int) -> tuple[list[list[np.ndarray]], Any]:
    """Copies of the batches of some steps, and the position after them."""
    with BatchStream(dataset, DataConfig(global_batch_size=6, **reading), 5, 0, 1) as stream:
        if state is not None:
            stream.set_state(state)
        batches = [[np.array(leaf) for leaf in leaves(stream.next(step)[1])] for step in range(first, last)]
        return batches, stream.get_state()


@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_the_order_of_grains_elastic_iterator(tiny_dataset: Dataset, shard: tuple[int, int]):
    dataset = one_layout(tiny_dataset)
    layout, decode = dataset.layouts[0], Decoder(dataset, dataset.layouts[0])
    examples = grain.MapDataset.source(dataset.source(layout, "train")).seed(5).shuffle().repeat()
    examples = examples.map_with_index(lambda index, record: {"global_index": np.uint32(index)} | decode(record))
    expected = ElasticIterator(examples, 6, grain.ShardOptions(*shard), read_options=grain.ReadOptions(1, 1))
    with BatchStream(dataset, DataConfig(global_batch_size=6), 5, *shard) as stream:
        for step in range(20):  # more than an epoch
            assert_same([leaves(stream.next(step)[1])], [leaves(next(expected))])
            assert stream.get_state() == {layout.name: expected.get_state()}
    expected.close()


def test_processes_make_what_threads_make_and_continue_on_another_number(tiny_dataset: Dataset):
    dataset = one_layout(tiny_dataset)
    threads, _ = read(dataset, 0, 9)
    first, state = read(dataset, 0, 4, read_processes=2, read_threads=1)
    assert state == read(dataset, 0, 4)[1]
    middle, state = read(dataset, 4, 6, state, read_processes=1, read_threads=2)
    last, _ = read(dataset, 6, 9, state)
    assert_same([*first, *middle, *last], threads)


class Counted:
    """Records that count how often one is read."""

    def __init__(self, records: Any) -> None:
        self.records, self.reads = records, 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.records[index]


@pytest.mark.parametrize(("threads", "ahead", "batches"), [(1, 2, 2), (2, 3, 3), (3, 1, 3)])
def test_no_more_is_read_ahead_than_asked_for(tiny_dataset: Dataset, monkeypatch, threads: int, ahead: int, batches: int):
    dataset = one_layout(tiny_dataset)
    counted = Counted(dataset.source(dataset.layouts[0], "train"))
    monkeypatch.setattr(Dataset, "source", lambda *_: counted)
    config = DataConfig(global_batch_size=4, read_threads=threads, prefetch_batches=ahead)
    with BatchStream(dataset, config, 0, 0, 1) as stream:
        stream.next(0)
        seen, until = -1, time.monotonic() + 5
        while counted.reads != seen and time.monotonic() < until:
            seen = counted.reads
            time.sleep(0.2)
    assert seen == 4 * (1 + batches)
