import dataclasses
import json
import pathlib

from etils import epath
import pytest

from rsfm_jax.config import Config, config_from_dict
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.train.workdir import claim_workdir, describe_run


@pytest.fixture
def claimed(tmp_path: pathlib.Path, tiny: Config, tiny_dataset: Dataset) -> epath.Path:
    folder = epath.Path(tmp_path / "run")
    claim_workdir(folder, tiny, tiny_dataset)
    return folder


def test_the_folder_says_whose_it_is(claimed: epath.Path, tiny: Config, tiny_dataset: Dataset):
    said = json.loads((claimed / "config.json").read_text())
    assert config_from_dict(said["config"]) == tiny
    assert said["dataset_digest"] == tiny_dataset.digest
    claim_workdir(claimed, tiny, tiny_dataset)  # the same run comes again


def test_another_config_is_refused_and_named(claimed: epath.Path, tiny: Config, tiny_dataset: Dataset):
    tiny.mask.ratio, tiny.optim.b2 = 0.6, 0.9
    with pytest.raises(InputError, match=r"another config \(mask.ratio: 0.75 -> 0.6; optim.b2: 0.95 -> 0.9\)"):
        claim_workdir(claimed, tiny, tiny_dataset)


def test_how_a_run_executes_may_change(claimed: epath.Path, tiny: Config, tiny_dataset: Dataset):
    tiny.parallel.fsdp, tiny.train.log_every, tiny.model.remat, tiny.data.read_threads = 4, 7, "full", 9
    claim_workdir(claimed, tiny, tiny_dataset)


def test_another_dataset_is_refused(claimed: epath.Path, tiny: Config, tiny_dataset: Dataset):
    with pytest.raises(InputError, match="belongs to a run on another dataset"):
        claim_workdir(claimed, tiny, dataclasses.replace(tiny_dataset, digest="0" * 64))


def test_a_foreign_folder_is_left_alone(tmp_path: pathlib.Path, tiny: Config, tiny_dataset: Dataset):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds something that is not a run"):
        claim_workdir(epath.Path(tmp_path), tiny, tiny_dataset)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "{}", '{"config": {"mask": {"shape": 3}}}'])
def test_a_foreign_config_is_refused(tmp_path: pathlib.Path, tiny: Config, tiny_dataset: Dataset, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError):
        claim_workdir(epath.Path(tmp_path), tiny, tiny_dataset)


def test_a_checkpoint_says_what_its_run_is(tiny: Config, tiny_dataset: Dataset):
    run = json.loads(json.dumps(describe_run(tiny, tiny_dataset)))
    assert config_from_dict(run["config"]) == tiny
    assert run["statistics"] == tiny_dataset.statistics
    assert run["versions"]["jax"].count(".") >= 2
