"""Image sets as TFDS records: one builder config for each layout, ArrayRecord files, acquired digital numbers.

A record holds, for slot i: ``pixels_i`` (H, W, C) as acquired, ``valid_i`` the packed valid bits, ``scale_i`` and ``offset_i`` (C,) with
physical = scale * pixel + offset, ``grid_m_i`` (4,) = x of the left edge, y of the upper edge (metres from the set's centre, x east,
y north) and the pixel's width and height, ``time_i`` (3,) = known, year, day of year, and ``scene_i``. The set has ``key``, ``crs``,
``centre_m`` (2,) and ``lonlat_deg`` (4, 2), the footprint's corners.
"""

from collections.abc import Iterable, Iterator
import contextlib
import io
import pathlib
import shutil
from typing import Any

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from rsfm_jax.data.dataset import BUILDER_NAME, RECORD_VERSION
from rsfm_jax.layouts import Layout

Example = tuple[str, dict[str, Any]]


def features(layout: Layout, dtypes: list[str]) -> tfds.features.FeaturesDict:
    """The record's features.

    Args:
      layout: The layout.
      dtypes: numpy type of the digital numbers of each slot.

    Returns:
      TFDS features with fixed shapes.
    """
    named: dict[str, Any] = {
        "key": tfds.features.Text(),
        "crs": tfds.features.Text(),
        "centre_m": _tensor((2,), "float64"),
        "lonlat_deg": _tensor((4, 2), "float64"),
    }
    for i, (slot, dtype) in enumerate(zip(layout.slots, dtypes, strict=True)):
        shape = (slot.pixels, slot.pixels, len(slot.bands))
        named |= {
            f"pixels_{i}": _tensor(shape, dtype),
            f"valid_{i}": _tensor(((int(np.prod(shape)) + 7) // 8,), "uint8"),
            f"scale_{i}": _tensor((shape[-1],), "float64"),
            f"offset_{i}": _tensor((shape[-1],), "float64"),
            f"grid_m_{i}": _tensor((4,), "float64"),
            f"time_{i}": _tensor((3,), "float64"),
            f"scene_{i}": tfds.features.Text(),
        }
    return tfds.features.FeaturesDict(named)


def _tensor(shape: tuple[int, ...], dtype: str) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")


class ImageSets(tfds.core.GeneratorBasedBuilder):
    """Writes the records of one layout."""

    name = BUILDER_NAME
    VERSION = tfds.core.Version(RECORD_VERSION)

    def __init__(self, *, layout: Layout, dtypes: list[str], splits: dict[str, Iterable[Example]], data_dir: pathlib.Path) -> None:
        """Prepares to write.

        Args:
          layout: The layout.
          dtypes: numpy type of the digital numbers of each slot.
          splits: Keyed examples of each split; every split has at least one.
          data_dir: Folder for the records of all layouts.
        """
        self._layout, self._dtypes, self._splits = layout, dtypes, splits
        config = tfds.core.BuilderConfig(name=layout.name, version=RECORD_VERSION, description=f"Image sets of layout {layout.name}.")
        super().__init__(config=config, data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features(self._layout, self._dtypes), description="Remote-sensing image sets.")

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        del dl_manager
        return {split: self._generate_examples(examples) for split, examples in self._splits.items()}

    def _generate_examples(self, examples: Iterable[Example]) -> Iterator[Example]:
        yield from examples


def write_layout(layout: Layout, dtypes: list[str], splits: dict[str, Iterable[Example]], root: pathlib.Path) -> None:
    """Writes the records of one layout into a dataset folder.

    Args:
      layout: The layout.
      dtypes: numpy type of the digital numbers of each slot.
      splits: Keyed examples of each split; every split has at least one.
      root: The dataset folder.
    """
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces downloads that do not happen
            builder = ImageSets(layout=layout, dtypes=dtypes, splits=splits, data_dir=root / "records")
            builder.download_and_prepare()
    finally:
        logging.set_verbosity(verbosity)
    shutil.rmtree(root / "records" / "downloads", ignore_errors=True)  # an empty folder of TFDS
