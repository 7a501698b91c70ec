"""Landsat products with metadata in the three formats, and HLS tiles: true names, groups and keys, few pixels."""

import datetime
import json

import numpy as np
import pytest
import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.describe import find_inputs, find_scenes
from rsfm_jax.ingest.raster import open_scene
from tests.helpers import write_geotiff

L2 = "LC08_L2SP_195025_20200707_20200913_02_T1"
L1 = "LC09_L1TP_195025_20220707_20230408_02_T1"
MTL = {
    "PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": L2, "PROCESSING_LEVEL": "L2SP", "COLLECTION_NUMBER": "02"},
    "IMAGE_ATTRIBUTES": {
        "SPACECRAFT_ID": "LANDSAT_8",
        "DATE_ACQUIRED": "2020-07-07",
        "SCENE_CENTER_TIME": "10:15:37.1234560Z",
        "CLOUD_COVER": "3.25",
        "ROLL_ANGLE": "-0.001",
        "SUN_AZIMUTH": "-145.25",
        "SUN_ELEVATION": "58.75",
    },
    "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {"REFLECTANCE_MULT_BAND_4": "2.75e-05", "REFLECTANCE_ADD_BAND_4": "-0.2"},
    "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS": {"TEMPERATURE_MULT_BAND_ST_B10": "0.00341802", "TEMPERATURE_ADD_BAND_ST_B10": "149.0"},
    "LEVEL1_PROCESSING_RECORD": {"LANDSAT_PRODUCT_ID": "LC08_L1TP_195025_20200707_20200913_02_T1"},
    "LEVEL1_RADIOMETRIC_RESCALING": {"REFLECTANCE_MULT_BAND_4": "2.0000E-05", "REFLECTANCE_ADD_BAND_4": "-0.100000"},
}


def mtl_text(groups, suffix):
    if suffix == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": groups})
    if suffix == "xml":
        inside = "".join(f"<{g}>{''.join(f'<{k}>{v}</{k}>' for k, v in items.items())}</{g}>" for g, items in groups.items())
        return f'<?xml version="1.0" encoding="UTF-8"?><LANDSAT_METADATA_FILE>{inside}</LANDSAT_METADATA_FILE>'
    lines = []
    for group, items in groups.items():
        lines += [f"  GROUP = {group}", *(f'    {k} = "{v}"' if v[0] == "L" else f"    {k} = {v}" for k, v in items.items())]
        lines += [f"  END_GROUP = {group}"]
    return "\n".join(["GROUP = LANDSAT_METADATA_FILE", *lines, "END_GROUP = LANDSAT_METADATA_FILE", "END"])


def write_level2(folder, groups=MTL, suffix="json"):
    write_geotiff(folder / f"{L2}_SR_B4.TIF", np.full((4, 4), 20000, np.uint16), nodata=0)
    write_geotiff(folder / f"{L2}_ST_B10.TIF", np.full((4, 4), 44177, np.uint16), nodata=0)
    write_geotiff(folder / f"{L2}_QA_PIXEL.TIF", np.array([[21824, 21824, 21952, 1]] + [[22280, 23888, 21826, 30048]] * 3, np.uint16))
    write_geotiff(folder / f"{L2}_SR_QA_AEROSOL.TIF", np.ones((4, 4), np.uint8))
    (folder / f"{L2}_ANG.txt").write_text("GROUP = FILE_HEADER\nEND\n")
    (folder / f"{L2}_MTL.{suffix}").write_text(mtl_text(groups, suffix))


@pytest.mark.parametrize("suffix", ["json", "xml", "txt"])
def test_level_2_with_metadata(tmp_path, suffix):
    write_level2(tmp_path, suffix=suffix)
    found = find_inputs(tmp_path)
    (scene,) = found.scenes
    assert found.unrecognised == []
    assert (scene.id, scene.sensor.name) == (L2, "landsat8_l2")
    assert scene.acquired_utc == datetime.datetime(2020, 7, 7, 10, 15, 37, 123456, datetime.UTC)
    conditions = scene.conditions
    assert (conditions.sun_elevation_deg, conditions.sun_azimuth_deg, conditions.cloud_percent) == (58.75, 214.75, 3.25)
    assert conditions.off_nadir_deg == 0.001
    bands = open_scene(scene).bands
    assert {name: band.scale * 20000 + band.offset for name, band in bands.items() if name == "B4"} == pytest.approx({"B4": 0.35})
    assert bands["ST_B10"].scale * 44177 + bands["ST_B10"].offset == pytest.approx(300.0, rel=1e-5)


def test_the_quality_band_is_read_by_bits(tmp_path):
    write_level2(tmp_path)
    (scene,) = find_scenes(tmp_path)
    with ChipReader() as reader:
        _, valid_HWC = reader.read_window(open_scene(scene), ("B4",), 0, 0, 4)
    # 21824 clear land, 21952 clear water, 1 fill; 22280 cloud, 23888 cloud shadow, 21826 dilated cloud, 30048 snow
    np.testing.assert_array_equal(valid_HWC[..., 0], [[1, 1, 1, 0]] + [[0, 0, 0, 1]] * 3)


def test_level_1_takes_the_factors_of_level_1_and_without_metadata_the_sensors(tmp_path):
    write_geotiff(tmp_path / f"{L1}_B4.TIF", np.full((4, 4), 10000, np.uint16), nodata=0)
    (scene,) = find_scenes(tmp_path)
    assert scene.acquired_utc == datetime.datetime(2022, 7, 7, tzinfo=datetime.UTC)
    band = open_scene(scene).bands["B4"]
    assert (band.scale, band.offset) == (2e-5, -0.1)
    attributes = MTL["IMAGE_ATTRIBUTES"] | {"DATE_ACQUIRED": "2022-07-07", "CLOUD_COVER": "-1.00"}
    groups = MTL | {"PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": L1}, "IMAGE_ATTRIBUTES": attributes}
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = {"REFLECTANCE_MULT_BAND_4": "3.0E-05", "REFLECTANCE_ADD_BAND_4": "-0.05"}
    (tmp_path / f"{L1}_MTL.txt").write_text(mtl_text(groups, "txt"))
    (scene,) = find_scenes(tmp_path)
    band = open_scene(scene).bands["B4"]
    assert (band.scale, band.offset, scene.conditions.cloud_percent) == (3e-5, -0.05, None)


def test_collection_1_metadata(tmp_path):
    name = "LC08_L1TP_195025_20130707_20170503_01_T1"
    write_geotiff(tmp_path / f"{name}_B4.TIF", np.full((4, 4), 10000, np.uint16))
    groups = {
        "METADATA_FILE_INFO": {"LANDSAT_PRODUCT_ID": name},
        "PRODUCT_METADATA": {"DATE_ACQUIRED": "2013-07-07", "SCENE_CENTER_TIME": "10:15:37.1234560Z"},
        "IMAGE_ATTRIBUTES": {"CLOUD_COVER": "1.5", "SUN_AZIMUTH": "145.5", "SUN_ELEVATION": "58.5"},
        "RADIOMETRIC_RESCALING": {"REFLECTANCE_MULT_BAND_4": "2.0000E-05", "REFLECTANCE_ADD_BAND_4": "-0.100000"},
    }
    (tmp_path / f"{name}_MTL.txt").write_text(mtl_text(groups, "txt").replace("LANDSAT_METADATA_FILE", "L1_METADATA_FILE"))
    (scene,) = find_scenes(tmp_path)
    assert scene.acquired_utc == datetime.datetime(2013, 7, 7, 10, 15, 37, 123456, datetime.UTC)
    assert (scene.conditions.sun_elevation_deg, scene.bands["B4"].scale, scene.bands["B4"].offset) == (58.5, 2e-5, -0.1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": L1}}, rf"_MTL\.json: LANDSAT_PRODUCT_ID is {L1}, the files are named {L2}"),
        ({"IMAGE_ATTRIBUTES": {"DATE_ACQUIRED": "2020-07-08"}}, "DATE_ACQUIRED is 2020-07-08, the product's name says 2020-07-07"),
        ({"IMAGE_ATTRIBUTES": {"SCENE_CENTER_TIME": "noon"}}, "SCENE_CENTER_TIME='noon' does not parse"),
        ({"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {}}, r"has no number for REFLECTANCE_MULT_BAND_4 and REFLECTANCE_ADD_BAND_4"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path, changed, message):
    write_level2(tmp_path, MTL | changed)
    with pytest.raises(InputError, match=message):
        find_scenes(tmp_path)


def test_metadata_that_does_not_parse_is_named(tmp_path):
    write_level2(tmp_path)
    (tmp_path / f"{L2}_MTL.json").write_text("{")
    with pytest.raises(InputError, match=r"_MTL\.json: not a valid MTL"):
        find_scenes(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LM05_L1TP_195025_19900707_20200913_02_T1_B4.TIF", "products of LM05 are not supported"),
        (
            "LC08_L1TP_195025_20130707_20170503_01_T1_sr_band4.tif",
            r"none of the product's files is a band of landsat8_l1 \(seen: SR_BAND4\)",
        ),
    ],
)
def test_other_landsat_files_are_refused(tmp_path, name, message):
    write_geotiff(tmp_path / name, np.ones((4, 4), np.int16))
    with pytest.raises(InputError, match=message):
        find_scenes(tmp_path)


@pytest.mark.parametrize(("product", "near_infrared"), [("L30", "B05"), ("S30", "B8A")])
def test_hls_tiles(tmp_path, product, near_infrared):
    stem = f"HLS.{product}.T17SLU.2020209T155956.v2.0"
    write_geotiff(tmp_path / f"{stem}.{near_infrared}.tif", np.full((4, 4), 3000, np.int16), nodata=-9999, scale_offset=(1e-4, 0.0), gsd=30)
    with rasterio.open(tmp_path / f"{stem}.{near_infrared}.tif", "r+") as dataset:
        dataset.update_tags(MEAN_SUN_ZENITH_ANGLE="30.5", MEAN_SUN_AZIMUTH_ANGLE="140.25", cloud_coverage="7")
    write_geotiff(tmp_path / f"{stem}.Fmask.tif", np.array([[64, 66, 68, 72]] + [[80, 96, 128, 255]] * 3, np.uint8), gsd=30)
    write_geotiff(tmp_path / f"{stem}.SZA.tif", np.ones((4, 4), np.uint16), gsd=30)
    if product == "L30":
        write_geotiff(tmp_path / f"{stem}.B10.tif", np.full((4, 4), 2685, np.int16), nodata=-9999, scale_offset=(0.01, 0.0), gsd=30)
    found = find_inputs(tmp_path)
    (scene,) = found.scenes
    assert found.unrecognised == []
    assert (scene.id, scene.sensor.name) == (stem, f"hls_{product.lower()}")
    assert scene.acquired_utc == datetime.datetime(2020, 7, 27, 15, 59, 56, tzinfo=datetime.UTC)
    assert (scene.conditions.sun_elevation_deg, scene.conditions.sun_azimuth_deg, scene.conditions.cloud_percent) == (59.5, 140.25, 7)
    opened = open_scene(scene)
    assert opened.bands[near_infrared].scale * 3000 == pytest.approx(0.3)
    if product == "L30":
        assert opened.bands["B10"].scale * 2685 + opened.bands["B10"].offset == pytest.approx(300.0)
    with ChipReader() as reader:
        _, valid_HWC = reader.read_window(opened, (near_infrared,), 0, 0, 4)
    np.testing.assert_array_equal(valid_HWC[..., 0], [[1, 0, 0, 0]] + [[1, 1, 1, 0]] * 3)  # cloud, beside it, shadow; snow, water; fill


def test_an_hls_tile_without_bands_is_refused(tmp_path):
    write_geotiff(tmp_path / "HLS.L30.T17SLU.2020209T155956.v2.0.Fmask.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"none of the tile's files is a band of hls_l30 \(seen: FMASK\)"):
        find_scenes(tmp_path)
