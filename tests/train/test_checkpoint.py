"""Checkpoints: bit for bit, on another mesh, and when the newest one is damaged."""

import gc
import logging
import pathlib
import shutil
from typing import Any

from etils import epath
import jax
import numpy as np
import pytest

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.train.checkpoint import Checkpoints
from rsfm_jax.train.loop import run_training
from rsfm_jax.train.metrics import read_metrics
from rsfm_jax.train.workdir import describe_run
from tests.helpers import Parts, parts

_POSITION = {"series": {"next_index": 3}, "landsat": {"next_index": 5}}


def assert_equal(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def made(tiny_path: pathlib.Path) -> Parts:
    from rsfm_jax.data.dataset import open_dataset
    from tests import tiny_config

    return parts(tiny_config.get_config(), open_dataset(str(tiny_path)), 2, 4)


def test_saved_and_restored_bit_for_bit_with_all_that_belongs_to_it(
    made: Parts, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path
):
    run = describe_run(tiny, tiny_dataset)
    with Checkpoints(epath.Path(tmp_path), keep=2) as checkpoints:
        assert checkpoints.restore_latest(made.abstract) is None
        checkpoints.save(3, made.state, _POSITION, run)
        checkpoints.save(3, made.state, {}, {})  # saved already
    with Checkpoints(epath.Path(tmp_path), keep=None) as checkpoints:
        assert checkpoints.steps() == [3]
        state, position = checkpoints.restore(3, made.abstract)
        assert checkpoints.run(3) == run
    assert position == _POSITION
    assert_equal(state, made.state)
    for leaf, abstract in zip(jax.tree.leaves(state), jax.tree.leaves(made.abstract), strict=True):
        assert leaf.sharding == abstract.sharding


def test_a_folder_named_from_where_the_program_is(made: Parts, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints(epath.Path("runs/one"), keep=1) as checkpoints:
        checkpoints.save(2, made.state, _POSITION, {})
    with Checkpoints(epath.Path("runs/one"), keep=None) as checkpoints:
        state, position = checkpoints.restore(2, made.abstract)
    assert position == _POSITION
    assert_equal(state, made.state)
    assert (tmp_path / "runs" / "one" / "checkpoints" / "2").is_dir()


@pytest.mark.parametrize("sizes", [(1, 1), (4, 2)])
def test_restored_onto_another_mesh(made: Parts, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path, sizes: tuple[int, int]):
    other = parts(tiny, tiny_dataset, *sizes)
    with Checkpoints(epath.Path(tmp_path), keep=1) as checkpoints:
        checkpoints.save(1, made.state, _POSITION, {})
    with Checkpoints(epath.Path(tmp_path), keep=None) as checkpoints:
        state, _ = checkpoints.restore(1, other.abstract)
    assert_equal(jax.device_get(state), jax.device_get(made.state))
    assert {leaf.sharding.mesh.shape["fsdp"] for leaf in jax.tree.leaves(state)} == {sizes[1]}


def test_the_newest_are_kept(trained: pathlib.Path):
    with Checkpoints(epath.Path(trained), keep=None) as checkpoints:
        assert checkpoints.steps() == [20, 30, 40]


def cut_arrays(folder: pathlib.Path) -> None:
    for file in (folder / "state").rglob("*"):
        if file.is_file() and "d" in file.parent.name:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_position(folder: pathlib.Path) -> None:
    for file in (folder / "position").iterdir():
        file.write_text("")


def lose_arrays(folder: pathlib.Path) -> None:
    shutil.rmtree(folder / "state")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [cut_arrays, cut_position, lose_arrays])
def test_a_damaged_newest_checkpoint_is_passed_over(
    trained: pathlib.Path, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, damage
):
    copy = shutil.copytree(trained, tmp_path / "run")
    damage(copy / "checkpoints" / "40")
    abstract = parts(tiny, tiny_dataset, 2, 4).abstract
    with caplog.at_level(logging.WARNING, logger="absl"), Checkpoints(epath.Path(copy), keep=3) as checkpoints:
        restored = checkpoints.restore_latest(abstract)
    gc.collect()  # of what Orbax leaves behind when a read fails, while complaints are ignored
    assert restored is not None
    assert int(restored[0].step) == 30
    assert "checkpoint of step 40 cannot be read" in caplog.text
    with Checkpoints(epath.Path(trained), keep=None) as checkpoints:
        expected, position = checkpoints.restore(30, abstract)
    assert_equal(restored[0], expected)
    assert restored[1] == position


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_replaces_the_damaged_checkpoints_it_passed_over(trained: pathlib.Path, tiny: Config, tmp_path: pathlib.Path):
    copy = shutil.copytree(trained, tmp_path / "run")
    cut_position(copy / "checkpoints" / "40")
    lose_arrays(copy / "checkpoints" / "30")
    assert run_training(tiny, str(copy)) == 0
    gc.collect()
    expected = [row["loss"] for row in read_metrics(epath.Path(trained))]
    assert [row["loss"] for row in read_metrics(epath.Path(copy))] == expected
    with Checkpoints(epath.Path(copy), keep=None) as checkpoints:
        assert checkpoints.steps() == [20, 30, 40]
        assert checkpoints.run(40)["dataset_digest"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_of_another_model_is_refused(trained: pathlib.Path, tiny: Config, tiny_dataset: Dataset):
    tiny.model.depth = 3
    abstract = parts(tiny, tiny_dataset, 1, 1).abstract
    with Checkpoints(epath.Path(trained), keep=None) as checkpoints, pytest.raises(InputError, match="damaged or of another model"):
        checkpoints.restore_latest(abstract)
    gc.collect()
