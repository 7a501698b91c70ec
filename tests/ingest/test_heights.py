"""Surfaces without their terrain, on planes whose difference is known by hand."""

import json

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from rsfm_jax.config import IngestConfig
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import manifest, records, scene, valid_pixels, write_geotiff, write_scenes_yaml

LEFT, TOP = 500_000.0, 4_800_000.0


def _plane(rows, columns, gsd, left, top, slopes):
    """Values of a plane at pixel centres, metres."""
    x = left + gsd * (np.arange(columns) + 0.5) - LEFT
    y = top - gsd * (np.arange(rows) + 0.5) - TOP
    return 100.0 + slopes[0] * x[None] + slopes[1] * y[:, None]


@pytest.fixture
def folder(tmp_path):
    """A surface of 2 m and a terrain of 10 m that reaches beyond it; the terrain is in decimetres."""
    folder = tmp_path / "scenes"
    surface = _plane(64, 64, 2.0, LEFT, TOP, (0.31, -0.17)).astype(np.float32)
    write_geotiff(folder / "dsm.tif", surface, gsd=2.0, left=LEFT, top=TOP)
    terrain = _plane(24, 24, 10.0, LEFT - 50, TOP + 50, (0.2, 0.1)) - 7.0
    write_geotiff(folder / "dem.tif", np.rint(terrain * 10).astype(np.int16), gsd=10.0, left=LEFT - 50, top=TOP + 50, nodata=-32768)
    return folder


def _scenes(folder, **dem):
    surface = scene(id="surface", sensor="dsm", bands={"elevation": "dsm.tif"})
    terrain = scene(id="terrain", acquired_utc="unknown", bands={"elevation": {"file": "dem.tif", "scale": 0.1, "offset": 0}}) | dem
    return write_scenes_yaml(folder, surface, terrain)


def _layout(resample="none", gsd_m=2.0, pixels=16):
    return Layout("height", (Slot("dsm", ("height",), gsd_m, pixels, 4, resample=resample, minus="dem"),))


def _ingest(folder, layout, **knobs):
    out = folder.parent / "dataset"
    return out, run_ingest(folder, out, IngestConfig(layouts=(layout,), **knobs))


def _differences(record, pixels):
    left, top, step, _ = record["grid_m_0"]
    x = record["centre_m"][0] + left + step * (np.arange(pixels) + 0.5) - LEFT
    y = record["centre_m"][1] + top - step * (np.arange(pixels) + 0.5) - TOP
    return 7.0 + 0.11 * x[None] - 0.27 * y[:, None]


@pytest.mark.parametrize(("resample", "gsd_m", "pixels"), [("none", 2.0, 16), ("bilinear", 2.5, 12)])
def test_the_difference_of_planes_is_a_plane(folder, resample, gsd_m, pixels):
    dataset, summary = _ingest(_scenes(folder), _layout(resample, gsd_m, pixels))
    found = records(dataset, "height")
    assert len(found) > 9
    for record in found:
        assert record["pixels_0"].dtype == np.float32
        assert (record["scale_0"].tolist(), record["offset_0"].tolist()) == ([1.0], [0.0])
        assert record["scene_0"] == b"surface"
        assert valid_pixels(record, 0).all()
        error = (record["pixels_0"][..., 0] - _differences(record, pixels))[1:-1, 1:-1]  # at the surface's edge pixels are repeated
        assert abs(error).max() < 0.051  # decimetres were rounded
        assert abs(error.mean()) < 0.01
    assert summary["layouts"][0]["dtypes"] == ["float32"]
    values = np.concatenate([record["pixels_0"].ravel() for record in found]).astype(np.float64)
    band = summary["statistics"]["dsm"]["height"]
    assert band["unit"] == "m"
    assert (band["mean"], band["std"]) == pytest.approx((values.mean(), values.std()))
    assert summary["unused_bands"] == {}
    assert all(member["minus"] == "terrain" for row in manifest(dataset, "set") for member in row["members"])
    assert {row["id"]: row["reason"] for row in manifest(dataset, "scene")} == {"surface": None, "terrain": None}
    assert open_dataset(str(dataset)).layouts == (_layout(resample, gsd_m, pixels),)


def test_exact_planes_stay_exact(folder):
    """With values that float32 holds exactly, nothing but the terrain's own interpolation is left, which is exact on a plane."""
    write_geotiff(folder / "dsm.tif", _plane(64, 64, 2.0, LEFT, TOP, (0.25, -0.125)).astype(np.float32), gsd=2.0, left=LEFT, top=TOP)
    terrain = _plane(24, 24, 10.0, LEFT - 50, TOP + 50, (0.5, 0.25)).astype(np.float32)
    write_geotiff(folder / "dem.tif", terrain, gsd=10.0, left=LEFT - 50, top=TOP + 50)
    dataset, _ = _ingest(_scenes(folder, bands={"elevation": "dem.tif"}), _layout())
    for record in records(dataset, "height"):
        left, top, step, _ = record["grid_m_0"]
        x = record["centre_m"][0] + left + step * (np.arange(16) + 0.5) - LEFT
        y = record["centre_m"][1] + top - step * (np.arange(16) + 0.5) - TOP
        assert record["pixels_0"][..., 0] == pytest.approx(-0.25 * x[None] - 0.375 * y[:, None], abs=1e-5)


def test_a_terrain_in_degrees_is_reprojected(folder):
    (lon,), (lat,) = transform(CRS.from_epsg(32631), CRS.from_epsg(4326), [LEFT], [TOP])
    terrain = np.full((60, 60), 50.0, np.float32) + 0.5 * np.arange(60)[None]
    write_geotiff(folder / "dem.tif", terrain, crs="EPSG:4326", left=lon - 1e-3, top=lat + 1e-3, gsd=1e-4)
    dataset, _ = _ingest(_scenes(folder, bands={"elevation": "dem.tif"}), _layout())
    record = records(dataset, "height")[0]
    east, north = (record["centre_m"] + (record["grid_m_0"][:2] + [1.0, -1.0])).reshape(2, 1)  # centre of the first pixel
    (at,), _ = transform(CRS.from_epsg(32631), CRS.from_epsg(4326), east, north)
    below = 50.0 + 0.5 * ((at - (lon - 1e-3)) / 1e-4 - 0.5)
    surface = 100.0 + 0.31 * (east[0] - LEFT) - 0.17 * (north[0] - TOP)
    assert record["pixels_0"][0, 0, 0] == pytest.approx(surface - below, abs=0.05)


def test_a_height_is_valid_where_both_are(folder):
    surface = _plane(64, 64, 2.0, LEFT, TOP, (0.31, -0.17)).astype(np.float32)
    surface[:, 10:14] = np.nan
    write_geotiff(folder / "dsm.tif", surface, gsd=2.0, left=LEFT, top=TOP)
    terrain = np.rint(10 * _plane(24, 24, 10.0, LEFT - 50, TOP + 50, (0.2, 0.1))).astype(np.int16)
    terrain[7:9] = -32768  # northings from 20 to 40 m below the top
    write_geotiff(folder / "dem.tif", terrain, gsd=10.0, left=LEFT - 50, top=TOP + 50, nodata=-32768)
    dataset, _ = _ingest(_scenes(folder), _layout(pixels=64), min_valid_share=0.1)
    (record,) = records(dataset, "height")
    valid = valid_pixels(record, 0)[..., 0]
    assert not valid[:, 10:14].any()
    centres = TOP - (2.0 * np.arange(64) + 1.0)
    missing = (centres < TOP - 20) & (centres > TOP - 40)
    assert not valid[missing].any()
    away = (centres > TOP - 10) | (centres < TOP - 50)
    assert valid[away][:, np.r_[0:10, 14:64]].all()
    assert (record["pixels_0"][..., 0][~valid] == 0).all()


def test_the_finest_terrain_that_covers_the_place_is_taken(folder):
    write_geotiff(folder / "fine.tif", np.full((40, 40), 30.0, np.float32), gsd=5.0, left=LEFT - 50, top=TOP + 50)
    write_geotiff(folder / "small.tif", np.full((40, 40), 30.0, np.float32), gsd=1.0, left=LEFT, top=TOP)
    _scenes(folder)
    text = (folder / "scenes.yaml").read_text()
    more = [scene(id=name, bands={"elevation": f"{name}.tif"}) for name in ("fine", "small")]
    (folder / "scenes.yaml").write_text(text + "".join(f"- {json.dumps(entry)}\n" for entry in more))
    dataset, _ = _ingest(folder, _layout())
    under = {member["minus"] for row in manifest(dataset, "set") for member in row["members"]}
    assert under == {"small", "fine"}


def test_places_without_terrain_are_counted(folder):
    terrain = np.full((8, 24), 500, np.int16)
    write_geotiff(folder / "dem.tif", terrain, gsd=10.0, left=LEFT - 50, top=TOP + 50)
    _, summary = _ingest(_scenes(folder), _layout())
    assert summary["sets"]["height"] == {"train": 7}
    assert summary["left_out"]["height"] == {"place: no terrain of dem covers it": 49 - 7}
