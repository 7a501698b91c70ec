"""A dataset folder as ingest wrote it: layouts, statistics, record sources.

Never imports jax: Grain workers import this.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from rsfm_jax.data.curation import Kept, KeptRecords, kept_digest, read_kept
from rsfm_jax.data.records import Records
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot, layout_from_dict

SCHEMA_VERSION = 1  # of dataset.json and of the records; ingest writes it
BUILDER_NAME = "image_sets"
RECORD_VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset folder.

    Attributes:
      path: The folder.
      layouts: Layouts with at least one training set.
      statistics: ``{sensor: {band: {count, mean, std, min, max, unit}}}`` over valid pixels of the training split.
      sets: Number of image sets that are read, ``{layout: {split: count}}``.
      digest: SHA-256 over all records, whatever their order.
      curation: The curated folder that says which training sets are read; empty: all.
      curation_digest: SHA-256 over which those are; empty without a curation.
      kept: The training sets of each layout that are read, with a curation.
    """

    path: epath.Path
    layouts: tuple[Layout, ...]
    statistics: dict[str, dict[str, dict[str, Any]]]
    sets: dict[str, dict[str, int]]
    digest: str
    curation: str = ""
    curation_digest: str = ""
    kept: Mapping[str, Kept] = dataclasses.field(default_factory=dict)

    def source(self, layout: Layout, split: str) -> Sequence[dict[str, Any]]:
        """Random-access records of one split of a layout; of 'train' only those that a curation kept."""
        records = self.records(layout, split)
        return KeptRecords(records, self.kept[layout.name], self.curation) if self.curation and split == "train" else records

    def records(self, layout: Layout, split: str) -> Records:
        """Random-access records of one split of a layout, whatever a curation kept."""
        folder = _records(self.path, layout.name)
        try:
            builder = tfds.builder_from_directory(str(folder))
            features: Any = builder.info.features
            arrays = {name: (feature.np_dtype, feature.shape) for name, feature in features.items() if feature.np_dtype.kind != "O"}
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            source = Records(builder.as_data_source(split=split, deserialize_method=raw), arrays)  # pyright: ignore[reportCallIssue]
            source[len(source) - 1]  # a truncated file opens, and fails here
        except (ValueError, TypeError, OSError, RuntimeError, KeyError, IndexError) as error:
            raise InputError(
                f"{folder}: records of split {split!r} cannot be read ({error}); the folder is damaged, ingest again"
            ) from None
        return source

    def mean_std(self, slot: Slot) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a slot's bands in their units, float64 (C,) each."""
        table = self.statistics[slot.sensor]
        return np.array([table[band]["mean"] for band in slot.bands]), np.array([table[band]["std"] for band in slot.bands])


def _records(path: epath.Path, layout_name: str) -> epath.Path:
    return path / "records" / BUILDER_NAME / layout_name / RECORD_VERSION


def open_dataset(path: str, curation: str = "", named: str = "config.data.path") -> Dataset:
    """Opens a dataset folder.

    Args:
      path: Folder written by ``python -m rsfm_jax.ingest``.
      curation: Folder written by ``python -m rsfm_jax.curate``: only the training sets it kept are read, and only layouts with any. The
        statistics stay those of the whole dataset. Empty: all sets.
      named: What ``path`` was given by, for messages.

    Returns:
      The dataset.

    Raises:
      InputError: no dataset there, one of another schema version, records that are missing, or a curation of another dataset.
    """
    if not path:
        raise InputError(f"{named} is empty: give the folder that rsfm_jax.ingest wrote, {named}=data/run1")
    folder = epath.Path(path)
    if not (folder / "dataset.json").exists():
        raise InputError(f"{named}={path}: no dataset.json there; make the dataset with python -m rsfm_jax.ingest --out={path}")
    try:
        fields = json.loads((folder / "dataset.json").read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{folder / 'dataset.json'}: not valid JSON ({error}); ingest again") from None
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{folder / 'dataset.json'}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; "
            "ingest the scenes again with this version"
        )
    try:
        layouts = tuple(layout_from_dict({k: v for k, v in layout.items() if k != "dtypes"}) for layout in fields["layouts"])
        dataset = Dataset(folder, layouts, fields["statistics"], fields["sets"], fields["digest"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'dataset.json'}: is not whole ({type(error).__name__}: {error}); ingest again") from None
    for layout in layouts:
        if not (_records(folder, layout.name) / "dataset_info.json").exists():
            raise InputError(f"{folder}: the records of layout {layout.name!r} are missing; the folder is not whole, ingest again")
    return _curated(dataset, curation) if curation else dataset


def _curated(dataset: Dataset, curation: str) -> Dataset:
    kept = read_kept(epath.Path(curation), dataset.digest, dataset.sets)
    return dataclasses.replace(
        dataset,
        layouts=tuple(layout for layout in dataset.layouts if layout.name in kept),
        sets={name: {**counts, "train": len(kept[name].record) if name in kept else 0} for name, counts in dataset.sets.items()},
        curation=curation,
        curation_digest=kept_digest(kept),
        kept=kept,
    )
