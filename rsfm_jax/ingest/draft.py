"""Drafts layouts from the scenes themselves, for a folder that comes without a config.

Scenes whose ground overlaps form a group; each combination of sensors found among the groups gives one layout. Every native grid of a
sensor becomes a slot of its own, so nothing is resampled unless a scene has no north-up grid in metres.
"""

import math

import numpy as np
import shapely

from rsfm_jax.ingest.footprints import Systems, footprints
from rsfm_jax.ingest.places import metric_crs
from rsfm_jax.ingest.raster import OpenScene, rect_in, to_lonlat
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
    for group in overlapping(scenes):
        layout = _draft(group)
        if layout is not None:
            layouts.setdefault(tuple((s.sensor, s.bands, s.gsd_m, s.pixels, s.acquisition) for s in layout.slots), layout)
    named: dict[str, int] = {}
    for layout in layouts.values():
        named[layout.name] = named.get(layout.name, 0) + 1
        if named[layout.name] > 1:
            layout.name += f"_{named[layout.name]}"
    return tuple(layouts.values())


def overlapping(scenes: list[OpenScene]) -> list[list[OpenScene]]:
    """Groups scenes that meet on the ground, directly or through others.

    Boxes are those of the corners in longitude and latitude; one that crosses the antimeridian is two, one around a pole goes all around.

    Args:
      scenes: Open scenes.

    Returns:
      The groups, in order of their last scenes.
    """
    boxes, owner = _boxes_deg(scenes)
    boxes, same = np.unique(boxes, axis=0, return_inverse=True)  # a series is one box
    tree = shapely.STRtree(shapely.box(*boxes.T))
    group = list(range(len(boxes)))  # each box points to one of its group, at last to the first
    for i, (west, south, east, north) in enumerate(boxes.tolist()):
        near = tree.query(shapely.box(west, south, east, north))
        near = near[(boxes[near, 0] < east) & (boxes[near, 2] > west) & (boxes[near, 1] < north) & (boxes[near, 3] > south)]
        for j in near[near < i].tolist():
            _merge(group, i, j)
    first = list(range(len(scenes)))
    seen: dict[int, int] = {}
    for box, scene in zip(same.ravel().tolist(), owner.tolist(), strict=True):
        _merge(first, seen.setdefault(_head(group, box), scene), scene)
    members: dict[int, list[int]] = {}
    for i in range(len(scenes)):
        members.setdefault(_head(first, i), []).append(i)
    return [[scenes[i] for i in of] for of in sorted(members.values(), key=lambda of: of[-1])]


def _boxes_deg(scenes: list[OpenScene]) -> tuple[np.ndarray, np.ndarray]:
    """West, south, east and north of the scenes' boxes, float64 (n, 4), and whose each is, int64 (n,)."""
    grounds = [(scene.crs, next(iter(scene.bands.values())).rect) for scene in scenes]
    prints = footprints(Systems(), grounds)
    points_deg = np.zeros((len(scenes), 5, 2))
    for number in np.unique(prints.system):
        members = np.flatnonzero(prints.system == number)
        points = np.stack([[*grounds[i][1].corners(), grounds[i][1].centre] for i in members.tolist()])
        points_deg[members] = to_lonlat(prints.systems.known[number], points.reshape(-1, 2)).reshape(-1, 5, 2)
    corners_deg = points_deg[:, :4]
    (west, south), (east, north) = corners_deg.min(axis=1).T, corners_deg.max(axis=1).T
    lon = np.sort(points_deg[..., 0], axis=1)
    between, around = np.diff(lon, axis=1).max(axis=1), lon[:, 0] + 360.0 - lon[:, -1]
    projected = np.array([crs.is_projected for crs in prints.systems.known])[prints.system]
    across = projected & (between > np.maximum(around, 180.0))
    polar = projected & (np.maximum(between, around) <= 180.0)
    west, east = np.where(polar, -180.0, west), np.where(polar, 180.0, east)
    south, north = np.where(polar & (south < 0), -90.0, south), np.where(polar & (north > 0), 90.0, north)
    eastern = np.where(corners_deg[..., 0] > 0, corners_deg[..., 0], 180.0).min(axis=1)
    western = np.where(corners_deg[..., 0] <= 0, corners_deg[..., 0], -180.0).max(axis=1)
    boxes = np.column_stack([np.where(across, eastern, west), south, np.where(across, 180.0, east), north])
    beyond = np.column_stack([np.full(len(scenes), -180.0), south, western, north])[across]
    return np.concatenate([boxes, beyond]), np.concatenate([np.arange(len(scenes)), np.flatnonzero(across)])


def _head(group: list[int], i: int) -> int:
    while group[i] != i:
        group[i] = i = group[group[i]]
    return i


def _merge(group: list[int], i: int, j: int) -> None:
    low, high = sorted((_head(group, i), _head(group, j)))
    group[high] = low


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
