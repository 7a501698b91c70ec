"""Drafts layouts from the scenes themselves, for a folder that comes without a config.

Scenes whose ground overlaps form a group; each combination of sensors found among the groups gives one layout. Every native grid of a
sensor becomes a slot of its own, so nothing is resampled unless a scene has no north-up grid in metres.
"""

import math

from rsfm_jax.ingest.raster import OpenScene, rect_in, to_lonlat
from rsfm_jax.ingest.places import metric_crs
from rsfm_jax.layouts import Layout, Slot

_MOST_SLOTS = 6
_LEAST_PIXELS = 8  # a smaller scene is left out, and has its reason in the manifest
_CHIP_PIXELS = 64  # of the finest slot, where the scenes are large enough


def draft_layouts(scenes: list[OpenScene]) -> tuple[Layout, ...]:
    """Drafts layouts for all scenes large enough for a chip of 8 pixels.

    Args:
      scenes: Open scenes.

    Returns:
      One layout for each combination of sensors that share ground, in order of first appearance.
    """
    layouts: dict[tuple, Layout] = {}
    for group in _overlapping(scenes):
        layout = _draft(group)
        if layout is not None:
            layouts.setdefault(tuple((s.sensor, s.bands, s.gsd_m, s.pixels, s.acquisition) for s in layout.slots), layout)
    named: dict[str, int] = {}
    for layout in layouts.values():
        named[layout.name] = named.get(layout.name, 0) + 1
        if named[layout.name] > 1:
            layout.name += f"_{named[layout.name]}"
    return tuple(layouts.values())


def _overlapping(scenes: list[OpenScene]) -> list[list[OpenScene]]:
    """Groups scenes that meet on the ground, directly or through others."""
    boxes = []
    for scene in scenes:
        corners = to_lonlat(scene.crs, next(iter(scene.bands.values())).rect.corners())
        boxes.append((*corners.min(axis=0), *corners.max(axis=0)))
    groups: list[list[int]] = []
    for i, (west, south, east, north) in enumerate(boxes):
        meets = [
            g for g in groups if any(boxes[j][0] < east and boxes[j][2] > west and boxes[j][1] < north and boxes[j][3] > south for j in g)
        ]
        groups = [g for g in groups if g not in meets] + [[j for g in meets for j in g] + [i]]
    return [[scenes[i] for i in sorted(group)] for group in groups]


def _grids(scene: OpenScene, wanted: set[str]) -> list[tuple[float, str, tuple[str, ...]]]:
    """Native grids of a scene's wanted bands, finest first, as (GSD in metres, resampling, band names)."""
    crs = metric_crs(scene)
    grids: list[tuple[float, str, list[str]]] = []
    for name in (name for name in scene.bands if name in wanted):
        raster = scene.bands[name]
        native = scene.metric and raster.north_up
        side = rect_in(scene.crs, raster.rect, crs)
        gsd_m = raster.gsd_m if native else float(f"{math.sqrt(side.width_m * side.height_m / raster.width / raster.height):.3g}")
        same = (g for g in grids if scene.bands[g[2][0]].same_grid(raster))
        if (grid := next(same, None)) is not None:
            grid[2].append(name)
        else:
            grids.append((gsd_m, "none" if native else "bilinear", [name]))
    return sorted((gsd_m, resample, tuple(names)) for gsd_m, resample, names in grids)


def _draft(group: list[OpenScene]) -> Layout | None:
    large = [scene for scene in group if all(min(r.width, r.height) >= _LEAST_PIXELS for r in scene.bands.values())]
    if not large:
        return None
    per_sensor: dict[str, list[OpenScene]] = {}
    for scene in large:
        per_sensor.setdefault(scene.scene.sensor.name, []).append(scene)
    grids = {name: _grids(scenes[0], set.intersection(*(set(s.bands) for s in scenes))) for name, scenes in per_sensor.items()}
    grids = {name: of_sensor for name, of_sensor in grids.items() if of_sensor}
    if not grids:
        return None
    finest = min(grid[0][0] for grid in grids.values())
    smallest_m = min(_smallest_side_m(scene) for scene in large)
    extent_m = min(_CHIP_PIXELS * finest, smallest_m)
    slots: list[Slot] = []
    for name in sorted(grids, key=lambda name: grids[name][0][0]):
        dates = min(len(per_sensor[name]), 3) if len(grids) == 1 else 1
        for date in range(dates):
            for gsd_m, resample, bands in grids[name]:
                pixels = int(extent_m / gsd_m + 1e-6)
                patch = next((p for p in (8, 4, 2) if pixels >= 4 * p), 0)
                if patch and len(slots) < _MOST_SLOTS:
                    slots.append(Slot(name, bands, gsd_m, pixels // patch * patch, patch, f"{name}_{date}", resample))
    if not slots:
        return None
    series = max(len(scenes) for scenes in per_sensor.values())
    sets_per_place = max(1, series // (3 if len(grids) == 1 else 1))
    return Layout("_".join(sorted({slot.sensor for slot in slots})), tuple(slots), sets_per_place=sets_per_place)


def _smallest_side_m(scene: OpenScene) -> float:
    crs = metric_crs(scene)
    rects = [rect_in(scene.crs, raster.rect, crs) for raster in scene.bands.values()]
    return min(min(rect.width_m, rect.height_m) for rect in rects)
