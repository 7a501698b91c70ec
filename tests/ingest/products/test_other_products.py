"""Sentinel-1, NAIP, Maxar and elevation models: names and metadata as they are delivered."""

import datetime

import numpy as np
import pytest
import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import find_inputs, find_scenes
from rsfm_jax.ingest.raster import open_scene
from tests.helpers import write_geotiff

GRD = "S1A_IW_GRDH_1SDV_20200101T053000_20200101T053025_030600_038123_ABCD.SAFE"
ANNOTATION = """<?xml version="1.0" encoding="UTF-8"?>
<product><adsHeader><missionId>S1A</missionId><productType>GRD</productType><polarisation>{pol}</polarisation><mode>IW</mode>
<startTime>2020-01-01T05:30:00.123456</startTime></adsHeader>
<imageAnnotation><imageInformation><incidenceAngleMidSwath>38.9512</incidenceAngleMidSwath></imageInformation></imageAnnotation></product>
"""
IMD = """version = "28.4";
productOrderId = "011659504020_01_P001";
bandId = "{band_id}";
productLevel = "Standard2A";
{bands}
BEGIN_GROUP = IMAGE_1
	satId = "{satellite}";
	firstLineTime = 2009-12-10T10:30:19.123456Z;
	meanSunAz = 170.5;
	meanSunEl = 35.25;
	meanSatAz = 95.5;
	meanOffNadirViewAngle = 12.5;
	cloudCover = 0.125;
END_GROUP = IMAGE_1
END;
"""


def write_maxar(folder, stem, bands, satellite="WV02"):
    folder.mkdir(parents=True, exist_ok=True)
    groups = "\n".join(f"BEGIN_GROUP = BAND_{b}\n\tULLon = 1.5;\n\tabsCalFactor = 9.2e-03;\nEND_GROUP = BAND_{b}" for b in bands)
    (folder / f"{stem}.IMD").write_text(IMD.format(band_id="P" if bands == "P" else "Multi", bands=groups, satellite=satellite))


def test_backscatter_in_decibels(tmp_path):
    for pol in ("VV", "VH"):
        write_geotiff(tmp_path / f"S1A__IW___A_20150309T173017_{pol}_gamma0-rtc_db.tif", np.full((4, 4), -12.5, np.float32), nodata=-99)
    (scene,) = find_scenes(tmp_path)
    assert (scene.id, scene.sensor.name) == ("S1A__IW___A_20150309T173017_gamma0-rtc_db", "sentinel1_grd")
    assert scene.acquired_utc == datetime.datetime(2015, 3, 9, 17, 30, 17, tzinfo=datetime.UTC)
    assert sorted(open_scene(scene).bands) == ["VH", "VV"]


@pytest.mark.parametrize("kind", ["p", "a", "d"])
def test_hyp3_says_in_its_name_what_it_holds(tmp_path, kind):
    write_geotiff(tmp_path / f"S1A_IW_20200101T053000_DVP_RTC30_G_g{kind}uned_1A2B_VV.tif", np.full((4, 4), 0.1, np.float32))
    if kind == "d":
        (scene,) = find_scenes(tmp_path)
        assert (scene.id, list(scene.bands)) == ("S1A_IW_20200101T053000_DVP_RTC30_G_gduned_1A2B", ["VV"])
    else:
        with pytest.raises(InputError, match=f"holds {'power' if kind == 'p' else 'amplitude'}, and VV must be in dB: write 10"):
            find_scenes(tmp_path)


def test_backscatter_of_unknown_unit_is_refused(tmp_path):
    write_geotiff(tmp_path / "S1A__IW___A_20150309T173017_VV_gamma0-rtc.tif", np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match=r"VV_gamma0-rtc\.tif: the name says that it holds no decibels .* end the names in _db\.tif"):
        find_scenes(tmp_path)


def test_a_grd_folder_is_refused_with_what_it_lacks(tmp_path):
    for pol in ("vh", "vv"):
        file = tmp_path / GRD / "annotation" / f"s1a-iw-grd-{pol}-20200101t053000-001.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ANNOTATION.format(pol=pol.upper()))
    (tmp_path / GRD / "manifest.safe").write_text("<xfdu/>")
    with pytest.raises(
        InputError, match=r"GRD product \(VH of 2020-01-01T05:30:00\.123456, incidence angle 39\.0 degrees; VV of"
    ) as caught:
        find_scenes(tmp_path)
    for words in (GRD, "calibrate", "correct for terrain", "convert to dB", "ground control points"):
        assert words in str(caught.value)


@pytest.mark.parametrize(("count", "bands"), [(3, "RGB"), (4, "RGBN")])
def test_naip(tmp_path, count, bands):
    write_geotiff(tmp_path / "m_3211605_ne_11_060_20200415_20201203.tif", np.ones((count, 4, 4), np.uint8), gsd=0.6)
    (scene,) = find_scenes(tmp_path)
    assert "".join(scene.bands) == bands
    assert scene.acquired_utc == datetime.datetime(2020, 4, 15, tzinfo=datetime.UTC)


def test_naip_of_another_number_of_bands(tmp_path):
    write_geotiff(tmp_path / "m_3211605_ne_11_060_20200415.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(InputError, match="has 1 bands; NAIP has 3"):
        find_scenes(tmp_path)


def test_a_panchromatic_and_multispectral_pair(tmp_path):
    pan, multi = "09DEC10103019-P2AS-052_P001", "09DEC10103019-M2AS-052_P001"
    write_maxar(tmp_path / "PAN", pan, "P")
    (tmp_path / "PAN" / f"{pan}.TIL").write_text(
        'bandId = "P";\nnumTiles = 2;\n'
        + "".join(f'BEGIN_GROUP = TILE_{i}\n\tfilename = "t{i}.TIF";\nEND_GROUP = TILE_{i}\n' for i in (1, 2))
    )
    for i in (1, 2):
        write_geotiff(tmp_path / "PAN" / f"t{i}.TIF", np.ones((8, 8), np.uint16), gsd=0.5)
    bands = ["C", "B", "G", "Y", "R", "RE", "N", "N2"]
    write_maxar(tmp_path / "MUL", multi, bands)
    write_geotiff(tmp_path / "MUL" / f"{multi}.TIF", np.ones((8, 2, 2), np.uint16), gsd=2.0)
    found = find_inputs(tmp_path)
    assert found.unrecognised == []
    scenes = {scene.id: scene for scene in found.scenes}
    assert {name: scene.sensor.name for name, scene in scenes.items()} == {
        multi: "worldview2_ms",
        "t1": "worldview2_pan",
        "t2": "worldview2_pan",
    }
    assert {name: band.index for name, band in scenes[multi].bands.items()} == {
        name: i + 1 for i, name in enumerate(("C", "B", "G", "Y", "R", "RE", "N1", "N2"))
    }
    assert scenes[multi].acquired_utc == datetime.datetime(2009, 12, 10, 10, 30, 19, 123456, datetime.UTC)
    conditions = scenes[multi].conditions
    assert (conditions.sun_elevation_deg, conditions.sun_azimuth_deg, conditions.off_nadir_deg) == (35.25, 170.5, 12.5)
    assert (conditions.view_azimuth_deg, conditions.cloud_percent) == (95.5, 12.5)
    assert open_scene(scenes["t2"]).bands["P"].gsd_m == 0.5


@pytest.mark.parametrize(
    ("bands", "satellite", "message"),
    [
        ("P", "QB02", r"\.IMD: satId is QB02; known are WV02, WV03, GE01"),
        (["B", "S1"], "WV03", r"\.IMD: group BAND_S1 is not of worldview3_ms"),
        ("P", "GE01", r"\.IMD: there is no image beside it"),
    ],
)
def test_maxar_products_that_are_not_known(tmp_path, bands, satellite, message):
    write_maxar(tmp_path, "x", bands, satellite)
    with pytest.raises(InputError, match=message):
        find_scenes(tmp_path)


@pytest.mark.parametrize(
    ("name", "sensor"),
    [
        ("Copernicus_DSM_COG_10_N41_00_E012_00_DEM.tif", "dsm"),
        ("ALPSMLC30_N041E012_DSM.tif", "dsm"),
        ("NEON_D17_SOAP_DP3_298000_4100000_DTM.tif", "dem"),
        ("n41_e012_1arc_v3.tif", "dem"),
        ("dem.tif", "dem"),
        ("dem_hillshade.tif", None),
        ("academic.tif", None),
    ],
)
def test_elevation_models_by_name(tmp_path, name, sensor):
    write_geotiff(tmp_path / "tile" / name, np.ones((4, 4), np.int16))
    if sensor:
        (scene,) = find_scenes(tmp_path)
        assert (scene.id, scene.sensor.name, scene.acquired_utc) == (f"tile_{name[:-4]}", sensor, None)
    else:
        with pytest.raises(InputError, match=f"{name}: is of no product known here"):
            find_scenes(tmp_path)


def test_heights_in_feet_are_refused(tmp_path):
    with rasterio.open(write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16)), "r+") as dataset:
        dataset.units = ["ft"]
    with pytest.raises(InputError, match=r"dem\.tif: heights are in 'ft'; .*0\.3048"):
        find_scenes(tmp_path)
