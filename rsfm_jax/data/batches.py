"""One layout's endless batches, sliced to this process's share, made by threads or by processes of their own.

The positions and shares are those of `grain.experimental.ElasticIterator`: the state is the global index of the next example and nothing
else, so it fits any number of hosts and readers. That iterator stacks finished examples; this one hands the numbers of a batch's records
to the decoder, which writes each example to its place as it is read. It saves a copy of every batch, and holds one record at a time.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags
import grain.python as grain
import numpy as np

from rsfm_jax.config import DataConfig
from rsfm_jax.data.decode import Decoder

Batch = dict[str, Any]
_NEXT = "global_next_index"


class Batches:
    """An endless iterator over the batches of one layout."""

    def __init__(
        self, records: Sequence[dict[str, Any]], decoder: Decoder, config: DataConfig, seed: int, process_index: int, process_count: int
    ) -> None:
        """Sets out from the first example; nothing is read yet.

        Args:
          records: Of the layout.
          decoder: Of the layout.
          config: Batch size, a multiple of ``process_count``, and how to read.
          seed: Of the order.
          process_index: This process's number.
          process_count: Number of processes.
        """
        order = grain.MapDataset.range(len(records)).seed(seed).shuffle().repeat()
        self._order, self._numbers = order, order.map_with_index(_numbered)
        self._make, self._config = _Make(records, decoder), config
        self._index, self._count, self._next = process_index, process_count, 0
        self._iterator: grain.DatasetIterator | None = None

    def record_number(self, global_index: int) -> int:
        """Which record an example is made of."""
        number: Any = self._order[global_index]
        return int(number)

    def _open(self) -> grain.DatasetIterator:
        config = self._config
        numbers = self._numbers[self._next + self._index :: self._count]
        batches = numbers.batch(config.global_batch_size // self._count, drop_remainder=True).map(self._make)
        ahead = max(config.prefetch_batches, config.read_threads)  # Grain counts what it prefetches in batches here
        made = batches.to_iter_dataset(grain.ReadOptions(num_threads=config.read_threads, prefetch_buffer_size=ahead))
        if config.read_processes:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain reads its own flags when it starts processes
            made = made.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.read_processes))
        return iter(made)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._open()
        batch = next(self._iterator)
        self._next += self._config.global_batch_size
        return batch

    def get_state(self) -> dict[str, int]:
        """The position after the last batch."""
        return {_NEXT: self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Moves to a position that `get_state` returned."""
        self.close()
        self._next = state[_NEXT]

    def close(self) -> None:
        """Ends the readers; the next batch starts new ones."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def _numbered(index: int, record: int) -> dict[str, Any]:
    return {"global_index": np.uint32(index), "record": np.int64(record)}


class _Make:
    """Reads and decodes the records of a batch."""

    def __init__(self, records: Sequence[dict[str, Any]], decoder: Decoder) -> None:
        self._records, self._decoder = records, decoder

    def __call__(self, numbers: dict[str, np.ndarray]) -> Batch:
        records = (self._records[int(number)] for number in numbers["record"])
        return {"global_index": numbers["global_index"]} | self._decoder.batch(records, len(numbers["record"]))
