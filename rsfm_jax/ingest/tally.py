"""What happened to scenes and image sets, in sums that add up whatever way the work was cut."""

from collections import Counter
import dataclasses
from typing import Any

from rsfm_jax.ingest.statistics import RangeCheck, Statistics


@dataclasses.dataclass
class Tally:
    """Sums over image sets of one or many shards.

    Attributes:
      kept: Sets kept, by (layout, split).
      rejected: Sets rejected, by (layout, reason).
      left_out: Scenes, places and sets that did not come to a row, by (layout, reason).
      used: Kept sets that a scene is in, by scene id.
      unreadable: What went wrong when pixels of a scene were read, by scene id.
      statistics: Of the split 'train'.
      ranges: Whether values are in their bands' units.
      planned: Keys of planned sets, where only some are to be kept.
      digests: One for each record, over its content and split.
    """

    kept: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    used: Counter[str] = dataclasses.field(default_factory=Counter)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    statistics: Statistics = dataclasses.field(default_factory=Statistics)
    ranges: RangeCheck = dataclasses.field(default_factory=RangeCheck)
    planned: set[str] = dataclasses.field(default_factory=set)
    digests: list[bytes] = dataclasses.field(default_factory=list)

    def add_set(self, row: dict[str, Any]) -> None:
        """Counts an image set by its row of the manifest."""
        if row["kept"]:
            self.kept[row["layout"], row["split"]] += 1
            self.used.update({member[part] for member in row["members"] for part in ("scene", "minus") if part in member})
        else:
            self.rejected[row["layout"], row["reason"]] += 1

    def merge(self, other: "Tally") -> None:
        """Adds the sums of another; statistics are exact to rounding, which depends on the order of merging."""
        self.kept += other.kept
        self.rejected += other.rejected
        self.left_out += other.left_out
        self.used += other.used
        self.unreadable = other.unreadable | self.unreadable
        self.statistics.merge(other.statistics)
        self.ranges.merge(other.ranges)
        self.digests += other.digests

    def counts(self, layout: str) -> dict[str, int]:
        """Kept sets of a layout by split."""
        return {split: count for (name, split), count in self.kept.items() if name == layout}

    def rejections(self, layout: str) -> dict[str, int]:
        """Rejected sets of a layout by reason."""
        return {reason: count for (name, reason), count in self.rejected.items() if name == layout}

    def missed(self, layout: str) -> dict[str, int]:
        """What of a layout did not come to a row, by reason."""
        return {reason: count for (name, reason), count in sorted(self.left_out.items()) if name == layout}
