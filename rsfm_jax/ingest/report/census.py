"""What a manifest says, line by line: counts, reasons, dates and a sample of footprints, in memory that does not grow with the sets."""

from collections import Counter, defaultdict
from collections.abc import Iterator
import dataclasses
import datetime
import json
import pathlib
import random
from typing import Any, Generic, TypeVar

import numpy as np

from rsfm_jax.errors import InputError

REJECTED = "rejected"
_EXAMPLES = 5  # scene ids named for a reason
Item = TypeVar("Item")


class Reservoir(Generic[Item]):
    """A uniform sample of a stream of unknown length.

    Attributes:
      items: The sample.
      seen: How many went by.

    Source: Vitter (1985), Random sampling with a reservoir, algorithm R.
    """

    def __init__(self, size: int, seed: int) -> None:
        """Starts empty.

        Args:
          size: Most items kept.
          seed: Of the draw.
        """
        self._size, self._random = size, random.Random(seed)
        self.items: list[Item] = []
        self.seen = 0

    def add(self, item: Item) -> None:
        """Lets one item go by, which may stay."""
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
        elif (place := self._random.randrange(self.seen)) < self._size:
            self.items[place] = item


@dataclasses.dataclass
class Census:
    """Counts of a manifest.

    Attributes:
      sets: Kept sets, ``{layout: {split: count}}``.
      rejected: Rejected sets, ``{layout: {reason: count}}``.
      scenes: Scenes by sensor.
      unused: Scenes that no set uses, by sensor and reason.
      unused_ids: The first ids of each of those.
      days: Dated scenes, ``{sensor: {day: count}}``.
      undated: Scenes without a date, by sensor.
      footprints: By split, or `REJECTED`, a sample of footprints, float64 (4, 2) each, longitude and latitude in degrees.
      unplaced: Rejected sets whose rows have no footprint.
      left: Products that cannot be read and files that were not recognised, by kind.
      left_lines: The first lines about each of those.
    """

    footprints: dict[str, Reservoir[np.ndarray]]
    sets: dict[str, Counter[str]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    rejected: dict[str, Counter[str]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    scenes: Counter[str] = dataclasses.field(default_factory=Counter)
    unused: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    unused_ids: dict[tuple[str, str], list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    days: dict[str, Counter[datetime.date]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    undated: Counter[str] = dataclasses.field(default_factory=Counter)
    unplaced: int = 0
    left: Counter[str] = dataclasses.field(default_factory=Counter)
    left_lines: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))

    def add_scene(self, row: dict[str, Any]) -> None:
        """Counts a row of kind ``scene``."""
        sensor, acquired = row["sensor"], row["acquired_utc"]
        self.scenes[sensor] += 1
        if acquired == "unknown":
            self.undated[sensor] += 1
        else:
            self.days[sensor][datetime.datetime.fromisoformat(acquired).date()] += 1
        if not row["sets"]:
            why = (sensor, str(row["reason"]))
            self.unused[why] += 1
            if len(self.unused_ids[why]) < _EXAMPLES:
                self.unused_ids[why].append(row["id"])

    def add_set(self, row: dict[str, Any]) -> None:
        """Counts a row of kind ``set``."""
        if row["kept"]:
            self.sets[row["layout"]][row["split"]] += 1
        else:
            self.rejected[row["layout"]][row["reason"]] += 1
        group = row["split"] if row["kept"] else REJECTED
        if "lonlat_deg" in row:
            self.footprints[group].add(np.array(row["lonlat_deg"], np.float64).reshape(4, 2))
        elif row["kept"]:
            raise KeyError("lonlat_deg")
        else:
            self.unplaced += 1

    def add_left(self, row: dict[str, Any]) -> None:
        """Counts a row of kind ``product`` or ``file``."""
        kind = f"{row['kind']}: {row['reason']}"
        self.left[kind] += 1
        if len(self.left_lines[kind]) < _EXAMPLES:
            self.left_lines[kind].append(row["error"])


def take_census(manifest: pathlib.Path, most_footprints: int, seed: int) -> Census:
    """Reads a manifest once.

    Args:
      manifest: A dataset's ``manifest.jsonl``.
      most_footprints: Kept of each split, and of the rejected sets.
      seed: Of the draw of footprints.

    Returns:
      The census.

    Raises:
      InputError: the file is missing, or a line is no row of a manifest.
    """
    groups = ("train", "val", REJECTED)
    census = Census({group: Reservoir(most_footprints, seed + i) for i, group in enumerate(groups)})
    for number, line in _lines(manifest):
        try:
            row = json.loads(line)
            add = {"scene": census.add_scene, "set": census.add_set, "product": census.add_left, "file": census.add_left}[row["kind"]]
            add(row)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{manifest}, line {number}: is no row of a manifest ({type(error).__name__}: {error}); the folder is damaged, ingest again"
            ) from None
    return census


def check_counts(census: Census, summary: dict[str, Any], manifest: pathlib.Path) -> None:
    """Raises `InputError` where a manifest's counts of sets are not those of ``dataset.json``."""
    for name, counted in (("sets", census.sets), ("rejected", census.rejected)):
        for layout in {*summary[name], *counted}:
            stated, found = summary[name].get(layout, {}), dict(counted.get(layout, {}))
            if stated != found:
                raise InputError(
                    f"{manifest}: has {found or 'none'} of the {name} of layout {layout!r}, dataset.json says {stated or 'none'}; "
                    "the folder is damaged, ingest again"
                )


def _lines(manifest: pathlib.Path) -> Iterator[tuple[int, str]]:
    try:
        with manifest.open(encoding="utf-8") as file:
            yield from enumerate(file, 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); the folder is not whole, ingest again") from None
