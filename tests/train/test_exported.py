"""The way back: an exported folder, fine-tuned or not, goes on pretraining in JAX."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.config import Config  # noqa: E402
from rsfm_jax.data.dataset import Dataset  # noqa: E402
from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.export.checkpoint import Trained  # noqa: E402
from rsfm_jax.export.folder import Order, write_folder  # noqa: E402
from rsfm_jax.models.build import init_params  # noqa: E402
from rsfm_jax.models.spec import model_spec  # noqa: E402
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder  # noqa: E402
from rsfm_jax.train.loop import run_training  # noqa: E402
from rsfm_jax.train.metrics import read_metrics  # noqa: E402
from rsfm_jax.train.pretrained import load_published  # noqa: E402
from rsfm_jax.train.workdir import describe_run  # noqa: E402
from tests.models.test_variants import variant  # noqa: E402


def exported(config: Config, dataset: Dataset, out: pathlib.Path, decoder: bool = True) -> Trained:
    """Writes a model that was never trained, every value of it its own."""
    spec = model_spec(config, dataset.layouts)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.05, x.shape).astype(np.float32), init_params(spec, 1))
    trained = Trained(spec, params, describe_run(config, dataset), 0)
    write_folder(trained, dataset, out, Order(decoder=decoder))
    return trained


def assert_equal(found: dict, expected: dict) -> None:
    jax.tree.map_with_path(lambda path, a, b: np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path)), found, expected)


@pytest.mark.parametrize("name", ["groups", "wavelength", "learned", "mae"])
def test_everything_comes_back(name: str, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    trained = exported(variant(tiny, name), tiny_dataset, tmp_path / "weights")
    found, report = load_published(str(tmp_path / "weights"), trained.spec, init_params(trained.spec, 0))
    assert_equal(found, trained.params)
    assert not any("stays random" in line for line in report)
    left_out = [line for line in report if "left out" in line]
    assert all("patch_embed." in line for line in left_out)  # generated ones, which the generator makes again
    assert bool(left_out) == (name == "wavelength")


def test_without_the_decoder_it_starts_at_random(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    trained = exported(tiny, tiny_dataset, tmp_path / "weights", decoder=False)
    start = init_params(trained.spec, 0)
    found, report = load_published(str(tmp_path / "weights"), trained.spec, start)
    assert_equal(found["encoder"], trained.params["encoder"])
    assert_equal(found["decoder"], jax.tree.map(np.asarray, start["decoder"]))
    assert "  stays random: decoder" in report
    assert "it has no pretraining.safetensors, so no decoder" in report[1]


def test_a_kind_of_input_that_the_folder_does_not_know_starts_at_random(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    trained = exported(tiny, tiny_dataset, tmp_path / "weights")
    tiny.tokenizer.groups = ("sentinel2_l3a: B02 B03 | B04 B08",)
    split = model_spec(tiny, tiny_dataset.layouts)
    found, report = load_published(str(tmp_path / "weights"), split, init_params(split, 0))
    assert_equal(found["encoder"]["blocks"], trained.params["encoder"]["blocks"])
    key = "sentinel2_l3a-B02-B03-p4"
    assert f"  stays random: encoder.patch_embed.slots.{key}" in report
    assert any("left out: patch_embed.sentinel2_l3a-B02-B03-B04-B08-p4.weight, for which" in line for line in report)


def test_a_fine_tuned_encoder_goes_on_pretraining(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    exported(tiny, tiny_dataset, tmp_path / "weights")
    model = RSFMEncoder.from_folder(tmp_path / "weights")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    model.save_folder(tmp_path / "tuned")
    with pytest.raises(ValueError, match="holds a model already"):
        model.save_folder(tmp_path / "tuned")
    assert (tmp_path / "tuned" / "modeling_rsfm.py").read_bytes() == (tmp_path / "weights" / "modeling_rsfm.py").read_bytes()
    again = RSFMEncoder.from_folder(tmp_path / "tuned")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    tiny.init.torch, tiny.train.steps, tiny.optim.warmup_steps = str(tmp_path / "tuned"), 2, 1
    assert run_training(tiny, str(tmp_path / "run")) == 0
    assert len(read_metrics(tmp_path / "run")) == 2


def test_bad_folders(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    trained = exported(tiny, tiny_dataset, tmp_path / "weights")
    folder, start = str(tmp_path / "weights"), init_params(trained.spec, 0)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, depth=3, heads=2, mlp_ratio=2.0))
    with pytest.raises(
        InputError, match=r"depth 2, not the model's 3, heads 3, .*--config\.model\.depth=2 --config\.model\.heads=3 --config"
    ):
        load_published(folder, model_spec(other, tiny_dataset.layouts), start)
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    (tmp_path / "weights" / "pretraining.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"pretraining\.safetensors: its SHA-256 is not the one in config\.json"):
        load_published(folder, trained.spec, start)
    del config["sha256"]["pretraining.safetensors"]
    (tmp_path / "weights" / "config.json").write_text(json.dumps(config))
    (tmp_path / "weights" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read"):
        load_published(folder, trained.spec, start)
