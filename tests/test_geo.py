import datetime
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from rsfm_jax.errors import InputError
from rsfm_jax.geo import EARTH_RADIUS_M, Rect, cell_uniform, ground_cells, utm_epsg, year_and_day
from rsfm_jax.ingest.raster import to_lonlat

few = settings(deadline=None, max_examples=60)
lons = st.floats(-175, 174)
lats = st.floats(-80, 80)
cells_m = st.floats(500, 20_000)


@few
@given(lons, lats, cells_m, st.floats(1e-4, 0.3), st.floats(1e-4, 0.3), st.floats(0, 1), st.floats(0, 1))
def test_ground_cells_cover_every_point_of_a_footprint(lon, lat, cell_m, width, height, u, v):
    corners = np.array([[lon, lat], [lon + width, lat], [lon + width, lat + height], [lon, lat + height]])
    point = np.array([[lon + u * width, lat + v * height]])
    assert ground_cells(point, cell_m) <= ground_cells(corners, cell_m)


@few
@given(lons, lats, cells_m)
def test_a_point_lies_in_one_cell_of_about_the_asked_size(lon, lat, cell_m):
    ((row, column),) = ground_cells(np.array([[lon, lat]]), cell_m)
    metres_per_degree = math.pi * EARTH_RADIUS_M / 180
    assert row * cell_m <= lat * metres_per_degree * (1 + 1e-12) + 1e-6
    assert (row + 1) * cell_m >= lat * metres_per_degree - 1e-6
    east_m = lon * metres_per_degree * math.cos(math.radians((row + 0.5) * cell_m / metres_per_degree))
    assert column * cell_m - 1e-3 <= east_m <= (column + 1) * cell_m + 1e-3


@pytest.mark.parametrize("epsg", [32631, 32632, 3857, 3035, 2154])
def test_the_cell_of_a_place_does_not_depend_on_the_coordinate_system(epsg):
    here = np.array([[5.9, 43.6]])
    xs, ys = transform(CRS.from_epsg(4326), CRS.from_epsg(epsg), here[:, 0], here[:, 1])
    back = to_lonlat(CRS.from_epsg(epsg), np.array([[xs[0], ys[0]]]))
    assert back == pytest.approx(here, abs=1e-7)
    assert ground_cells(back, 2000.0) == ground_cells(here, 2000.0)


def test_cell_uniform_is_uniform_and_follows_the_seed():
    draws = {seed: [cell_uniform((row, column), seed) for row in range(50) for column in range(50)] for seed in (0, 1)}
    counts, _ = np.histogram(draws[0], bins=10, range=(0, 1))
    assert counts.sum() == 2500
    assert abs(counts - 250).max() < 75  # five standard deviations
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.1
    assert cell_uniform((3, -4), 7) == pytest.approx(0.12312444, abs=1e-8)  # the same on every machine


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"),
    [(1.2, 43.6, 32631), (-75.9, 36.9, 32618), (-34.9, -8.0, 32725), (-180, 0, 32601), (180, -1, 32760), (5.999, 1, 32631), (6, 1, 32632)],
)
def test_utm_epsg(lon, lat, epsg):
    assert utm_epsg(lon, lat) == epsg


def test_year_and_day():
    utc = datetime.UTC
    assert year_and_day(None) == (0, 0, 0)
    assert year_and_day(datetime.datetime(2018, 1, 1, tzinfo=utc)) == (1, 2018, 0)
    assert year_and_day(datetime.datetime(2020, 12, 31, 12, tzinfo=utc)) == (1, 2020, 365.5)
    assert year_and_day(datetime.datetime(2019, 3, 1, 6, tzinfo=utc)) == (1, 2019, 59.25)


def test_rect():
    rect = Rect(0, 0, 30, 20)
    assert (rect.width_m, rect.height_m, rect.centre) == (30, 20, (15, 10))
    assert rect.corners().tolist() == [[0, 20], [30, 20], [30, 0], [0, 0]]
    assert rect.intersection(Rect(10, 10, 40, 40)) == Rect(10, 10, 30, 20)
    assert rect.intersection(Rect(50, 0, 60, 20)).width_m < 0
    assert rect.contains(rect)
    assert not rect.contains(Rect(-1, 0, 30, 20))
    assert rect.contains(Rect(-1, 0, 30, 21), tolerance_m=1)
    assert not rect.contains(Rect(-1, 0, 30, 21.5), tolerance_m=1)


@few
@given(*(st.floats(-1e4, 1e4) for _ in range(4)), st.floats(1, 1e4), st.floats(1, 1e4))
def test_an_intersection_lies_in_both(x0, y0, x1, y1, width, height):
    a, b = Rect(x0, y0, x0 + width, y0 + height), Rect(x1, y1, x1 + height, y1 + width)
    common = a.intersection(b)
    assert common == b.intersection(a)
    if common.width_m > 0 and common.height_m > 0:
        assert a.contains(common)
        assert b.contains(common)


def test_a_footprint_across_the_antimeridian_is_refused():
    with pytest.raises(InputError, match="crosses the antimeridian"):
        ground_cells(np.array([[179.9, 0.0], [-179.9, 0.0], [-179.9, -0.1], [179.9, -0.1]]), 1000.0)
