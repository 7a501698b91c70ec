import datetime
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from rsfm_jax.errors import InputError
from rsfm_jax.geo import EARTH_RADIUS_M, Rect, cell_uniform, geosot_bits, ground_cells, utm_epsg, year_and_day
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


def corners_deg(lon: float, lat: float) -> np.ndarray:
    """Four corners in one point."""
    return np.array([[lon, lat]] * 4)


def coordinates(bits: np.ndarray) -> list[int]:
    """The eight 32-bit numbers that the bits spell, highest bit first."""
    return [int("".join(map(str, row)), 2) for row in bits.reshape(8, 32)]


@pytest.mark.parametrize(
    ("degrees", "code"),
    [
        (116 + 18 / 60 + 45.37 / 3600, 116 * 2**23 + 18 * 2**17 + 92917),  # 45.37" x 2048 = 92917.76
        (-(73 + 59 / 60 + 0.1253 / 3600), 2**31 + 73 * 2**23 + 59 * 2**17 + 256),  # 0.1253" x 2048 = 256.6
        (0.0, 0),
        (-0.5, 2**31 + 30 * 2**17),
        (-179.75, 2**31 + 179 * 2**23 + 45 * 2**17),
        (180.0, 180 * 2**23),
    ],
)
def test_geosot_longitudes_by_hand(degrees, code):
    bits = geosot_bits(corners_deg(degrees, 0.0))
    assert (bits.shape, bits.dtype) == ((256,), np.uint8)
    assert coordinates(bits) == [code, 0] * 4


def test_geosot_bits_one_by_one():
    """39 degrees 54' 37.5002" north: 0, 00100111, 110110, 100101 and the half second 10000000000."""
    bits = geosot_bits(corners_deg(0.0, 39 + 54 / 60 + 37.5002 / 3600))
    assert "".join(map(str, bits[32:64])) == "0" + "00100111" + "110110" + "100101" + "10000000000"
    assert not bits[:32].any()


def test_geosot_goes_corner_by_corner_longitude_first():
    corners = np.array([[1.0, 20.0], [2.0, 20.0], [2.0, 10.0], [1.0, 10.0]])
    assert [code / 2**23 for code in coordinates(geosot_bits(corners))] == [1, 20, 2, 20, 2, 10, 1, 10]


@few
@given(st.floats(-180, 180), st.floats(-90, 90))
def test_geosot_spells_a_coordinate_to_half_a_thousandth_of_a_second(lon, lat):
    codes = coordinates(geosot_bits(corners_deg(lon, lat)))
    for degrees, code in zip((lon, lat), codes[:2], strict=True):
        minutes, sub_seconds = (code >> 17) % 64, code % 2**17
        assert minutes < 60
        assert sub_seconds < 60 * 2048
        spelt = (code >> 23) % 256 + minutes / 60 + sub_seconds / (3600 * 2048)
        assert -1e-10 < abs(degrees) - spelt < 1 / (3600 * 2048) + 1e-10
        assert code >> 31 == (degrees < 0)


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        (10.0, 91.0, r"latitude 91 degrees: must be between -90 and 90 \(longitude comes first, then latitude\)"),
        (10.0, -90.001, r"latitude -90\.001 degrees"),
        (180.5, 10.0, r"longitude 180\.5 degrees: must be between -180 and 180"),
        (float("nan"), 10.0, r"longitude nan degrees"),
        (48.1, 116.3, r"latitude 116\.3 degrees: .*longitude comes first"),
    ],
)
def test_places_that_are_not_on_earth_are_refused(lon, lat, message):
    with pytest.raises(InputError, match=message):
        geosot_bits(corners_deg(lon, lat))
