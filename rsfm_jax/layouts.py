"""Slots and layouts: the fixed shape of a kind of image set, by which it is ingested, read, masked and compiled."""

import dataclasses
from typing import Any

from rsfm_jax.knobs import choice, knob, require
from rsfm_jax.sensors import get_sensor

RESAMPLINGS = ("none", "nearest", "bilinear", "cubic", "average")


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

    def validate(self, where: str) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(self.name.isidentifier(), f"{where}.name", self.name, "letters, digits and underscores, not starting with a digit")
        require(1 <= len(self.slots) <= 6, f"{where}.slots", len(self.slots), "one to six slots")
        require(self.stride_m >= 0, f"{where}.stride_m", self.stride_m, "zero or positive")
        require(self.sets_per_place >= 1, f"{where}.sets_per_place", self.sets_per_place, "at least 1")
        for i, slot in enumerate(self.slots):
            slot.validate(f"{where}.slots[{i}]")
        for letter in {slot.acquisition for slot in self.slots if slot.acquisition}:
            sensors = {slot.sensor for slot in self.slots if slot.acquisition == letter}
            require(len(sensors) == 1, f"{where}.slots", letter, "one sensor for all slots of one acquisition")

    def acquisitions(self) -> list[list[int]]:
        """Slot numbers grouped by acquisition, in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i, slot in enumerate(self.slots):
            groups.setdefault(slot.acquisition or f"#{i}", []).append(i)
        return list(groups.values())

    @property
    def tokens(self) -> int:
        """Patches of all members together."""
        return sum(slot.tokens for slot in self.slots)


def layout_from_dict(fields: dict[str, Any]) -> Layout:
    """Builds a `Layout` from the dict that `to_dict` made of one."""
    slots = tuple(Slot(**{**slot, "bands": tuple(slot["bands"])}) for slot in fields["slots"])
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
