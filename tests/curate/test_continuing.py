"""A second dataset added to a curation: what is assigned, what is new, what is refused."""

from collections import Counter
import dataclasses
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.pipeline import Order, run_curate
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.errors import InputError
from tests.helpers import ingest, one_slot, scene, write_geotiff, write_scenes_yaml

CONFIG = CurateConfig(sets_per_cluster=2.0)
ROUGH = 3000


def terrain(folder: pathlib.Path, seed: int, rough: bool, **fields: Any) -> pathlib.Path:
    """A dataset of 64 chips of gentle ground; with ``rough`` half of them are mountains."""
    rng = np.random.default_rng(seed)
    values = rng.integers(280, 320, (64, 64)) + np.repeat(np.arange(64), 64).reshape(64, 64)
    if rough:
        values[:, 32:] = ROUGH + rng.integers(0, 1000, (64, 32))
    write_geotiff(folder / "dem.tif", values.astype(np.int16))
    return ingest(write_scenes_yaml(folder, scene(**fields)), one_slot(stride_m=80.0))[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return terrain(tmp_path_factory.mktemp("first") / "scenes", 0, rough=False)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return terrain(tmp_path_factory.mktemp("second") / "scenes", 1, rough=True, id="two")


@pytest.fixture(scope="module")
def before(first: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("before") / "curated"
    run_curate(Order(first, 12, out), CONFIG)
    return out


@pytest.fixture(scope="module")
def after(second: pathlib.Path, before: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("after") / "curated"
    run_curate(Order(second, 30, out, add_to=before), CONFIG)
    return out


def rows_of(folder: pathlib.Path, data: pathlib.Path) -> list[dict[str, Any]]:
    digest = open_dataset(str(data)).digest
    return [row for row in pq.read_table(folder / "manifest.parquet").to_pylist() if row["dataset"] == digest]


def is_rough(data: pathlib.Path, rows: list[dict[str, Any]]) -> list[bool]:
    records = open_dataset(str(data)).source(open_dataset(str(data)).layouts[0], "train")
    return [bool(records[row["record"]]["pixels_0"].mean() > 2000) for row in rows]


def test_the_manifest_has_the_sets_of_both(first: pathlib.Path, second: pathlib.Path, before: pathlib.Path, after: pathlib.Path):
    assert [row["key"] for row in rows_of(after, first)] == [row["key"] for row in rows_of(before, first)]
    assert len(rows_of(after, second)) == 64
    summary = json.loads((after / "curation.json").read_text())
    assert [dataset["path"] for dataset in summary["datasets"]] == [str(first), str(second)]
    assert summary["layouts"]["dem"]["sets"] == 128
    assert summary["kept"] == 30


def test_what_is_new_has_clusters_of_its_own_and_what_is_not_joins_the_old(first: pathlib.Path, second: pathlib.Path, after: pathlib.Path):
    old, new = rows_of(after, first), rows_of(after, second)
    rough = is_rough(second, new)
    assert sum(rough) == 32
    of_old = {row["cluster"] for row in old}
    assert not of_old & {row["cluster"] for row, is_new in zip(new, rough, strict=True) if is_new}
    joined = [row["cluster"] in of_old for row, is_new in zip(new, rough, strict=True) if not is_new]
    assert np.mean(joined) > 0.5
    exemplars = Counter(row["cluster"] for row in old + new if row["exemplar"])
    assert set(exemplars.values()) == {1}
    assert set(exemplars) == {row["cluster"] for row in old + new}


def test_quotas_and_weights_are_of_both(first: pathlib.Path, second: pathlib.Path, after: pathlib.Path):
    both = rows_of(after, first) + rows_of(after, second)
    for cluster in {row["cluster"] for row in both}:
        members = [row for row in both if row["cluster"] == cluster]
        kept = [row for row in members if row["kept"]]
        assert {row["weight"] for row in kept} == {len(members) / len(kept)}
    assert any(row["kept"] for row, rough in zip(rows_of(after, second), is_rough(second, rows_of(after, second)), strict=True) if rough)


def test_either_dataset_is_read_with_its_own_rows(first: pathlib.Path, second: pathlib.Path, after: pathlib.Path):
    for data in (first, second):
        dataset = open_dataset(str(data), str(after))
        source = dataset.source(dataset.layouts[0], "train")
        assert [source[i]["key"].decode() for i in range(len(source))] == [row["key"] for row in rows_of(after, data) if row["kept"]]


def test_a_third_may_follow(after: pathlib.Path, tmp_path: pathlib.Path):
    third = terrain(tmp_path / "scenes", 2, rough=False, id="three")
    summary = run_curate(Order(third, 40, tmp_path / "out", add_to=after), CONFIG)
    assert [len(dataset["sets"]["dem"]) for dataset in summary["datasets"]] == [1, 1, 1]
    assert summary["layouts"]["dem"]["sets"] == 192


def test_a_layout_that_is_new_is_clustered_and_an_old_one_stays(
    tiny_path: pathlib.Path, before: pathlib.Path, first: pathlib.Path, tmp_path: pathlib.Path
):
    summary = run_curate(Order(tiny_path, 50, tmp_path / "out", add_to=before), CONFIG)
    assert set(summary["layouts"]) == {"dem", "series", "landsat"}
    clusters = lambda folder: [row["cluster"] for row in rows_of(folder, first)]  # noqa: E731
    assert clusters(tmp_path / "out") == clusters(before)


def test_pictures_of_a_dataset_that_has_moved_are_left_out_and_that_is_said(
    first: pathlib.Path, before: pathlib.Path, tmp_path: pathlib.Path
):
    copy = shutil.copytree(before, tmp_path / "copy")
    fields = json.loads((copy / "curation.json").read_text())
    fields["datasets"][0]["path"] = "nowhere"
    (copy / "curation.json").write_text(json.dumps(fields))
    second = terrain(tmp_path / "scenes", 1, rough=True, id="two")
    summary = run_curate(Order(second, 30, tmp_path / "out", add_to=copy), CONFIG)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "is no longer at nowhere: its image sets are not pictured" in html
    assert not [row["key"] for row in rows_of(tmp_path / "out", first) if f'title="{row["key"]}"' in html]
    assert summary["pictures"] == html.count("<img ") > 2


def test_the_same_dataset_twice_is_refused(first: pathlib.Path, before: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"^--data=.*: is already in --add_to="):
        run_curate(Order(first, 12, tmp_path / "out", add_to=before), CONFIG)
    assert not (tmp_path / "out").exists()


def test_another_config_is_refused_and_named(second: pathlib.Path, before: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"another config \(curate\.clip_z: 5\.0 -> 4\.0\)"):
        run_curate(Order(second, 12, tmp_path / "out", add_to=before), dataclasses.replace(CONFIG, clip_z=4.0))


def test_other_slots_under_the_same_name_are_refused(second: pathlib.Path, before: pathlib.Path, tmp_path: pathlib.Path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", np.random.default_rng(0).integers(0, 99, (64, 64)).astype(np.int16))
    other = ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=16))[0]
    with pytest.raises(InputError, match=r"its layout 'dem' has other slots than that of --add_to="):
        run_curate(Order(other, 12, tmp_path / "out", add_to=before), CONFIG)


def test_a_folder_that_is_no_curation_or_not_whole(second: pathlib.Path, before: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"^--add_to=.*: no curation\.json"):
        run_curate(Order(second, 12, tmp_path / "out", add_to=second), CONFIG)
    copy = shutil.copytree(before, tmp_path / "copy")
    shutil.rmtree(copy / "descriptors")
    with pytest.raises(InputError, match=r"the descriptors of dataset \w+ are missing"):
        run_curate(Order(second, 12, tmp_path / "out", add_to=copy), CONFIG)


def test_where_every_set_is_a_cluster_nothing_can_join(first: pathlib.Path, second: pathlib.Path, tmp_path: pathlib.Path):
    config = CurateConfig(sets_per_cluster=1.0)
    run_curate(Order(first, 64, tmp_path / "all"), config)
    with pytest.raises(InputError, match=r"--add_to: every set of it is a cluster of its own"):
        run_curate(Order(second, 128, tmp_path / "out", add_to=tmp_path / "all"), config)
