"""Which scenes can fill which acquisition of a layout, and why the others cannot: bands, grid, clouds and dates."""

import datetime

import numpy as np

from rsfm_jax.ingest.raster import GSD_TOLERANCE, OpenScene, to_lonlat
from rsfm_jax.layouts import NO_CLOUD_LIMIT, SEASONS, Layout, Slot

_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)


def unfit(scene: OpenScene, slot: Slot) -> str | None:
    """Why a scene of the right sensor cannot fill a slot by its bands and grid, or None when it can."""
    missing = [name for name in slot.source_bands if name not in scene.bands]
    if missing:
        return f"has no band {', '.join(missing)}"
    if slot.resample != "none":
        return None
    first = scene.bands[slot.source_bands[0]]
    if not scene.metric:
        return "is not in a projected coordinate system in metres and the slot does not resample"
    if not all(scene.bands[name].same_grid(first) for name in slot.source_bands):
        return f"has bands {', '.join(slot.source_bands)} on different grids and the slot does not resample"
    if not first.north_up:
        return "has a rotated grid and the slot does not resample"
    if abs(first.gsd_m / slot.gsd_m - 1) > GSD_TOLERANCE:
        return f"has a GSD of {first.gsd_m:g} m, the slot {slot.gsd_m:g} m, and the slot does not resample"
    return None


def season(acquired_utc: datetime.datetime, lat_deg: float) -> str:
    """The meteorological season at a latitude: in the north winter is December to February, in the south June to August."""
    quarter = acquired_utc.month % 12 // 3
    return SEASONS[quarter if lat_deg >= 0 else (quarter + 2) % 4]


def barred(scene: OpenScene, layout: Layout, i: int) -> str | None:
    """Why the layout's dates and clouds keep a scene from slot ``i``, or None when they do not."""
    slot, acquired_utc = layout.slots[i], scene.scene.acquired_utc
    limit = layout.cloud_limit_percent(slot)
    if limit < NO_CLOUD_LIMIT:
        if scene.scene.conditions.cloud_percent is None:
            return "cloud cover not stated"
        if scene.scene.conditions.cloud_percent > limit:
            return f"has more than {limit:g} % clouds"
    if not layout.needs_date(i):
        return None
    if acquired_utc is None:
        return "acquisition time not stated"
    if slot.months and acquired_utc.month not in slot.months:
        return f"was not acquired in the months {', '.join(map(str, slot.months))}"
    if slot.season:
        ((_, lat_deg),) = to_lonlat(scene.crs, np.array([next(iter(scene.bands.values())).rect.centre]))
        if season(acquired_utc, lat_deg) != slot.season:
            return f"was not acquired in {slot.season}"
    return None


def by_date(scene: OpenScene) -> tuple[datetime.datetime, str]:
    """What scenes are in order of: date, unknown ones last, then id."""
    return scene.scene.acquired_utc or _LATEST, scene.scene.id


def candidates(layout: Layout, scenes: list[OpenScene]) -> tuple[list[list[OpenScene]], dict[str, str]]:
    """Scenes that can fill each acquisition of a layout.

    Args:
      layout: The layout.
      scenes: All scenes.

    Returns:
      For each acquisition its scenes, by date and id; and for each scene of a wanted sensor that fits nowhere, the reason by scene id.
    """
    found, reasons = [], {}
    for numbers in layout.acquisitions():
        fitting = []
        for scene in scenes:
            if scene.scene.sensor.name != layout.slots[numbers[0]].sensor:
                continue
            why = next((reason for i in numbers if (reason := unfit(scene, layout.slots[i]))), None)
            why = why or next((reason for i in numbers if (reason := barred(scene, layout, i))), None)
            if why is None:
                fitting.append(scene)
            else:
                reasons[scene.scene.id] = why
        found.append(sorted(fitting, key=by_date))
    terrain = {scene.scene.id for slot in layout.slots if slot.minus for scene in terrains(slot.minus, scenes)}
    used = {scene.scene.id for fitting in found for scene in fitting} | terrain
    return found, {name: why for name, why in reasons.items() if name not in used}


def terrains(sensor: str, scenes: list[OpenScene]) -> list[OpenScene]:
    """Scenes whose elevation can be taken off a surface's: the finest first, then by id."""
    fitting = [scene for scene in scenes if scene.scene.sensor.name == sensor and "elevation" in scene.bands]
    return sorted(fitting, key=lambda scene: (_step_m(scene), scene.scene.id))


def _step_m(scene: OpenScene) -> float:
    band = scene.bands["elevation"]
    return band.gsd_m if scene.metric else band.gsd_m * 111_195.0  # degrees of latitude
