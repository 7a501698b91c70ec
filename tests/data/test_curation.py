"""Training reads the sets that a curation kept, and no others."""

import json
import pathlib
import shutil

from etils import epath
import numpy as np
import pyarrow.parquet as pq
import pytest

from rsfm_jax.config import Config, DataConfig
from rsfm_jax.data.curation import MANIFEST_FILE
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.stream import BatchStream
from rsfm_jax.errors import InputError
from rsfm_jax.train.loop import run_training
from rsfm_jax.train.workdir import claim_workdir, describe_run
from tests.helpers import assert_refused, run_door


@pytest.fixture(scope="module")
def dataset(tiny_path: pathlib.Path, curated: pathlib.Path) -> Dataset:
    return open_dataset(str(tiny_path), str(curated))


@pytest.fixture
def copy(curated: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(curated, tmp_path / "copy")


def kept_keys(curated: pathlib.Path, layout: str) -> list[str]:
    rows = pq.read_table(curated / "manifest.parquet").to_pylist()
    return sorted(row["key"] for row in rows if row["kept"] and row["layout"] == layout and row["split"] == "train")


def test_counts_and_records_are_those_kept(dataset: Dataset, curated: pathlib.Path, tiny_dataset: Dataset):
    for layout in dataset.layouts:
        source = dataset.source(layout, "train")
        keys = [source[i]["key"].decode() for i in range(len(source))]
        assert sorted(keys) == kept_keys(curated, layout.name)
        assert len(source) == dataset.sets[layout.name]["train"] < tiny_dataset.sets[layout.name]["train"]
        records = tiny_dataset.source(layout, "train")
        at = [[record["key"].decode() for record in records].index(key) for key in keys]
        assert at == sorted(at)
    assert sum(counts["train"] for counts in dataset.sets.values()) == json.loads((curated / "curation.json").read_text())["kept"]
    assert dataset.digest == tiny_dataset.digest


def test_the_stream_goes_through_the_kept_sets_once_an_epoch_on_any_number_of_processes(dataset: Dataset, curated: pathlib.Path):
    seen: dict[str, dict[int, str]] = {layout.name: {} for layout in dataset.layouts}
    for shard in range(2):
        with BatchStream(dataset, DataConfig(global_batch_size=4), 0, shard, 2) as stream:
            for step in range(40):
                layout, batch = stream.next(step)
                for index in batch["global_index"].tolist():
                    seen[layout.name][index] = stream.key(layout.name, index)
    for layout in dataset.layouts:
        count, wanted = dataset.sets[layout.name]["train"], kept_keys(curated, layout.name)
        assert sorted(seen[layout.name][i] for i in range(count)) == wanted
        assert set(seen[layout.name].values()) == set(wanted)


def keep_only(curated: pathlib.Path, layout: str) -> None:
    """Changes a manifest so that it keeps the sets of one layout alone."""
    table = pq.read_table(curated / "manifest.parquet")
    kept = np.array([row["kept"] and row["layout"] == layout for row in table.to_pylist()])
    pq.write_table(table.set_column(table.schema.get_field_index("kept"), "kept", [kept]), curated / "manifest.parquet")


def test_training_runs_on_a_curation(tiny: Config, copy: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    keep_only(copy, "series")  # one program to compile
    tiny.data.curation, tiny.train.steps, tiny.optim.warmup_steps, tiny.model.depth = str(copy), 2, 1, 1
    assert run_training(tiny, str(tmp_path / "run")) == 0
    assert f"layouts: series ({len(kept_keys(copy, 'series'))} sets)" in capsys.readouterr().out


def test_a_run_belongs_to_its_curation(
    tiny: Config, dataset: Dataset, tiny_dataset: Dataset, curated: pathlib.Path, tmp_path: pathlib.Path
):
    run = epath.Path(tmp_path / "run")
    claim_workdir(run, tiny, dataset)
    tiny.data.curation = "moved/elsewhere"
    claim_workdir(run, tiny, dataset)
    with pytest.raises(InputError, match=r"a run on the sets kept by another curation, and config\.data\.curation asks for all sets"):
        claim_workdir(run, tiny, tiny_dataset)
    whole = epath.Path(tmp_path / "whole")
    claim_workdir(whole, tiny, tiny_dataset)
    with pytest.raises(InputError, match=r"a run on all sets, and config\.data\.curation asks for the sets kept by"):
        claim_workdir(whole, tiny, dataset)
    assert describe_run(tiny, dataset)["curation_digest"] == dataset.curation_digest != ""


def test_one_other_set_is_another_curation(dataset: Dataset, tiny_path: pathlib.Path, copy: pathlib.Path):
    table = pq.read_table(copy / "manifest.parquet")
    kept = table["kept"].to_numpy().copy()
    assert open_dataset(str(tiny_path), str(copy)).curation_digest == dataset.curation_digest
    kept[[np.flatnonzero(kept)[0], np.flatnonzero(~kept)[0]]] ^= True
    pq.write_table(table.set_column(table.schema.get_field_index("kept"), "kept", [kept]), copy / "manifest.parquet")
    assert open_dataset(str(tiny_path), str(copy)).curation_digest != dataset.curation_digest


def test_a_curation_of_another_dataset_is_refused_and_both_are_named(tiny_path: pathlib.Path, tiny_dataset: Dataset, copy: pathlib.Path):
    fields = json.loads((copy / "curation.json").read_text())
    fields["datasets"][0]["digest"] = "0" * 64
    (copy / "curation.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=rf"data\.curation=.*is of the dataset with digest {'0' * 64}, .* has {tiny_dataset.digest}"):
        open_dataset(str(tiny_path), str(copy))


def test_the_same_sets_in_another_order_are_refused_when_read(tiny_path: pathlib.Path, copy: pathlib.Path):
    table = pq.read_table(copy / "manifest.parquet")
    key = table["key"].to_pylist()
    moved = table.set_column(table.schema.get_field_index("key"), "key", [[*key[1:], key[0]]])
    pq.write_table(moved, copy / "manifest.parquet")
    dataset = open_dataset(str(tiny_path), str(copy))
    with pytest.raises(InputError, match=r"record \d+ is 'series/.*' and was another image set when it was curated.*curate it again"):
        dataset.source(dataset.layouts[0], "train")[3]


def test_a_record_that_the_dataset_has_not(tiny_path: pathlib.Path, copy: pathlib.Path):
    table = pq.read_table(copy / "manifest.parquet")
    record = table["record"].to_numpy() + 1000
    pq.write_table(table.set_column(table.schema.get_field_index("record"), "record", [record]), copy / "manifest.parquet")
    with pytest.raises(InputError, match=r"keeps record 10\d\d of layout '\w+', which the dataset has not"):
        open_dataset(str(tiny_path), str(copy))


def test_a_layout_of_which_nothing_is_kept_is_no_layout(tiny_path: pathlib.Path, copy: pathlib.Path):
    keep_only(copy, "series")
    dataset = open_dataset(str(tiny_path), str(copy))
    assert [layout.name for layout in dataset.layouts] == ["series"]
    assert dataset.sets["landsat"]["train"] == 0
    keep_only(copy, "none")
    with pytest.raises(InputError, match="keeps no training set"):
        open_dataset(str(tiny_path), str(copy))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("curation.json", None, r"no curation\.json and manifest\.parquet there; make them with python -m rsfm_jax\.curate"),
        ("manifest.parquet", None, r"no curation\.json and manifest\.parquet there"),
        ("curation.json", "{", r"curation\.json: not valid JSON"),
        ("curation.json", '{"schema_version": 7}', r"schema_version is 7, this version reads 1"),
        ("manifest.parquet", "PAR1", r"manifest\.parquet: cannot be read"),
    ],
)
def test_a_damaged_folder(tiny_path: pathlib.Path, copy: pathlib.Path, name: str, text: str | None, message: str):
    (copy / name).unlink()
    if text is not None:
        (copy / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset(str(tiny_path), str(copy))


def test_ingest_makes_a_dataset_of_what_was_kept(curated: pathlib.Path, tmp_path: pathlib.Path):
    words = ["--scenes=examples/scenes", f"--out={tmp_path / 'out'}", f"--curation={curated}"]
    done = run_door("rsfm_jax.ingest", *words, "--config=tests/tiny_config.py")
    assert done.returncode == 0, done.stderr
    kept = {row["key"] for row in pq.read_table(curated / MANIFEST_FILE).to_pylist() if row["kept"]}
    made = open_dataset(str(tmp_path / "out"))
    found = {record["key"].decode() for layout in made.layouts for split in made.sets[layout.name] for record in made.source(layout, split)}
    assert found == kept
    shutil.rmtree(tmp_path / "out")
    other = run_door("rsfm_jax.ingest", *words, "--config=tests/tiny_config.py", "--config.ingest.layouts[0].stride_m=70.0")
    assert_refused(other, "image sets that these scenes and this config do not give", "with the same config")
    assert_refused(run_door("rsfm_jax.ingest", *words[:2], f"--curation={tmp_path}"), "--curation=", "no curation.json")
