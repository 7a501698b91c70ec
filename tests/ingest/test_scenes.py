import dataclasses
import datetime
import re

import numpy as np
import pytest
import yaml

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.conditions import Conditions
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import open_one, scene, write_geotiff, write_scenes_yaml


@pytest.fixture
def folder(tmp_path):
    write_geotiff(tmp_path / "dem.tif", np.ones((4, 4), np.int16))
    return tmp_path


def _read(folder, **fields):
    (found,) = find_scenes(write_scenes_yaml(folder, scene(**fields)))
    return found


def test_conditions_are_kept(folder):
    stated = {"sun_elevation_deg": 41.5, "sun_azimuth_deg": 160, "off_nadir_deg": 3, "view_azimuth_deg": 100, "cloud_percent": 12.5}
    found = _read(folder, **stated).conditions
    assert dataclasses.asdict(found) == stated | {"incidence_deg": None}
    assert _read(folder).conditions == Conditions()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/a/b.tif", "/vsis3/bucket/a/b.tif"),
        ("gs://bucket/b.tif", "/vsigs/bucket/b.tif"),
        ("https://example.org/a b.tif?x=1", "/vsicurl/https://example.org/a b.tif?x=1"),
        ("/vsizip/a.zip/b.tif", "/vsizip/a.zip/b.tif"),
    ],
)
def test_remote_files_are_kept_as_gdal_opens_them(folder, uri, path):
    found = _read(folder, bands={"elevation": uri}, mask={"file": uri, "bits": [0]})
    assert (found.bands["elevation"].path, found.mask.path) == (path, path)


def test_a_file_uri_is_a_local_file(folder):
    assert _read(folder, bands={"elevation": f"file://{folder}/dem.tif"}).bands["elevation"].path == str(folder / "dem.tif")


def test_bits_of_a_mask(folder):
    mask = _read(folder, mask={"file": "dem.tif", "index": 2, "bits": [1, 3]}).mask
    assert (mask.index, mask.invalid, mask.bits) == (2, (), (1, 3))


def _sentinel2(**fields):
    return {"sensor": "sentinel2_l2a", "bands": {"B04": "dem.tif"}} | fields


def test_a_scene_is_read_as_described(folder):
    bands = {"B8A": {"file": "dem.tif", "index": 3, "scale": 0.5}, "B04": "dem.tif"}
    found = _read(folder, id="x", sensor="sentinel2_l2a", processing_baseline="05.09", bands=bands, scale=0.25, nodata=-1)
    assert list(found.bands) == ["B8A", "B04"]
    b8a, b04 = found.bands.values()
    assert (b8a.path, b8a.index, b8a.scale, b8a.offset, b8a.nodata) == (str(folder / "dem.tif"), 3, 0.5, None, -1)
    assert (b04.index, b04.scale, b04.band.wavelength_nm) == (None, 0.25, 664.6)
    assert (found.id, found.sensor.name, found.described_in) == ("x", "sentinel2_l2a", folder / "scenes.yaml")
    assert found.mask is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (datetime.date(2018, 4, 29), "2018-04-29T00:00:00+00:00"),
        ("2018-04-29", "2018-04-29T00:00:00+00:00"),
        ("2018-04-29T10:50:31Z", "2018-04-29T10:50:31+00:00"),
        ("2018-04-29T12:50:31+02:00", "2018-04-29T10:50:31+00:00"),
        ("2018-04-29T10:50", "2018-04-29T10:50:00+00:00"),
    ],
)
def test_dates_are_utc(folder, written, read):
    assert _read(folder, acquired_utc=written).acquired_utc == datetime.datetime.fromisoformat(read)


def test_an_unknown_date_is_stated(folder):
    assert _read(folder, acquired_utc="unknown").acquired_utc is None


@pytest.mark.parametrize(
    ("fields", "offset_dn"),
    [
        ({"processing_baseline": "04.00"}, -1000),
        ({"processing_baseline": 5.09}, -1000),
        ({"processing_baseline": "03.01"}, 0),
        ({"processing_baseline": "N0209"}, 0),
        ({"processing_baseline": "0209"}, 0),
        ({"processing_baseline": "N0400"}, -1000),
        ({"baseline_offset_dn": -1000}, -1000),
        ({"baseline_offset_dn": 0}, 0),
        ({"processing_baseline": "05.00", "baseline_offset_dn": -1000}, -1000),
    ],
)
def test_the_baseline_offset_is_the_stated_one(folder, fields, offset_dn):
    assert _read(folder, **_sentinel2(**fields)).baseline_offset_dn == offset_dn


def test_numbers_may_be_written_with_an_exponent(folder):
    (folder / "scenes.yaml").write_text(
        "scenes: [{id: a, sensor: dem, acquired_utc: unknown, bands: {elevation: dem.tif}, scale: 1e-4, nodata: -3.4e+38}]"
    )
    (found,) = find_scenes(folder)
    assert (found.bands["elevation"].scale, found.bands["elevation"].nodata) == (1e-4, -3.4e38)


def test_every_description_below_the_folder_is_read_in_order(tmp_path):
    for name in ("b", "a"):
        write_geotiff(tmp_path / name / "dem.tif", np.ones((4, 4), np.int16))
        write_scenes_yaml(tmp_path / name, scene(id=f"{name}1"), scene(id=f"{name}0"))
    assert [found.id for found in find_scenes(tmp_path)] == ["a1", "a0", "b1", "b0"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": None}, r"scenes\[0\]: field 'id' is missing"),
        ({"sensor": None}, "scene 'one': field 'sensor' is missing"),
        ({"acquired_utc": None}, "scene 'one': field 'acquired_utc' is missing.*or unknown"),
        ({"acquired_utc": 2018}, "acquired_utc=2018 is not a date"),
        ({"bands": None}, "field 'bands' must map band names to files"),
        ({"bands": ["dem.tif"]}, "field 'bands' must map band names to files"),
        ({"bands": {"elevaton": "dem.tif"}}, "has no band 'elevaton'.*did you mean 'elevation'"),
        ({"bands": {"elevation": {"index": 1}}}, "band 'elevation': field 'file' is missing"),
        ({"bands": {"elevation": {"file": "dem.tif", "indx": 1}}}, "unknown field 'indx'.*did you mean 'index'"),
        ({"bands": {"elevation": {"file": "dem.tif", "index": 0}}}, "field 'index' is 0, it must be a whole number from 1"),
        ({"bands": {"elevation": {"file": "dem.tif", "index": True}}}, "field 'index' is True"),
        ({"bands": {"elevation": "dim.tif"}}, r"dim\.tif does not exist; did you mean 'dem\.tif'"),
        ({"scale": "big"}, "field 'scale' is 'big', it must be a number"),
        ({"nodata": True}, "field 'nodata' is True, it must be a number"),
        ({"mask": {"file": "dem.tif"}}, "mask: needs 'file' and 'invalid'"),
        ({"mask": {"file": "dem.tif", "invalid": 3}}, "mask: needs 'file' and 'invalid'"),
        ({"mask": {"file": "dem.tif", "invalids": [3]}}, "unknown field 'invalids'.*did you mean 'invalid'"),
        ({"mask": {"file": "gone.tif", "invalid": [3]}}, r"mask: file .*gone\.tif does not exist"),
        ({"mask": {"file": "dem.tif", "bits": [32]}}, r"mask: bits=\[32\] must be from 0 to 31"),
        ({"mask": {"file": "dem.tif", "invalid": [], "bits": []}}, "mask: needs 'file' and 'invalid'"),
        ({"cloud_percent": 101}, "field 'cloud_percent' is 101, it must be a number from 0 to 100"),
        ({"sun_elevation_deg": "high"}, "field 'sun_elevation_deg' is 'high'"),
        ({"bands": {"elevation": "ftp://host/a.tif"}}, "ftp://host/a.tif is a URI of unknown kind"),
        ({"acquired_utc": "?"}, "scene 'one': 'acquired_utc' is still open, as drafted"),
        ({"bands": {"? band 1": "dem.tif"}}, "scene 'one', bands: '\\? band 1' is still open"),
        ({"baseline_offset_dn": 0}, "are for Sentinel-2 level 1C and 2A, not for dem"),
        (_sentinel2(processing_baseline="new"), "processing_baseline='new' must look like '04.00'"),
        (_sentinel2(processing_baseline="nan"), "processing_baseline='nan' must look like '04.00'"),
        (_sentinel2(processing_baseline=256), "processing_baseline=256 must look like '04.00'"),
        (_sentinel2(baseline_offset_dn=1000), "baseline_offset_dn=1000 must be 0"),
        ({"bands": {"elevation": "."}}, "is a folder; name the file"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(folder, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        _read(folder, **fields)
    assert str(folder / "scenes.yaml") in str(caught.value)


@pytest.mark.parametrize("text", ["", "scenes: []", "scene: [{}]", "- a", "scenes: {a: b}"])
def test_a_description_without_scenes_is_refused(folder, text):
    (folder / "scenes.yaml").write_text(text)
    with pytest.raises(InputError, match=r"scenes\.yaml: field 'scenes' must be a list with at least one scene"):
        find_scenes(folder)


def test_broken_yaml_is_refused(folder):
    (folder / "scenes.yaml").write_text("scenes: [")
    with pytest.raises(InputError, match=r"scenes\.yaml: not valid YAML: [^\n]*line 1[^\n]*$"):
        find_scenes(folder)


def test_ids_are_unique_across_descriptions(folder):
    write_scenes_yaml(folder, scene(), scene())
    with pytest.raises(InputError, match="scene id 'one' is used twice"):
        find_scenes(folder)


@pytest.mark.parametrize(
    ("scenes_yaml", "in_file", "scale", "offset"),
    [
        ({}, None, 2.75e-5, -0.2),
        ({}, (0.5, 3.0), 0.5, 3.0),
        ({"scale": 0.125, "offset": 1.0}, (0.5, 3.0), 0.125, 1.0),
        ({"scale": 0.125}, (0.5, 3.0), 0.125, 3.0),
    ],
)
def test_scale_and_offset_come_from_description_then_file_then_sensor(tmp_path, scenes_yaml, in_file, scale, offset):
    write_geotiff(tmp_path / "red.tif", np.ones((4, 4), np.uint16), scale_offset=in_file)
    band = open_one(tmp_path, sensor="landsat8_l2", bands={"B4": "red.tif"}, **scenes_yaml).bands["B4"]
    assert (band.scale, band.offset) == (scale, offset)


def test_a_scale_without_an_offset_is_refused_where_the_sensor_has_one(tmp_path):
    write_geotiff(tmp_path / "red.tif", np.ones((4, 4), np.uint16))
    with pytest.raises(InputError, match="states a scale but no offset"):
        open_one(tmp_path, sensor="landsat8_l2", bands={"B4": "red.tif"}, scale=0.125)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "scenes.yaml").write_text("scenes:\n- id: a\n  sensor: dem\n  sensor: dsm\n")
    with pytest.raises(InputError, match="key 'sensor' stands twice in the mapping that begins in line 2"):
        find_scenes(tmp_path)


def test_an_unknown_field_beside_scenes_is_refused(folder):
    write_scenes_yaml(folder, scene())
    file = folder / "scenes.yaml"
    file.write_text(file.read_text() + "\nscene: []\n")
    with pytest.raises(InputError, match="unknown field 'scene'"):
        find_scenes(folder)


@pytest.mark.parametrize(
    ("scenes_yaml", "in_file", "nodata", "who"),
    [({}, None, 0, "sensor"), ({}, 7, 7, "file"), ({"nodata": 9}, 7, 9, "scenes.yaml"), ({"nodata": 9}, None, 9, "scenes.yaml")],
)
def test_nodata_comes_from_description_then_file_then_sensor(tmp_path, scenes_yaml, in_file, nodata, who):
    write_geotiff(tmp_path / "red.tif", np.ones((4, 4), np.uint16), nodata=in_file)
    band = open_one(tmp_path, sensor="landsat8_l2", bands={"B4": "red.tif"}, **scenes_yaml).bands["B4"]
    assert (band.nodata, band.nodata_from) == (nodata, who)


def test_the_examples_of_the_manual_are_right(repo, tmp_path):
    manual = (repo / "docs" / "data.md").read_text()
    (description,) = re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)
    for entry in yaml.safe_load(description)["scenes"]:
        for described in [*entry["bands"].values(), entry.get("mask", "mask.tif")]:
            write_geotiff(tmp_path / (described if isinstance(described, str) else described["file"]), np.ones((4, 4), np.int16))
    (tmp_path / "scenes.yaml").write_text(description)
    optical, elevation = find_scenes(tmp_path)
    assert (optical.baseline_offset_dn, optical.mask.invalid) == (-1000, (0, 1, 3, 8, 9, 10))
    assert (elevation.acquired_utc, elevation.bands["elevation"].nodata) == (None, -9999)
    layouts = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    assert len(layouts) == 2
    for layout in layouts:
        eval(layout, {"Layout": Layout, "Slot": Slot}).validate("manual")
