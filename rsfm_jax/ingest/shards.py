"""Planned image sets in shards, and the work of one: a record file, rows of the manifest and sums.

A shard holds neighbouring sets, so that the files it reads are read once. Which sets are in it depends on the plan alone.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import hashlib
import json

from etils import epath
import numpy as np

from rsfm_jax.config import IngestConfig
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.examples import ExampleMaker
from rsfm_jax.ingest.records import fields_of, write_records
from rsfm_jax.ingest.sets import PlannedSet
from rsfm_jax.ingest.tally import Tally
from rsfm_jax.layouts import Layout

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Shard:
    """Planned sets that are written into one file.

    Attributes:
      layout: Of all of them.
      split: Of all of them.
      number: From 0, in the layout and split.
      dtypes: numpy type of the digital numbers of each slot.
      planned: The sets.
    """

    layout: Layout
    split: str
    number: int
    dtypes: tuple[str, ...]
    planned: tuple[PlannedSet, ...]

    @property
    def name(self) -> str:
        """Unique in the dataset."""
        return f"{self.layout.name}-{self.split}-{self.number:05d}"


def cut_shards(layout: Layout, planned: Iterable[PlannedSet], dtypes: tuple[str, ...], shard_mib: int) -> Iterator[Shard]:
    """Cuts the plan of a layout into shards.

    Args:
      layout: The layout.
      planned: Its sets, each with a split.
      dtypes: numpy type of the digital numbers of each slot; empty where a slot has no scene, and so no set is planned.
      shard_mib: Pixels of a shard, before compression, in MiB; at least one set.

    Yields:
      Shards of one split each, as soon as one is full.
    """
    most = 1
    if dtypes:
        sizes = (slot.pixels**2 * len(slot.bands) * np.dtype(dtype).itemsize for slot, dtype in zip(layout.slots, dtypes, strict=True))
        most = max(1, shard_mib * _MIB // sum(sizes))
    waiting: dict[str, list[PlannedSet]] = {}
    numbers: dict[str, int] = {}
    for plan in planned:
        assert plan.split is not None
        of_split = waiting.setdefault(plan.split, [])
        of_split.append(plan)
        if len(of_split) == most:
            yield _shard(layout, plan.split, numbers, dtypes, of_split)
    for split, of_split in waiting.items():
        if of_split:
            yield _shard(layout, split, numbers, dtypes, of_split)


def _shard(layout: Layout, split: str, numbers: dict[str, int], dtypes: tuple[str, ...], waiting: list[PlannedSet]) -> Shard:
    number = numbers.get(split, 0)
    numbers[split] = number + 1
    shard = Shard(layout, split, number, dtypes, tuple(waiting))
    waiting.clear()
    return shard


def records_file(folder: epath.Path, name: str) -> epath.Path:
    """The record file of a shard; there is none where no set was kept."""
    return folder / f"{name}.array_record"


def rows_file(folder: epath.Path, name: str) -> epath.Path:
    """The rows of the manifest of a shard."""
    return folder / f"{name}.jsonl"


def write_shard(shard: Shard, folder: epath.Path, config: IngestConfig, strict: bool) -> Tally:
    """Reads the sets of a shard and writes its files.

    Args:
      shard: The shard.
      folder: Where its files go.
      config: Thresholds.
      strict: Whether a scene that cannot be read raises.

    Returns:
      Its sums.

    Raises:
      InputError: A scene cannot be read, where strict.
    """
    rows: list[str] = []
    with ChipReader() as reader:
        maker = ExampleMaker(config, reader, lambda row: rows.append(json.dumps(row) + "\n"), strict)
        write_records(
            records_file(folder, shard.name),
            fields_of(shard.layout, shard.dtypes),
            maker.examples(shard.planned, shard.dtypes),
            order=lambda key: hashlib.md5(f"{shard.split}{key}".encode()).digest(),
        )
    rows_file(folder, shard.name).write_text("".join(rows))
    return maker.tally
