"""Image sets from overlapping scenes: which members, which pixels, which split. Plans only; nothing is read here.

A place is a window of the first slot's pixel grid. At each place every acquisition of the layout is filled by a scene whose ground
covers the window to within a pixel of the coarsest slot; members without resampling are snapped to their own pixel grid, at most half of
their own pixel away, and the plan keeps where they really lie. Everything that is left out carries a reason.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import datetime
import hashlib
import itertools
import math

import numpy as np
from rasterio.crs import CRS

from rsfm_jax.config import IngestConfig
from rsfm_jax.geo import Rect, cell_uniform, ground_cells, utm_epsg
from rsfm_jax.ingest.raster import GSD_TOLERANCE, BandRaster, OpenScene, rect_in, to_lonlat
from rsfm_jax.layouts import Layout, Slot

_MOST_ENUMERATED = 4096  # combinations of dates listed at one place; above that they are drawn
_DRAWS_PER_SET = 32
_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of a planned set.

    Attributes:
      scene: The open scene.
      slot: The slot it fills.
      rect: Its ground in the set's coordinate system.
      window: First (column, row) on the native grid, or None when the chip is resampled.
    """

    scene: OpenScene
    slot: Slot
    rect: Rect
    window: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class PlannedSet:
    """One image set, before its pixels are read.

    Attributes:
      key: Unique within the layout.
      layout: The layout.
      crs: Coordinate system that all members' rectangles are in; metres.
      members: One for each slot.
      footprint_deg: Corners of the ground that the members cover together, float64 (4, 2), longitude then latitude.
      split: ``"train"``, ``"val"``, or None when the footprint touches cells of both.
    """

    key: str
    layout: Layout
    crs: CRS
    members: tuple[Member, ...]
    footprint_deg: np.ndarray
    split: str | None


def metric_crs(scene: OpenScene) -> CRS:
    """The coordinate system in metres that sets of a scene are laid out in: its own, or the UTM zone of its centre."""
    if scene.metric:
        return scene.crs
    band = next(iter(scene.bands.values()))
    ((lon, lat),) = to_lonlat(scene.crs, np.array([band.rect.centre]))
    return CRS.from_epsg(utm_epsg(lon, lat))


def ground_rect(scene: OpenScene, slot: Slot, crs: CRS) -> Rect:
    """The ground, in ``crs``, on which a scene has all bands of a slot."""
    rects = [scene.bands[name].rect for name in slot.bands]
    common = rects[0]
    for rect in rects[1:]:
        common = common.intersection(rect)
    return rect_in(scene.crs, common, crs)


def unfit(scene: OpenScene, slot: Slot) -> str | None:
    """Why a scene of the right sensor cannot fill a slot, or None when it can."""
    missing = [name for name in slot.bands if name not in scene.bands]
    if missing:
        return f"has no band {', '.join(missing)}"
    if slot.resample != "none":
        return None
    first = scene.bands[slot.bands[0]]
    if not scene.metric:
        return "is not in a projected coordinate system in metres and the slot does not resample"
    if not all(scene.bands[name].same_grid(first) for name in slot.bands):
        return f"has bands {', '.join(slot.bands)} on different grids and the slot does not resample"
    if not first.north_up:
        return "has a rotated grid and the slot does not resample"
    if abs(first.gsd_m / slot.gsd_m - 1) > GSD_TOLERANCE:
        return f"has a GSD of {first.gsd_m:g} m, the slot {slot.gsd_m:g} m, and the slot does not resample"
    return None


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
        slots = [layout.slots[i] for i in numbers]
        fitting = []
        for scene in scenes:
            if scene.scene.sensor.name != slots[0].sensor:
                continue
            why = next((reason for slot in slots if (reason := unfit(scene, slot))), None)
            if why is None:
                fitting.append(scene)
            else:
                reasons[scene.scene.id] = why
        found.append(sorted(fitting, key=_by_date))
    used = {scene.scene.id for fitting in found for scene in fitting}
    return found, {name: why for name, why in reasons.items() if name not in used}


def _by_date(scene: OpenScene) -> tuple[datetime.datetime, str]:
    return scene.scene.acquired_utc or _LATEST, scene.scene.id


def plan_sets(layout: Layout, scenes: list[OpenScene], config: IngestConfig) -> Iterator[PlannedSet]:
    """Plans all image sets of a layout.

    Args:
      layout: The layout.
      scenes: All scenes.
      config: Seed, split and stride.

    Yields:
      The sets, place by place.
    """
    found, _ = candidates(layout, scenes)
    edge_m = max(slot.gsd_m for slot in layout.slots)  # grids of one product differ by up to a pixel; what is missing is not valid
    for references in _same_grids(found[0], layout.slots[0]):
        crs = metric_crs(references[0])
        pools = [references] + found[1:]
        covers = {  # the ground each scene offers to each acquisition
            (a, scene.scene.id): _cover([layout.slots[i] for i in numbers], scene, crs)
            for a, numbers in enumerate(layout.acquisitions())
            for scene in pools[a]
        }
        for rect in _places(references[0], layout, crs):
            here = [
                [s for s in pool if (ground := covers[a, s.scene.id]) and ground.contains(rect, edge_m)] for a, pool in enumerate(pools)
            ]
            for combination in _combinations(layout, here, config.seed, rect):
                yield _planned(layout, crs, rect, combination, config)


def _cover(slots: list[Slot], scene: OpenScene, crs: CRS) -> Rect | None:
    if scene.crs != crs and any(slot.resample == "none" for slot in slots):
        return None
    common = ground_rect(scene, slots[0], crs)
    for slot in slots[1:]:
        common = common.intersection(ground_rect(scene, slot, crs))
    return common


def _same_grids(scenes: list[OpenScene], slot: Slot) -> list[list[OpenScene]]:
    """Groups scenes whose first slot has the same pixels on the ground, so that a series is one pile of dates and not many."""
    groups: list[list[OpenScene]] = []
    for scene in scenes:
        band: BandRaster = scene.bands[slot.bands[0]]
        for group in groups:
            if group[0].crs == scene.crs and group[0].bands[slot.bands[0]].same_grid(band):
                group.append(scene)
                break
        else:
            groups.append([scene])
    return groups


def _places(scene: OpenScene, layout: Layout, crs: CRS) -> Iterator[Rect]:
    slot = layout.slots[0]
    extent_m = slot.pixels * slot.gsd_m
    stride_m = layout.stride_m or extent_m / 2
    if slot.resample == "none":
        raster = scene.bands[slot.bands[0]]
        stride = max(1, round(stride_m / slot.gsd_m))
        for row in range(0, raster.height - slot.pixels + 1, stride):
            for column in range(0, raster.width - slot.pixels + 1, stride):
                yield _window_rect(raster, column, row, slot.pixels)
        return
    ground = ground_rect(scene, slot, crs)
    for i in range(math.floor((ground.height_m - extent_m) / stride_m + 1e-9) + 1):
        for j in range(math.floor((ground.width_m - extent_m) / stride_m + 1e-9) + 1):
            left, top = ground.left + j * stride_m, ground.top - i * stride_m
            yield Rect(left, top - extent_m, left + extent_m, top)


def _window_rect(raster: BandRaster, column: int, row: int, pixels: int) -> Rect:
    (left, top), (right, bottom) = raster.transform @ (column, row), raster.transform @ (column + pixels, row + pixels)
    return Rect(left, bottom, right, top)


def _combinations(layout: Layout, pools: list[list[OpenScene]], seed: int, rect: Rect) -> list[tuple[OpenScene, ...]]:
    """Draws the combinations of scenes at one place: distinct scenes, those of one sensor in order of date."""
    if not all(pools):
        return []
    sensors = [layout.slots[numbers[0]].sensor for numbers in layout.acquisitions()]
    token = f"{seed}:{layout.name}:{rect.left:.3f}:{rect.top:.3f}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(token, digest_size=8).digest(), "big"))
    if math.prod(len(pool) for pool in pools) <= _MOST_ENUMERATED:
        every = [c for c in itertools.product(*pools) if _in_order(c, sensors)]
        if len(every) <= layout.sets_per_place:
            return every
        return [every[i] for i in sorted(rng.choice(len(every), layout.sets_per_place, replace=False))]
    drawn: dict[tuple[str, ...], tuple[OpenScene, ...]] = {}
    for _ in range(_DRAWS_PER_SET * layout.sets_per_place):
        combination = _sorted_by_sensor([pool[rng.integers(len(pool))] for pool in pools], sensors)
        fits = all(scene in pool for scene, pool in zip(combination, pools, strict=True))
        if fits and _in_order(combination, sensors) and len(drawn) < layout.sets_per_place:
            drawn[tuple(scene.scene.id for scene in combination)] = combination
    return [drawn[ids] for ids in sorted(drawn)]


def _in_order(scenes: Sequence[OpenScene], sensors: list[str]) -> bool:
    pairs = itertools.combinations(range(len(sensors)), 2)
    return all(_by_date(scenes[i]) < _by_date(scenes[j]) for i, j in pairs if sensors[i] == sensors[j])


def _sorted_by_sensor(scenes: list[OpenScene], sensors: list[str]) -> tuple[OpenScene, ...]:
    waiting = {sensor: sorted((s for s, of in zip(scenes, sensors, strict=True) if of == sensor), key=_by_date) for sensor in set(sensors)}
    return tuple(waiting[sensor].pop(0) for sensor in sensors)


def _planned(layout: Layout, crs: CRS, rect: Rect, scenes: tuple[OpenScene, ...], config: IngestConfig) -> PlannedSet:
    scene_of = {i: scene for numbers, scene in zip(layout.acquisitions(), scenes, strict=True) for i in numbers}
    members = tuple(_member(scene_of[i], slot, rect) for i, slot in enumerate(layout.slots))
    rects = [member.rect for member in members]
    whole = Rect(min(r.left for r in rects), min(r.bottom for r in rects), max(r.right for r in rects), max(r.top for r in rects))
    footprint_deg = to_lonlat(crs, whole.corners())
    splits = {
        "val" if cell_uniform(cell, config.seed) < config.val_share else "train"
        for cell in ground_cells(footprint_deg, config.split_cell_m)
    }
    x, y = rect.centre
    key = f"{layout.name}/{'+'.join(scene.scene.id for scene in scenes)}/{x:.1f},{y:.1f}"
    return PlannedSet(key, layout, crs, members, footprint_deg, splits.pop() if len(splits) == 1 else None)


def _member(scene: OpenScene, slot: Slot, place: Rect) -> Member:
    x, y = place.centre
    if slot.resample != "none":
        half = slot.pixels * slot.gsd_m / 2
        return Member(scene, slot, Rect(x - half, y - half, x + half, y + half), None)
    raster = scene.bands[slot.bands[0]]
    centre_column, centre_row = ~raster.transform @ (x, y)
    column, row = (math.floor(centre - slot.pixels / 2 + 0.5 + 1e-6) for centre in (centre_column, centre_row))
    return Member(scene, slot, _window_rect(raster, column, row, slot.pixels), (column, row))
