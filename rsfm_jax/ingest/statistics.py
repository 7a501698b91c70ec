"""Per-band statistics over valid pixels, exact however long the stream.

Means and squared deviations are merged chip by chip in float64 with the pairwise update of Chan, Golub and LeVeque (1979), which does not
lose digits as sums of squares do. Values are physical: statistics are in the band's unit. They are of what the model sees: a pixel that
lies in several overlapping chips counts once for each.

Legend: H W pixels, C bands.
"""

import dataclasses
import math

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.sensors import Band

_MOST_EXACT = 2**20  # so many squares of 16-bit numbers are summed in float64 without rounding


@dataclasses.dataclass
class BandStatistics:
    """Running statistics of one band.

    Attributes:
      count: Valid pixels seen.
      mean: Their mean, in the band's unit.
      squared_deviations: Sum of squared distances to the mean.
      low: Smallest value.
      high: Largest value.
    """

    count: int = 0
    mean: float = 0.0
    squared_deviations: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: np.ndarray) -> None:
        """Adds a 1-D array of valid physical values."""
        if values.size == 0:
            return
        values = values.astype(np.float64, copy=False)
        mean = float(values.mean())
        deviations = values - mean
        squared = float(np.square(deviations, out=deviations).sum())
        self.merge(BandStatistics(values.size, mean, squared, float(values.min()), float(values.max())))

    def merge(self, other: "BandStatistics") -> None:
        """Adds the pixels of another."""
        if other.count == 0:
            return
        if self.count == 0:
            self.__dict__.update(other.__dict__)
            return
        total = self.count + other.count
        delta = other.mean - self.mean
        self.squared_deviations += other.squared_deviations + delta * delta * self.count * other.count / total
        self.mean += delta * other.count / total
        self.count = total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squared_deviations / self.count) if self.count else math.nan


def measured(dn_HW: np.ndarray, valid_HW: np.ndarray, scale: float, offset: float) -> BandStatistics:
    """Statistics of the valid physical values of one band of one chip.

    Whole numbers of two bytes are summed as they are, without rounding, and the sums converted.

    Args:
      dn_HW: Digital numbers of any type.
      valid_HW: Bool.
      scale: Multiplies them.
      offset: Added afterwards.

    Returns:
      Their count, mean, squared deviations and extremes, in the band's unit.
    """
    stored = dn_HW.ravel() if valid_HW.all() else dn_HW[valid_HW]
    found = BandStatistics()
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2 or stored.size > _MOST_EXACT:
        found.add(scale * stored.astype(np.float64) + offset)
    elif stored.size:
        wide = stored.astype(np.float64)
        total, n = int(wide.sum()), stored.size
        squares = int(np.square(wide, out=wide).sum())  # not a dot product, for which BLAS would start threads in every worker
        ends = sorted(scale * float(end) + offset for end in (stored.min(), stored.max()))
        found = BandStatistics(n, scale * (total / n) + offset, scale * scale * ((n * squares - total * total) / n), *ends)
    return found


def band_values(dn_HW: np.ndarray, valid_HW: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """Valid physical values of one band of one chip.

    Args:
      dn_HW: Digital numbers of any type.
      valid_HW: Bool.
      scale: Multiplies them.
      offset: Added afterwards.

    Returns:
      float64 (n,), in the order of the rows.
    """
    values = (dn_HW.ravel() if valid_HW.all() else dn_HW[valid_HW]).astype(np.float64)
    values *= scale
    values += offset
    return values


class Statistics:
    """Statistics of every (sensor, band) of a dataset."""

    def __init__(self) -> None:
        self._bands: dict[tuple[str, str], BandStatistics] = {}

    def add_chip(self, sensor: str, bands: tuple[str, ...], physical_HWC: np.ndarray, valid_HWC: np.ndarray) -> None:
        """Adds the valid pixels of one chip.

        Args:
          sensor: Sensor name.
          bands: Band names, in channel order.
          physical_HWC: Values in the bands' units.
          valid_HWC: Which of them are observations.
        """
        for c, band in enumerate(bands):
            self.add(sensor, band, physical_HWC[..., c][valid_HWC[..., c]])

    def add(self, sensor: str, band: str, values: np.ndarray) -> None:
        """Adds valid physical values of one band of one chip, 1-D."""
        self._bands.setdefault((sensor, band), BandStatistics()).add(values)

    def add_measured(self, sensor: str, band: str, found: BandStatistics) -> None:
        """Adds what `measured` found of one band of one chip."""
        self._bands.setdefault((sensor, band), BandStatistics()).merge(found)

    def merge(self, other: "Statistics") -> None:
        """Adds the chips of another."""
        for name, band in other._bands.items():
            self._bands.setdefault(name, BandStatistics()).merge(band)

    def to_dict(self, units: dict[tuple[str, str], str]) -> dict[str, dict[str, dict[str, float | str]]]:
        """Statistics as ``{sensor: {band: {count, mean, std, min, max, unit}}}``.

        Args:
          units: Unit of each (sensor, band).

        Raises:
          InputError: a band has no valid pixel, or the same value everywhere: it cannot be normalised.
        """
        table: dict[str, dict[str, dict[str, float | str]]] = {}
        for (sensor, band), s in sorted(self._bands.items()):
            if s.count == 0:
                raise InputError(
                    f"sensor {sensor!r}, band {band!r}: no valid pixel in any kept chip of the split 'train'; leave the band out"
                )
            if not s.std > 0:
                raise InputError(f"sensor {sensor!r}, band {band!r}: is {s.mean:g} in every valid pixel; leave the band out of the layout")
            row = {"count": s.count, "mean": s.mean, "std": s.std, "min": s.low, "max": s.high, "unit": units[sensor, band]}
            table.setdefault(sensor, {})[band] = row
        return table


class RangeCheck:
    """Counts values outside the plausible range of every band of every scene: the sign of a wrong unit or an unstated nodata."""

    TOLERATED = 0.01

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[float]] = {}
        self._bands: dict[tuple[str, str], Band] = {}

    def add(self, scene_id: str, band: Band, values: np.ndarray) -> None:
        """Adds valid physical values of one band of one scene, 1-D."""
        if values.size:
            self.add_measured(scene_id, band, BandStatistics(count=values.size, low=float(values.min()), high=float(values.max())), values)

    def add_measured(self, scene_id: str, band: Band, found: BandStatistics, values: np.ndarray | None) -> None:
        """Adds values of one band of one scene by their extremes; ``values`` are looked at where these are outside."""
        if found.count == 0:
            return
        low, high = band.valid_range
        seen = self._seen.setdefault((scene_id, band.name), [0, 0, math.inf, -math.inf])
        self._bands[scene_id, band.name] = band
        if not self.holds(band, found):
            assert values is not None
            seen[0] += int(((values < low) | (values > high)).sum())
        seen[1] += found.count
        seen[2], seen[3] = min(seen[2], found.low), max(seen[3], found.high)

    @staticmethod
    def holds(band: Band, found: BandStatistics) -> bool:
        """Whether no value is outside the band's plausible range."""
        low, high = band.valid_range
        return low <= found.low and found.high <= high

    def merge(self, other: "RangeCheck") -> None:
        """Adds the values of another."""
        for key, (outside, total, low, high) in other._seen.items():
            seen = self._seen.setdefault(key, [0, 0, math.inf, -math.inf])
            seen[:] = [seen[0] + outside, seen[1] + total, min(seen[2], low), max(seen[3], high)]
        self._bands |= other._bands

    def check(self) -> None:
        """Raises `InputError` for the first band with more than 1 % of its values outside."""
        for (scene_id, name), (outside, total, low, high) in self._seen.items():
            if outside > self.TOLERATED * total:
                band = self._bands[scene_id, name]
                raise InputError(
                    f"scene {scene_id!r}, band {name!r}: {outside / total:.1%} of the valid values are outside "
                    f"[{band.valid_range[0]:g}, {band.valid_range[1]:g}] {band.unit} (they go from {low:g} to {high:g}); "
                    "is a nodata value unstated, or the scale or offset of another product level?"
                )
