"""Slots and layouts: the fixed shape of a kind of image set, by which it is ingested, read, masked and compiled.

Dates and clouds: what a slot or a layout asks of them narrows the scenes that may fill it. Seasons are meteorological, three whole months
from December, March, June and September on, in UTC. In the north (latitude 0 included) December begins winter, in the south summer.
"""

import dataclasses
import math
from typing import Any

from rsfm_jax.knobs import choice, knob, require
from rsfm_jax.sensors import get_sensor

RESAMPLINGS = ("none", "nearest", "bilinear", "cubic", "average")
SEASONS = ("winter", "spring", "summer", "autumn")
NO_CLOUD_LIMIT = 100.0


@dataclasses.dataclass
class Slot:
    """One member's place in a layout: which bands of which sensor, on how many pixels of what size."""

    sensor: str = knob("", "sensor name in the registry")
    bands: tuple[str, ...] = knob((), "band names, in channel order")
    gsd_m: float = knob(0.0, "ground sampling distance of the chip, metres per pixel")
    pixels: int = knob(0, "chip height and width in pixels")
    patch: int = knob(0, "patch height and width in pixels; divides pixels")
    acquisition: str = knob("", "slots of one layout with the same letter come from one scene; empty: a scene of its own")
    resample: str = knob("none", "how the scene's pixels reach this grid: none (native grid), nearest, bilinear, cubic, average")
    months: tuple[int, ...] = knob((), "months of acquisition, 1 to 12, in UTC; empty: any", rare=True)
    season: str = knob("", "winter, spring, summer or autumn, of the hemisphere the scene's centre is in; empty: any", rare=True)
    days: tuple[float, ...] = knob((), "least and most days from the first slot's acquisition to this one's; empty: any", rare=True)
    timeless: bool = knob(False, "the layout's max_days and distinct_seasons ask nothing of this member's date", rare=True)
    max_cloud_percent: float = knob(NO_CLOUD_LIMIT, "scenes with more clouds, or that do not say, are left out; 100: no limit", rare=True)
    minus: str = knob("", "terrain sensor whose elevation is taken off this surface's, for the band height; empty: none", rare=True)

    def validate(self, where: str) -> None:
        """Raises `InputError` naming the first wrong field."""
        sensor = get_sensor(self.sensor)
        require(len(self.bands) > 0, f"{where}.bands", self.bands, "at least one band name")
        for band in self.bands:
            sensor.band(band)
        require(len(set(self.bands)) == len(self.bands), f"{where}.bands", self.bands, "free of repetitions")
        require(self.gsd_m > 0, f"{where}.gsd_m", self.gsd_m, "a positive number of metres")
        require(self.patch > 0 and self.pixels > 0, f"{where}.patch", self.patch, "positive, as must pixels")
        require(self.pixels % self.patch == 0, f"{where}.pixels", self.pixels, f"a multiple of patch={self.patch}")
        choice(f"{where}.resample", self.resample, RESAMPLINGS)
        self._validate_dates_and_clouds(where)
        if self.minus:
            require("elevation" in get_sensor(self.minus).bands, f"{where}.minus", self.minus, "a sensor with a band 'elevation'")
            require(
                tuple(self.bands) == ("height",) and {"height", "elevation"} <= set(sensor.bands),
                f"{where}.bands",
                self.bands,
                f"('height',) of a sensor of surfaces, such as dsm, for a slot with minus={self.minus!r}",
            )

    def _validate_dates_and_clouds(self, where: str) -> None:
        right = all(isinstance(month, int) and 1 <= month <= 12 for month in self.months)
        require(right and len(set(self.months)) == len(self.months), f"{where}.months", self.months, "different numbers from 1 to 12")
        if self.season:
            choice(f"{where}.season", self.season, SEASONS)
            require(not self.months, f"{where}.season", self.season, "empty where months are given")
        span = len(self.days) in (0, 2) and all(math.isfinite(day) for day in self.days) and tuple(self.days) == tuple(sorted(self.days))
        require(span, f"{where}.days", self.days, "empty, or the least and the most days, as (-10, 10)")
        require(0 <= self.max_cloud_percent <= 100, f"{where}.max_cloud_percent", self.max_cloud_percent, "between 0 and 100")
        if self.max_cloud_percent < NO_CLOUD_LIMIT:
            require(self.sees_clouds, f"{where}.max_cloud_percent", self.max_cloud_percent, f"100, for clouds do not hide {self.sensor}")

    @property
    def source_bands(self) -> tuple[str, ...]:
        """Bands of the scene that are read: those of the chip, or the elevation that a height is made of."""
        return ("elevation",) if self.minus else self.bands

    @property
    def sees_clouds(self) -> bool:
        """Whether any of its bands is optical or thermal."""
        return any(get_sensor(self.sensor).band(band).kind in ("optical", "thermal") for band in self.bands)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.pixels // self.patch

    @property
    def tokens(self) -> int:
        """Patches of the whole chip."""
        return self.grid * self.grid

    @property
    def patch_values(self) -> int:
        """Values in one patch: patch x patch x bands."""
        return self.patch * self.patch * len(self.bands)


@dataclasses.dataclass
class Layout:
    """The fixed shape of one kind of image set: an ordered list of slots, one compiled program."""

    name: str = knob("", "letters, digits and underscores")
    slots: tuple[Slot, ...] = knob((), "members, in order; the first one's pixel grid places the windows")
    stride_m: float = knob(0.0, "distance between neighbouring windows in metres; 0: half of the first slot's extent")
    sets_per_place: int = knob(1, "how many combinations of dates are drawn at one place")
    extent_m: float = knob(0.0, "side of the chips in metres, from which slots with pixels=0 get theirs; 0: what the slots say", rare=True)
    max_days: float = knob(0.0, "the members' acquisitions lie within so many days; 0: any time", rare=True)
    distinct_seasons: bool = knob(False, "members of one sensor come from different seasons", rare=True)
    max_cloud_percent: float = knob(NO_CLOUD_LIMIT, "the slots' max_cloud_percent, for optical and thermal bands", rare=True)
    max_sets: int = knob(0, "most image sets of this layout, drawn by the seed evenly over the ground; 0: all", rare=True)

    def __post_init__(self) -> None:
        """Gives slots without pixels those that ``extent_m`` makes; one that does not come out whole is left for `validate`."""
        if self.extent_m > 0:
            self.slots = tuple(slot if slot.pixels else dataclasses.replace(slot, pixels=self._pixels(slot)) for slot in self.slots)

    def _pixels(self, slot: Slot) -> int:
        pixels = self.extent_m / slot.gsd_m if slot.gsd_m > 0 else 0.0
        return round(pixels) if math.isfinite(pixels) and abs(pixels - round(pixels)) < 1e-6 else 0

    def validate(self, where: str) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(self.name.isidentifier(), f"{where}.name", self.name, "letters, digits and underscores, not starting with a digit")
        require(1 <= len(self.slots) <= 6, f"{where}.slots", len(self.slots), "one to six slots")
        require(self.stride_m >= 0, f"{where}.stride_m", self.stride_m, "zero or positive")
        require(self.sets_per_place >= 1, f"{where}.sets_per_place", self.sets_per_place, "at least 1")
        require(0 <= self.extent_m < math.inf, f"{where}.extent_m", self.extent_m, "zero or a positive number of metres")
        require(0 <= self.max_days < math.inf, f"{where}.max_days", self.max_days, "zero or a positive number of days")
        require(0 <= self.max_cloud_percent <= 100, f"{where}.max_cloud_percent", self.max_cloud_percent, "between 0 and 100")
        require(self.max_sets >= 0, f"{where}.max_sets", self.max_sets, "zero or positive")
        for i, slot in enumerate(self.slots):
            self._validate_extent(slot, f"{where}.slots[{i}]")
            slot.validate(f"{where}.slots[{i}]")
            first = i == 0 or (slot.acquisition and slot.acquisition == self.slots[0].acquisition)
            require(not (first and slot.days), f"{where}.slots[{i}].days", slot.days, "empty in the first slot's acquisition")
        for letter in {slot.acquisition for slot in self.slots if slot.acquisition}:
            sensors = {slot.sensor for slot in self.slots if slot.acquisition == letter}
            require(len(sensors) == 1, f"{where}.slots", letter, "one sensor for all slots of one acquisition")
        self._validate_seasons(where)

    def _validate_extent(self, slot: Slot, where: str) -> None:
        if self.extent_m and slot.gsd_m > 0:
            whole = f"given, for extent_m={self.extent_m:g} is not a whole number of pixels of {slot.gsd_m:g} m"
            require(slot.pixels > 0, f"{where}.pixels", slot.pixels, whole)
            near = f"within half a pixel of extent_m={self.extent_m:g} (it makes {slot.pixels * slot.gsd_m:g} m of {slot.gsd_m:g} m each)"
            require(abs(slot.pixels * slot.gsd_m - self.extent_m) <= slot.gsd_m / 2, f"{where}.pixels", slot.pixels, near)

    def _validate_seasons(self, where: str) -> None:
        if self.distinct_seasons:
            first = [self.slots[numbers[0]] for numbers in self.acquisitions()]
            most = max(sum(other.sensor == slot.sensor and not other.timeless for other in first) for slot in first)
            require(most <= len(SEASONS), f"{where}.distinct_seasons", most, "asked of at most four acquisitions of one sensor")

    def acquisitions(self) -> list[list[int]]:
        """Slot numbers grouped by acquisition, in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i, slot in enumerate(self.slots):
            groups.setdefault(slot.acquisition or f"#{i}", []).append(i)
        return list(groups.values())

    def cloud_limit_percent(self, slot: Slot) -> float:
        """The stricter of the layout's and the slot's limit; 100 where clouds do not hide what is seen."""
        return min(self.max_cloud_percent, slot.max_cloud_percent) if slot.sees_clouds else NO_CLOUD_LIMIT

    def needs_date(self, i: int) -> bool:
        """Whether anything is asked of the date of slot ``i``, so that a scene without one cannot fill it."""
        slot = self.slots[i]
        asked_by_others = i in self.acquisitions()[0] and any(other.days for other in self.slots)
        asked_by_layout = (self.max_days > 0 or self.distinct_seasons) and not slot.timeless
        return bool(slot.months or slot.season or slot.days or asked_by_others or asked_by_layout)

    @property
    def tokens(self) -> int:
        """Patches of all members together."""
        return sum(slot.tokens for slot in self.slots)


def layout_from_dict(fields: dict[str, Any]) -> Layout:
    """Builds a `Layout` from the dict that `to_dict` made of one."""
    slots = tuple(
        Slot(**{**slot, **{name: tuple(slot[name]) for name in ("bands", "months", "days") if name in slot}}) for slot in fields["slots"]
    )
    return Layout(**{**fields, "slots": slots})


def parse_groups(lines: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Reads the table of band groups.

    Args:
      lines: ``"sentinel2_l2a: B02 B03 B04 | B05 B06"``, a line for each sensor.

    Returns:
      For each sensor its groups of band names.

    Raises:
      InputError: a line that reads differently, an unknown sensor or band, a band in two groups.
    """
    table: dict[str, tuple[tuple[str, ...], ...]] = {}
    for i, line in enumerate(lines):
        field = f"tokenizer.groups[{i}]"
        name, colon, groups = (part.strip() for part in line.partition(":"))
        require(bool(colon), field, line, "'sensor: band band | band', groups apart by |")
        sensor = get_sensor(name)
        require(name not in table, field, line, f"the only line of sensor {name}")
        table[name] = tuple(tuple(group.split()) for group in groups.split("|"))
        bands = [sensor.band(band).name for group in table[name] for band in group]
        require(all(table[name]), field, line, "free of empty groups")
        require(len(set(bands)) == len(bands), field, line, "free of bands that are in two groups")
    return table
