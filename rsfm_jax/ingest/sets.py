"""Image sets from overlapping scenes: which members, which pixels, which split. Plans only; nothing is read here.

A place is a window of the first slot's pixel grid. At each place every acquisition of the layout is filled by a scene whose ground
covers the window to within a pixel of the coarsest slot; members without resampling are snapped to their own pixel grid, at most half of
their own pixel away, and the plan keeps where they really lie. Everything that is left out carries a reason, and is counted.

Which scenes can cover which grid's places is found by joins (`rsfm_jax.ingest.join`), so that no scene is compared with all places. Sets
are planned one by one: memory goes with the number of scenes.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
import dataclasses
import math

import numpy as np
from rasterio.crs import CRS

from rsfm_jax.config import IngestConfig
from rsfm_jax.geo import Rect, cell_uniform, ground_cells
from rsfm_jax.ingest.dates import DateRules
from rsfm_jax.ingest.even import draw_evenly, lot
from rsfm_jax.ingest.fitting import by_date, candidates, terrains
from rsfm_jax.ingest.footprints import Systems
from rsfm_jax.ingest.join import UNKNOWN_US, Join, Queries
from rsfm_jax.ingest.offers import Offers, Pool
from rsfm_jax.ingest.places import Places, metric_crs, same_grids, window_rect
from rsfm_jax.ingest.raster import OpenScene, to_lonlat
from rsfm_jax.layouts import Layout, Slot


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of a planned set.

    Attributes:
      scene: The open scene.
      slot: The slot it fills.
      rect: Its ground in the set's coordinate system.
      window: First (column, row) on the native grid, or None when the chip is resampled.
      minus: The terrain whose elevation is taken off, or None.
    """

    scene: OpenScene
    slot: Slot
    rect: Rect
    window: tuple[int, int] | None
    minus: OpenScene | None = None


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


def plan_sets(layout: Layout, scenes: list[OpenScene], config: IngestConfig, left_out: Counter[str] | None = None) -> Iterator[PlannedSet]:
    """Plans all image sets of a layout.

    Args:
      layout: The layout.
      scenes: All scenes.
      config: Seed, split and stride.
      left_out: Counts what is left out by reason, as ``"scene: cloud cover not stated"``, ``"place: no scene of dem covers it"`` or
        ``"set: not drawn for max_sets"``; complete when the iterator has ended.

    Yields:
      The sets, place by place.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    planner = _Planner(layout, scenes, config)
    counts.update(f"scene: {why}" for why in planner.reasons.values())
    if not layout.max_sets:
        yield from planner.sets(counts)
        return
    lonlat_deg, lots = array("d"), array("Q")  # 24 bytes a set
    for plan in planner.sets(Counter()):
        if plan.split is not None:
            lonlat_deg.extend(plan.footprint_deg.mean(axis=0).tolist())
            lots.append(lot(config.seed, plan.key))
    drawn = iter(draw_evenly(np.array(lonlat_deg).reshape(-1, 2), np.array(lots, np.uint64), layout.max_sets))
    for plan in planner.sets(counts):
        if plan.split is None:
            counts["set: touches ground cells of both splits"] += 1
        elif next(drawn):
            yield plan
        else:
            counts["set: not drawn for max_sets"] += 1


class _Planner:
    """The joins of a layout's scenes, and the plan that follows from them."""

    def __init__(self, layout: Layout, scenes: list[OpenScene], config: IngestConfig) -> None:
        self._layout, self._config = layout, config
        found, self.reasons = candidates(layout, scenes)
        self._ranked = sorted({scene.scene.id: scene for pool in found for scene in pool}.values(), key=by_date)
        rank = {scene.scene.id: number for number, scene in enumerate(self._ranked)}
        self._systems = Systems()
        slots = [[layout.slots[i] for i in numbers] for numbers in layout.acquisitions()]
        self._pools = [
            Pool(pool, of, np.array([rank[s.scene.id] for s in pool], np.int64), self._systems)
            for pool, of in zip(found, slots, strict=True)
        ]
        self._minus = sorted({slot.minus for slot in layout.slots if slot.minus})
        bare = [Slot(name, ("elevation",), 1.0, resample="bilinear") for name in self._minus]
        under = [terrains(name, scenes) for name in self._minus]
        self._terrain = [Pool(pool, [slot], np.zeros(0, np.int64), self._systems) for pool, slot in zip(under, bare, strict=True)]
        self._times_us = np.array([time_us(scene) for scene in self._ranked], np.int64)
        dates = (scene.scene.acquired_utc for scene in self._ranked)
        seasons = np.array([-1 if date is None else date.month % 12 // 3 for date in dates], np.int64)
        self._rules = DateRules(layout, self._times_us, seasons, [scene.scene.id for scene in self._ranked])
        self._edge_m = max(slot.gsd_m for slot in layout.slots)  # grids of a product differ by up to a pixel; what is missing is not valid
        self._groups = same_grids(found[0], layout.slots[0], self._systems)
        self._targets = np.array([self._systems.number(metric_crs(found[0][group[0]])) for group in self._groups], np.int64)

    def sets(self, counts: Counter[str]) -> Iterator[PlannedSet]:
        """Plans, grid by grid and place by place."""
        for group, target, met in zip(self._groups, self._targets.tolist(), self._meetings(), strict=True):
            pools, crs = self._pools, self._systems.known[target]
            places = Places(pools[0].scenes[group[0]], self._layout, crs)
            lone = next((pool for pool, positions in zip(self._others(), met, strict=True) if not len(positions)), None)
            if lone is not None:
                counts[_uncovered(lone, lone in self._terrain)] += len(places)
                continue
            everyone = [pools[0], *self._others()]
            offers = [pool.offers(p, target, self._edge_m) for pool, p in zip(everyone, [np.array(group), *met], strict=True)]
            for rect in places:
                yield from self._at(rect, crs, everyone, offers, counts)

    def _others(self) -> list[Pool]:
        return [*self._pools[1:], *self._terrain]

    def _at(self, rect: Rect, crs: CRS, pools: list[Pool], offers: list[Offers], counts: Counter[str]) -> Iterator[PlannedSet]:
        here = [offer.at(rect) for offer in offers]
        lone = next((pool for pool, positions in zip(pools, here, strict=True) if not len(positions)), None)
        if lone is not None:
            counts[_uncovered(lone, lone in self._terrain)] += 1
            return
        of_dates = len(self._pools)
        ranks = [pool.numbers[positions] for pool, positions in zip(self._pools, here[:of_dates], strict=True)]
        combinations = self._rules.draw(ranks, self._config.seed, rect)
        if not combinations:
            counts["place: no combination of the scenes that cover it was found to keep the order and the dates asked"] += 1
        under = {name: pool.scenes[p[0]] for name, pool, p in zip(self._minus, self._terrain, here[of_dates:], strict=True)}
        for combination in combinations:
            yield _planned(self._layout, crs, rect, tuple(self._ranked[number] for number in combination), under, self._config)

    def _meetings(self) -> Iterator[tuple[np.ndarray, ...]]:
        """For each grid and each pool but the first, the positions of the scenes that may cover one of its places."""
        if not self._groups:
            return iter(())
        first = self._pools[0]
        heads = [group[0] for group in self._groups]
        targets = self._targets.tolist()
        rects = [Places(first.scenes[p], self._layout, self._systems.known[t]).ground for p, t in zip(heads, targets, strict=True)]
        ground = np.array([(r.left, r.bottom, r.right, r.top) for r in rects], np.float64)
        prints = first.prints.take(np.array(heads))
        joins = []
        for a, pool in enumerate(self._pools[1:], 1):
            queries = Queries(prints, self._targets, ground, self._spans_us(a))
            joins.append(Join(pool.prints, queries, self._edge_m, not pool.native, self._times_us[pool.numbers]))
        joins += [Join(pool.prints, Queries(prints, self._targets, ground), self._edge_m, True) for pool in self._terrain]
        return zip(*joins, strict=True) if joins else iter([()] * len(heads))

    def _spans_us(self, a: int) -> np.ndarray | None:
        """Times of acquisition ``a`` that can go with any date of each grid, int64 (groups, 2)."""
        reach = self._rules.reach_us(a)
        if reach is None:
            return None
        times_us = [self._times_us[self._pools[0].numbers[group]] for group in self._groups]
        return np.array([(int(of.min()) + reach[0], int(of.max()) + reach[1]) for of in times_us], np.int64)


def time_us(scene: OpenScene) -> int:
    """Acquisition time in whole microseconds since 1970, or `UNKNOWN_US`."""
    acquired_utc = scene.scene.acquired_utc
    return UNKNOWN_US if acquired_utc is None else int(np.datetime64(acquired_utc.replace(tzinfo=None), "us").astype(np.int64))


def _uncovered(pool: Pool, terrain: bool) -> str:
    return f"place: no {'terrain' if terrain else 'scene'} of {pool.slots[0].sensor} covers it"


def _planned(
    layout: Layout, crs: CRS, rect: Rect, scenes: tuple[OpenScene, ...], under: dict[str, OpenScene], config: IngestConfig
) -> PlannedSet:
    scene_of = {i: scene for numbers, scene in zip(layout.acquisitions(), scenes, strict=True) for i in numbers}
    members = tuple(_member(scene_of[i], slot, rect, under.get(slot.minus)) for i, slot in enumerate(layout.slots))
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


def _member(scene: OpenScene, slot: Slot, place: Rect, minus: OpenScene | None) -> Member:
    x, y = place.centre
    if slot.resample != "none":
        half = slot.pixels * slot.gsd_m / 2
        return Member(scene, slot, Rect(x - half, y - half, x + half, y + half), None, minus)
    raster = scene.bands[slot.source_bands[0]]
    centre_column, centre_row = ~raster.transform @ (x, y)
    column, row = (math.floor(centre - slot.pixels / 2 + 0.5 + 1e-6) for centre in (centre_column, centre_row))
    return Member(scene, slot, window_rect(raster, column, row, slot.pixels), (column, row), minus)
