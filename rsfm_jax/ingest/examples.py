"""Planned sets to records: pixels read, judged, entered in the manifest and in the statistics."""

from collections.abc import Iterator
import hashlib
from typing import Any

import numpy as np

from rsfm_jax.config import IngestConfig
from rsfm_jax.geo import year_and_day
from rsfm_jax.ingest.builder import Example
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.manifest import Ledger, crs_name, member_row
from rsfm_jax.ingest.sets import Member, PlannedSet
from rsfm_jax.ingest.statistics import RangeCheck, Statistics


class ExampleMaker:
    """Makes the records of a dataset, in one pass over the pixels.

    Attributes:
      ledger: What happened to every set.
      statistics: Of the split 'train'.
      ranges: Whether values are in their bands' units.
      digests: One for each record, over its content and split.
    """

    def __init__(self, config: IngestConfig, reader: ChipReader) -> None:
        """Starts empty.

        Args:
          config: Thresholds.
          reader: Reads the chips.
        """
        self._config, self._reader = config, reader
        self.ledger, self.statistics, self.ranges = Ledger(), Statistics(), RangeCheck()
        self.digests: list[str] = []

    def examples(self, planned: list[PlannedSet], dtypes: list[str]) -> Iterator[Example]:
        """Reads planned sets of one layout and split.

        Args:
          planned: The sets.
          dtypes: numpy type of the digital numbers of each slot.

        Yields:
          Key and record of every set that is kept.
        """
        for plan in planned:
            chips = [self._read(plan, member) for member in plan.members]
            row = {
                "layout": plan.layout.name,
                "key": plan.key,
                "split": plan.split,
                "members": [member_row(member) for member in plan.members],
                "lonlat_deg": plan.footprint_deg.round(7).tolist(),
            }
            shares = [float(valid_HWC.mean()) for _, valid_HWC in chips]
            if min(shares) < self._config.min_valid_share:
                reason = f"a member has less than {self._config.min_valid_share:g} valid pixels"
                self.ledger.add("set", **row, kept=False, reason=reason, valid_shares=shares)
                continue
            chips = [(dn_HWC.astype(dtype, copy=False), valid_HWC) for (dn_HWC, valid_HWC), dtype in zip(chips, dtypes, strict=True)]
            example = _example(plan, chips)
            self.ledger.add("set", **row, kept=True)
            self.digests.append(_digest(example, plan.split))
            self._measure(plan, example, chips)
            yield plan.key, example

    def _measure(self, plan: PlannedSet, example: dict[str, Any], chips: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for i, (member, (dn_HWC, valid_HWC)) in enumerate(zip(plan.members, chips, strict=True)):
            physical_HWC = example[f"scale_{i}"] * dn_HWC.astype(np.float64) + example[f"offset_{i}"]
            for c, name in enumerate(member.slot.bands):
                self.ranges.add(member.scene.scene.id, member.scene.bands[name].source.band, physical_HWC[..., c][valid_HWC[..., c]])
            if plan.split == "train":
                self.statistics.add_chip(member.slot.sensor, tuple(member.slot.bands), physical_HWC, valid_HWC)

    def _read(self, plan: PlannedSet, member: Member) -> tuple[np.ndarray, np.ndarray]:
        slot = member.slot
        if member.window is not None:
            return self._reader.read_window(member.scene, slot.bands, *member.window, slot.pixels)
        return self._reader.read_resampled(member.scene, slot.bands, plan.crs, member.rect, slot.pixels, slot.resample)


def _example(plan: PlannedSet, chips: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    x, y = plan.members[0].rect.centre
    example: dict[str, Any] = {
        "key": plan.key,
        "crs": crs_name(plan.crs),
        "centre_m": np.array([x, y]),
        "lonlat_deg": plan.footprint_deg,
    }
    for i, (member, (dn_HWC, valid_HWC)) in enumerate(zip(plan.members, chips, strict=True)):
        rect, pixels, rasters = member.rect, member.slot.pixels, [member.scene.bands[name] for name in member.slot.bands]
        example |= {
            f"pixels_{i}": dn_HWC,
            f"valid_{i}": np.packbits(valid_HWC),
            f"scale_{i}": np.array([raster.scale for raster in rasters]),
            f"offset_{i}": np.array([raster.offset for raster in rasters]),
            f"grid_m_{i}": np.array([rect.left - x, rect.top - y, rect.width_m / pixels, rect.height_m / pixels]),
            f"time_{i}": np.array(year_and_day(member.scene.scene.acquired_utc)),
            f"scene_{i}": member.scene.scene.id,
        }
    return example


def _digest(example: dict[str, Any], split: str | None) -> str:
    digest = hashlib.sha256(str(split).encode())
    for name in sorted(example):
        value = example[name]
        digest.update(name.encode() + (value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes()))
    return digest.hexdigest()
