"""What layouts ask of dates, seasons and clouds, and what is said of the scenes and places that do not meet it."""

from collections import Counter
import datetime

import numpy as np
import pytest

from rsfm_jax.config import IngestConfig, to_dict
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.fitting import candidates, season
from rsfm_jax.ingest.sets import plan_sets
from rsfm_jax.layouts import Layout, Slot, layout_from_dict
from tests.helpers import scene, write_geotiff, write_scenes_yaml
from tests.ingest.synthetic import brute_plan, made_scene

GRID = (500_000.0, 4_800_000.0, 10.0, 16, 16)  # one place
SOUTH = (500_000.0, 9_000_000.0, 10.0, 16, 16)  # in zone 31 south


def _slot(**more) -> Slot:
    return Slot(**{"sensor": "naip", "bands": ("R",), "gsd_m": 10.0, "pixels": 16, "patch": 4} | more)


def _scenes(*days, crs=32631, grid=GRID):
    return [made_scene(f"s{i}", "naip", day, crs, R=grid) for i, day in enumerate(days)]


def _days(layout, scenes, left_out=None):
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    plans = plan_sets(layout, scenes, IngestConfig(), left_out)
    return {tuple((m.scene.scene.acquired_utc - start) / datetime.timedelta(days=1) for m in plan.members) for plan in plans}


def test_max_days_includes_its_border():
    layout = Layout("near", (_slot(), _slot()), max_days=10.0, sets_per_place=99)
    scenes = _scenes(0.0, 10.0, 20.0 + 1e-6, 25.0)
    assert _days(layout, scenes) == {(0.0, 10.0), (20.0 + 1e-6, 25.0)}


def test_max_days_holds_for_all_members_together():
    layout = Layout("near", (_slot(), _slot(), _slot()), max_days=10.0, sets_per_place=99)
    assert _days(layout, _scenes(0.0, 8.0, 12.0, 18.0)) == {(8.0, 12.0, 18.0)}


def test_days_are_counted_from_the_first_slot():
    layout = Layout("after", (_slot(), _slot(days=(-5.0, 10.0))), sets_per_place=99)
    assert _days(layout, _scenes(0.0, 5.0, 10.0, 30.0)) == {(0.0, 5.0), (0.0, 10.0), (5.0, 10.0), (5.0, 0.0), (10.0, 5.0)}


@pytest.mark.parametrize(
    ("month", "north", "south"),
    [
        (12, "winter", "summer"),
        (2, "winter", "summer"),
        (3, "spring", "autumn"),
        (5, "spring", "autumn"),
        (6, "summer", "winter"),
        (11, "autumn", "spring"),
    ],
)
def test_seasons_turn_around_at_the_equator(month, north, south):
    date = datetime.datetime(2021, month, 15, tzinfo=datetime.UTC)
    assert [season(date, lat_deg) for lat_deg in (45.0, 0.0, -1e-9, -70.0)] == [north, north, south, south]


@pytest.mark.parametrize(("crs", "grid", "day"), [(32631, GRID, 190.0), (32731, SOUTH, 10.0)])
def test_a_summer_slot_takes_the_summer_of_its_hemisphere(crs, grid, day):
    scenes = _scenes(10.0, 100.0, 190.0, 280.0, crs=crs, grid=grid)
    assert _days(Layout("summer", (_slot(season="summer"),), sets_per_place=9), scenes) == {(day,)}
    assert _days(Layout("july", (_slot(months=(7,)),), sets_per_place=9), scenes) == {(190.0,)}


def test_one_member_of_each_season():
    layout = Layout("year", (_slot(),) * 4, distinct_seasons=True, sets_per_place=99)
    days = (10.0, 40.0, 100.0, 190.0, 280.0, 345.0)  # January, February, April, July, October, December
    winters = (10.0, 40.0, 345.0)
    assert _days(layout, _scenes(*days)) == {tuple(sorted((winter, 100.0, 190.0, 280.0))) for winter in winters}


def test_slots_of_different_months_need_not_be_in_order_of_date():
    layout = Layout("two", (_slot(months=(6, 7, 8)), _slot(months=(1,))), sets_per_place=9)
    assert _days(layout, _scenes(10.0, 190.0)) == {(190.0, 10.0)}


def test_a_timeless_member_may_have_no_date():
    grid = {"elevation": (499_900.0, 4_800_100.0, 30.0, 12, 12)}
    scenes = [*_scenes(0.0, 5.0), made_scene("d", day=None, **grid)]
    slots = (_slot(), _slot(), Slot("dem", ("elevation",), 30.0, 4, 2, timeless=True))
    (plan,) = plan_sets(Layout("static", slots, max_days=5.0), scenes, IngestConfig())
    assert [member.scene.scene.id for member in plan.members] == ["s0", "s1", "d"]
    slots[2].timeless = False
    left_out = Counter()
    assert not list(plan_sets(Layout("dated", slots, max_days=5.0), scenes, IngestConfig(), left_out))
    assert left_out == {"scene: acquisition time not stated": 1, "place: no scene of dem covers it": 1}


def test_clouds_are_limited_and_must_be_stated():
    clouds = {"clear": 5.0, "limit": 20.0, "hazy": 20.5, "silent": None}
    scenes = [made_scene(name, "naip", 0.0, clouds=percent, R=GRID) for name, percent in clouds.items()]
    for layout in (Layout("a", (_slot(max_cloud_percent=20.0),)), Layout("b", (_slot(max_cloud_percent=60.0),), max_cloud_percent=20.0)):
        (fitting,), reasons = candidates(layout, scenes)
        assert {scene.scene.id for scene in fitting} == {"clear", "limit"}
        assert reasons == {"hazy": "has more than 20 % clouds", "silent": "cloud cover not stated"}
    (fitting,), reasons = candidates(Layout("any", (_slot(),)), scenes)
    assert len(fitting) == 4
    assert reasons == {}


@pytest.mark.parametrize(("stated", "read"), [(None, None), (0, 0.0), (12.5, 12.5), (100, 100.0)])
def test_clouds_are_read_from_the_description(tmp_path, stated, read):
    write_geotiff(tmp_path / "dem.tif", np.ones((8, 8), np.int16))
    (found,) = find_scenes(write_scenes_yaml(tmp_path, scene(cloud_percent=stated)))
    assert found.conditions.cloud_percent == read


@pytest.mark.parametrize("stated", [-1, 100.5])
def test_impossible_clouds_are_refused(tmp_path, stated):
    write_geotiff(tmp_path / "dem.tif", np.ones((8, 8), np.int16))
    with pytest.raises(InputError, match=rf"scene 'one': field 'cloud_percent' is {stated:g}, it must be a number from 0 to 100"):
        find_scenes(write_scenes_yaml(tmp_path, scene(cloud_percent=stated)))


def test_a_layouts_cloud_limit_does_not_ask_radar_and_terrain():
    layout = Layout("pair", (_slot(), Slot("dem", ("elevation",), 30.0, 4, 2)), max_cloud_percent=20.0)
    scenes = [made_scene("s", "naip", 0.0, clouds=0.0, R=GRID), made_scene("d", elevation=(499_900.0, 4_800_100.0, 30.0, 12, 12))]
    assert len(list(plan_sets(layout, scenes, IngestConfig()))) == 1


def test_every_place_without_a_set_is_counted():
    grid = (500_000.0, 4_800_000.0, 10.0, 16, 48)
    scenes = [made_scene("a", "naip", 0.0, R=grid), made_scene("b", "naip", 50.0, R=grid)]
    scenes += [made_scene("d", elevation=(499_990.0, 4_800_010.0, 30.0, 6, 8))]
    slots = (_slot(), Slot("dem", ("elevation",), 30.0, 4, 2))
    for layout, wanted in (
        (Layout("one", slots), {"place: no scene of dem covers it": 3}),
        (Layout("two", (_slot(), *slots), max_days=10.0), {}),
        (Layout("none", (*slots, Slot("dsm", ("elevation",), 1.0, 160, 4))), {"place: no scene of dsm covers it": 5}),
    ):
        left_out = Counter()
        plans = list(plan_sets(layout, scenes, IngestConfig(), left_out))
        if layout.name == "two":
            assert sum(left_out.values()) == 5
            assert left_out["place: no combination of the scenes that cover it was found to keep the order and the dates asked"] == 2
        else:
            assert left_out == wanted
            assert len(plans) + sum(wanted.values()) == 5


def test_long_series_are_drawn_within_the_window():
    layout = Layout("long", (_slot(),) * 3, max_days=40.0, sets_per_place=20)
    scenes = _scenes(*(float(day) for day in range(600)))
    drawn = _days(layout, scenes)
    assert len(drawn) == 20
    assert all(a < b < c <= a + 40 for a, b, c in drawn)
    assert max(a for a, _, _ in drawn) - min(a for a, _, _ in drawn) > 200
    assert drawn == _days(layout, scenes[::-1])


def test_a_long_series_without_rules_is_drawn_as_ever():
    """What this draw gave before joins were made by trees."""
    layout = Layout("long", (_slot(),) * 3, sets_per_place=5)
    plans = list(plan_sets(layout, _scenes(*(float(day) for day in range(40))), IngestConfig(seed=3)))
    assert [plan.key for plan in plans] == [
        f"long/{ids}/500080.0,4799920.0" for ids in ("s13+s21+s34", "s2+s19+s37", "s2+s4+s18", "s2+s4+s20", "s8+s18+s30")
    ]


@pytest.mark.parametrize("most", [1, 7, 40])
def test_max_sets_draws_by_the_seed_and_evenly(most):
    grid = (500_000.0, 4_800_000.0, 10.0, 320, 320)
    scenes = [made_scene("a", "naip", 0.0, R=grid), made_scene("b", "naip", 1.0, R=(500_000.0, 4_800_000.0, 10.0, 320, 32))]
    layout = Layout("few", (_slot(),), stride_m=160.0, max_sets=most, sets_per_place=9)
    left_out = Counter()
    plans = list(plan_sets(layout, scenes, IngestConfig(), left_out))
    every = [plan.key for plan in plan_sets(Layout("few", (_slot(),), stride_m=160.0, sets_per_place=9), scenes, IngestConfig())]
    keys = [plan.key for plan in plans]
    assert len(keys) == most
    assert left_out == {"set: not drawn for max_sets": len(every) - most}
    assert [key for key in every if key in keys] == keys
    assert keys == [plan.key for plan in plan_sets(layout, scenes, IngestConfig())]
    assert keys != [plan.key for plan in plan_sets(layout, scenes, IngestConfig(seed=5))]
    if most == 40:
        xy = [plan.members[0].rect.centre for plan in plans]
        quarters = Counter((x > 501_600.0, y > 4_798_400.0) for x, y in xy)
        assert min(quarters.values()) >= 6


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("a", (_slot(months=(0,)),)), r"slots\[0\]\.months=\(0,\): must be different numbers from 1 to 12"),
        (Layout("a", (_slot(months=(3, 3)),)), r"slots\[0\]\.months=\(3, 3\): must be different"),
        (Layout("a", (_slot(season="sumer"),)), r"slots\[0\]\.season='sumer'.*did you mean 'summer'"),
        (Layout("a", (_slot(season="summer", months=(7,)),)), r"slots\[0\]\.season='summer': must be empty where months are given"),
        (Layout("a", (_slot(), _slot(days=(5.0,)))), r"slots\[1\]\.days=\(5\.0,\): must be empty, or the least and the most"),
        (Layout("a", (_slot(), _slot(days=(5.0, -5.0)))), r"slots\[1\]\.days=\(5\.0, -5\.0\): must be empty, or the least"),
        (Layout("a", (_slot(days=(0.0, 5.0)),)), r"slots\[0\]\.days=.*must be empty in the first slot's acquisition"),
        (Layout("a", (_slot(max_cloud_percent=101.0),)), r"slots\[0\]\.max_cloud_percent=101\.0: must be between 0 and 100"),
        (Layout("a", (_slot(),), max_cloud_percent=-1.0), r"config\.l\.max_cloud_percent=-1\.0: must be between 0 and 100"),
        (
            Layout("a", (_slot(sensor="dem", bands=("elevation",), max_cloud_percent=5.0),)),
            r"max_cloud_percent=5\.0: must be 100, for clouds do not hide dem",
        ),
        (Layout("a", (_slot(),), max_days=-1.0), r"config\.l\.max_days=-1\.0: must be zero or a positive number of days"),
        (Layout("a", (_slot(),), max_sets=-1), r"config\.l\.max_sets=-1: must be zero or positive"),
        (Layout("a", (_slot(),) * 5, distinct_seasons=True), r"distinct_seasons=5: must be asked of at most four acquisitions"),
        (Layout("a", (_slot(),), extent_m=-1.0), r"config\.l\.extent_m=-1\.0: must be zero or a positive number of metres"),
        (Layout("a", (_slot(),), extent_m=200.0), r"slots\[0\]\.pixels=16: must be within half a pixel of extent_m=200 \(it makes 160 m"),
        (Layout("a", (_slot(pixels=0),), extent_m=165.0), r"pixels=0: must be given, for extent_m=165 is not a whole number of pixels"),
        (Layout("a", (_slot(minus="dem"),)), r"slots\[0\]\.bands=\('R',\): must be \('height',\) of a sensor of surfaces"),
        (Layout("a", (_slot(sensor="dsm", bands=("height",), minus="naip"),)), r"minus='naip': must be a sensor with a band 'elevation'"),
    ],
)
def test_a_wrong_rule_is_named(layout, message):
    with pytest.raises(InputError, match=message):
        layout.validate("l")


def test_an_extent_gives_the_slots_their_pixels():
    layout = Layout("extent", (_slot(pixels=0), _slot(sensor="dem", bands=("elevation",), gsd_m=20.0, pixels=0)), extent_m=320.0)
    layout.validate("l")
    assert [slot.pixels for slot in layout.slots] == [32, 16]
    Layout("near", (_slot(pixels=32), _slot(gsd_m=30.0, pixels=11, patch=11)), extent_m=320.0).validate("l")


def test_files_say_what_is_asked_and_nothing_of_what_is_not():
    plain = Layout("plain", (_slot(),))
    assert set(to_dict(plain)) == {"name", "slots", "stride_m", "sets_per_place"}
    assert set(to_dict(plain)["slots"][0]) == {"sensor", "bands", "gsd_m", "pixels", "patch", "acquisition", "resample"}
    asked = Layout("asked", (_slot(), _slot(months=(6, 7), days=(-3.0, 3.0), timeless=True)), max_days=3.0, max_sets=5, extent_m=160.0)
    assert layout_from_dict(to_dict(asked)) == asked
    assert to_dict(asked)["slots"][1]["months"] == [6, 7]


def test_the_brute_planner_knows_the_rules():
    scenes = _scenes(0.0, 8.0, 12.0, 18.0)
    layout = Layout("near", (_slot(), _slot(), _slot()), max_days=10.0, sets_per_place=99)
    assert [ids for ids, _ in brute_plan(layout, scenes, 0)] == [("s1", "s2", "s3")]
