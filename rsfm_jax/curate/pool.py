"""All training sets of one layout, over the datasets of a curation: their descriptors, and where each is found.

A curated folder keeps the descriptors of every dataset in ``descriptors/DIGEST/``, so that more can be added to it without the pixels.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow.parquet as pq

FOLDER = "descriptors"


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset of a curation.

    Attributes:
      path: Where it is, or was when it was curated.
      digest: Its digest.
      sets: Its image sets, ``{layout: {split: count}}``.
    """

    path: str
    digest: str
    sets: dict[str, dict[str, int]]


@dataclasses.dataclass
class Pool:
    """The training sets of one layout; those of the first dataset come first, each in the order of its records.

    Legend: N image sets, F entries of a descriptor.

    Attributes:
      source: Number of each set's dataset, int32 (N,).
      record: Its index among the dataset's records, int64 (N,).
      lonlat_deg: Its centre, float64 (N, 2).
      reason: Why it is rejected, or None; N of them.
      descriptors: float32 (N, F), the one large array.
    """

    source: np.ndarray
    record: np.ndarray
    lonlat_deg: np.ndarray
    reason: list[str | None]
    descriptors: np.ndarray

    @property
    def candidates(self) -> np.ndarray:
        """Rows that are not rejected, int64."""
        return np.flatnonzero([reason is None for reason in self.reason])


def files(folder: pathlib.Path, source: Source, layout: str, split: str) -> list[pathlib.Path]:
    """The files of descriptors of one split of a layout, in the order of its records."""
    return sorted((folder / FOLDER / source.digest).glob(f"{layout}-{split}-*.parquet"))


def read_pool(folder: pathlib.Path, sources: list[Source], layout: str, width: int) -> Pool:
    """Reads the descriptors of a layout's training sets.

    Args:
      folder: The curated folder, or the one that is becoming it.
      sources: Its datasets.
      layout: Name of the layout.
      width: Entries of its descriptors.

    Returns:
      The sets.
    """
    counts = [source.sets.get(layout, {}).get("train", 0) for source in sources]
    total = sum(counts)
    number = np.repeat(np.arange(len(sources), dtype=np.int32), counts)
    record = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    found = Pool(number, record, np.empty((total, 2)), [], np.empty((total, width), np.float32))
    at = 0
    for file in (file for source in sources for file in files(folder, source, layout, "train")):
        table = pq.read_table(file, columns=["lon_deg", "lat_deg", "reason", "descriptor"])
        to = at + table.num_rows
        found.lonlat_deg[at:to] = np.stack([table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy()], axis=1)
        found.descriptors[at:to] = table["descriptor"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        found.reason += table["reason"].to_pylist()
        at = to
    return found


def count_candidates(folder: pathlib.Path, sources: list[Source], layout: str) -> int:
    """How many training sets of a layout are not rejected."""
    found = [file for source in sources for file in files(folder, source, layout, "train")]
    return sum(pq.read_table(file, columns=["reason"])["reason"].null_count for file in found)
