"""Whatever is wrong with the input: exit code 2, one line that says what and where, no traceback, nothing written."""

import json
import pathlib
import shutil

import pytest

from tests.helpers import TINY_CONFIG, assert_refused, run_door, train_words


def test_a_workdir_in_a_bucket_is_refused():
    done = run_door("rsfm_jax.train", f"--config={TINY_CONFIG}", "--workdir=gs://bucket/run")
    assert_refused(done, "--workdir=gs://bucket/run", "mount the bucket")


def test_train_without_its_config(tmp_path: pathlib.Path):
    done = run_door("rsfm_jax.train", "--config=tests/tiny_confg.py", f"--workdir={tmp_path / 'run'}")
    assert_refused(done, "tests/tiny_confg.py: no such file", "did you mean 'tiny_config.py'?")
    assert not (tmp_path / "run").exists()


def test_train_with_a_misspelt_field(tmp_path: pathlib.Path):
    done = run_door("rsfm_jax.train", f"--config={TINY_CONFIG}", "--config.model.widht=64", f"--workdir={tmp_path / 'run'}")
    assert_refused(done, "config.model has no field 'widht'", "did you mean 'width'?")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--config.parallel.fsdp=3"], ("8 devices do not divide by 3",)),
        (["--config.data.global_batch_size=12"], ("global_batch_size=12", "multiple of data x fsdp = 8")),
        (["--config.data.path=nowhere"], ("config.data.path=nowhere: no dataset.json there", "rsfm_jax.ingest")),
    ],
    ids=["mesh", "batch", "dataset"],
)
def test_train_with_what_does_not_fit(tiny_path: pathlib.Path, tmp_path: pathlib.Path, more: list[str], words: tuple[str, ...]):
    assert_refused(run_door("rsfm_jax.train", *train_words(tiny_path, tmp_path / "run"), *more), *words)
    assert not (tmp_path / "run").exists()


def test_train_on_a_dataset_of_another_version(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    copy = shutil.copytree(tiny_path, tmp_path / "copy")
    fields = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(fields | {"schema_version": 2}))
    assert_refused(run_door("rsfm_jax.train", *train_words(copy, tmp_path / "run")), "schema_version is 2, this version reads 1", "ingest")


def test_train_in_the_folder_of_another_run(trained: pathlib.Path, tiny_path: pathlib.Path):
    before = (trained / "config.json").read_text()
    done = run_door("rsfm_jax.train", *train_words(tiny_path, trained, "--config.mask.ratio=0.6"))
    assert_refused(done, "another config (mask.ratio: 0.75 -> 0.6)")
    assert (trained / "config.json").read_text() == before


def test_export_of_a_folder_without_a_run(tmp_path: pathlib.Path):
    pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
    done = run_door("rsfm_jax.export", f"--workdir={tmp_path}", f"--out={tmp_path / 'weights'}")
    assert_refused(done, f"--workdir={tmp_path}", "no run with checkpoints there")
    assert not any(tmp_path.iterdir())


def test_export_into_a_folder_that_holds_something(trained: pathlib.Path, tmp_path: pathlib.Path):
    pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(run_door("rsfm_jax.export", f"--workdir={trained}", f"--out={tmp_path}"), f"--out={tmp_path}", "already holds something")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_export_of_a_step_that_was_not_saved(trained: pathlib.Path, tmp_path: pathlib.Path):
    pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
    done = run_door("rsfm_jax.export", f"--workdir={trained}", f"--out={tmp_path / 'weights'}", "--step=17")
    assert_refused(done, "--step=17", "there are [20, 30, 40]")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format=timn",), ("--format=timn: must be one of rsfm, timm, transformers, prithvi, onnx",)),
        (("--format=timm",), ("--sensor is missing",)),
        (("--sensor=sentinel2_l3a",), ("--sensor: --format=rsfm holds every sensor",)),
        (("--format=timm", "--sensor=sentinel2_l3a", "--pixels=224*224"), ("--pixels=224*224", "224x160")),
        (("--format=onnx", "--sensor=sentinel2_l3a", "--decoder"), ("--decoder: --format=onnx holds no decoder", "rsfm, transformers")),
    ],
)
def test_export_in_a_format_that_cannot_be(words: tuple[str, ...], said: tuple[str, ...], trained: pathlib.Path, tmp_path: pathlib.Path):
    pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
    done = run_door("rsfm_jax.export", f"--workdir={trained}", f"--out={tmp_path / 'weights'}", *words)
    assert_refused(done, *said)
    assert list(tmp_path.iterdir()) == []
