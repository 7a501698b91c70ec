"""What became of every image set: the rows of ``manifest.parquet``.

Fields are in docs/curation.md. The file is written part by part as the descriptors are stored, so that it may be larger than memory.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsfm_jax.curate.pool import Source, files
from rsfm_jax.data.curation import MANIFEST_FILE

NOT_DRAWN = "its cluster's quota is filled by others"
NOT_SAMPLED = "not in the random sample"
_WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("dataset", _WORDS),
        ("layout", _WORDS),
        ("split", _WORDS),
        ("record", pa.int64()),
        ("key", pa.string()),
        ("lon_deg", pa.float64()),
        ("lat_deg", pa.float64()),
        ("kept", pa.bool_()),
        ("reason", _WORDS),
        ("cluster", pa.int32()),
        ("exemplar", pa.bool_()),
        ("weight", pa.float64()),
        ("level", pa.int32()),
        ("seed", pa.int64()),
    ]
)


@dataclasses.dataclass
class Outcome:
    """What became of the N training sets of one layout, in the order of their `rsfm_jax.curate.pool.Pool`.

    Attributes:
      kept: bool (N,).
      reason: Why a set is not kept; None where it is.
      cluster: int32 (N,); -1 where rejected, and everywhere in a random sample.
      exemplar: bool (N,).
      weight: float64 (N,); 0 where not kept.
      level: Levels of the hierarchy that a set was an exemplar in, int32 (N,); -1 as `cluster`.
    """

    kept: np.ndarray
    reason: list[str | None]
    cluster: np.ndarray
    exemplar: np.ndarray
    weight: np.ndarray
    level: np.ndarray


def write_manifest(folder: pathlib.Path, sources: list[Source], outcomes: Mapping[str, Outcome], seed: int) -> None:
    """Writes manifest.parquet of a curated folder that holds its descriptors.

    Args:
      folder: The folder.
      sources: Its datasets.
      outcomes: What became of the training sets of each layout.
      seed: Of the draws.
    """
    with pq.ParquetWriter(folder / MANIFEST_FILE, SCHEMA) as writer:
        for name, outcome in outcomes.items():
            at = 0
            for source in sources:
                for split in source.sets.get(name, {}):
                    record = 0
                    for file in files(folder, source, name, split):
                        table = pq.read_table(file, columns=["key", "lon_deg", "lat_deg"])
                        rows = range(at, at + table.num_rows) if split == "train" else None
                        columns = {"dataset": source.digest, "layout": name, "split": split}
                        writer.write_table(_rows(columns, table, record, outcome, rows, seed))
                        record += table.num_rows
                        at += table.num_rows if split == "train" else 0


def _rows(words: Mapping[str, str], described: pa.Table, first: int, outcome: Outcome, rows: range | None, seed: int) -> pa.Table:
    count = described.num_rows
    columns = {name: [word] * count for name, word in words.items()}
    columns |= {name: described[name].combine_chunks() for name in ("key", "lon_deg", "lat_deg")}
    columns |= {"record": np.arange(first, first + count), "seed": np.full(count, seed)}
    if rows is None:  # only training sets are curated
        columns |= {"kept": np.ones(count, bool), "exemplar": np.zeros(count, bool)}
        columns |= {name: pa.nulls(count, SCHEMA.field(name).type) for name in ("reason", "cluster", "weight", "level")}
    else:
        part = slice(rows.start, rows.stop)
        columns |= {"kept": outcome.kept[part], "exemplar": outcome.exemplar[part], "reason": outcome.reason[part]}
        for name, values, known in (
            ("cluster", outcome.cluster, outcome.cluster >= 0),
            ("level", outcome.level, outcome.level >= 0),
            ("weight", outcome.weight, outcome.kept),
        ):
            columns[name] = pa.array(values[part], SCHEMA.field(name).type, mask=~known[part])
    cast = {field.name: _cast(columns[field.name], field.type) for field in SCHEMA}
    return pa.table(cast, schema=SCHEMA)


def _cast(values: Iterable, to: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    return pa.array(values, pa.string()).dictionary_encode().cast(to) if to == _WORDS else pa.array(values, to)


@dataclasses.dataclass(frozen=True)
class Clustered:
    """The clusters of a layout's training sets, as a manifest has them, in the order of the datasets and their records.

    Attributes:
      cluster: int32 (N,); -1 where rejected.
      level: int32 (N,); -1 where rejected.
      exemplars: Row of each cluster's exemplar, int64 (K,).
    """

    cluster: np.ndarray
    level: np.ndarray
    exemplars: np.ndarray


def read_clusters(folder: pathlib.Path, sources: list[Source], layout: str) -> Clustered:
    """Reads the clusters of one layout from a curated folder."""
    wanted = [("layout", "==", layout), ("split", "==", "train")]
    table = pq.read_table(folder / MANIFEST_FILE, columns=["dataset", "record", "cluster", "exemplar", "level"], filters=wanted)
    offsets = np.cumsum([0] + [source.sets.get(layout, {}).get("train", 0) for source in sources])
    first = {source.digest: offset for source, offset in zip(sources, offsets, strict=False)}
    rows = np.array([first[digest] for digest in table["dataset"].to_pylist()], np.int64) + table["record"].to_numpy()
    cluster, level = np.full(offsets[-1], -1, np.int32), np.full(offsets[-1], -1, np.int32)
    cluster[rows] = table["cluster"].fill_null(-1).to_numpy()
    level[rows] = table["level"].fill_null(-1).to_numpy()
    exemplar = np.zeros(offsets[-1], bool)
    exemplar[rows] = table["exemplar"].to_numpy()
    found = np.flatnonzero(exemplar)
    return Clustered(cluster, level, found[np.argsort(cluster[found])])
