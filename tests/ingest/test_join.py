"""The planner with its trees against one that compares every place with every scene; joins at the ends of the map."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from rsfm_jax.config import IngestConfig
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.footprints import Systems, boxes_in, cells, footprints
from rsfm_jax.ingest.join import Join, Queries
from rsfm_jax.ingest.places import same_grids
from rsfm_jax.ingest.raster import rect_in
from rsfm_jax.ingest.sets import plan_sets
from rsfm_jax.layouts import Layout, Slot
from tests.ingest.synthetic import brute_plan, made_scene

FINE = Slot("naip", ("R",), 10.0, 16, 4)
COARSE = Slot("dem", ("elevation",), 30.0, 6, 2)
LAYOUTS = [
    Layout("one", (FINE,), stride_m=80.0),
    Layout("dates", (FINE, FINE, FINE), sets_per_place=2),
    Layout("pair", (FINE, COARSE), sets_per_place=3),
    Layout("resampled", (FINE, Slot("dem", ("elevation",), 20.0, 8, 2, resample="bilinear")), sets_per_place=3),
    Layout("from_degrees", (Slot("dem", ("elevation",), 20.0, 8, 2, resample="bilinear"), FINE), stride_m=70.0),
    Layout("close", (FINE, FINE, COARSE), max_days=20.0, sets_per_place=5),
    Layout("after", (FINE, Slot("naip", ("R",), 10.0, 16, 4, days=(-10.0, 30.0)), COARSE), sets_per_place=5),
    Layout("seasons", (FINE, FINE, Slot("dem", ("elevation",), 30.0, 6, 2, timeless=True)), distinct_seasons=True, sets_per_place=5),
]
DAYS = st.sampled_from([0.0, 5.0, 20.0, 20.0 + 1e-9, 40.0, 95.0, 170.0, 290.0])


@st.composite
def _scenes(draw):
    scenes = []
    for i in range(draw(st.integers(1, 5))):
        left, top = (10.0 * draw(st.integers(0, 24)) + draw(st.sampled_from([0.0, 3.0, 5e-7])) for _ in range(2))
        rows, columns = draw(st.integers(15, 26)), draw(st.integers(15, 26))
        name = f"fine{draw(st.integers(0, 9))}_{i}"
        scenes.append(made_scene(name, "naip", draw(DAYS), R=(499_900.0 + left, 4_800_000.0 + top, 10.0, rows, columns)))
        if draw(st.booleans()):  # another date of the same grid
            scenes.append(made_scene(f"again{i}", "naip", draw(DAYS), R=(499_900.0 + left, 4_800_000.0 + top, 10.0, rows, columns)))
    for i in range(draw(st.integers(0, 4))):
        day = draw(DAYS)
        match draw(st.sampled_from(["own", "zone", "degrees", "polar"])):
            case "own":
                left, top = (30.0 * draw(st.integers(-3, 6)) for _ in range(2))
                scenes.append(made_scene(f"dem{i}", day=day, elevation=(499_900.0 + left, 4_800_100.0 + top, 30.0, 12, 14)))
            case "zone":
                centre = transform(CRS.from_epsg(32631), CRS.from_epsg(32632), [500_100.0], [4_800_000.0])
                corner = centre[0][0] - 300.0 + 10 * draw(st.integers(-20, 20)), centre[1][0] + 300.0
                scenes.append(made_scene(f"dem{i}", day=day, crs=32632, elevation=(*corner, 20.0, 30, 30)))
            case "degrees":
                corner = 3.0 - 2e-3 + 2e-4 * draw(st.integers(-10, 10)), 43.352 + 2e-4 * draw(st.integers(-10, 10))
                scenes.append(made_scene(f"dem{i}", day=day, crs=4326, elevation=(*corner, 2e-4, 26, 30)))
            case "polar":  # rotated by 48 degrees: its box in UTM is twice its ground
                centre = transform(CRS.from_epsg(32631), CRS.from_epsg(3413), [500_100.0], [4_800_000.0])
                corner = centre[0][0] - 150.0 + 10 * draw(st.integers(-25, 25)), centre[1][0] + 150.0
                scenes.append(made_scene(f"dem{i}", day=day, crs=3413, elevation=(*corner, 20.0, 15, 15)))
    return draw(st.permutations(scenes))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@settings(max_examples=25, deadline=None)
@given(scenes=_scenes(), seed=st.integers(0, 3))
def test_plans_are_those_of_a_planner_that_compares_everything(layout, scenes, seed):
    layout.validate("layout")
    wanted = list(brute_plan(layout, scenes, seed))
    plans = list(plan_sets(layout, scenes, IngestConfig(seed=seed)))
    acquisitions = [numbers[0] for numbers in layout.acquisitions()]
    assert [tuple(plan.members[i].scene.scene.id for i in acquisitions) for plan in plans] == [ids for ids, _ in wanted]
    for plan, (ids, rect) in zip(plans, wanted, strict=True):
        x, y = rect.centre
        assert plan.key == f"{layout.name}/{'+'.join(ids)}/{x:.1f},{y:.1f}"


def test_the_comparison_is_not_empty():
    """The strategies above must make sets of every layout, else nothing was compared."""
    scenes = [made_scene(f"f{i}", "naip", day, R=(500_000.0, 4_800_000.0, 10.0, 20, 20)) for i, day in enumerate((0, 20, 100))]
    scenes += [made_scene("d", day=5.0, elevation=(499_900.0, 4_800_100.0, 30.0, 20, 20))]
    for layout in LAYOUTS:
        assert next(plan_sets(layout, scenes, IngestConfig()), None) is not None, layout.name


def test_grids_a_hundredth_of_a_pixel_apart_are_one_and_the_first_that_fits_takes_a_scene():
    left = 16 * 31_250.0  # where two bins meet
    lefts = (left, left + 0.09, left + 0.18, left - 0.09, left + 10, left + 0.27, left - 0.17)
    scenes = [made_scene(f"s{i}", elevation=(left, 4_800_000.0, 10.0, 8, 8)) for i, left in enumerate(lefts)]
    assert same_grids(scenes, COARSE, Systems()) == [[0, 1, 3], [2, 5], [4], [6]]
    other = [made_scene(f"s{crs}", crs=crs, elevation=(500_000.0, 4_800_000.0, 10.0, 8, 8)) for crs in (32631, 32632, 32631)]
    assert same_grids(other, COARSE, Systems()) == [[0, 2], [1]]


def _grounds(rng, count):
    """Rectangles around one of some points, in one of the systems that map it: UTM zones, polar projections and degrees."""
    points = {  # longitude, latitude: systems in metres
        (180.0, 10.0): (32660, 32601),
        (-180.0, -66.0): (32760, 32701, 3031),
        (0.0, 90.0): (3413, 3995),
        (77.0, -90.0): (3031, 3976),
        (6.0, 45.0): (32631, 32632),
        (6.0, 83.5): (32631, 32632, 3413),
    }
    found = []
    for _ in range(count):
        (lon, lat), systems = list(points.items())[rng.integers(len(points))]
        side_m = float(10 ** rng.uniform(3.5, 5.2))
        shift = rng.uniform(-2, 1, 2) * side_m
        crs = CRS.from_epsg(int(rng.choice([*systems, 4326])))
        if crs.is_projected:
            (x,), (y,) = transform(CRS.from_epsg(4326), crs, [lon], [lat])
            found.append((crs, Rect(x + shift[0], y + shift[1], x + shift[0] + side_m, y + shift[1] + side_m)))
        else:
            side = side_m / 111e3
            west = (lon + shift[0] / 111e3 / max(np.cos(np.radians(lat)), 0.02) + 180) % 360 - 180
            south = min(lat + shift[1] / 111e3, 90 - side) if lat > -90 else -90.0
            found.append((crs, Rect(west, south, min(west + side, 180.0), south + side)))
    return found


def test_the_join_misses_nothing_at_poles_antimeridian_and_zone_borders():
    rng = np.random.default_rng(0)
    systems = Systems()
    scenes = _grounds(rng, 200)
    references = [(crs, rect) for crs, rect in _grounds(rng, 60) if crs.is_projected]
    prints, asking = footprints(systems, scenes), footprints(systems, references)
    join = Join(prints, Queries(asking, asking.system, asking.bounds), edge_m=30.0, across=True)
    crossings = pairs = 0
    for (crs, ground), numbers in zip(references, join, strict=True):
        assert (np.diff(numbers) > 0).all()
        pairs += len(numbers)
        for number, (own, rect) in enumerate(scenes):
            exact = rect_in(own, rect, crs)
            common = exact.intersection(ground)
            if min(common.width_m, common.height_m) > 0 and max(exact.width_m, exact.height_m) < 1e6:
                assert number in numbers, (crs, ground, own, rect)
                crossings += own != crs
    assert crossings > 150
    assert pairs < 0.5 * len(scenes) * len(references)


def test_cells_wrap_around_the_antimeridian_and_the_poles():
    systems = Systems()
    degrees = CRS.from_epsg(4326)
    grounds = [(degrees, Rect(179.9, 11.0, 179.95, 11.05)), (degrees, Rect(-179.95, 11.0, -179.9, 11.05))]
    grounds += [(CRS.from_epsg(3413), Rect(-1e4, -1e4, 1e4, 1e4)), (degrees, Rect(77.0, 89.95, 77.1, 89.99))]
    grounds += [(degrees, Rect(-180.0, -90.0, 180.0, 90.0)), (degrees, Rect(0.0, 0.0, 0.1, 0.1))]
    who, cell = cells(footprints(systems, grounds), 30.0)
    of = [set(cell[who == i].tolist()) for i in range(len(grounds))]
    assert of[0] & of[1]
    assert of[2] & of[3]
    assert all(of[4] & some for some in of)
    assert not of[0] & of[5]
    assert len(of[5]) <= 9


def test_boxes_hold_the_ground_in_other_systems():
    rng = np.random.default_rng(1)
    systems = Systems()
    corners = zip(rng.uniform(2e5, 8e5, 50), rng.uniform(1e5, 9e6, 50), 10 ** rng.uniform(2, 5.3, 50), strict=True)
    grounds = [(CRS.from_epsg(32631), Rect(x, y, x + side, y + side)) for x, y, side in corners]
    grounds += [(CRS.from_epsg(4326), Rect(7.0, 50.0, 10.0, 51.0))]  # lowest at 9 degrees, between two points
    grounds += [(CRS.from_epsg(3413), Rect(1e6, -2e6, 1.2e6, -1.8e6))]
    prints = footprints(systems, grounds)
    target = systems.number(CRS.from_epsg(32632))
    for box, (crs, rect) in zip(boxes_in(prints, target), grounds, strict=True):
        assert Rect(*box).contains(rect_in(crs, rect, CRS.from_epsg(32632)))


def test_times_outside_the_span_are_not_joined():
    systems = Systems()
    crs = CRS.from_epsg(32631)
    prints = footprints(systems, [(crs, Rect(0, 0, 10, 10))] * 4)
    times_us = np.array([-1, 0, 50, 51])
    queries = Queries(prints.take(np.array([0])), np.zeros(1, int), np.array([[2.0, 2.0, 3.0, 3.0]]), np.array([[0, 50]]))
    (found,) = Join(prints, queries, 1.0, True, times_us)
    assert found.tolist() == [1, 2]
