"""Planned sets to records: pixels read, judged, entered in the manifest and in the sums."""

from collections.abc import Callable, Iterator
import hashlib
from typing import Any

import numpy as np

from rsfm_jax.config import IngestConfig
from rsfm_jax.errors import InputError
from rsfm_jax.geo import year_and_day
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.heights import read_height
from rsfm_jax.ingest.manifest import crs_name, set_row
from rsfm_jax.ingest.records import Example
from rsfm_jax.ingest.sets import Member, PlannedSet
from rsfm_jax.ingest.statistics import RangeCheck, band_values, measured
from rsfm_jax.ingest.tally import Tally
from rsfm_jax.sensors import get_sensor

UNREADABLE = "a scene cannot be read"


class ExampleMaker:
    """Makes the records of planned sets, in one pass over the pixels.

    Attributes:
      tally: Sums over what was made.
    """

    def __init__(self, config: IngestConfig, reader: ChipReader, note: Callable[[dict[str, Any]], None], strict: bool) -> None:
        """Starts empty.

        Args:
          config: Thresholds.
          reader: Reads the chips.
          note: Takes the manifest's row of every set.
          strict: Whether a scene that cannot be read raises; else the sets with it are rejected.
        """
        self._config, self._reader, self._note, self._strict = config, reader, note, strict
        self.tally = Tally()

    def examples(self, planned: tuple[PlannedSet, ...], dtypes: tuple[str, ...]) -> Iterator[Example]:
        """Reads planned sets of one layout and split.

        Args:
          planned: The sets.
          dtypes: numpy type of the digital numbers of each slot.

        Yields:
          Key and record of every set that is kept.

        Raises:
          InputError: A scene cannot be read, where strict.
        """
        for plan in planned:
            row, chips = self._judge(plan)
            self._note(row)
            self.tally.add_set(row)
            if row["kept"]:
                chips = [(dn_HWC.astype(dtype, copy=False), valid_HWC) for (dn_HWC, valid_HWC), dtype in zip(chips, dtypes, strict=True)]
                example = _example(plan, chips)
                self.tally.digests.append(_digest(example, plan.split))
                self._measure(plan, example, chips)
                yield plan.key, example

    def _judge(self, plan: PlannedSet) -> tuple[dict[str, Any], list[tuple[np.ndarray, np.ndarray]]]:
        """The row of a set, and its chips."""
        chips = []
        for member in plan.members:
            try:
                chips.append(self._read(plan, member))
            except InputError as error:
                if self._strict:
                    raise
                self.tally.unreadable.setdefault(member.scene.scene.id, str(error))
                return set_row(plan, reason=UNREADABLE, error=str(error)), []
        shares = [float(valid_HWC.mean()) for _, valid_HWC in chips]
        if min(shares) < self._config.min_valid_share:
            return set_row(plan, reason=f"a member has less than {self._config.min_valid_share:g} valid pixels", valid_shares=shares), []
        return set_row(plan), chips

    def _measure(self, plan: PlannedSet, example: dict[str, Any], chips: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for i, (member, (dn_HWC, valid_HWC)) in enumerate(zip(plan.members, chips, strict=True)):
            for c, name in enumerate(member.slot.bands):
                pixels = dn_HWC[..., c], valid_HWC[..., c], float(example[f"scale_{i}"][c]), float(example[f"offset_{i}"][c])
                found, band = measured(*pixels), get_sensor(member.slot.sensor).band(name)
                values = None if RangeCheck.holds(band, found) else band_values(*pixels)
                self.tally.ranges.add_measured(member.scene.scene.id, band, found, values)
                if plan.split == "train":
                    self.tally.statistics.add_measured(member.slot.sensor, name, found)

    def _read(self, plan: PlannedSet, member: Member) -> tuple[np.ndarray, np.ndarray]:
        slot = member.slot
        if member.minus is not None:
            return read_height(self._reader, member.scene, member.minus, slot, plan.crs, member.rect, member.window)
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
        rect, pixels = member.rect, member.slot.pixels
        made = member.minus is not None  # heights are metres already
        rasters = [member.scene.bands[name] for name in member.slot.source_bands]
        example |= {
            f"pixels_{i}": dn_HWC,
            f"valid_{i}": np.packbits(valid_HWC),
            f"scale_{i}": np.array([1.0 if made else raster.scale for raster in rasters]),
            f"offset_{i}": np.array([0.0 if made else raster.offset for raster in rasters]),
            f"grid_m_{i}": np.array([rect.left - x, rect.top - y, rect.width_m / pixels, rect.height_m / pixels]),
            f"time_{i}": np.array(year_and_day(member.scene.scene.acquired_utc)),
            f"scene_{i}": member.scene.scene.id,
        }
    return example


def _digest(example: dict[str, Any], split: str | None) -> bytes:
    digest = hashlib.sha256(str(split).encode())
    for name in sorted(example):
        value = example[name]
        digest.update(name.encode())
        digest.update(value.encode() if isinstance(value, str) else np.ascontiguousarray(value).data)
    return digest.digest()
