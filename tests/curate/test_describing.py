"""Ranges of records to files: any cut, any number of workers, the same descriptors."""

import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.describing import Describer, Range, describe_all, ranges, read_scene_values
from rsfm_jax.curate.descriptors import decode_member, describe, feature_names
from rsfm_jax.curate.pool import FOLDER, Source, count_candidates, read_pool
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError

SCENES = {"marburg_landsat8": {"sun_elevation_deg": 58.0}}


@pytest.fixture
def describer(tmp_path: pathlib.Path, tiny_path: pathlib.Path, tiny_dataset: Dataset) -> Describer:
    out = tmp_path / FOLDER / tiny_dataset.digest
    out.mkdir(parents=True)
    statistics = {layout.name: tiny_dataset.statistics for layout in tiny_dataset.layouts}
    return Describer(str(tiny_path), SCENES, statistics, CurateConfig(), str(out))


def table_of(describer: Describer, tiny_dataset: Dataset, layout: str) -> tuple[list[str], np.ndarray]:
    folder = pathlib.Path(describer.out)
    keys = [key for file in sorted(folder.glob(f"{layout}-*")) for key in pq.read_table(file)["key"].to_pylist()]
    source = Source("", tiny_dataset.digest, tiny_dataset.sets)
    width = len(feature_names(next(one for one in tiny_dataset.layouts if one.name == layout)))
    return keys, read_pool(folder.parent.parent, [source], layout, width).descriptors


def test_ranges_are_all_records_in_order():
    found = ranges({"a": {"train": 5, "val": 2}, "b": {"train": 4}}, size=2)
    assert [(r.layout, r.split, r.start, r.stop) for r in found] == [
        ("a", "train", 0, 2),
        ("a", "train", 2, 4),
        ("a", "train", 4, 5),
        ("a", "val", 0, 2),
        ("b", "train", 0, 2),
        ("b", "train", 2, 4),
    ]
    assert sorted(r.file for r in found) == [r.file for r in found]


@pytest.mark.parametrize("size", [7, 1000])
def test_any_cut_gives_the_records_descriptors(describer: Describer, tiny_dataset: Dataset, size: int):
    describe_all(describer, ranges(tiny_dataset.sets, size), 1, ())
    for layout in tiny_dataset.layouts:
        keys, descriptors = table_of(describer, tiny_dataset, layout.name)
        records = list(tiny_dataset.source(layout, "train"))
        assert keys == [record["key"].decode() for record in records]
        for row in (0, 6, 7, len(records) - 1):
            members = [
                decode_member(records[row], i, SCENES.get(records[row][f"scene_{i}"].decode(), {})) for i in range(len(layout.slots))
            ]
            np.testing.assert_array_equal(descriptors[row], describe(layout, members, tiny_dataset.statistics))
    _, descriptors = table_of(describer, tiny_dataset, "landsat")
    names = list(feature_names(tiny_dataset.layouts[1]))
    assert (descriptors[:, names.index("0.sun_elevation_deg")] == 58.0).all()
    assert np.isnan(descriptors[:, names.index("2.sun_elevation_deg")]).all()


def test_two_workers_write_the_same_files_as_one(describer: Describer, tiny_dataset: Dataset):
    pytest.importorskip("apache_beam")
    parts = ranges(tiny_dataset.sets, 30)
    describe_all(describer, parts, 1, ())
    folder = pathlib.Path(describer.out)
    alone = {part.file: (folder / part.file).read_bytes() for part in parts}
    for part in parts:
        (folder / part.file).unlink()
    describe_all(describer, parts, 2, ())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == alone


def test_rejected_sets_are_named_and_are_no_candidates(describer: Describer, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    strict = Describer(describer.data, SCENES, describer.statistics, CurateConfig(min_contrast=0.9), describer.out)
    describe_all(strict, ranges(tiny_dataset.sets), 1, ())
    source = Source("", tiny_dataset.digest, tiny_dataset.sets)
    pool = read_pool(tmp_path, [source], "series", len(feature_names(tiny_dataset.layouts[0])))
    assert 0 < len(pool.candidates) < len(pool.reason)
    assert all(reason is None or "no band varies" in reason for reason in pool.reason)
    assert count_candidates(tmp_path, [source], "series") == len(pool.candidates)


@pytest.mark.parametrize(("workers", "beam"), [(0, ()), (2, ("--runner=DirectRunner",))])
def test_a_number_of_workers_that_cannot_be(describer: Describer, workers: int, beam: tuple[str, ...]):
    with pytest.raises(InputError, match=rf"^--workers={workers}: must be at least 1, and 1 with --beam"):
        describe_all(describer, [], workers, beam)


def write_manifest(folder: pathlib.Path, *rows: dict) -> pathlib.Path:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_what_is_known_of_scenes(tmp_path: pathlib.Path):
    full = {"sun_elevation_deg": 30, "sun_azimuth_deg": 170.5, "off_nadir_deg": 0, "cloud_percent": 12.5}
    rows = [
        {"kind": "scene", "id": "a", "sensor": "dem"} | full,
        {"kind": "scene", "id": "b", "cloud_percent": None},
        {"kind": "set", "key": "x"},
    ]
    assert read_scene_values(write_manifest(tmp_path, *rows)) == {"a": full, "b": {}}


@pytest.mark.parametrize(("name", "value"), [("sun_elevation_deg", "high"), ("cloud_percent", 101), ("off_nadir_deg", True)])
def test_a_value_of_a_scene_that_cannot_be_is_named(tmp_path: pathlib.Path, name: str, value: object):
    with pytest.raises(InputError, match=rf"manifest\.jsonl, scene 'a': {name}={value!r} must be a number from"):
        read_scene_values(write_manifest(tmp_path, {"kind": "scene", "id": "a", name: value}))


def test_no_manifest(tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"manifest\.jsonl: is missing"):
        read_scene_values(tmp_path)


def test_a_file_has_the_name_of_its_range():
    assert Range("a", "train", 4096, 8192).file == "a-train-000000004096.parquet"
