"""One scene under two names, and one acquisition processed twice."""

import numpy as np
import pytest

from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.duplicates import Duplicate, find_duplicates
from rsfm_jax.ingest.raster import open_scene
from tests.helpers import ingest, manifest, one_slot, records, run_door, scene, write_geotiff, write_scenes_yaml

SECOND = "2020-06-01T10:50:31Z"


def _noise(seed=0, size=64, dtype="int16"):
    return np.random.default_rng(seed).integers(1, 9000, (size, size)).astype(dtype)


def _open(folder, *scenes):
    return [open_scene(found) for found in find_scenes(write_scenes_yaml(folder, *scenes))]


def _found(folder, *scenes):
    with ChipReader() as reader:
        return find_duplicates(_open(folder, *scenes), reader)


@pytest.fixture
def folder(tmp_path):
    """Three scenes of one grid: a, b with other pixels, and the pixels of a in another file format."""
    found = tmp_path / "scenes"
    write_geotiff(found / "a.tif", _noise(0))
    write_geotiff(found / "b.tif", _noise(1))
    write_geotiff(found / "again.tif", _noise(0), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    return found


def _dem(name, file=None, **more):
    return scene(id=name, bands={"elevation": f"{file or name}.tif"}, **more)


def test_a_repeated_scene_is_left_out_named_and_counted(folder):
    write_scenes_yaml(folder, _dem("a"), _dem("b", acquired_utc="2020-07-01"), _dem("again", acquired_utc="2020-08-01"))
    dataset, summary = ingest(folder, one_slot(pixels=16, sets_per_place=2))
    assert summary["duplicates"] == [{"scene": "again", "of": "a", "kind": "pixels"}]
    rows = {row["id"]: row for row in manifest(dataset, "scene")}
    assert {name: (row["sets"], row["reason"]) for name, row in rows.items()} == {
        "a": (49, None),
        "b": (49, None),
        "again": (0, "duplicate of a"),
    }
    assert {record["scene_0"].decode() for record in records(dataset, "dem")} == {"a", "b"}


def test_the_front_door_says_so(folder):
    write_scenes_yaml(folder, _dem("a"), _dem("again"), _dem("b"))
    done = run_door("rsfm_jax.ingest", f"--scenes={folder}", f"--out={folder.parent / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "scene again: duplicate of a, left out" in done.stdout
    assert "scene b: the same acquisition as a, with other values; both are kept" in done.stdout


def test_the_dataset_is_that_of_the_scene_alone(folder):
    """Also where the repeated one would have been drawn as a second date."""
    write_scenes_yaml(folder, _dem("a"), _dem("again", acquired_utc="2021-06-01"))
    _, twice = ingest(folder)
    (folder.parent / "scenes-dataset").rename(folder.parent / "twice")
    _, once = ingest(write_scenes_yaml(folder, _dem("a")))
    assert twice["digest"] == once["digest"]
    assert len(twice["layouts"][0]["slots"]) == 1


def test_the_same_file_under_two_names(folder):
    assert _found(folder, _dem("x", "a"), _dem("y", "a")) == [Duplicate("y", "x", "pixels")]


def test_one_pixel_makes_another_scene(folder):
    values = _noise(0)
    values[60, 3] += 1
    write_geotiff(folder / "almost.tif", values)
    assert _found(folder, _dem("a"), _dem("almost", acquired_utc="unknown")) == []


@pytest.mark.parametrize("more", [{"scale": 0.1}, {"nodata": 5}, {"sensor": "dsm"}])
def test_other_meanings_of_the_same_numbers_are_no_repetition(folder, more):
    found = _found(folder, _dem("a", acquired_utc="unknown"), _dem("again", acquired_utc="unknown", **more))
    assert found == []


def test_the_same_numbers_elsewhere_are_no_repetition(folder):
    write_geotiff(folder / "elsewhere.tif", _noise(0), left=500_010)
    assert _found(folder, _dem("a"), _dem("elsewhere")) == []


def test_one_acquisition_processed_twice_is_reported_and_kept(folder):
    write_scenes_yaml(folder, _dem("a", acquired_utc=SECOND), _dem("b", acquired_utc=SECOND))
    dataset, summary = ingest(folder, one_slot(pixels=16, sets_per_place=2))
    assert summary["duplicates"] == [{"scene": "b", "of": "a", "kind": "acquisition"}]
    rows = {row["id"]: row for row in manifest(dataset, "scene")}
    assert [(row["sets"], row["same_acquisition_as"]) for row in rows.values()] == [(49, None), (49, "a")]


def test_the_same_grid_a_second_later_or_without_a_date_is_another_scene(folder):
    assert _found(folder, _dem("a", acquired_utc=SECOND), _dem("b", acquired_utc="2020-06-01T10:50:32Z")) == []
    assert _found(folder, _dem("a", acquired_utc="unknown"), _dem("b", acquired_utc="unknown")) == []


def test_of_many_the_first_stands_for_all(folder):
    scenes = [_dem("b"), _dem("a"), _dem("x", "again"), _dem("y", "a"), _dem("z", "b")]
    found = _found(folder, *(entry | {"acquired_utc": "unknown"} for entry in scenes))
    assert [(each.scene, each.of) for each in found] == [("x", "a"), ("y", "a"), ("z", "b")]


def test_nan_equals_nan(folder):
    values = _noise(0).astype(np.float32)
    values[:5] = np.nan
    for name in ("p", "q"):
        write_geotiff(folder / f"{name}.tif", values)
    assert _found(folder, _dem("p"), _dem("q")) == [Duplicate("q", "p", "pixels")]


def test_a_series_is_told_apart_by_little_reading(tmp_path):
    class Counting(ChipReader):
        pixels = 0

        def read_stored(self, scene, band, column, row, width, height):
            self.pixels += width * height
            return super().read_stored(scene, band, column, row, width, height)

    scenes = []
    for i in range(6):
        write_geotiff(tmp_path / f"{i}.tif", _noise(i, size=512))
        scenes.append(_dem(str(i), acquired_utc=f"2020-0{i + 1}-01"))
    opened = _open(tmp_path, *scenes)
    with Counting() as reader:
        assert find_duplicates(opened, reader) == []
        assert reader.pixels == 6 * 5 * 32 * 32
        find_duplicates(opened[:1], reader)  # alone on its grid
        assert reader.pixels == 6 * 5 * 32 * 32


def test_the_real_dates_of_one_place_are_no_duplicates(repo):
    scenes = [open_scene(found) for found in find_scenes(repo / "examples" / "scenes")]
    with ChipReader() as reader:
        assert find_duplicates(scenes, reader) == []
