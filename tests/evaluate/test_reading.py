"""Windows of scenes: values, masks, ground and dates."""

import dataclasses
import datetime

import numpy as np
import pytest
import rasterio
from rasterio import warp
from rasterio._env import get_gdal_config

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.scenes.reading import CACHE_BYTES, SceneInput, WindowReader  # noqa: E402
from tests.evaluate.scenes import GSD, LEFT, SENSOR, TOP, digital_numbers, make_scene, physical  # noqa: E402
from tests.helpers import write_geotiff  # noqa: E402


def test_a_window_holds_physical_values_also_beyond_the_raster(tmp_path):
    scene = make_scene(tmp_path, 37, 51, border=5)
    values, valid = physical(digital_numbers(37, 51, border=5))
    padded, padded_valid = np.zeros((4, 64, 64), np.float32), np.zeros((4, 64, 64), bool)
    padded[:, :37, :51], padded_valid[:, :37, :51] = values, valid
    with WindowReader(scene) as reader:
        windows = reader.read([(0, 0), (24, 40)], 24)
    for b, (row, column) in enumerate([(0, 0), (24, 40)]):
        np.testing.assert_array_equal(windows.valid[b], padded_valid[:, row : row + 24, column : column + 24])
        np.testing.assert_allclose(windows.values[b], padded[:, row : row + 24, column : column + 24], atol=1e-7)
    assert windows.values.dtype == torch.float32


def test_ground_and_date_of_a_window(tmp_path):
    date = datetime.datetime(2020, 3, 1, 12)
    with WindowReader(make_scene(tmp_path, 40, 40, acquired_utc=date)) as reader:
        windows = reader.read([(8, 16)], 16)
    assert windows.grid_m.tolist() == [[-80.0, 80.0, 10.0, 10.0]]
    left, top = LEFT + 16 * GSD, TOP - 8 * GSD
    lon, lat = warp.transform("EPSG:32618", "EPSG:4326", [left, left + 160, left + 160, left], [top, top, top - 160, top - 160])
    np.testing.assert_allclose(windows.footprint_deg[0], np.stack([lon, lat], axis=1), atol=1e-9)
    assert windows.footprint_deg.dtype == torch.float64
    assert windows.time.tolist() == [[1.0, 2020.0, 60.5]]
    with WindowReader(make_scene(tmp_path, 40, 40)) as reader:
        assert reader.read([(8, 16)], 16).time.tolist() == [[0.0, 0.0, 0.0]]


def test_scale_offset_and_nodata_can_be_stated(tmp_path):
    scene = dataclasses.replace(make_scene(tmp_path, 20, 20), scale=0.5, offset=-3.0, nodata=1500)
    dn = digital_numbers(20, 20)
    with WindowReader(scene) as reader:
        windows = reader.read([(0, 0)], 20)
    np.testing.assert_array_equal(windows.valid[0], dn != 1500)
    np.testing.assert_allclose(windows.values[0][windows.valid[0]], (0.5 * dn - 3)[dn != 1500], atol=1e-4)


def test_a_quality_mask_takes_pixels_out(tmp_path):
    quality = np.zeros((20, 20), np.uint8)
    quality[3:7, 10:] = 9
    path = write_geotiff(tmp_path / "quality.tif", quality, crs="EPSG:32618", left=LEFT, top=TOP)
    scene = make_scene(tmp_path, 20, 20, mask={"file": path, "invalid": [9]})
    with WindowReader(scene) as reader:
        valid = reader.read([(0, 0)], 20).valid[0].numpy()
    np.testing.assert_array_equal(valid, (digital_numbers(20, 20) != -10_000) & (quality != 9))


def test_sentinel2_must_state_its_baseline_offset(tmp_path):
    path = write_geotiff(tmp_path / "s2.tif", np.full((20, 20), 2000, np.uint16))
    scene = SceneInput("sentinel2_l2a", {"B02": (path, 1)})
    with pytest.raises(InputError, match="must state its baseline offset"):
        WindowReader(scene)
    for stated, expected in (({"processing_baseline": "05.09"}, 0.1), ({"baseline_offset_dn": 0}, 0.2)):
        with WindowReader(dataclasses.replace(scene, **stated)) as reader:
            assert reader.read([(0, 0)], 4).values.unique().tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"gsd": 20.0}, "bands 'B02' and 'B03' are on different grids"),
        ({"crs": "EPSG:4326", "left": 1.0, "top": 43.0, "gsd": 1e-4}, "is not in a projected coordinate system in metres; warp it"),
        ({"crs": "EPSG:3857"}, "is not in a projected coordinate system in metres"),
        ({"crs": None}, "no coordinate reference system"),
    ],
)
def test_grids_that_would_need_resampling_are_refused(tmp_path, grid, message):
    dn = np.full((2, 20, 20), 1000, np.int16)
    path = write_geotiff(tmp_path / "one.tif", dn, **({} if "gsd" in grid and "crs" not in grid else grid))
    second = write_geotiff(tmp_path / "two.tif", dn, **grid)
    with pytest.raises(InputError, match=message):
        WindowReader(SceneInput(SENSOR, {"B02": (path, 1), "B03": (second, 2)}))


def test_a_rotated_grid_is_refused(tmp_path):
    turned = rasterio.Affine.translation(LEFT, TOP) @ rasterio.Affine.rotation(10) @ rasterio.Affine.scale(10, -10)
    path = write_geotiff(tmp_path / "turned.tif", np.full((20, 20), 1000, np.int16), crs="EPSG:32618", transform=turned)
    with pytest.raises(InputError, match="has a rotated grid; warp it north up"):
        WindowReader(SceneInput(SENSOR, {"B02": (path, 1)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": {}}, "SceneInput.bands is empty"),
        ({"sensor": "sentinel2_l3"}, "did you mean"),
        ({"bands": {"B02": ("nowhere.tif", 1)}}, "nowhere.tif does not exist"),
        ({"bands": {"B99": ("nowhere.tif", 1)}}, "has no band 'B99'"),
    ],
)
def test_wrong_descriptions_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        WindowReader(dataclasses.replace(make_scene(tmp_path, 20, 20), **change))


def test_the_cache_of_blocks_is_bounded_while_a_scene_is_open(tmp_path):
    before = get_gdal_config("GDAL_CACHEMAX")
    with WindowReader(make_scene(tmp_path, 20, 20)):
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_remote_files_of_a_scene_are_kept_as_gdal_opens_them():
    mask = {"file": "/vsizip/q.zip/q.tif", "bits": [0]}
    scene = SceneInput("dem", {"elevation": ("s3://bucket/dem.tif", 1)}, mask=mask).described()
    assert (scene.bands["elevation"].path, scene.mask.path) == ("/vsis3/bucket/dem.tif", "/vsizip/q.zip/q.tif")
