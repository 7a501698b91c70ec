"""Under what sun, view and cloud a scene was acquired. Metadata only: pixels never depend on it."""

import dataclasses
from typing import Any

from rsfm_jax.errors import InputError

_RANGES = {
    "sun_elevation_deg": (-90.0, 90.0),
    "sun_azimuth_deg": (0.0, 360.0),
    "off_nadir_deg": (0.0, 90.0),
    "incidence_deg": (0.0, 90.0),
    "view_azimuth_deg": (0.0, 360.0),
    "cloud_percent": (0.0, 100.0),
}
FIELDS = tuple(_RANGES)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a product states of its acquisition; None where it says nothing. Azimuths run clockwise from north.

    Attributes:
      sun_elevation_deg: Of the sun above the horizon, at the scene's centre.
      sun_azimuth_deg: Direction of the sun.
      off_nadir_deg: At the satellite, between the vertical and the line of sight.
      incidence_deg: On the ground, between the vertical and the line of sight; larger than ``off_nadir_deg``, for the Earth is round.
      view_azimuth_deg: Direction of the satellite, from the ground.
      cloud_percent: Share of the product under cloud.
    """

    sun_elevation_deg: float | None = None
    sun_azimuth_deg: float | None = None
    off_nadir_deg: float | None = None
    incidence_deg: float | None = None
    view_azimuth_deg: float | None = None
    cloud_percent: float | None = None


def read_conditions(where: str, entry: dict[str, Any]) -> Conditions:
    """The conditions that a description of a scene states.

    Args:
      where: Start of messages.
      entry: The fields of a scene.

    Returns:
      The conditions.

    Raises:
      InputError: a value that is no number, or outside its range.
    """
    stated = {}
    for field, (low, high) in _RANGES.items():
        value = entry.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(f"{where}: field {field!r} is {value!r}, it must be a number from {low:g} to {high:g}")
        stated[field] = float(value)
    return Conditions(**stated)
