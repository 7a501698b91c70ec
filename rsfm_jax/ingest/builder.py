"""Record files that have been written, gathered into a TFDS dataset: one builder config for each layout."""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
from typing import Any, NoReturn

from absl import logging
from etils import epath
import tensorflow_datasets as tfds

from rsfm_jax.data.dataset import BUILDER_NAME, RECORD_VERSION
from rsfm_jax.ingest.records import fields_of
from rsfm_jax.layouts import Layout


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A record file and how many records it has."""

    file: epath.Path
    records: int


def features(layout: Layout, dtypes: Sequence[str]) -> tfds.features.FeaturesDict:
    """What TFDS is told of a record.

    Args:
      layout: The layout.
      dtypes: numpy type of the digital numbers of each slot.

    Returns:
      TFDS features with fixed shapes.
    """
    named: dict[str, Any] = {}
    for name, field in fields_of(layout, dtypes).items():
        named[name] = tfds.features.Tensor(shape=field[1], dtype=field[0], encoding="bytes") if field else tfds.features.Text()
    return tfds.features.FeaturesDict(named)


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
