import dataclasses

import numpy as np
import pytest
import rasterio

from configs import demo
from rsfm_jax.config import IngestConfig
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.draft import draft_layouts
from rsfm_jax.ingest.raster import open_scene, to_lonlat
from rsfm_jax.ingest.sets import candidates, plan_sets
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import one_slot, scene, write_geotiff, write_scenes_yaml

DAYS = ("2020-03-01", "2020-01-01", "2020-02-01", "unknown")  # not in order
NO_SPLIT = IngestConfig()


def _open(folder, *scenes):
    return [open_scene(found) for found in find_scenes(write_scenes_yaml(folder, *scenes))]


@pytest.fixture
def series(tmp_path):
    """Four dates of one place, 40 x 48 pixels of 10 m."""
    write_geotiff(tmp_path / "dem.tif", np.ones((40, 48), np.int16))
    return _open(tmp_path, *(scene(id=f"day{i}", acquired_utc=day) for i, day in enumerate(DAYS)))


@pytest.fixture(scope="module")
def demo_scenes(repo):
    return [open_scene(found) for found in find_scenes(repo / "examples" / "scenes")]


def _dates(count, **more):
    slot = Slot("dem", ("elevation",), 10.0, pixels=16, patch=4)
    return Layout("dates", (slot,) * count, **more)


def _centres(plans):
    return [plan.members[0].rect.centre for plan in plans]


def test_windows_cover_the_grid_at_the_stride(series):
    plans = list(plan_sets(one_slot(pixels=16), series[:1], NO_SPLIT))
    windows = [plan.members[0].window for plan in plans]
    assert windows == [(column, row) for row in (0, 8, 16, 24) for column in (0, 8, 16, 24, 32)]
    assert len({plan.key for plan in plans}) == len(plans)
    apart = [plan.members[0].window for plan in plan_sets(one_slot(pixels=16, stride_m=160.0), series[:1], NO_SPLIT)]
    assert apart == [(column, row) for row in (0, 16) for column in (0, 16, 32)]


def test_members_of_one_sensor_are_distinct_scenes_by_date(series):
    plans = list(plan_sets(_dates(3, sets_per_place=99), series, NO_SPLIT))
    combinations = {tuple(member.scene.scene.id for member in plan.members) for plan in plans}
    # day1 < day2 < day0 < unknown
    assert combinations == {("day1", "day2", "day0"), ("day1", "day2", "day3"), ("day1", "day0", "day3"), ("day2", "day0", "day3")}
    assert len(plans) == 20 * 4


def test_slots_of_one_acquisition_share_a_scene(demo_scenes):
    for layout in demo.layouts():
        for plan in plan_sets(layout, demo_scenes, NO_SPLIT):
            scenes = [{plan.members[i].scene.scene.id for i in numbers} for numbers in layout.acquisitions()]
            assert all(len(ids) == 1 for ids in scenes)
            assert len(set.union(*scenes)) == len(scenes)


def test_a_series_on_one_grid_has_the_same_places_for_every_combination(series):
    places = {}
    for plan in plan_sets(_dates(2, sets_per_place=99), series, NO_SPLIT):
        assert len({member.rect for member in plan.members}) == 1
        assert len({member.window for member in plan.members}) == 1
        places.setdefault(tuple(member.scene.scene.id for member in plan.members), []).append(plan.members[0].rect)
    assert len(places) == 6
    first, *others = places.values()
    assert len(first) == 20
    assert all(rects == first for rects in others)


def test_sets_per_place_are_drawn_by_the_seed(series):
    def keys(seed):
        return [plan.key for plan in plan_sets(_dates(2, sets_per_place=2), series, IngestConfig(seed=seed))]

    assert keys(0) == keys(0)
    assert keys(0) != keys(1)
    assert len(keys(0)) == len(set(keys(0))) == 20 * 2


def test_the_draw_at_a_place_does_not_depend_on_other_places(series):
    layout = _dates(2, sets_per_place=2)
    sparse = dataclasses.replace(layout, stride_m=160.0)
    every, some = ({plan.key for plan in plan_sets(each, series, NO_SPLIT)} for each in (layout, sparse))
    assert some < every


def test_members_snap_to_their_own_grid_and_say_where_they_are(tmp_path):
    write_geotiff(tmp_path / "fine.tif", np.ones((80, 80), np.uint8), gsd=10)
    write_geotiff(tmp_path / "coarse.tif", np.ones((30, 30), np.uint8), gsd=30, left=500_000 - 13, top=4_800_000 + 22)
    scenes = _open(
        tmp_path, scene(id="f", sensor="naip", bands={"R": "fine.tif"}), scene(id="c", sensor="dem", bands={"elevation": "coarse.tif"})
    )
    layout = Layout("pair", (Slot("naip", ("R",), 10.0, 24, 4), Slot("dem", ("elevation",), 30.0, 8, 2)), stride_m=50.0)
    plans = list(plan_sets(layout, scenes, NO_SPLIT))
    assert len(plans) == 12 * 12
    for plan in plans:
        for member in plan.members:
            raster = next(iter(member.scene.bands.values()))
            column, row = member.window
            assert (member.rect.left, member.rect.top) == pytest.approx(raster.transform @ (column, row))
            assert member.rect.width_m == pytest.approx(member.slot.pixels * member.slot.gsd_m)
        (x0, y0), (x1, y1) = (member.rect.centre for member in plan.members)
        assert abs(x0 - x1) <= 15 + 1e-6
        assert abs(y0 - y1) <= 15 + 1e-6
    assert max(abs(p.members[0].rect.centre[0] - p.members[1].rect.centre[0]) for p in plans) > 5  # the snapping was needed


@pytest.mark.parametrize(
    ("grid", "slot", "reason"),
    [
        ({}, {"gsd_m": 20.0}, "has a GSD of 10 m, the slot 20 m"),
        ({"crs": "EPSG:4326", "left": 3, "top": 43, "gsd": 1e-4}, {}, "not in a projected coordinate system in metres"),
        ({"transform": rasterio.Affine(10, 1, 500_000, 1, -10, 4_800_000)}, {}, "has a rotated grid"),
    ],
)
def test_a_scene_that_does_not_fit_has_a_reason(tmp_path, grid, slot, reason):
    write_geotiff(tmp_path / "dem.tif", np.ones((40, 40), np.int16), **grid)
    scenes = _open(tmp_path, scene())
    (fitting,), reasons = candidates(one_slot(**slot), scenes)
    assert fitting == []
    assert reason in reasons["one"]
    (fitting,), reasons = candidates(one_slot(**slot, resample="bilinear"), scenes)
    assert fitting == scenes
    assert reasons == {}


def test_a_scene_without_a_band_of_the_slot_does_not_fit(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.ones((40, 40), np.uint8))
    scenes = _open(tmp_path, scene(sensor="naip", bands={"R": "red.tif"}))
    (fitting,), reasons = candidates(one_slot("naip", ("R", "N")), scenes)
    assert fitting == []
    assert reasons == {"one": "has no band N"}


def test_footprints_are_the_ground_of_the_members(series):
    for plan in plan_sets(one_slot(), series[:1], NO_SPLIT):
        assert plan.footprint_deg == pytest.approx(to_lonlat(plan.crs, plan.members[0].rect.corners()))
        assert plan.split == "train"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_ground_is_in_two_splits(demo_scenes, seed):
    config = IngestConfig(val_share=0.3, split_cell_m=1500.0, seed=seed)
    boxes = {"train": [], "val": [], None: []}
    for layout in demo.layouts():
        for plan in plan_sets(layout, demo_scenes, config):
            boxes[plan.split].append((*plan.footprint_deg.min(axis=0), *plan.footprint_deg.max(axis=0)))
    assert all(len(found) > 20 for found in boxes.values())
    train, val = (np.array(boxes[split])[:, None] for split in ("train", "val"))
    val = val.swapaxes(0, 1)
    apart = (train[..., 0] > val[..., 2]) | (train[..., 2] < val[..., 0]) | (train[..., 1] > val[..., 3]) | (train[..., 3] < val[..., 1])
    assert apart.all()


def test_drafted_layouts_are_valid_and_use_every_sensor(demo_scenes):
    layouts = draft_layouts(demo_scenes)
    IngestConfig(layouts=layouts).validate()
    assert {slot.sensor for layout in layouts for slot in layout.slots} == {found.scene.sensor.name for found in demo_scenes}
    for layout in layouts:
        assert next(plan_sets(layout, demo_scenes, NO_SPLIT), None) is not None
        extents = [slot.pixels * slot.gsd_m for slot in layout.slots]
        assert max(extents) <= 1.3 * min(extents)
