"""Descriptors to points whose distances mean something: robust z-scores, each group of entries with its weight.

Legend: N image sets, F entries of a descriptor, D dims of a point (the entries that vary).
"""

from collections.abc import Iterator, Mapping
import dataclasses

import numpy as np

NORMAL_MAD = 1.4826  # of the median absolute deviation, to the standard deviation of a normal distribution
NORMAL_MEAN_AD = 1.2533  # of the mean absolute deviation


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How descriptors become points.

    Attributes:
      names: Entry names, F.
      groups: Group of each entry, F.
      median: Median of each entry, float64 (F,); NaN where it is never known.
      deviation: Robust standard deviation, float64 (F,); 0 for an entry that does not vary: it has no part in the points.
      weight: What a z-score is multiplied by, float64 (F,).
      clip_z: z-scores are cut to this.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    median: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray
    clip_z: float

    def points(self, descriptors_NF: np.ndarray) -> np.ndarray:
        """Points of descriptors, float32 (N, D); an unknown value lies at the median, so at 0. Where no entry varies, D is 1."""
        points_ND = np.zeros((len(descriptors_NF), max(int((self.weight > 0).sum()), 1)), np.float32)
        for d, (f, z) in enumerate(self._z(descriptors_NF)):
            points_ND[:, d] = np.clip(z, -self.clip_z, self.clip_z) * self.weight[f]
        return points_ND

    def clipped(self, descriptors_NF: np.ndarray) -> dict[str, int]:
        """How many values of each entry are cut, for those with any."""
        counts = {self.names[f]: int((np.abs(z) > self.clip_z).sum()) for f, z in self._z(descriptors_NF)}
        return {name: count for name, count in counts.items() if count}

    def _z(self, descriptors_NF: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for f in np.flatnonzero(self.weight > 0):
            z = (descriptors_NF[:, f].astype(np.float64) - self.median[f]) / self.deviation[f]
            yield int(f), np.where(np.isnan(z), 0.0, z)

    def to_dict(self) -> list[dict[str, str | float | None]]:
        """A row for each entry, ready for JSON."""
        columns = zip(self.names, self.groups, self.median, self.deviation, self.weight, strict=True)
        return [
            {"name": n, "group": g, "median": None if np.isnan(m) else float(m), "deviation": float(d), "weight": float(w)}
            for n, g, m, d, w in columns
        ]


def scaling_from_dict(rows: list[dict], clip_z: float) -> Scaling:
    """The `Scaling` that `Scaling.to_dict` made rows of."""
    column = lambda name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)  # noqa: E731
    names, groups = tuple(row["name"] for row in rows), tuple(row["group"] for row in rows)
    return Scaling(names, groups, column("median"), column("deviation"), column("weight"), clip_z)


def fit_scaling(descriptors_NF: np.ndarray, names: Mapping[str, str], weights: Mapping[str, float], clip_z: float) -> Scaling:
    """Fits the scaling to a layout's descriptors.

    The deviation is 1.4826 x the median absolute deviation from the median; where that is 0, for more than half of the values are the
    same, 1.2533 x the mean absolute deviation. A group's weight is divided by the root of the number of its entries that vary: the
    squared distance of two sets is the sum over groups of weight ** 2 x the mean squared difference of z-scores.

    Args:
      descriptors_NF: float32, NaN where unknown.
      names: Entry names, each with its group.
      weights: Weight of each group.
      clip_z: z-scores are cut to this.

    Returns:
      The scaling.

    Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993 (modified z-scores and their way out of a zero MAD).
    """
    median, deviation = np.full(len(names), np.nan), np.zeros(len(names))
    for f in range(len(names)):
        known = descriptors_NF[:, f][~np.isnan(descriptors_NF[:, f])].astype(np.float64)
        if known.size:
            median[f] = np.median(known)
            away = np.abs(known - median[f])
            deviation[f] = NORMAL_MAD * np.median(away) or NORMAL_MEAN_AD * away.mean()
    groups = np.array(list(names.values()))
    weight = np.zeros(len(names))
    for group, value in weights.items():
        varying = (groups == group) & (deviation > 0)
        weight[varying] = value / np.sqrt(max(varying.sum(), 1))
    return Scaling(tuple(names), tuple(names.values()), median, deviation, weight, clip_z)
