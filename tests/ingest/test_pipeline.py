import dataclasses
import json
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform

from configs import demo
from rsfm_jax.config import IngestConfig
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.ingest.raster import open_scene
from rsfm_jax.layouts import Layout, Slot, layout_from_dict
from tests.helpers import ingest, manifest, one_slot, records, scene, valid_pixels, write_geotiff, write_scenes_yaml

BOUNDARY = "touches ground cells of both splits"
DEMO_SLOTS = [(layout, i) for layout in demo.layouts() for i in range(len(layout.slots))]


@pytest.fixture(scope="module")
def demo_bands(repo):
    """Band sources of the example scenes by scene id."""
    return {found.id: open_scene(found).bands for found in find_scenes(repo / "examples" / "scenes")}


@pytest.fixture(scope="module")
def split_dataset(repo, tmp_path_factory):
    """The demo with a larger val split, so that its boundary is long."""
    out = tmp_path_factory.mktemp("split") / "dataset"
    config = dataclasses.replace(demo.get_config().ingest, val_share=0.3)
    return out, run_ingest(repo / "examples" / "scenes", out, config)


@pytest.fixture
def ramp(tmp_path):
    """A folder with one elevation scene of 64 x 64 pixels."""
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", np.add.outer(np.arange(64), np.arange(64)).astype(np.int16))
    return write_scenes_yaml(folder, scene())


@pytest.mark.parametrize(("layout", "i"), DEMO_SLOTS, ids=[f"{layout.name}-{i}" for layout, i in DEMO_SLOTS])
def test_records_hold_the_files_pixels_at_their_ground_position(demo_dataset, demo_bands, layout, i):
    slot = layout.slots[i]
    sample = records(demo_dataset, layout.name)[::20]
    assert len(sample) > 3
    for record in sample:
        left, top, width, height = record[f"grid_m_{i}"]
        east, north = np.meshgrid(
            record["centre_m"][0] + left + width * (np.arange(slot.pixels) + 0.5),
            record["centre_m"][1] + top - height * (np.arange(slot.pixels) + 0.5),
        )
        valid_HWC = valid_pixels(record, i)
        assert valid_HWC.mean() > 0.5
        for c, name in enumerate(slot.bands):
            band = demo_bands[record[f"scene_{i}"].decode()][name]
            with rasterio.open(band.source.path) as dataset:
                values = dataset.read(band.index)
            columns, rows = ~band.transform @ (east.ravel(), north.ravel())
            assert abs(columns % 1 - 0.5).max() < 1e-6  # pixel centres on pixel centres
            inside = (columns >= 0) & (columns < band.width) & (rows >= 0) & (rows < band.height)
            seen = np.zeros(columns.size, values.dtype)
            seen[inside] = values[rows[inside].astype(int), columns[inside].astype(int)]
            valid = valid_HWC[..., c].ravel()
            assert not valid[~inside].any()
            assert np.array_equal(record[f"pixels_{i}"][..., c].ravel()[valid], seen[valid])
            assert record[f"pixels_{i}"].dtype == band.dtype
            assert (record[f"scale_{i}"][c], record[f"offset_{i}"][c]) == (band.scale, band.offset)


@pytest.mark.parametrize("layout", demo.layouts(), ids=lambda layout: layout.name)
def test_members_lie_within_half_a_pixel_of_the_place(demo_dataset, layout):
    for record in records(demo_dataset, layout.name):
        for i, slot in enumerate(layout.slots):
            left, top, width, height = record[f"grid_m_{i}"]
            assert (width, height) == pytest.approx((slot.gsd_m, slot.gsd_m))
            centre = np.array([left + slot.pixels * width / 2, top - slot.pixels * height / 2])
            assert abs(centre).max() <= slot.gsd_m / 2 + 1e-6
            assert i > 0 or abs(centre).max() < 1e-6


def test_records_say_where_and_when(demo_dataset):
    for name, year_day, crs, lonlat in (
        ("sentinel1_pair", [(2015, 67), (2017, 67)], "EPSG:32631", (4.5, 43.6)),
        ("landsat7_landsat8", [(2013, 187), (2013, 187), (2001, 210)], "EPSG:32632", (8.8, 50.8)),
    ):
        for record in records(demo_dataset, name):
            times = [record[f"time_{i}"] for i in range(len(year_day))]
            assert [(known, year, int(day)) for known, year, day in times] == [(1, *expected) for expected in year_day]
            assert record["crs"].decode() == crs
            (lon,), (lat,) = transform(CRS.from_string(crs), CRS.from_epsg(4326), *record["centre_m"][:, None])
            west, south, east, north = (*record["lonlat_deg"].min(axis=0), *record["lonlat_deg"].max(axis=0))
            assert west < lon < east
            assert south < lat < north
            assert (lon, lat) == pytest.approx(lonlat, abs=0.3)
    assert all(record["time_0"].tolist() == [0, 0, 0] for record in records(demo_dataset, "sentinel2_13_bands"))


def test_the_manifest_lists_every_scene_and_every_set(demo_dataset, demo_summary, demo_bands):
    scenes = manifest(demo_dataset, "scene")
    assert [row["id"] for row in scenes] == list(demo_bands)
    for row in scenes:
        unused = row["sensor"] == "landsat5_l2"
        assert row["reason"] == ("no layout has a slot for its sensor" if unused else None)
        assert (row["sets"] == 0) == unused
    sets = manifest(demo_dataset, "set")
    assert len({row["key"] for row in sets}) == len(sets)
    for layout in demo.layouts():
        rows = [row for row in sets if row["layout"] == layout.name]
        kept = {split: {row["key"] for row in rows if row["kept"] and row["split"] == split} for split in ("train", "val")}
        assert {split: len(keys) for split, keys in kept.items() if keys} == demo_summary["sets"][layout.name]
        for split in demo_summary["sets"][layout.name]:
            assert {record["key"].decode() for record in records(demo_dataset, layout.name, split)} == kept[split]
        rejected = [row["reason"] for row in rows if not row["kept"]]
        assert {reason: rejected.count(reason) for reason in rejected} == demo_summary["rejected"][layout.name]


def test_a_scene_that_is_not_used_says_why(ramp):
    write_geotiff(ramp / "coarse.tif", np.ones((64, 64), np.int16), gsd=30)
    write_geotiff(ramp / "red.tif", np.ones((64, 64), np.uint8))
    write_geotiff(ramp / "gone.tif", np.full((64, 64), -1, np.int16), nodata=-1)
    write_scenes_yaml(
        ramp,
        scene(),
        scene(id="coarse", bands={"elevation": "coarse.tif"}),
        scene(id="other", sensor="naip", bands={"R": "red.tif"}),
        scene(id="gone", bands={"elevation": "gone.tif"}),
    )
    dataset, _ = ingest(ramp, one_slot())
    reasons = {row["id"]: row["reason"] for row in manifest(dataset, "scene")}
    assert reasons["one"] is None
    assert "has a GSD of 30 m, the slot 10 m" in reasons["coarse"]
    assert reasons["other"] == "no layout has a slot for its sensor"
    assert reasons["gone"] == "no set with it was kept"


def test_kept_footprints_of_the_splits_do_not_overlap(split_dataset):
    dataset, summary = split_dataset
    boxes = {"train": [], "val": []}
    for layout in summary["layouts"]:
        for split in summary["sets"][layout["name"]]:
            for record in records(dataset, layout["name"], split):
                boxes[split].append((*record["lonlat_deg"].min(axis=0), *record["lonlat_deg"].max(axis=0)))
    assert min(len(found) for found in boxes.values()) > 20
    train, val = np.array(boxes["train"])[:, None], np.array(boxes["val"])[None]
    apart = (train[..., 0] > val[..., 2]) | (train[..., 2] < val[..., 0]) | (train[..., 1] > val[..., 3]) | (train[..., 3] < val[..., 1])
    assert apart.all()


def test_sets_on_the_boundary_of_the_splits_are_rejected_with_the_reason(split_dataset):
    dataset, summary = split_dataset
    rejected = [row for row in manifest(dataset, "set") if not row["kept"]]
    assert len(rejected) > 20
    assert {row["reason"] for row in rejected} == {BOUNDARY}
    assert sum(counts.get(BOUNDARY, 0) for counts in summary["rejected"].values()) == len(rejected)


def test_chips_with_too_few_valid_pixels_are_rejected(tmp_path):
    values = np.random.default_rng(0).integers(1, 99, (16, 64)).astype(np.int16)
    values[:, 36:] = -1
    write_geotiff(tmp_path / "scenes" / "dem.tif", values, nodata=-1)
    write_scenes_yaml(tmp_path / "scenes", scene())
    for share, kept in ((0.0, 4), (0.25, 3), (0.5, 2), (1.0, 2)):
        shutil.rmtree(tmp_path / "scenes-dataset", ignore_errors=True)
        dataset, summary = ingest(tmp_path / "scenes", one_slot(pixels=16, stride_m=160.0), min_valid_share=share)
        assert summary["sets"]["dem"] == {"train": kept}
        reasons = [row["reason"] for row in manifest(dataset, "set") if not row["kept"]]
        assert reasons == [f"a member has less than {share:g} valid pixels"] * (4 - kept)


def test_the_digest_is_equal_for_two_runs_and_follows_the_seed(tmp_path, repo, demo_summary):
    again = run_ingest(repo / "examples" / "scenes", tmp_path / "again", demo.get_config().ingest)
    assert again["digest"] == demo_summary["digest"]
    assert again["statistics"] == demo_summary["statistics"]
    series = dataclasses.replace(demo.layouts()[1], stride_m=640.0)
    other_seed = dataclasses.replace(demo.get_config().ingest, layouts=(series,), seed=1)
    same_seed = dataclasses.replace(other_seed, seed=0)
    digests = [run_ingest(repo / "examples" / "scenes", tmp_path / str(c.seed), c)["digest"] for c in (other_seed, same_seed)]
    assert digests[0] != digests[1]


def test_one_pixel_changes_the_digest(ramp):
    _, before = ingest(ramp, one_slot())
    shutil.rmtree(ramp.parent / f"{ramp.name}-dataset")
    with rasterio.open(ramp / "dem.tif", "r+") as dataset:
        values = dataset.read(1)
        values[20, 20] += 1
        dataset.write(values, 1)
    _, after = ingest(ramp, one_slot())
    assert before["digest"] != after["digest"]


def test_dataset_json_describes_the_records(demo_dataset, demo_summary):
    assert demo_summary["schema_version"] == 1
    assert demo_summary["ingest"]["split_cell_m"] == demo.get_config().ingest.split_cell_m
    for described, layout in zip(demo_summary["layouts"], demo.layouts(), strict=True):
        dtypes = described.pop("dtypes")
        assert layout_from_dict(described) == layout
        (record, *_) = records(demo_dataset, layout.name)
        assert dtypes == [str(record[f"pixels_{i}"].dtype) for i in range(len(layout.slots))]
    assert sorted(path.name for path in demo_dataset.iterdir()) == ["dataset.json", "manifest.jsonl", "records"]


def test_scenes_of_different_types_share_a_slot(tmp_path):
    folder = tmp_path / "scenes"
    rng = np.random.default_rng(0)
    write_geotiff(folder / "a.tif", rng.integers(0, 200, (16, 16)).astype(np.uint8))
    write_geotiff(folder / "b.tif", rng.integers(-200, 200, (16, 16)).astype(np.int16), left=700_000)
    write_scenes_yaml(folder, *(scene(id=name, bands={"elevation": f"{name}.tif"}) for name in "ab"))
    dataset, summary = ingest(folder, one_slot(pixels=16))
    assert summary["layouts"][0]["dtypes"] == ["int16"]
    found = {record["scene_0"].decode(): record["pixels_0"][..., 0] for record in records(dataset, "dem")}
    for name, pixels in found.items():
        with rasterio.open(folder / f"{name}.tif") as source:
            assert np.array_equal(pixels, source.read(1))
    assert found.keys() == {"a", "b"}


def test_a_resampled_member_lies_where_the_layout_asks(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "red.tif", np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8))
    lon, lat = (value[0] for value in transform(CRS.from_epsg(32631), CRS.from_epsg(4326), [500_000], [4_800_000]))
    heights = np.tile(np.arange(200), (200, 1)).astype(np.float32)  # columns of 1e-4 degrees
    write_geotiff(folder / "dem.tif", heights, crs="EPSG:4326", left=lon - 50e-4, top=lat + 50e-4, gsd=1e-4)
    write_scenes_yaml(folder, scene(id="r", sensor="naip", bands={"R": "red.tif"}), scene(id="d"))
    slots = (Slot("naip", ("R",), 10.0, 32, 4), Slot("dem", ("elevation",), 20.0, 16, 4, resample="bilinear"))
    dataset, _ = ingest(folder, Layout("pair", slots))
    for record in records(dataset, "pair"):
        assert record["grid_m_1"].tolist() == pytest.approx([-160, 160, 20, 20])
        east, north = np.meshgrid(record["centre_m"][0] - 150 + 20 * np.arange(16), record["centre_m"][1] + 150 - 20 * np.arange(16))
        lons, _ = transform(CRS.from_epsg(32631), CRS.from_epsg(4326), east.ravel(), north.ravel())
        columns = (np.array(lons) - (lon - 50e-4)) / 1e-4 - 0.5
        assert abs(record["pixels_1"][..., 0].ravel() - columns).max() < 0.2


def test_all_sets_in_val_is_refused(ramp):
    config = IngestConfig(layouts=(one_slot(),), val_share=0.999)
    with pytest.raises(InputError, match=r"layout 'dem': all its image sets fall into the split 'val'.*split_cell_m"):
        run_ingest(ramp, ramp.parent / "out", config)
    assert [path.name for path in ramp.parent.iterdir()] == ["scenes"]


def test_a_layout_without_ground_is_listed_with_no_sets(ramp):
    lonely = Layout("lonely", (Slot("naip", ("R",), 1.0, 8, 4),))
    _, summary = ingest(ramp, one_slot(), lonely)
    assert summary["sets"]["lonely"] == {}
    assert [layout["name"] for layout in summary["layouts"]] == ["dem"]
    assert json.loads((ramp.parent / "scenes-dataset" / "dataset.json").read_text()) == summary
