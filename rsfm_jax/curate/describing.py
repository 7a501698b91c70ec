"""Records to descriptors, range by range: each range becomes one Parquet file, whoever works it out.

`Describer` is a plain function over a range of records. It runs in this process, or Apache Beam maps it: the files are the same.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import logging
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.descriptors import decode_member, describe
from rsfm_jax.curate.rejections import reject
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout

RANGE_RECORDS = 4096  # in one file
LIMITS = {
    "sun_elevation_deg": (-90.0, 90.0),
    "sun_azimuth_deg": (-360.0, 360.0),
    "off_nadir_deg": (-90.0, 90.0),
    "cloud_percent": (0.0, 100.0),
}
SceneValues = dict[str, dict[str, float]]
Statistics = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Range:
    """Records ``start`` to ``stop`` (not included) of one split of a layout."""

    layout: str
    split: str
    start: int
    stop: int

    @property
    def file(self) -> str:
        """Name of the file of its descriptors."""
        return f"{self.layout}-{self.split}-{self.start:012d}.parquet"


@dataclasses.dataclass(frozen=True)
class Describer:
    """Describes ranges of the records of a dataset.

    Attributes:
      data: The dataset folder.
      scenes: What is known of the scenes, by id; see `read_scene_values`.
      statistics: ``{sensor: {band: {mean, std, ...}}}``, for each layout.
      config: Thresholds.
      out: Folder of the files; every worker must see it.
    """

    data: str
    scenes: SceneValues
    statistics: Mapping[str, Statistics]
    config: CurateConfig
    out: str

    def __call__(self, part: Range) -> None:
        """Writes the file of a range: columns key, lon_deg, lat_deg, reason and descriptor, a row for each record."""
        dataset = _opened(self.data)
        layout = next(layout for layout in dataset.layouts if layout.name == part.layout)
        source = dataset.source(layout, part.split)
        rows = [self._row(layout, source[i]) for i in range(part.start, part.stop)]
        keys, lons, lats, reasons, descriptors = zip(*rows, strict=True)
        values = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(descriptors)), len(descriptors[0]))
        columns = [pa.array(keys), pa.array(lons), pa.array(lats), pa.array(reasons, pa.string()), values]
        table = pa.Table.from_arrays(columns, names=["key", "lon_deg", "lat_deg", "reason", "descriptor"])
        pq.write_table(table, pathlib.Path(self.out) / part.file)

    def _row(self, layout: Layout, record: Mapping[str, Any]) -> tuple[str, float, float, str | None, np.ndarray]:
        scenes = [self.scenes.get(record[f"scene_{i}"].decode(), {}) for i in range(len(layout.slots))]
        members = [decode_member(record, i, scene) for i, scene in enumerate(scenes)]
        lon_deg, lat_deg = record["lonlat_deg"].mean(axis=0)
        statistics = self.statistics[layout.name]
        reason = reject(layout, members, statistics, self.config)
        return record["key"].decode(), float(lon_deg), float(lat_deg), reason, describe(layout, members, statistics)


@functools.lru_cache(maxsize=1)
def _opened(path: str) -> Dataset:
    return open_dataset(path)


def read_scene_values(data: pathlib.Path) -> SceneValues:
    """What a dataset's manifest.jsonl says of sun, view and clouds of its scenes, by scene id; a field that is absent is unknown.

    Raises:
      InputError: no manifest.jsonl, a row of it that is damaged, or a value that is no number in its limits.
    """
    file = data / "manifest.jsonl"
    if not file.is_file():
        raise InputError(f"{file}: is missing; the dataset folder is not whole, ingest again")
    found: SceneValues = {}
    with file.open() as lines:
        for number, line in enumerate(lines, 1):
            if '"kind": "scene"' not in line:
                continue  # there may be millions of sets
            try:
                row = json.loads(line)
                values = {name: row[name] for name in LIMITS if row.get(name) is not None}
                found[row["id"]] = {name: _checked(f"{file}, scene {row['id']!r}", name, value) for name, value in values.items()}
            except (json.JSONDecodeError, KeyError) as error:
                raise InputError(f"{file}, line {number}: is damaged ({error}); ingest again") from None
    return found


def _checked(where: str, name: str, value: Any) -> float:
    low, high = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{where}: {name}={value!r} must be a number from {low:g} to {high:g}")
    return float(value)


def ranges(sets: Mapping[str, Mapping[str, int]], size: int = RANGE_RECORDS) -> list[Range]:
    """Ranges of at most ``size`` records that together are a dataset's ``{layout: {split: count}}``."""
    splits = [(name, split, count) for name, counts in sets.items() for split, count in counts.items()]
    return [Range(name, split, i, min(i + size, count)) for name, split, count in splits for i in range(0, count, size)]


def describe_all(describer: Describer, parts: list[Range], workers: int, beam: Sequence[str]) -> None:
    """Works out all ranges: in this process, or with Apache Beam.

    Args:
      describer: What is done with each.
      parts: The ranges.
      workers: 1 for this process; more are processes of Beam's DirectRunner on this machine.
      beam: Options of another Beam pipeline, as ``--runner=DataflowRunner``; empty for none.

    Raises:
      InputError: Beam is asked for and not installed, or both ways are asked for.
    """
    if workers < 1 or (beam and workers > 1):
        raise InputError(f"--workers={workers}: must be at least 1, and 1 with --beam, whose runner has its own number of workers")
    if workers == 1 and not beam:
        for part in parts:
            describer(part)
        return
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("--workers and --beam need Apache Beam: pip install 'rsfm_jax[beam]'") from None
    here = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    here += ["--default_sdk_harness_log_level=ERROR"]
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    with apache_beam.Pipeline(options=PipelineOptions(list(beam) or here)) as pipeline:
        _ = pipeline | apache_beam.Create(parts, reshuffle=True) | apache_beam.Map(describer)
