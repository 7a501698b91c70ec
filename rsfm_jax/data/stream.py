"""The endless stream of batches: which layout at which step, which examples, from which position.

Everything is a function of the seed and the step: the layout of a step, and the order of each layout's examples. Each example carries its
global index, its place in its layout's endless stream; with the seed it fixes all randomness of the example, on any number of hosts. This
code leaves jax alone; Grain imports it, without touching a device.
"""

import numpy as np

from rsfm_jax.config import DataConfig
from rsfm_jax.data.batches import Batch, Batches
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout

State = dict[str, dict[str, int]]


def layout_at(layouts: tuple[Layout, ...], weights: np.ndarray, seed: int, step: int) -> Layout:
    """The layout of a step, drawn in proportion to the weights.

    Args:
      layouts: The dataset's layouts.
      weights: Positive weight of each layout, (len(layouts),).
      seed: The run's seed.
      step: The step.

    Returns:
      One of the layouts.
    """
    draw = np.random.Generator(np.random.Philox(key=[seed, step])).random()
    edges = np.cumsum(weights) / np.sum(weights)
    return layouts[min(int(np.searchsorted(edges, draw, side="right")), len(layouts) - 1)]


class BatchStream:
    """Batches of this process's share of each global batch.

    Use as a context manager: it owns reading threads or processes.
    """

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int, process_index: int, process_count: int) -> None:
        """Opens the records of the split 'train'.

        Args:
          dataset: The dataset.
          config: Batch size and reading.
          seed: The run's seed.
          process_index: This process's number.
          process_count: Number of processes.

        Raises:
          InputError: the global batch does not divide by the processes.
        """
        if config.global_batch_size % process_count:
            raise InputError(
                f"config.data.global_batch_size={config.global_batch_size}: must be a multiple of the {process_count} processes"
            )
        self._layouts, self._seed = dataset.layouts, seed
        sets = np.array([dataset.sets[layout.name]["train"] for layout in dataset.layouts], np.float64)
        self._weights = sets**config.layout_balance
        self._records, self._iterators = {}, {}
        for layout in dataset.layouts:
            records = self._records[layout.name] = dataset.source(layout, "train")
            self._iterators[layout.name] = Batches(records, Decoder(dataset, layout), config, seed, process_index, process_count)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        for iterator in self._iterators.values():
            iterator.close()

    def next(self, step: int) -> tuple[Layout, Batch]:
        """Reads the batch of a step; steps must be asked for in order.

        Args:
          step: The step, from 0 or from where `set_state` left off.

        Returns:
          The layout, and ``{"global_index": uint32 (B,), "members": [per slot {pixels, valid, grid_m, time}],
          "place": {geosot, lonlat_deg}}`` with a leading batch dim; see `rsfm_jax.data.decode.Decoder`.
        """
        layout = layout_at(self._layouts, self._weights, self._seed, step)
        return layout, next(self._iterators[layout.name])

    def key(self, layout_name: str, global_index: int) -> str:
        """The key of an image set, for messages."""
        return self._records[layout_name][self.record_number(layout_name, global_index)]["key"].decode()

    def record_number(self, layout_name: str, global_index: int) -> int:
        """Which record of its layout an example is made of."""
        return self._iterators[layout_name].record_number(global_index)

    def get_state(self) -> State:
        """The position after the last batch, the same on every process."""
        return {name: iterator.get_state() for name, iterator in self._iterators.items()}

    def set_state(self, state: State) -> None:
        """Moves to a position that `get_state` returned, on any number of processes.

        Raises:
          InputError: the position is of other layouts.
        """
        if set(state) != set(self._iterators):
            raise InputError(f"the checkpoint's data position is of layouts {sorted(state)}, the dataset has {sorted(self._iterators)}")
        for name, position in state.items():
            self._iterators[name].set_state(position)
