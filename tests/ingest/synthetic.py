"""Open scenes without files, and a planner that compares every place with every scene."""

from collections.abc import Iterator
import datetime
import hashlib
import itertools
import math
import pathlib

import numpy as np
import rasterio
from rasterio.crs import CRS

from rsfm_jax.geo import Rect
from rsfm_jax.ingest.conditions import Conditions
from rsfm_jax.ingest.places import ground_rect, metric_crs
from rsfm_jax.ingest.raster import BandRaster, OpenScene
from rsfm_jax.ingest.scenes import BandSource, Scene
from rsfm_jax.layouts import Layout
from rsfm_jax.sensors import get_sensor

PATH = pathlib.Path("none.tif")
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def made_scene(
    name: str, sensor: str = "dem", day: float | None = 0.0, crs: int = 32631, clouds: float | None = None, **grids: tuple[float, ...]
) -> OpenScene:
    """A scene whose bands have the grids (left, top, pixel size, rows, columns); a day is counted from 2020."""
    registered = get_sensor(sensor)
    bands = {}
    for band, (left, top, gsd, rows, columns) in grids.items():
        source = BandSource(registered.band(band), str(PATH), 1, None, None, None)
        transform = rasterio.Affine(gsd, 0, left, 0, -gsd, top)
        bands[band] = BandRaster(source, 1, "int16", int(rows), int(columns), transform, 1.0, 0.0, None, "nobody")
    date = None if day is None else START + datetime.timedelta(days=day)
    described = Scene(name, registered, date, {b: r.source for b, r in bands.items()}, None, 0.0, PATH, Conditions(cloud_percent=clouds))
    system = CRS.from_epsg(crs)
    return OpenScene(described, system, bands, system.is_projected, system)


def by_date(scene: OpenScene) -> tuple[datetime.datetime, str]:
    return scene.scene.acquired_utc or datetime.datetime.max.replace(tzinfo=datetime.UTC), scene.scene.id


def brute_plan(layout: Layout, scenes: list[OpenScene], seed: int) -> Iterator[tuple[tuple[str, ...], Rect]]:
    """Scene ids and place of every set of scenes that fit; only what a layout asks of single scenes is not looked at."""
    slots = [[layout.slots[i] for i in numbers] for numbers in layout.acquisitions()]
    pools = [sorted((s for s in scenes if s.scene.sensor.name == of[0].sensor), key=by_date) for of in slots]
    edge_m = max(slot.gsd_m for slot in layout.slots)
    name = layout.slots[0].bands[0]
    groups: list[list[OpenScene]] = []
    for scene in pools[0]:
        same = (g for g in groups if g[0].crs == scene.crs and g[0].bands[name].same_grid(scene.bands[name]))
        if (group := next(same, None)) is None:
            groups.append([scene])
        else:
            group.append(scene)
    for group in groups:
        crs = metric_crs(group[0])
        for rect in _windows(group[0], layout, crs):
            here = []
            for of, pool in zip(slots, [group, *pools[1:]], strict=True):
                native = any(slot.resample == "none" for slot in of)
                near = [s for s in pool if s.crs == crs or not native]
                here.append([s for s in near if all(ground_rect(s, slot, crs).contains(rect, edge_m) for slot in of)])
            for combination in brute_draw(layout, here, seed, rect):
                yield tuple(scene.scene.id for scene in combination), rect


def _windows(scene: OpenScene, layout: Layout, crs: CRS) -> Iterator[Rect]:
    slot = layout.slots[0]
    extent_m = slot.pixels * slot.gsd_m
    stride_m = layout.stride_m or extent_m / 2
    ground = ground_rect(scene, slot, crs)
    if slot.resample == "none":
        stride_m = round(stride_m / slot.gsd_m) * slot.gsd_m
    top = ground.top
    while top - extent_m >= ground.bottom - 1e-6:
        left = ground.left
        while left + extent_m <= ground.right + 1e-6:
            yield Rect(left, top - extent_m, left + extent_m, top)
            left += stride_m
        top -= stride_m


def brute_draw(layout: Layout, pools: list[list[OpenScene]], seed: int, rect: Rect) -> list[tuple[OpenScene, ...]]:
    """Every combination that keeps to the layout's dates, or those of them that the seed draws; for few scenes."""
    assert math.prod(map(len, pools)) <= 4096
    slots = [[layout.slots[i] for i in numbers] for numbers in layout.acquisitions()]
    every = [c for c in itertools.product(*pools) if _goes_together(layout, slots, c)]
    if len(every) <= layout.sets_per_place:
        return every
    token = f"{seed}:{layout.name}:{rect.left:.3f}:{rect.top:.3f}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(token, digest_size=8).digest(), "big"))
    return [every[i] for i in sorted(rng.choice(len(every), layout.sets_per_place, replace=False))]


def _goes_together(layout: Layout, slots: list[list], scenes: tuple[OpenScene, ...]) -> bool:
    heads = [of[0] for of in slots]
    dates = [scene.scene.acquired_utc for scene in scenes]
    for i, j in itertools.combinations(range(len(scenes)), 2):
        alike = heads[i].sensor == heads[j].sensor
        same_role = alike and all(getattr(heads[i], f) == getattr(heads[j], f) for f in ("months", "season", "days"))
        if scenes[i] is scenes[j] or (same_role and not by_date(scenes[i]) < by_date(scenes[j])):
            return False
        if heads[i].timeless or heads[j].timeless:
            continue
        if layout.max_days and abs(dates[i] - dates[j]) > datetime.timedelta(days=layout.max_days):
            return False
        if layout.distinct_seasons and alike and dates[i].month % 12 // 3 == dates[j].month % 12 // 3:
            return False
    spans = ((of.days, date) for acquisition, date in zip(slots, dates, strict=True) for of in acquisition if of.days)
    return all(datetime.timedelta(days=least) <= date - dates[0] <= datetime.timedelta(days=most) for (least, most), date in spans)
