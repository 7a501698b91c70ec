"""What a stranger gets wrong: one line that names the file and the fix, exit code 2, and nothing left behind."""

import pathlib

import numpy as np
import pytest
import yaml

from tests.helpers import assert_refused, run_door, scene, write_geotiff, write_scenes_yaml


@pytest.fixture
def scenes(tmp_path) -> pathlib.Path:
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", np.random.default_rng(0).integers(1, 9000, (64, 64)).astype(np.int16))
    return folder


def _assert_refused(scenes: pathlib.Path, *words: str, config: pathlib.Path | None = None, flags: tuple[str, ...] = ()) -> None:
    out = scenes.parent / "out" / "run1"
    out.parent.mkdir()
    more = [*flags, *([f"--config={config}"] if config else [])]
    assert_refused(run_door("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}", *more), *words)
    assert list(out.parent.iterdir()) == []


def test_no_such_folder(tmp_path):
    _assert_refused(tmp_path / "scenes", f"--scenes={tmp_path / 'scenes'}: no such folder")


def test_a_folder_without_scenes(tmp_path):
    (tmp_path / "scenes").mkdir()
    _assert_refused(tmp_path / "scenes", "no scenes.yaml", "--draft", "docs/products.md")


def test_a_missing_band_file(scenes):
    write_scenes_yaml(scenes, scene(bands={"elevation": "demm.tif"}))
    _assert_refused(scenes, "scenes.yaml", "scene 'one'", "band 'elevation'", "demm.tif does not exist", "did you mean 'dem.tif'?")


def test_a_file_that_is_not_an_image(scenes):
    (scenes / "dem.tif").write_text("not an image")
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "scenes.yaml", "band 'elevation'", "dem.tif cannot be read as an image")


def _cut(path: pathlib.Path, size: int, share: float) -> None:
    values = np.random.default_rng(0).integers(0, 30_000, (size, size)).astype(np.int16)
    write_geotiff(path, values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_file(scenes, share):
    _cut(scenes / "dem.tif", 512, share)
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "band 'elevation'", "dem.tif cannot be read as an image", "truncated")


def test_a_file_with_a_broken_block_in_its_middle(scenes):
    """The last block is sound, so the damage shows only when chips are being written."""
    _cut(scenes / "dem.tif", 512, 1.0)
    content = bytearray((scenes / "dem.tif").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = bytes(9000)
    (scenes / "dem.tif").write_bytes(content)
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "scene 'one'", "dem.tif cannot be read at", flags=("--strict",))


def test_no_coordinate_system(scenes):
    write_geotiff(scenes / "dem.tif", np.ones((64, 64), np.int16), crs=None)
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "scenes.yaml", "dem.tif has no coordinate reference system", "gdal_edit.py -a_srs")


RESAMPLED = """
from rsfm_jax.config import Config, IngestConfig
from rsfm_jax.layouts import Layout, Slot

def get_config():
    slot = Slot("dem", ("elevation",), 30.0, pixels=16, patch=4, resample="bilinear")
    return Config(ingest=IngestConfig(layouts=(Layout("dem", (slot,)),)))
"""


@pytest.mark.parametrize("with_config", [False, True], ids=["drafted", "config"])
@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel", "words"),
    [
        ("EPSG:4326", 10.0, 91.0, 3e-4, "has a corner at latitude 91 degrees: must be between -90 and 90"),
        ("EPSG:4326", 43.5, 116.25, 3e-4, "has a corner at latitude 116.25 degrees"),  # swapped: 43.5 north, 116.25 east
        ("EPSG:4326", 240.0, 40.0, 3e-4, "has a corner at longitude 240 degrees: must be between -180 and 180"),
        ("EPSG:4326", 179.98095, 40.0, 3e-4, "has a corner at longitude 180.00015 degrees"),  # half a pixel beyond the antimeridian
        ("EPSG:32631", 5e7, 4.8e6, 10.0, "has a corner that is nowhere on Earth in EPSG:32631"),
    ],
    ids=["above the pole", "swapped", "from 0 to 360", "half a pixel", "metres"],
)
def test_a_corner_that_is_not_on_earth(scenes, crs, left, top, pixel, words, with_config):
    values = np.random.default_rng(0).integers(1, 9000, (64, 64)).astype(np.int16)
    write_geotiff(scenes / "dem.tif", values, crs=crs, left=left, top=top, gsd=pixel)
    write_scenes_yaml(scenes, scene())
    (scenes.parent / "resampled.py").write_text(RESAMPLED)
    config = scenes.parent / "resampled.py" if with_config else None
    who = ("scenes.yaml", "scene 'one'", "band 'elevation'", "dem.tif")
    _assert_refused(scenes, *who, words, "axes swapped", "gdal_edit.py -a_ullr", config=config)


def test_bands_in_different_coordinate_systems(scenes):
    write_geotiff(scenes / "green.tif", np.ones((64, 64), np.int16), crs="EPSG:32632")
    write_scenes_yaml(scenes, scene(sensor="naip", bands={"R": "dem.tif", "G": "green.tif"}))
    _assert_refused(scenes, "band 'G'", "green.tif is in EPSG:32632", "EPSG:32631", "describe them as two scenes")


def test_an_index_that_the_file_does_not_have(scenes):
    write_scenes_yaml(scenes, scene(bands={"elevation": {"file": "dem.tif", "index": 2}}))
    _assert_refused(scenes, "band 'elevation'", "index 2 does not exist", "has 1 band(s)")


def test_complex_numbers(scenes):
    write_geotiff(scenes / "dem.tif", np.ones((64, 64), np.complex64))
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "dem.tif holds complex64 values", "float32")


def test_a_sensor_that_is_not_in_the_registry(scenes):
    write_scenes_yaml(scenes, scene(sensor="sentinel2_l2"))
    _assert_refused(scenes, "scenes.yaml", "scene 'one'", "'sentinel2_l2' is not in the registry", "did you mean 'sentinel2_l2a'?")


def test_a_sentinel2_scene_without_its_baseline_offset(scenes):
    write_scenes_yaml(scenes, scene(sensor="sentinel2_l2a", bands={"B04": "dem.tif"}))
    _assert_refused(
        scenes, "scenes.yaml", "scene 'one'", "must state its baseline offset", "processing_baseline: 'NN.NN'", "baseline_offset_dn: 0"
    )


def test_a_contradictory_baseline(scenes):
    write_scenes_yaml(scenes, scene(sensor="sentinel2_l2a", bands={"B04": "dem.tif"}, processing_baseline="05.09", baseline_offset_dn=0))
    _assert_refused(scenes, "scene 'one'", "baseline_offset_dn=0 contradicts processing_baseline=05.09", "-1000")


@pytest.mark.parametrize(
    ("date", "words"), [("'29.04.2018'", ["scene 'one'", "acquired_utc='29.04.2018'"]), ("2018-13-45", ["acquired_utc"])]
)
def test_a_date_that_does_not_parse(scenes, date, words):
    text = yaml.safe_dump({"scenes": [scene(acquired_utc="DATE")]}).replace("DATE", date)
    (scenes / "scenes.yaml").write_text(text)
    _assert_refused(scenes, "scenes.yaml", "does not parse", "write YYYY-MM-DD", *words)


def test_a_misspelt_field(scenes):
    write_scenes_yaml(scenes, scene(acquired_utc=None, aquired_utc="2020-01-01"))
    _assert_refused(scenes, "scenes.yaml", "scenes[0]", "unknown field 'aquired_utc'", "did you mean 'acquired_utc'?")


def test_a_mask_that_does_not_cover_the_bands(scenes):
    write_geotiff(scenes / "mask.tif", np.zeros((64, 32), np.uint8))
    write_scenes_yaml(scenes, scene(mask={"file": "mask.tif", "invalid": [1]}))
    _assert_refused(scenes, "scene 'one'", "mask.tif does not cover the bands' ground")


def test_nothing_but_nodata(scenes):
    write_geotiff(scenes / "dem.tif", np.full((64, 64), -9999, np.int16), nodata=-9999)
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "no image set could be built", "a member has less than 0.5 valid pixels")


def test_the_same_value_everywhere(scenes):
    write_geotiff(scenes / "dem.tif", np.full((64, 64), 7, np.int16))
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "sensor 'dem', band 'elevation'", "is 7 in every valid pixel", "leave the band out")


def test_a_scene_too_small_for_a_chip(scenes):
    write_geotiff(scenes / "dem.tif", np.ones((6, 6), np.int16))
    write_scenes_yaml(scenes, scene())
    _assert_refused(scenes, "every scene is smaller than 8 pixels")


@pytest.mark.parametrize("make", [lambda out: (out / "notes.txt").write_text("keep"), lambda out: (out.rmdir(), out.write_text("keep"))])
def test_an_output_folder_that_holds_something_else(scenes, make):
    write_scenes_yaml(scenes, scene())
    out = scenes.parent / "out"
    out.mkdir()
    make(out)
    before = sorted(scenes.parent.rglob("*"))
    done = run_door("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}")
    assert_refused(done, f"--out={out}: already holds something", "choose another folder")
    assert sorted(scenes.parent.rglob("*")) == before


def test_an_output_folder_below_a_file(scenes):
    write_scenes_yaml(scenes, scene())
    (scenes.parent / "file").write_text("keep")
    done = run_door("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={scenes.parent / 'file' / 'run1'}")
    assert_refused(done, f"--out={scenes.parent / 'file' / 'run1'}", "cannot be made")


def test_an_empty_output_folder_is_fine(scenes):
    write_scenes_yaml(scenes, scene())
    out = scenes.parent / "out"
    out.mkdir()
    done = run_door("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "manifest.jsonl", "records"]
    assert sorted(path.name for path in scenes.parent.iterdir()) == ["out", "scenes"]


def test_values_outside_the_unit_s_range_are_refused(tmp_path):
    elevation = np.full((32, 32), 100, np.int16)
    elevation[:4] = -20000  # voids that nobody declared, of values that stand for nothing elsewhere
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    write_geotiff(scenes / "dem.tif", elevation + np.arange(32, dtype=np.int16) % 7)
    write_scenes_yaml(scenes, scene(bands={"elevation": "dem.tif"}))
    _assert_refused(scenes, "scene 'one'", "band 'elevation'", "outside [-500, 9000] m", "nodata")
