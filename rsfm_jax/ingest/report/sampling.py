"""Some records of a dataset, drawn by seed: histograms of their values, their dates and where they lie.

Legend: H W pixels, C bands, T members, R drawn records.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import Any

from google.protobuf.message import DecodeError
import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.statistics import BandStatistics
from rsfm_jax.layouts import Layout
from rsfm_jax.sensors import Band, get_sensor

BINS = 60  # at most, of a histogram
REACH_STD = 4.0  # standard deviations of the training split that a histogram reaches from its mean


@dataclasses.dataclass
class BandValues:
    """Values of one band in the drawn records.

    Attributes:
      band: The band.
      edges: Edges of the bins, float64 (bins + 1,), in the band's unit.
      counts: Valid values in each bin, int64 (bins,).
      statistics: Mean, spread and extremes of all valid values.
      below: Valid values below the first bin.
      pixels: Pixels seen, valid or not.
      outside: Valid values outside the band's valid range.
    """

    band: Band
    edges: np.ndarray
    counts: np.ndarray
    statistics: BandStatistics = dataclasses.field(default_factory=BandStatistics)
    below: int = 0
    pixels: int = 0
    outside: int = 0

    def add(self, values_HW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Adds one image of the band, in its unit."""
        values = values_HW[valid_HW]
        low, high = self.band.valid_range
        self.pixels += values_HW.size
        self.outside += int(((values < low) | (values > high)).sum())
        self.counts += np.histogram(values, self.edges)[0]
        self.below += int((values < self.edges[0]).sum())
        self.statistics.add(values)

    @property
    def valid_share(self) -> float:
        """Valid share of the pixels."""
        return self.statistics.count / self.pixels

    @property
    def outside_share(self) -> float:
        """Share of the valid values that lie outside the band's valid range; NaN where none is valid."""
        return self.outside / self.statistics.count if self.statistics.count else math.nan

    @property
    def undrawn_share(self) -> float:
        """Share of the valid values that lie in no bin; NaN where none is valid."""
        return 1 - int(self.counts.sum()) / self.statistics.count if self.statistics.count else math.nan

    def percentiles(self, ranks: Sequence[float]) -> np.ndarray:
        """Percentiles of the valid values, to within a bin; those that lie in no bin are at the first or the last edge."""
        known = self.below + np.concatenate([[0], np.cumsum(self.counts)])
        return np.interp(np.asarray(ranks) / 100 * self.statistics.count, known, self.edges)


def bin_edges(known: dict[str, Any], scale: float, offset: float, integer: bool) -> np.ndarray:
    """Edges of equal bins around the mean, as far as values go.

    Args:
      known: The band's ``mean``, ``std``, ``min`` and ``max`` in its unit.
      scale: Physical value of one digital number.
      offset: Physical value of the digital number 0.
      integer: Whether digital numbers are whole: each bin then holds as many of them as any other.

    Returns:
      float64 (bins + 1,), at most `BINS` + 2 edges.
    """
    low = max(known["min"], known["mean"] - REACH_STD * known["std"])
    high = min(known["max"], known["mean"] + REACH_STD * known["std"])
    if not integer:
        return np.linspace(low, high, BINS + 1)
    step = abs(scale)
    start = offset + scale * round((low - offset) / scale) - step / 2
    width = step * math.ceil((high - low) / step / BINS)
    return start + width * np.arange(math.ceil((high - start) / width) + 1)


@dataclasses.dataclass
class Drawn:
    """The drawn records of one layout.

    Attributes:
      layout: The layout.
      places: Split and number of each record.
      centres_deg: Longitude and latitude of their centres, float64 (R, 2).
      times: Known, year and day of the year of their members, float64 (R, T, 3).
    """

    layout: Layout
    places: list[tuple[str, int]]
    centres_deg: np.ndarray
    times: np.ndarray


def member_values(record: dict[str, Any], i: int) -> tuple[np.ndarray, np.ndarray]:
    """One member of a record.

    Args:
      record: As `rsfm_jax.ingest.builder` wrote it.
      i: Its slot.

    Returns:
      Values in the bands' units, float64 (H, W, C), whatever they are where not valid; and valid bool (H, W, C).
    """
    dn_HWC = record[f"pixels_{i}"]
    valid_HWC = np.unpackbits(record[f"valid_{i}"], count=dn_HWC.size).reshape(dn_HWC.shape).astype(bool)
    return record[f"scale_{i}"] * dn_HWC.astype(np.float64) + record[f"offset_{i}"], valid_HWC


def read_record(dataset: Dataset, layout: Layout, source: Sequence[dict[str, Any]], split: str, number: int) -> dict[str, Any]:
    """One record of a source of ``dataset.source(layout, split)``; raises `InputError` when it is damaged."""
    try:
        return source[number]
    except (DecodeError, ValueError, TypeError, OSError, RuntimeError, KeyError, IndexError) as error:
        raise InputError(
            f"{dataset.path}: record {number} of layout {layout.name!r}, split {split!r}, cannot be read ({error}); "
            "the folder is damaged, ingest again"
        ) from None


def _drawn_records(dataset: Dataset, layout: Layout, most: int, seed: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Draws records of all splits alike, without repetition, and reads them in order."""
    counts = dataset.sets[layout.name]
    total = sum(counts.values())
    numbers = np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))
    first = 0
    for split, count in counts.items():
        source = dataset.source(layout, split)
        if len(source) != count:
            raise InputError(
                f"{dataset.path}: layout {layout.name!r} has {len(source)} records in split {split!r}, dataset.json says {count}; "
                "the folder is damaged, ingest again"
            )
        for number in (numbers[(numbers >= first) & (numbers < first + count)] - first).tolist():
            yield split, number, read_record(dataset, layout, source, split, number)
        first += count


def draw(dataset: Dataset, layout: Layout, values: dict[tuple[str, str], BandValues], most: int, seed: int) -> Drawn:
    """Draws records of one layout and measures them.

    Args:
      dataset: The dataset.
      layout: The layout.
      values: By sensor and band; the records' values are added.
      most: Records drawn at most.
      seed: Of the draw.

    Returns:
      Where and when the drawn records are.

    Raises:
      InputError: damaged records.
    """
    places, centres, times = [], [], []
    for split, number, record in _drawn_records(dataset, layout, most, seed):
        places.append((split, number))
        centres.append(record["lonlat_deg"].mean(axis=0))
        times.append([record[f"time_{i}"] for i in range(len(layout.slots))])
        for i, slot in enumerate(layout.slots):
            values_HWC, valid_HWC = member_values(record, i)
            for c, name in enumerate(slot.bands):
                if (slot.sensor, name) not in values:
                    integer = np.issubdtype(record[f"pixels_{i}"].dtype, np.integer)
                    known = dataset.statistics[slot.sensor][name]
                    edges = bin_edges(known, record[f"scale_{i}"][c], record[f"offset_{i}"][c], integer)
                    counts = np.zeros(len(edges) - 1, np.int64)
                    values[slot.sensor, name] = BandValues(get_sensor(slot.sensor).band(name), edges, counts)
                values[slot.sensor, name].add(values_HWC[..., c], valid_HWC[..., c])
    return Drawn(layout, places, np.array(centres), np.array(times))


def spread(centres_deg: np.ndarray, most: int) -> list[int]:
    """Places far from each other: the first, then always the one that is farthest from those chosen.

    Args:
      centres_deg: Longitude and latitude, float64 (R, 2).
      most: Chosen at most.

    Returns:
      Row numbers.

    Source: Gonzalez (1985), Clustering to minimize the maximum intercluster distance.
    """
    lon, lat = np.radians(centres_deg).T
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    chosen = [0]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < min(most, len(points)):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(axis=-1))
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return chosen
