"""The whole of it: a dataset folder in, a curated folder out."""

from collections import Counter
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.manifest import NOT_DRAWN, NOT_SAMPLED, SCHEMA
from rsfm_jax.curate.pipeline import Order, run_curate
from rsfm_jax.curate.report import CLUSTERS, MEMBERS, thumbnail
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.display import INVALID
from rsfm_jax.errors import InputError
from tests.helpers import assert_refused, ingest, one_slot, run_door, scene, write_geotiff, write_scenes_yaml

FLAT = "member 0 (dem): no band varies more than 0.01 of the dataset's standard deviation"


def rows_of(curated: pathlib.Path) -> list[dict[str, Any]]:
    return pq.read_table(curated / "manifest.parquet").to_pylist()


def summary_of(curated: pathlib.Path) -> dict[str, Any]:
    return json.loads((curated / "curation.json").read_text())


@pytest.fixture(scope="module")
def half_flat(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A dataset of 64 elevation chips: the western half has texture, the eastern none; some of it in the split 'val'."""
    folder = tmp_path_factory.mktemp("flat") / "scenes"
    values = np.full((64, 64), 300, np.int16)
    values[:, :32] = np.random.default_rng(0).integers(0, 600, (64, 32))
    write_geotiff(folder / "dem.tif", values)
    layout = one_slot(stride_m=80.0)
    return ingest(write_scenes_yaml(folder, scene()), layout, split_cell_m=150.0, val_share=0.3)[0]


@pytest.fixture(scope="module")
def half_curated(half_flat: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("half") / "curated"
    run_curate(Order(half_flat, 5, out), CurateConfig(sets_per_cluster=2.0))
    return out


def test_the_manifest_has_a_row_for_every_set_of_every_split(curated: pathlib.Path, tiny_dataset: Dataset):
    assert pq.read_schema(curated / "manifest.parquet").equals(SCHEMA)
    rows = rows_of(curated)
    for layout in tiny_dataset.layouts:
        mine = [row for row in rows if row["layout"] == layout.name]
        records = list(tiny_dataset.source(layout, "train"))
        assert [row["key"] for row in mine] == [record["key"].decode() for record in records]
        assert [row["record"] for row in mine] == list(range(len(records)))
        for row, record in zip(mine, records, strict=True):
            assert (row["lon_deg"], row["lat_deg"]) == pytest.approx(record["lonlat_deg"].mean(axis=0))
    assert {row["dataset"] for row in rows} == {tiny_dataset.digest}


def test_the_rows_agree_with_each_other_and_with_curation_json(curated: pathlib.Path):
    rows, summary = rows_of(curated), summary_of(curated)
    assert summary["kept"] == sum(row["kept"] for row in rows)
    assert summary["kept"] == summary["target"] == 30
    for name, fields in summary["layouts"].items():
        mine = [row for row in rows if row["layout"] == name]
        by_cluster = {k: [row for row in mine if row["cluster"] == k] for k in {row["cluster"] for row in mine}}
        assert sorted(by_cluster) == list(range(fields["clusters"]["count"]))
        for members in by_cluster.values():
            kept = [row for row in members if row["kept"]]
            (exemplar,) = (row for row in members if row["exemplar"])
            assert exemplar["kept"]
            assert {row["weight"] for row in kept} == {len(members) / len(kept)}
            assert {row["weight"] for row in members if not row["kept"]} <= {None}
        assert {row["reason"] for row in mine} == {None, NOT_DRAWN}
        assert all((row["reason"] is None) == row["kept"] for row in mine)
        assert fields["kept"] == sum(row["kept"] for row in mine)
        assert fields["coverage"]["kept"]["clusters_covered"] == fields["clusters"]["count"]


def test_rejected_sets_are_named_counted_and_never_kept(half_flat: pathlib.Path, half_curated: pathlib.Path):
    rows = [row for row in rows_of(half_curated) if row["split"] == "train"]
    dataset = open_dataset(str(half_flat))
    records = dataset.source(dataset.layouts[0], "train")
    flat = [record["pixels_0"].std() == 0 for record in records]
    assert [row["reason"] == FLAT for row in rows] == flat
    assert all(row["cluster"] is None and row["level"] is None and not row["kept"] for row in rows if row["reason"] == FLAT)
    assert summary_of(half_curated)["layouts"]["dem"]["rejected"] == {FLAT: sum(flat)}
    assert FLAT.split(": ")[1] in (half_curated / "report.html").read_text().replace("&#x27;", "'")


def test_validation_sets_are_left_as_they_are(half_flat: pathlib.Path, half_curated: pathlib.Path):
    rows = [row for row in rows_of(half_curated) if row["split"] == "val"]
    assert len(rows) == open_dataset(str(half_flat)).sets["dem"]["val"] > 4
    assert all(row["kept"] and row["cluster"] is None and row["weight"] is None and row["reason"] is None for row in rows)
    assert open_dataset(str(half_flat), str(half_curated)).sets["dem"]["val"] == len(rows)


def test_the_page_has_as_many_pictures_as_its_clusters_promise(curated: pathlib.Path):
    promised = 0
    for name in ("series", "landsat"):
        sizes = sorted(Counter(row["cluster"] for row in rows_of(curated) if row["layout"] == name).values(), reverse=True)
        assert len(sizes) <= CLUSTERS
        promised += 2 + sum(min(size, MEMBERS) for size in sizes)  # a map, the distances, and the members
    html = (curated / "report.html").read_text()
    assert html.count("<img ") == html.count('src="data:image/png;base64,') == promised == summary_of(curated)["pictures"]
    assert "http" not in html


def test_a_thumbnail_shows_the_display_bands_and_marks_what_is_not_valid(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[0]
    record = dict(tiny_dataset.source(layout, "train")[0])
    valid = np.ones(record["pixels_0"].shape, bool)
    valid[0, 0, 2] = False
    picture = np.asarray(thumbnail(tiny_dataset, layout, record | {"valid_0": np.packbits(valid)})).astype(int)
    mean, std = tiny_dataset.mean_std(layout.slots[0])
    red = record["pixels_0"][..., 2] * 1e-4  # B02 B03 B04 B08
    expected = np.clip((red - mean[2]) / (4 * std[2]) + 0.5, 0, 1) * 255
    assert np.abs(picture[..., 0] - expected)[1:].max() <= 1
    assert picture[0, 0].tolist() == [int(255 * value) for value in INVALID]


def test_the_same_again_and_with_another_seed(tiny_path: pathlib.Path, curated: pathlib.Path, tmp_path: pathlib.Path):
    kept = lambda folder: [(row["key"], row["kept"]) for row in rows_of(folder)]  # noqa: E731
    for seed in (0, 1):
        run_curate(Order(tiny_path, 30, tmp_path / str(seed)), CurateConfig(sets_per_cluster=3.0, seed=seed))
    assert kept(tmp_path / "0") == kept(curated)
    assert kept(tmp_path / "1") != kept(curated)


def test_a_target_larger_than_what_is_left(half_flat: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"--target=60: only \d+ image sets are left after the rejections"):
        run_curate(Order(half_flat, 60, tmp_path / "out"), CurateConfig())
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_left_may_be_asked_for(half_flat: pathlib.Path, half_curated: pathlib.Path, tmp_path: pathlib.Path):
    left = sum(row["split"] == "train" and row["reason"] != FLAT for row in rows_of(half_curated))
    run_curate(Order(half_flat, left, tmp_path / "out"), CurateConfig())
    assert {row["weight"] for row in rows_of(tmp_path / "out") if row["split"] == "train"} == {None, 1.0}
    assert summary_of(tmp_path / "out")["kept"] == left


def test_a_scenes_sun_reaches_the_descriptors(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    data = shutil.copytree(tiny_path, tmp_path / "data")
    lines = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    for row in lines:
        if row["kind"] == "scene" and row["id"] == "bouconne_20180429":
            row["sun_elevation_deg"] = 55.0
    (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    summary = run_curate(Order(data, 30, tmp_path / "out"), CurateConfig())
    scaling = {row["name"]: row for row in summary["layouts"]["series"]["scaling"]}
    assert scaling["0.sun_elevation_deg"]["median"] == 55.0
    assert scaling["0.sun_elevation_deg"]["weight"] == 0.0  # known once, it tells nothing
    assert scaling["0.sun_elevation_deg_known"]["weight"] > 0.0  # that it is known does


def test_a_random_sample_has_as_many_sets_of_each_layout_and_is_read_alike(
    tiny_path: pathlib.Path, curated: pathlib.Path, tmp_path: pathlib.Path
):
    done = run_door("rsfm_jax.curate", "--data", tiny_path, "--target=30", "--random", "--out", tmp_path / "sample")
    assert done.returncode == 0, done.stderr
    rows, fields = rows_of(tmp_path / "sample"), summary_of(tmp_path / "sample")["layouts"]
    assert summary_of(tmp_path / "sample")["random"]
    assert {name: of["kept"] for name, of in fields.items()} == {name: of["kept"] for name, of in summary_of(curated)["layouts"].items()}
    for name, of in fields.items():
        mine = [row for row in rows if row["layout"] == name]
        assert sum(row["kept"] for row in mine) == of["kept"]
        assert {(row["kept"], row["weight"]) for row in mine} == {(True, of["sets"] / of["kept"]), (False, None)}
        assert {row["reason"] for row in mine if not row["kept"]} == {NOT_SAMPLED}
    assert not any(row["exemplar"] or row["cluster"] is not None for row in rows)
    assert [row["kept"] for row in rows] != [row["kept"] for row in rows_of(curated)]
    read = open_dataset(str(tiny_path), str(tmp_path / "sample"))
    assert {name: counts["train"] for name, counts in read.sets.items()} == {name: of["kept"] for name, of in fields.items()}


def test_a_random_sample_leaves_out_what_is_rejected(half_flat: pathlib.Path, half_curated: pathlib.Path, tmp_path: pathlib.Path):
    left = {row["key"] for row in rows_of(half_curated) if row["split"] == "train" and row["reason"] != FLAT}
    run_curate(Order(half_flat, len(left), tmp_path / "out", random=True), CurateConfig())
    assert {row["key"] for row in rows_of(tmp_path / "out") if row["split"] == "train" and row["kept"]} == left
    assert summary_of(tmp_path / "out")["layouts"]["dem"]["rejected"] == summary_of(half_curated)["layouts"]["dem"]["rejected"]


def test_a_random_sample_is_added_to_nothing_and_nothing_to_it(tiny_path: pathlib.Path, half_flat: pathlib.Path, tmp_path: pathlib.Path):
    sample, both = tmp_path / "sample", tmp_path / "both"
    run_curate(Order(half_flat, 5, sample, random=True), CurateConfig())
    with pytest.raises(InputError, match=r"^--add_to=.*: is a random sample and has no clusters to add to"):
        run_curate(Order(tiny_path, 30, both, add_to=sample), CurateConfig())
    with pytest.raises(InputError, match=r"^--random: .* no clusters that --add_to="):
        run_curate(Order(tiny_path, 30, both, add_to=sample, random=True), CurateConfig())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data={data}", "--out={out}"], "--target is missing"),
        (["--data=nowhere", "--target=3", "--out={out}"], "--data=nowhere: no dataset.json there"),
    ],
)
def test_the_front_door_says_what_is_wrong(tiny_path: pathlib.Path, tmp_path: pathlib.Path, words: list[str], message: str):
    done = run_door("rsfm_jax.curate", *(word.format(data=tiny_path, out=tmp_path / "out") for word in words))
    assert_refused(done, message)
    assert list(tmp_path.iterdir()) == []


def test_the_front_door_prints_what_was_kept(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    done = run_door("rsfm_jax.curate", "--data", tiny_path, "--target", "30", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    counts = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("series", "landsat"))}
    fields = summary_of(tmp_path / "out")["layouts"]
    assert counts == {name: [str(n) for n in (of["sets"], 0, of["clusters"]["count"], of["kept"])] for name, of in fields.items()}
    assert not done.stderr.strip()
