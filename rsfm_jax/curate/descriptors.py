"""What a descriptor says of an image set: numbers about its members' bands, texture and acquisition, in one vector.

The vectors of a layout have the same entries in the same order, named ``slot.band.statistic`` or ``slot.statistic``; a value that is not
known is NaN. Everything but `valid_share` is computed over valid pixels alone. Never imports jax.

Legend: H W pixels, C bands, P valid pixels.

Source: the kinds of descriptors (spectral and of the acquisition) are those of Arctic RSFM, arXiv 2605.30467, abstract; which ones is ours.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor

SPECTRAL, TEXTURE, METADATA = GROUPS = ("spectral", "texture", "metadata")
BAND_STATISTICS = ("mean", "std", "p5", "p50", "p95")
INDICES = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir")}  # (a - b) / (a + b)
_WINDOWS_NM = {"green": (520.0, 600.0, 560.0), "red": (620.0, 700.0, 665.0), "nir": (760.0, 900.0, 840.0)}  # low, high, nominal
_WIDEST_NM = 160.0  # a panchromatic band is none of them
ENTROPY_BINS = 64
ENTROPY_STD = 3.0
DAYS_IN_YEAR = 365.25
ANGLES = ("sun_elevation_deg", "off_nadir_deg", "cloud_percent")  # as they are; the sun's azimuth goes round


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of a set, decoded.

    Attributes:
      physical_HWC: Values in the bands' units, float64; anything where not valid.
      valid_HWC: Which of them are observations.
      time: Known, year, day of year from 0.
      scene: Optional ``sun_elevation_deg``, ``sun_azimuth_deg``, ``off_nadir_deg`` and ``cloud_percent`` of its scene.
      highest_C: The physical value of the largest digital number that the records' type holds; infinite for floats.
    """

    physical_HWC: np.ndarray
    valid_HWC: np.ndarray
    time: tuple[float, float, float]
    scene: Mapping[str, float]
    highest_C: np.ndarray


def decode_member(record: Mapping[str, Any], i: int, scene: Mapping[str, float]) -> Member:
    """The member in slot ``i`` of a record as `rsfm_jax.ingest.builder` writes it, in physical units."""
    dn_HWC = record[f"pixels_{i}"]
    valid_HWC = np.unpackbits(record[f"valid_{i}"], count=dn_HWC.size).reshape(dn_HWC.shape).astype(bool)
    scale_C, offset_C = record[f"scale_{i}"], record[f"offset_{i}"]
    physical_HWC = np.where(valid_HWC, dn_HWC, 0).astype(np.float64) * scale_C + offset_C
    top = float(np.iinfo(dn_HWC.dtype).max) if np.issubdtype(dn_HWC.dtype, np.integer) else np.inf
    known, year, day = (float(value) for value in record[f"time_{i}"])
    return Member(physical_HWC, valid_HWC, (known, year, day), scene, top * scale_C + offset_C)


def feature_names(layout: Layout) -> dict[str, str]:
    """Names of a layout's descriptor entries, in order, each with its group of `GROUPS`."""
    names: dict[str, str] = {}
    first_of_scene = {numbers[0] for numbers in layout.acquisitions()}
    for i, slot in enumerate(layout.slots):
        names |= {f"{i}.{band}.{statistic}": SPECTRAL for band in slot.bands for statistic in BAND_STATISTICS}
        names |= {f"{i}.{index}": SPECTRAL for index in index_bands(slot)}
        names |= {f"{i}.{band}.{statistic}": TEXTURE for band in slot.bands for statistic in ("gradient", "entropy")}
        names[f"{i}.valid_share"] = METADATA
        if i in first_of_scene:
            names |= {f"{i}.{name}": METADATA for name in acquisition_values((0.0, 0.0, 0.0), {})}
    return names


def describe(layout: Layout, members: list[Member], statistics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> np.ndarray:
    """The descriptor of one image set.

    Args:
      layout: Its layout.
      members: Its members, a slot each.
      statistics: ``{sensor: {band: {mean, std, ...}}}``, for the bins of the entropy.

    Returns:
      float32, an entry for each of `feature_names`; NaN where it is unknown.
    """
    values: dict[str, float] = {}
    for i, (slot, member) in enumerate(zip(layout.slots, members, strict=True)):
        for c, band in enumerate(slot.bands):
            valid_HW = member.valid_HWC[..., c]
            physical_HW = member.physical_HWC[..., c]
            named = band_values(physical_HW[valid_HW])
            named["gradient"] = gradient(physical_HW, valid_HW)
            named["entropy"] = entropy(physical_HW[valid_HW], statistics[slot.sensor][band])
            values |= {f"{i}.{band}.{statistic}": value for statistic, value in named.items()}
        for index, (a, b) in index_bands(slot).items():
            values[f"{i}.{index}"] = normalised_difference(member, a, b)
        values[f"{i}.valid_share"] = float(member.valid_HWC.mean())
        values |= {f"{i}.{name}": value for name, value in acquisition_values(member.time, member.scene).items()}
    return np.array([values[name] for name in feature_names(layout)], np.float32)


def band_values(values_P: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation of the population and percentiles (linear between the neighbours) of one band's valid values."""
    if not values_P.size:
        return dict.fromkeys(BAND_STATISTICS, np.nan)
    p5, p50, p95 = np.percentile(values_P, (5, 50, 95))
    return {"mean": float(values_P.mean()), "std": float(values_P.std()), "p5": float(p5), "p50": float(p50), "p95": float(p95)}


def gradient(physical_HW: np.ndarray, valid_HW: np.ndarray) -> float:
    """Root of the gradient energy: of the mean squared differences of neighbours along rows and columns, both valid, in units per pixel.

    Args:
      physical_HW: Values.
      valid_HW: Which are observations.

    Returns:
      NaN where no row or no column has two valid neighbours.
    """
    energy = 0.0
    for axis in (0, 1):
        difference = np.diff(physical_HW, axis=axis)
        both = np.logical_and(*(np.take(valid_HW, np.arange(n, n + valid_HW.shape[axis] - 1), axis) for n in (0, 1)))
        energy += float(np.square(difference[both]).mean()) if both.any() else np.nan
    return float(np.sqrt(energy))


def entropy(values_P: np.ndarray, statistics: Mapping[str, Any]) -> float:
    """Shannon entropy in bits of a band's histogram.

    The bins are the dataset's, so that chips can be compared: 64 of them over three standard deviations on either side of the mean; what
    lies outside counts in the first or last.

    Args:
      values_P: Valid values.
      statistics: ``mean`` and ``std`` of the band.

    Returns:
      From 0 (all in one bin) to 6; NaN without values.
    """
    if not values_P.size:
        return np.nan
    at = (values_P - statistics["mean"]) / statistics["std"]
    bins = np.clip(np.floor((at + ENTROPY_STD) / (2 * ENTROPY_STD) * ENTROPY_BINS), 0, ENTROPY_BINS - 1).astype(np.int64)
    share = np.bincount(bins, minlength=ENTROPY_BINS) / values_P.size
    return float(-np.sum(share * np.log2(np.where(share > 0, share, 1.0))) + 0.0)


def index_bands(slot: Slot) -> dict[str, tuple[int, int]]:
    """Channels of the indices a slot has the bands for, ``{"ndvi": (nir, red), "ndwi": (green, nir)}``.

    A colour is the optical band with its centre in the colour's window that is nearest to the nominal wavelength.
    """
    bands = [get_sensor(slot.sensor).band(name) for name in slot.bands]
    found: dict[str, int] = {}
    for colour, (low, high, nominal) in _WINDOWS_NM.items():
        distances = {
            abs(band.wavelength_nm - nominal): c
            for c, band in reversed(list(enumerate(bands)))
            if band.kind == "optical"
            and band.wavelength_nm
            and low <= band.wavelength_nm <= high
            and (band.bandwidth_nm or 0) <= _WIDEST_NM
        }
        if distances:
            found[colour] = distances[min(distances)]
    return {index: (found[a], found[b]) for index, (a, b) in INDICES.items() if a in found and b in found}


def normalised_difference(member: Member, a: int, b: int) -> float:
    """Median of (a - b) / (a + b) over the pixels where both channels are valid and their sum is positive; NaN where there are none.

    Source: NDVI, Rouse et al. 1974; NDWI of open water, McFeeters 1996. The median, for the ratio has no bounds where a reflectance is
    below zero.
    """
    a_HW, b_HW = member.physical_HWC[..., a], member.physical_HWC[..., b]
    usable = member.valid_HWC[..., a] & member.valid_HWC[..., b] & (a_HW + b_HW > 0)
    return float(np.median((a_HW[usable] - b_HW[usable]) / (a_HW[usable] + b_HW[usable]))) if usable.any() else np.nan


def acquisition_values(time: tuple[float, float, float], scene: Mapping[str, float]) -> dict[str, float]:
    """Date, sun, view and clouds of an acquisition: values, NaN where unknown, and for each whether it is known (1 or 0).

    Args:
      time: Known, year, day of year from 0.
      scene: What is known of `ANGLES` and ``sun_azimuth_deg``.
    """
    known, year, day = time
    turn = 2 * np.pi * day / DAYS_IN_YEAR
    azimuth = np.radians(scene.get("sun_azimuth_deg", np.nan))
    values = {
        "year": year if known else np.nan,
        "day_sin": np.sin(turn) if known else np.nan,
        "day_cos": np.cos(turn) if known else np.nan,
        "date_known": known,
        "sun_azimuth_sin": np.sin(azimuth),
        "sun_azimuth_cos": np.cos(azimuth),
        "sun_azimuth_known": float("sun_azimuth_deg" in scene),
    }
    for name in ANGLES:
        values |= {name: scene.get(name, np.nan), f"{name}_known": float(name in scene)}
    return {name: float(value) for name, value in values.items()}
