"""STAC files as catalogues write them, built with pystac or as plain JSON, with small GeoTIFFs as assets."""

import datetime
import json

import numpy as np
import pystac
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import find_inputs, find_scenes
from rsfm_jax.ingest.raster import open_scene
from tests.helpers import write_geotiff

EO, RASTER = "https://stac-extensions.github.io/eo/v1.1.0/schema.json", "https://stac-extensions.github.io/raster/v1.1.0/schema.json"


def s2_item(assets=None, properties=(), collection="sentinel-2-l2a", item_id="S2B_33UXP_20230611_0_L2A", version="1.0.0", **more):
    """An item of Sentinel-2 level 2A, as JSON; ``properties`` set to None are left out."""
    stated = {"datetime": "2023-06-11T10:50:31Z", "platform": "sentinel-2b", "s2:processing_baseline": "05.09", "eo:cloud_cover": 8.5}
    stated |= {"view:sun_elevation": 60.5, "view:sun_azimuth": 150.5, "view:off_nadir": 3.0, "view:azimuth": 100.0} | dict(properties)
    return {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [EO, RASTER],
        "id": item_id,
        "collection": collection,
        "geometry": None,
        "properties": {key: value for key, value in stated.items() if value is not None},
        "links": [],
        "assets": assets if assets is not None else {"B04": asset("B04")},
    } | more


def asset(name, href="./B04.tif", **more):
    """An asset of one band as STAC 1.0 describes it."""
    return {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"], "eo:bands": [{"name": name}]} | more


def raster(offset, scale=1e-4):
    return {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": scale, "offset": offset}]}


@pytest.fixture
def folder(tmp_path):
    write_geotiff(tmp_path / "B04.tif", np.full((4, 4), 1500, np.uint16))
    return tmp_path


def _write(folder, item, name="item.json"):
    (folder / name).write_text(json.dumps(item))
    return folder / name


def _one(folder, item):
    (scene,) = find_scenes(_write(folder, item))
    return scene


def test_an_item_with_eo_bands(folder):
    scene = _one(folder, s2_item())
    assert (scene.id, scene.sensor.name, scene.baseline_offset_dn) == ("S2B_33UXP_20230611_0_L2A", "sentinel2_l2a", -1000)
    assert scene.acquired_utc == datetime.datetime(2023, 6, 11, 10, 50, 31, tzinfo=datetime.UTC)
    conditions = scene.conditions
    assert (conditions.sun_elevation_deg, conditions.sun_azimuth_deg, conditions.cloud_percent) == (60.5, 150.5, 8.5)
    assert (conditions.off_nadir_deg, conditions.view_azimuth_deg) == (3.0, 280.0)
    assert open_scene(scene).bands["B04"].gsd_m == 10


def test_an_item_with_bands_of_stac_1_1(folder):
    band = {"name": "B04", "eo:common_name": "red", "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}
    scene = _one(folder, s2_item({"B04_10m": asset(None, **{"eo:bands": None, "bands": [band]})}, version="1.1.0"))
    found = open_scene(scene).bands["B04"]
    assert found.scale * 1500 + found.offset == pytest.approx(0.05)
    assert (found.nodata, found.nodata_from) == (0, "scenes.yaml")


def test_scale_of_stac_1_1_stated_for_the_whole_asset(folder):
    whole = {"href": "B04.tif", "raster:scale": 2e-5, "raster:offset": -0.1, "nodata": 7, "bands": [{"name": "B4"}]}
    properties = {"platform": "landsat-9", "landsat:correction": "L1TP"}
    scene = _one(folder, s2_item({"red": whole}, properties, "landsat-c2-l1", version="1.1.0"))
    found = open_scene(scene).bands["B4"]
    assert (scene.sensor.name, found.scale, found.offset, found.nodata) == ("landsat9_l1", 2e-5, -0.1, 7)


@pytest.mark.parametrize(
    ("properties", "stated", "collection", "reflectance"),
    [
        ({}, {}, "sentinel-2-l2a", 0.05),  # the Planetary Computer: as ESA delivers it
        ({"s2:processing_baseline": "03.01"}, {}, "sentinel-2-l2a", 0.15),
        ({"earthsearch:boa_offset_applied": True}, raster(-0.1), "sentinel-2-l2a", 0.15),  # Earth Search: already taken off
        ({"earthsearch:boa_offset_applied": True}, raster(0), "sentinel-2-l2a", 0.15),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "03.01"}, raster(0), "sentinel-2-l2a", 0.15),
        ({"earthsearch:boa_offset_applied": False}, raster(-0.1), "sentinel-2-c1-l2a", 0.05),
        ({}, raster(-0.1), "sentinel-2-c1-l2a", 0.05),  # the baseline and the raster offset are one offset
        ({"s2:processing_baseline": None, "processing:version": "05.11"}, raster(-0.1), "sentinel-2-l2a", 0.05),
        ({"s2:processing_baseline": None}, raster(-0.1), "sentinel-2-l2a", 0.05),
        ({"rsfm:baseline_offset_dn": 0}, raster(-0.1), "sentinel-2-l2a", 0.15),
    ],
)
def test_the_baseline_offset_of_each_distributor(folder, properties, stated, collection, reflectance):
    band = open_scene(_one(folder, s2_item({"red": asset("red", **stated)}, properties, collection))).bands["B04"]
    assert band.scale * 1500 + band.offset == pytest.approx(reflectance)


@pytest.mark.parametrize(
    ("properties", "stated", "message"),
    [
        ({"s2:processing_baseline": None}, {}, "scene 'S2B_33UXP_20230611_0_L2A': a Sentinel-2 scene must state its baseline offset"),
        (
            {},
            raster(0),
            "s2:processing_baseline 05.09 and raster offset 0 digital numbers contradict each other.*'rsfm:baseline_offset_dn'",
        ),
        ({"s2:processing_baseline": "02.11"}, raster(-0.1), "s2:processing_baseline 02.11 and raster offset -1000 .*contradict"),
        ({}, raster(-0.05), "the bands' offsets are .*-500.* expected 0 or -1000"),
        ({"earthsearch:boa_offset_applied": False}, raster(-0.1), "boa_offset_applied is false at baseline 05.09, which is wrong in many"),
    ],
)
def test_an_offset_that_is_not_certain_is_demanded(folder, properties, stated, message):
    with pytest.raises(InputError, match=message) as caught:
        _one(folder, s2_item({"red": asset("red", **stated)}, properties))
    assert "item.json" in str(caught.value)


def test_common_names_asset_keys_and_the_nearest_resolution(folder):
    for name in ("B8A_20m", "B8A_60m", "visual", "nir08"):
        write_geotiff(folder / f"{name}.tif", np.ones((4, 4), np.uint16))
    assets = {
        "B8A_60m": asset("B8A", "B8A_60m.tif", gsd=60),
        "B8A_20m": asset("B8A", "B8A_20m.tif", gsd=20),
        "red": {"href": "B04.tif", "eo:bands": [{"name": "red", "common_name": "red"}]},
        "red-jp2": {"href": "s3://sentinel-s2-l2a/B04.jp2", "type": "image/jp2", "eo:bands": [{"name": "red", "common_name": "red"}]},
        "visual": asset("B04", "visual.tif", **{"eo:bands": [{"name": n} for n in ("B04", "B03", "B02")]}),
        "scl": {"href": "nir08.tif", "roles": ["data"]},
        "aot": {"href": "nir08.tif", "roles": ["data"]},
        "thumbnail": {"href": "gone.png", "roles": ["thumbnail"]},
    }
    scene = _one(folder, s2_item(assets))
    assert {name: band.path.rsplit("/", 1)[1] for name, band in scene.bands.items()} == {"B04": "B04.tif", "B8A": "B8A_20m.tif"}
    assert scene.mask.invalid == (0, 1, 3, 8, 9, 10)


def test_landsat_of_level_2(folder):
    stated = {"raster:bands": [{"nodata": 0, "scale": 2.75e-05, "offset": -0.2}]}
    assets = {
        "red": asset("OLI_B4", **stated),
        "lwir11": asset("TIRS_B10", "B04.tif", **{"raster:bands": [{"scale": 0.00341802, "offset": 149.0}]}),
        "qa_pixel": {"href": "B04.tif", "roles": ["cloud"]},
        "qa": {"href": "B04.tif", "roles": ["data"]},
    }
    properties = {"platform": "landsat-8", "landsat:correction": "L2SP", "s2:processing_baseline": None}
    scene = _one(folder, s2_item(assets, properties, "landsat-c2-l2"))
    assert (scene.sensor.name, list(scene.bands), scene.mask.bits) == ("landsat8_l2", ["B4", "ST_B10"], (0, 1, 2, 3, 4))
    assert (scene.bands["ST_B10"].scale, scene.bands["ST_B10"].offset) == (0.00341802, 149.0)


def test_several_bands_in_one_asset_and_polarisations(folder):
    write_geotiff(folder / "naip.tif", np.ones((4, 4, 4), np.uint8))
    bands = [{"name": n.capitalize(), "common_name": n.lower()} for n in ("red", "green", "blue", "nir")]
    scene = _one(folder, s2_item({"image": {"href": "naip.tif", "eo:bands": bands}}, {"platform": None}, "naip"))
    assert {name: band.index for name, band in scene.bands.items()} == {"R": 1, "G": 2, "B": 3, "N": 4}
    properties = {"rsfm:sensor": "sentinel1_grd", "platform": "sentinel-1a", "sar:polarizations": ["VV", "VH"]}
    write_geotiff(folder / "s1.tif", np.ones((2, 4, 4), np.float32))
    two = {"href": "s1.tif", "raster:bands": [{"nodata": "nan"}, {"nodata": "nan"}]}
    scene = _one(folder, s2_item({"data": two}, properties, "own"))
    assert {name: band.index for name, band in scene.bands.items()} == {"VV": 1, "VH": 2}


def test_hls_temperatures_keep_their_offset(folder):
    assets = {"B10": asset("B10", **raster(0, scale=0.01)), "B04": asset("B04"), "Fmask": {"href": "B04.tif"}}
    scene = _one(folder, s2_item(assets, {"platform": None}, "HLSL30_2.0"))
    assert (scene.sensor.name, scene.bands["B10"].offset, scene.mask.bits) == ("hls_l30", 273.15, (1, 2, 3))


def test_remote_assets_are_kept_as_gdal_opens_them(folder):
    hrefs = {"B02": "s3://bucket/B02.tif", "B03": "gs://bucket/B03.tif", "B04": "https://example.org/B04.tif?sig=a%2Fb"}
    scene = _one(folder, s2_item({name: asset(name, href) for name, href in hrefs.items()}))
    assert [band.path for band in scene.bands.values()] == [
        "/vsis3/bucket/B02.tif",
        "/vsigs/bucket/B03.tif",
        "/vsicurl/https://example.org/B04.tif?sig=a%2Fb",
    ]


def test_an_interval_is_dated_by_its_middle(folder):
    properties = {"datetime": None, "start_datetime": "2023-06-01T00:00:00Z", "end_datetime": "2023-06-03T00:00:00Z"}
    assert _one(folder, s2_item(properties=properties)).acquired_utc == datetime.datetime(2023, 6, 2, tzinfo=datetime.UTC)


def _catalogue(folder):
    """A self-contained catalogue of one collection of two items, written by pystac."""
    root = pystac.Catalog("root", "A catalogue.")
    extent = pystac.Extent(pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]]))
    collection = pystac.Collection("sentinel-2-l2a", "A collection.", extent)
    root.add_child(collection)
    for day in (1, 2):
        properties = {"s2:processing_baseline": "05.09"}
        item = pystac.Item(f"item{day}", None, None, datetime.datetime(2023, 6, day, tzinfo=datetime.UTC), properties)
        item.add_asset("B04", pystac.Asset(f"./B04_{day}.tif", roles=["data"]))
        collection.add_item(item)
        write_geotiff(folder / "sentinel-2-l2a" / f"item{day}" / f"B04_{day}.tif", np.ones((4, 4), np.uint16))
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder


@pytest.mark.parametrize("entry", [".", "catalog.json", "sentinel-2-l2a/collection.json"])
def test_a_catalogue_with_relative_links(tmp_path, entry):
    folder = _catalogue(tmp_path)
    found = find_inputs(folder / entry)
    assert sorted(scene.id for scene in found.scenes) == ["item1", "item2"]  # each once
    assert found.unrecognised == []
    assert [scene.sensor.name for scene in found.scenes] == ["sentinel2_l2a"] * 2
    assert sorted(open_scene(scene).bands["B04"].source.path[-9:] for scene in found.scenes) == ["B04_1.tif", "B04_2.tif"]


def test_a_collection_of_items_in_one_file(folder):
    features = {"type": "FeatureCollection", "features": [s2_item(item_id="a"), s2_item(item_id="b")]}
    _write(folder, features, "search.json")
    assert [scene.id for scene in find_scenes(folder)] == ["a", "b"]


def test_a_link_to_a_url_is_not_fetched(tmp_path):
    folder = _catalogue(tmp_path)
    file = folder / "catalog.json"
    file.write_text(file.read_text().replace("./sentinel-2-l2a/collection.json", "https://example.org/collection.json"))
    with pytest.raises(InputError, match=r"https://example.org/collection.json: a STAC file behind a URL is not fetched"):
        find_scenes(file)


def test_a_link_to_nothing_is_named(tmp_path):
    folder = _catalogue(tmp_path)
    (folder / "sentinel-2-l2a" / "item2" / "item2.json").unlink()
    with pytest.raises(InputError, match=r"item2\.json: cannot be read \(No such file"):
        find_scenes(folder)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (s2_item(properties={"datetime": None}), "item 'S2B_33UXP_20230611_0_L2A': has no 'datetime', nor 'start_datetime'"),
        (s2_item({"B04": {"roles": ["data"]}}), "asset 'B04': has no 'href'"),
        (s2_item({"B04": asset("B04", "gone.tif")}), r"band 'B04': file .*gone\.tif does not exist"),
        (s2_item({"x": asset("B4x")}), r"asset 'x': band 'B4x' is not one of sentinel2_l2a .*did you mean 'B04'"),
        (s2_item({"a": asset("B04"), "b": asset("B04")}), "assets 'a' and 'b' both hold band B04; take one out"),
        (s2_item({}), r"no asset is a band of sentinel2_l2a \(assets: none\)"),
        (s2_item(properties={"platform": None}, collection="mine"), r"its sensor is not known \(collection 'mine'.*'rsfm:sensor'"),
        (s2_item(properties={"rsfm:sensor": "sentinel2_l2b"}), "rsfm:sensor 'sentinel2_l2b' is not in the registry; did you mean"),
        (s2_item(collection="sentinel-1-rtc"), "holds linear power, and backscatter must be in dB"),
        (s2_item(collection="sentinel-1-grd", properties={"platform": "sentinel-1a"}), "is in the radar's geometry"),
    ],
)
def test_a_bad_item_is_refused(folder, item, message):
    with pytest.raises(InputError, match=message) as caught:
        _one(folder, item)
    assert "item.json" in str(caught.value)


def test_json_that_is_not_stac(folder):
    with pytest.raises(InputError, match=r"item\.json: is not a STAC file"):
        _one(folder, {"type": "Feature"})
