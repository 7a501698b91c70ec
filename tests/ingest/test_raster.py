import math

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.chips import ChipReader, physical
from rsfm_jax.ingest.raster import rect_in, to_lonlat
from tests.helpers import open_one, write_geotiff

UTM = CRS.from_epsg(32631)


def _window(scene, bands=("elevation",), column=0, row=0, pixels=8):
    with ChipReader() as reader:
        return reader.read_window(scene, bands, column, row, pixels)


def _random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(1, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_a_window_holds_the_files_own_numbers(tmp_path, dtype):
    values = _random((3, 40, 50), dtype)
    write_geotiff(tmp_path / "dem.tif", values, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    scene = open_one(tmp_path, bands={"elevation": {"file": "dem.tif", "index": 2}})
    dn_HWC, valid_HWC = _window(scene, column=11, row=5, pixels=24)
    assert dn_HWC.dtype == dtype
    assert np.array_equal(dn_HWC[..., 0], values[1, 5:29, 11:35])
    assert valid_HWC.all()


def test_bands_come_in_the_asked_order_from_several_files(tmp_path):
    pair, alone = _random((2, 8, 8), "uint8"), _random((8, 8), "int16", seed=1)
    write_geotiff(tmp_path / "pair.tif", pair)
    write_geotiff(tmp_path / "alone.tif", alone)
    bands = {"R": {"file": "pair.tif", "index": 1}, "G": "alone.tif", "B": {"file": "pair.tif", "index": 2}}
    dn_HWC, _ = _window(open_one(tmp_path, sensor="naip", bands=bands), ("B", "G", "R"))
    assert dn_HWC.dtype == np.int16  # holds both types
    assert np.array_equal(dn_HWC, np.stack([pair[1], alone, pair[0]], axis=-1))


@pytest.mark.parametrize(("column", "row"), [(-3, -5), (12, 9), (-2, 10), (100, 0), (0, -8)])
def test_outside_the_raster_nothing_is_valid(tmp_path, column, row):
    values = _random((15, 18), "uint16")
    write_geotiff(tmp_path / "dem.tif", values)
    dn_HWC, valid_HWC = _window(open_one(tmp_path), column=column, row=row)
    padded = np.pad(values, 200)[200 + row : 208 + row, 200 + column : 208 + column]
    assert np.array_equal(dn_HWC[..., 0], padded)
    assert np.array_equal(valid_HWC[..., 0], padded > 0)


@pytest.mark.parametrize(
    ("dtype", "in_file", "described", "invalid_value"),
    [
        ("int16", -9999, None, -9999),
        ("int16", -9999, 7, 7),
        ("int16", None, 7, 7),
        ("uint16", None, None, 0),  # the sensor's
        ("float32", -9999.9, None, -9999.9),
        ("float32", None, -3.4028234663852886e38, -3.4028234663852886e38),
        ("float32", math.nan, None, math.nan),
        ("float32", None, None, math.nan),  # not a number is never an observation
        ("float32", None, None, math.inf),
    ],
)
def test_nodata_is_not_valid_and_reads_as_zero(tmp_path, dtype, in_file, described, invalid_value):
    values = np.full((8, 8), 100, dtype)
    values[2, 3] = invalid_value
    write_geotiff(tmp_path / "red.tif", values, nodata=in_file)
    dn_HWC, valid_HWC = _window(open_one(tmp_path, sensor="landsat7_l1", bands={"B3": "red.tif"}, nodata=described), ("B3",))
    expected = np.ones((8, 8), bool)
    expected[2, 3] = False
    assert np.array_equal(valid_HWC[..., 0], expected)
    assert dn_HWC[2, 3, 0] == 0
    assert (dn_HWC[expected] == 100).all()


def test_a_described_nodata_replaces_the_files(tmp_path):
    values = np.full((8, 8), 100, np.int16)
    values[0, 0], values[1, 1] = -9999, 7
    write_geotiff(tmp_path / "dem.tif", values, nodata=-9999)
    _, valid_HWC = _window(open_one(tmp_path, nodata=7))
    assert valid_HWC[0, 0, 0]
    assert not valid_HWC[1, 1, 0]


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", -9999), ("uint8", 256), ("int16", 0.5), ("uint16", math.nan), ("float32", 1e300)])
def test_nodata_that_the_type_cannot_hold_marks_nothing(tmp_path, dtype, nodata):
    values = np.arange(64).reshape(8, 8).astype(dtype)
    write_geotiff(tmp_path / "dem.tif", values)
    dn_HWC, valid_HWC = _window(open_one(tmp_path, nodata=nodata))
    assert valid_HWC.all()
    assert np.array_equal(dn_HWC[..., 0], values)


def test_a_mask_takes_pixels_out_of_all_bands(tmp_path):
    write_geotiff(tmp_path / "rgb.tif", _random((3, 20, 20), "uint8"))
    quality = np.random.default_rng(2).integers(0, 4, (20, 20)).astype(np.uint8)
    write_geotiff(tmp_path / "mask.tif", quality)
    bands = {name: {"file": "rgb.tif", "index": i} for i, name in enumerate("RGB", 1)}
    scene = open_one(tmp_path, sensor="neon_rgb", bands=bands, mask={"file": "mask.tif", "invalid": [1, 3]})
    dn_HWC, valid_HWC = _window(scene, ("R", "G", "B"), column=14, row=3)
    seen = np.pad(quality, ((0, 0), (0, 2)), constant_values=1)[3:11, 14:22]
    for c in range(3):
        assert np.array_equal(valid_HWC[..., c], ~np.isin(seen, [1, 3]))
    assert (dn_HWC[~valid_HWC] == 0).all()


def test_a_coarser_mask_is_asked_under_each_pixels_centre(tmp_path):
    write_geotiff(tmp_path / "dem.tif", _random((12, 12), "uint8"))
    quality = np.zeros((5, 5), np.uint8)
    quality[1, 2] = 9
    write_geotiff(tmp_path / "mask.tif", quality, gsd=30, left=500_000 - 10, top=4_800_000 + 10)
    _, valid_HWC = _window(open_one(tmp_path, mask={"file": "mask.tif", "invalid": [9]}), pixels=12)
    expected = np.ones((12, 12), bool)
    expected[2:5, 5:8] = False  # ground 50 to 80 m east, 20 to 50 m south of the bands' corner
    assert np.array_equal(valid_HWC[..., 0], expected)


@pytest.mark.parametrize(
    ("mask", "bad"),
    [
        ({"bits": [0, 3]}, {1, 8, 9, 21697, -32768 + 8}),
        ({"bits": [15]}, {-32768 + 8}),
        ({"bits": [3], "invalid": [2]}, {2, 8, 9, -32768 + 8}),
    ],
)
def test_bits_of_a_mask_take_pixels_out(tmp_path, mask, bad):
    quality = np.array([[0, 1, 2, 4], [8, 9, 16, 64], [21824, 21697, 20, 32], [-32768 + 8, 2, 4, 6]], np.int16)
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16))
    write_geotiff(tmp_path / "mask.tif", quality)
    _, valid_HWC = _window(open_one(tmp_path, mask={"file": "mask.tif"} | mask), pixels=4)
    np.testing.assert_array_equal(valid_HWC[..., 0], ~np.isin(quality, list(bad)))


def test_a_mask_of_fractions_has_no_bits(tmp_path):
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16))
    write_geotiff(tmp_path / "mask.tif", np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match=r"mask: .*mask\.tif holds float32 values, which have no bits"):
        open_one(tmp_path, mask={"file": "mask.tif", "bits": [0]})


def test_a_mask_that_is_too_small_is_refused(tmp_path):
    write_geotiff(tmp_path / "dem.tif", _random((12, 12), "uint8"))
    write_geotiff(tmp_path / "mask.tif", np.zeros((12, 6), np.uint8))
    with pytest.raises(InputError, match=r"mask: .*mask\.tif does not cover the bands' ground"):
        _window(open_one(tmp_path, mask={"file": "mask.tif", "invalid": [9]}), pixels=12)


def test_the_baseline_offset_is_taken_off_before_scaling(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.array([[1000, 1500], [11000, 0]], np.uint16))
    fields = {"sensor": "sentinel2_l2a", "bands": {"B04": "red.tif"}}
    for baseline, reflectance in (("05.09", [0.0, 0.05, 1.0]), ("02.14", [0.1, 0.15, 1.1])):
        scene = open_one(tmp_path, processing_baseline=baseline, **fields)
        dn_HWC, valid_HWC = _window(scene, ("B04",), pixels=2)
        physical = scene.bands["B04"].scale * dn_HWC.astype(np.float64) + scene.bands["B04"].offset
        assert physical[valid_HWC] == pytest.approx(reflectance)
        assert not valid_HWC[1, 1, 0]


def _ramp(path, transform_, size, crs, metric_of):
    """A raster whose value at each pixel centre is that centre's easting plus half its northing, in UTM kilometres from a corner."""
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    xs, ys = transform_ @ (columns.ravel(), rows.ravel())
    east, north = metric_of(xs, ys)
    values = ((east - 500_000) + 0.5 * (north - 4_790_000)) / 1000
    return write_geotiff(path, values.reshape(size, size).astype(np.float64), crs=crs, transform=transform_)


def _expected(rect, pixels):
    gsd = rect.width_m / pixels
    east, north = np.meshgrid(rect.left + gsd * (np.arange(pixels) + 0.5), rect.top - gsd * (np.arange(pixels) + 0.5))
    return ((east - 500_000) + 0.5 * (north - 4_790_000)) / 1000


RECT = Rect(501_003.0, 4_795_007.0, 501_003.0 + 480, 4_795_007.0 + 480)


@pytest.mark.parametrize(("method", "tolerance_m"), [("bilinear", 0.01), ("cubic", 0.01), ("average", 2.5), ("nearest", 7.6)])
@pytest.mark.parametrize("pixels", [16, 48, 96])
def test_resampling_puts_a_ramp_where_it_is(tmp_path, method, tolerance_m, pixels):
    _ramp(tmp_path / "dem.tif", rasterio.Affine(10, 0, 500_000, 0, -10, 4_797_000), 300, "EPSG:32631", lambda x, y: (x, y))
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_resampled(open_one(tmp_path), ("elevation",), UTM, RECT, pixels, method)
    assert valid_HWC.all()
    error_m = 1000 * abs(dn_HWC[..., 0] - _expected(RECT, pixels))
    assert error_m.max() < tolerance_m  # half a pixel of 10 m would be 5 m east + 2.5 m north


@pytest.mark.parametrize("epsg", [4326, 32632, 3857])
def test_resampling_across_coordinate_systems_puts_a_ramp_where_it_is(tmp_path, epsg):
    crs = CRS.from_epsg(epsg)
    ground = rect_in(UTM, RECT, crs)
    step = ground.width_m / 48
    grid = rasterio.Affine(step, 0, ground.left - 60 * step, 0, -step, ground.top + 60 * step)
    _ramp(tmp_path / "dem.tif", grid, 220, f"EPSG:{epsg}", lambda x, y: np.array(transform(crs, UTM, x, y)))
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_resampled(open_one(tmp_path), ("elevation",), UTM, RECT, 48, "bilinear")
    assert valid_HWC.all()
    error_m = 1000 * abs(dn_HWC[..., 0] - _expected(RECT, 48))
    assert error_m.max() < 2.0  # GDAL approximates the warp to an eighth of a pixel


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average"])
def test_invalid_pixels_take_no_part_in_resampling(tmp_path, method):
    values = np.full((100, 100), 500, np.int16)
    values[40:50, 40:50] = -9999
    write_geotiff(tmp_path / "dem.tif", values, nodata=-9999, top=4_800_000)
    rect = Rect(500_203, 4_799_203, 500_203 + 600, 4_799_203 + 600)
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_resampled(open_one(tmp_path), ("elevation",), UTM, rect, 40, method)
    assert dn_HWC.dtype == np.int16
    assert set(np.unique(dn_HWC[valid_HWC])) == {500}
    assert set(np.unique(dn_HWC[~valid_HWC])) == {0}
    gap = ~valid_HWC[..., 0]
    assert 100 / 15 - 2 <= math.sqrt(gap.sum()) <= 100 / 15 + 2  # about as large as the hole
    row, column = np.argwhere(gap).mean(axis=0) + 0.5
    assert (rect.left + 15 * column, rect.top - 15 * row) == pytest.approx((500_450, 4_799_550), abs=10)


def test_resampling_stays_within_the_acquired_type(tmp_path):
    values = np.zeros((60, 60), np.uint8)
    values[:, 30:] = 255
    write_geotiff(tmp_path / "dem.tif", values)
    rect = Rect(500_150, 4_799_650, 500_450, 4_799_950)
    with ChipReader() as reader:
        dn_HWC, _ = reader.read_resampled(open_one(tmp_path), ("elevation",), UTM, rect, 64, "cubic")
    assert (dn_HWC[:, :24] == 0).all()
    assert (dn_HWC[:, -24:] == 255).all()
    assert (np.diff(dn_HWC[..., 0].astype(int), axis=1) >= 0).all()


def test_resampling_reaches_outside_as_invalid(tmp_path):
    write_geotiff(tmp_path / "dem.tif", np.full((30, 30), 5, np.uint8))
    rect = Rect(500_000 - 100, 4_799_900, 500_000 + 100, 4_800_100)
    with ChipReader() as reader:
        _, valid_HWC = reader.read_resampled(open_one(tmp_path), ("elevation",), UTM, rect, 20, "bilinear")
    expected = np.zeros((20, 20), bool)
    expected[10:, 10:] = True
    assert np.array_equal(valid_HWC[..., 0], expected)


def test_a_grid_knows_its_shape(tmp_path):
    rotated = rasterio.Affine.translation(500_000, 4_800_000) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(10, -10)
    write_geotiff(tmp_path / "turned.tif", np.ones((9, 9), np.uint8), transform=rotated)
    write_geotiff(tmp_path / "dem.tif", np.ones((10, 20), np.uint8), transform=rasterio.Affine(12, 0, 500_000, 0, -3, 4_800_000))
    straight, turned = (open_one(tmp_path, bands={"elevation": name}).bands["elevation"] for name in ("dem.tif", "turned.tif"))
    assert (straight.gsd_m, straight.north_up, straight.rect) == (6, True, Rect(500_000, 4_799_970, 500_240, 4_800_000))
    assert turned.gsd_m == pytest.approx(10)
    assert not turned.north_up
    assert not turned.same_grid(straight)
    assert turned.rect.width_m == pytest.approx(90 * (math.cos(math.pi / 6) + math.sin(math.pi / 6)))


@pytest.mark.parametrize(("crs", "metric"), [("EPSG:32631", True), ("EPSG:9707", False), ("EPSG:4326", False), ("EPSG:2264", False)])
def test_only_projected_systems_in_metres_count_as_metric(tmp_path, crs, metric):
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.uint8), crs=crs, left=12.4, top=42, gsd=1e-3)
    assert open_one(tmp_path).metric is metric


def test_to_lonlat_is_longitude_first():
    assert to_lonlat(CRS.from_epsg(4326), np.array([[12.5, 41.9]])) == pytest.approx(np.array([[12.5, 41.9]]))
    assert to_lonlat(UTM, np.array([[500_000.0, 0.0]])) == pytest.approx(np.array([[3.0, 0.0]]), abs=1e-9)


def test_a_file_of_several_bands_needs_an_index(tmp_path):
    write_geotiff(tmp_path / "stack.tif", np.ones((2, 4, 4), np.uint16))
    with pytest.raises(InputError, match=r"stack\.tif has 2 bands; say which"):
        open_one(tmp_path, sensor="landsat7_l1", bands={"B4": "stack.tif"})


def test_one_band_under_two_names_is_refused(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.ones((4, 4), np.uint16))
    with pytest.raises(InputError, match=r"is the same band 1 of .*red\.tif as 'B3'"):
        open_one(tmp_path, sensor="landsat7_l1", bands={"B3": "red.tif", "B4": "red.tif"})


def test_a_baseline_offset_beside_another_offset_is_refused(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.ones((4, 4), np.uint16), scale_offset=(1e-4, -0.1))
    with pytest.raises(InputError, match="would both be applied"):
        open_one(tmp_path, sensor="sentinel2_l2a", bands={"B04": "red.tif"}, processing_baseline="05.09")


def test_physical_values_are_float32_and_zero_where_invalid():
    dn = np.array([[[0, 65535]], [[7, 16_777_217]]])  # the last one is no float32
    valid = np.array([[[True, True]], [[False, True]]])
    found = physical(dn.astype(np.uint32), valid, np.array([2.0, 0.5]), np.array([-1.0, -8_388_608.0]))
    assert found.dtype == np.float32
    assert found.tolist() == [[[-1.0, 32767.5 - 8_388_608]], [[0.0, 0.5]]]


def test_a_files_own_mask_marks_pixels_invalid(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.full((8, 8), 65000, np.uint16))
    with rasterio.open(tmp_path / "red.tif", "r+") as dataset:
        dataset.write_mask(np.arange(64).reshape(8, 8) >= 16)
    scene = open_one(tmp_path, sensor="landsat7_l1", bands={"B4": "red.tif"})
    with ChipReader() as reader:
        _, valid_HWC = reader.read_window(scene, ("B4",), 0, 0, 8)
    np.testing.assert_array_equal(valid_HWC[..., 0], np.arange(64).reshape(8, 8) >= 16)


@pytest.mark.parametrize(("epsg", "metric"), [(32631, True), (3857, False), (2154, True), (4326, False)])
def test_a_coordinate_system_counts_as_metric_when_its_unit_is_a_metre_on_the_ground(tmp_path, epsg, metric):
    left, top = transform("EPSG:4326", f"EPSG:{epsg}", [2.0], [48.0])
    pixel = 1e-4 if epsg == 4326 else 10.0
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "width": 8, "height": 8, "crs": f"EPSG:{epsg}"}
    with rasterio.open(tmp_path / "red.tif", "w", transform=rasterio.Affine(pixel, 0, left[0], 0, -pixel, top[0]), **profile) as dataset:
        dataset.write(np.ones((1, 8, 8), np.uint16))
    assert open_one(tmp_path, sensor="landsat7_l1", bands={"B4": "red.tif"}).metric is metric


def test_more_files_than_may_be_open_at_once_are_read(tmp_path):
    scenes = []
    for i in range(150):
        folder = tmp_path / str(i)
        folder.mkdir()
        write_geotiff(folder / "red.tif", np.full((4, 4), i, np.uint16))
        scenes.append(open_one(folder, sensor="landsat7_l1", bands={"B4": "red.tif"}))
    with ChipReader() as reader:
        read = [int(reader.read_window(scene, ("B4",), 0, 0, 4)[0][0, 0, 0]) for scene in scenes + scenes]
        assert len(reader._files) < 150
    assert read == list(range(150)) * 2
