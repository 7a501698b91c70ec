"""Image sets as TFDS records: one builder config for each layout, ArrayRecord files, acquired digital numbers.

A record holds, for slot i: ``pixels_i`` (H, W, C) as acquired, ``valid_i`` the packed valid bits, ``scale_i`` and ``offset_i`` (C,) with
physical = scale * pixel + offset, ``grid_m_i`` (4,) = x of the left edge, y of the upper edge (metres from the set's centre, x east,
y north) and the pixel's width and height, ``time_i`` (3,) = known, year, day of year, and ``scene_i``. The set has ``key``, ``crs``,
``centre_m`` (2,) and ``lonlat_deg`` (4, 2), the footprint's corners.
"""

from collections.abc import Callable, Iterable
import contextlib
import dataclasses
import io
import os
from typing import Any, NoReturn

from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from rsfm_jax.data.dataset import BUILDER_NAME, RECORD_VERSION
from rsfm_jax.layouts import Layout

Example = tuple[str, dict[str, Any]]
WRITER_OPTIONS = "group_size:1"  # every record is read alone


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A record file and how many records it has."""

    file: epath.Path
    records: int


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


def write_records(
    file: epath.Path, described: tfds.features.FeaturesDict, examples: Iterable[Example], order: Callable[[str], Any]
) -> None:
    """Writes a record file, which appears whole or not at all, and not where there is no example.

    Args:
      file: The file.
      described: The record's features.
      examples: Key and record of each; all are held serialised until they are written.
      order: Makes of a key what records are sorted by.
    """
    serializer = ExampleSerializer(described.get_serialized_info())  # pyright: ignore[reportArgumentType] - a dict is such a tree
    made = [
        (order(key), serializer.get_tf_example(described.encode_example(example)).SerializeToString(deterministic=True))
        for key, example in examples
    ]
    if not made:
        return
    unfinished = file.with_name(f"{file.name}.unfinished")
    writer = ArrayRecordWriter(os.fspath(unfinished), WRITER_OPTIONS)
    for _, serialized in sorted(made):
        writer.write(serialized)
    writer.close()
    unfinished.replace(file)


class ImageSets(tfds.core.ShardBasedBuilder):
    """The TFDS dataset of one layout, of record files that are there already."""

    name = BUILDER_NAME
    VERSION = tfds.core.Version(RECORD_VERSION)

    def __init__(self, *, layout: Layout, dtypes: list[str], shards: dict[str, list[WrittenShard]], data_dir: epath.Path) -> None:
        """Prepares to gather.

        Args:
          layout: The layout.
          dtypes: numpy type of the digital numbers of each slot.
          shards: Files of each split, in order; every split has at least one.
          data_dir: Folder for the records of all layouts.
        """
        self._layout, self._dtypes, self._shards = layout, dtypes, shards
        config = tfds.core.BuilderConfig(name=layout.name, version=RECORD_VERSION, description=f"Image sets of layout {layout.name}.")
        super().__init__(config=config, data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features(self._layout, self._dtypes), description="Remote-sensing image sets.")

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        """Moves the files to where TFDS looks for them, and describes the splits."""
        del dl_manager, download_config
        described = []
        for split, shards in self._shards.items():
            template = self._get_filename_template(split_name=split)
            files = [template.sharded_filepath(shard_index=i, num_shards=len(shards)) for i in range(len(shards))]
            for shard, file in zip(shards, files, strict=True):
                shard.file.replace(file)
            size = sum(file.stat().length for file in files)
            lengths = [shard.records for shard in shards]
            described.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template))
        self.info.set_splits(tfds.core.SplitDict(described))

    def _shard_iterators_per_split(self, dl_manager: Any) -> NoReturn:
        raise NotImplementedError("the record files are written before")


def gather_layout(layout: Layout, dtypes: list[str], shards: dict[str, list[WrittenShard]], root: epath.PathLike) -> None:
    """Makes written record files the TFDS dataset of a layout in a dataset folder.

    Args:
      layout: The layout.
      dtypes: numpy type of the digital numbers of each slot.
      shards: Files of each split, in order, which are moved; every split has at least one.
      root: The dataset folder.
    """
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    records = epath.Path(root) / "records"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces downloads that do not happen
            builder = ImageSets(layout=layout, dtypes=dtypes, shards=shards, data_dir=records)
            builder.download_and_prepare()
    finally:
        logging.set_verbosity(verbosity)
    if (records / "downloads").exists():  # an empty folder of TFDS
        (records / "downloads").rmtree()
