"""The exported folder: all or nothing, complete, and proven equal to JAX."""

import hashlib
import json
import pathlib
import shutil

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from etils import epath
import jax
from safetensors.numpy import load_file

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.export.checkpoint import Trained, read_checkpoint
from rsfm_jax.export.folder import export_run
from rsfm_jax.export.parity import ParityError, check_parity
from rsfm_jax.export.weights import encoder_state_dict
from rsfm_jax.train.loop import run_training
from rsfm_jax.train.metrics import read_metrics


@pytest.fixture(scope="module")
def newest(trained: pathlib.Path) -> Trained:
    return read_checkpoint(trained, None)


def test_the_folder_is_whole(exported: pathlib.Path):
    files = {"model.safetensors", "config.json", "modeling_rsfm.py", "README.md", "parity.json", "stac_item.json"}
    assert {file.name for file in exported.iterdir()} == files
    assert {file.name for file in exported.parent.iterdir()} == {exported.name}  # nothing unfinished beside it
    description = json.loads((exported / "config.json").read_text())
    for name, digest in description["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert description["training"]["step"] == 40


def test_config_json_says_what_goes_in(exported: pathlib.Path, tiny_dataset: Dataset):
    slots = {slot["key"]: slot for slot in json.loads((exported / "config.json").read_text())["slots"]}
    assert sorted(slots) == ["landsat7_l1-B3-B4-B5-p4", "landsat8_l1-B4-B5-B6-p4", "landsat8_l1-B8-p4", "sentinel2_l3a-B02-B03-B04-B08-p4"]
    slot = slots["sentinel2_l3a-B02-B03-B04-B08-p4"]
    assert (slot["patch"], slot["gsd_m"], slot["pixels"]) == (4, 10.0, 16)
    red = slot["bands"][2]
    statistics = tiny_dataset.statistics["sentinel2_l3a"]["B04"]
    expected = {"name": "B04", "unit": "reflectance", "wavelength_nm": 664.6, "bandwidth_nm": 30.0, "native_gsd_m": 10.0, "dn_scale": 1e-4}
    assert expected | {"mean": statistics["mean"], "std": statistics["std"]} == {name: red[name] for name in [*expected, "mean", "std"]}


def test_parity_is_written_down(exported: pathlib.Path):
    rows = json.loads((exported / "parity.json").read_text())
    assert [row["input"].split(" (")[0] for row in rows] == ["series", "series", "landsat", "landsat"]
    assert ["(taller" in row["input"] for row in rows] == [False, True, False, True]
    for row in rows:
        assert row["chips"] == 4
        assert 0 < row["tokens_max_abs"] <= 1e-4
        assert 0 < row["pooled_max_abs"] <= 1e-4
        assert 0 < row["layers_max_abs"] <= 1e-4
        assert row["layers"] == 2
    card = (exported / "README.md").read_text()
    assert "| sentinel2_l3a | 4 | 10 | B04 | 664.6 | 30 | reflectance | -0.2 to 2 |" in card


def test_weights_are_the_encoder_s_under_timm_s_names(exported: pathlib.Path, newest: Trained):
    weights = load_file(exported / "model.safetensors")
    encoder = newest.params["encoder"]
    layers = encoder["blocks"]["layers"]
    for i in range(2):
        np.testing.assert_array_equal(weights[f"blocks.{i}.attn.qkv.weight"], layers["attn"]["qkv"]["kernel"][i].T)
        np.testing.assert_array_equal(weights[f"blocks.{i}.mlp.fc2.bias"], layers["mlp"]["fc2"]["bias"][i])
        np.testing.assert_array_equal(weights[f"blocks.{i}.norm1.weight"], layers["norm1"]["scale"][i])
    np.testing.assert_array_equal(weights["norm.bias"], encoder["norm"]["bias"])
    assert sum(x.size for x in weights.values()) == sum(x.size for x in jax.tree.leaves(encoder))
    assert weights.keys() == encoder_state_dict(newest.spec, newest.params).keys()
    assert {x.dtype for x in weights.values()} == {np.dtype("float32")}


def nudged(trained: Trained, part: str) -> dict:
    """The parameters with one value of the encoder changed."""
    params = jax.tree.map(np.array, trained.params)
    node = params["encoder"]
    *path, last = part.split("/")
    for name in path:
        node = node[name]
    node[last].flat[0] += 0.05
    return params


@pytest.mark.parametrize(
    "part",
    ["blocks/layers/attn/qkv/kernel", "encodings/time/proj/kernel", "norm/scale", "patch_embed/slots/landsat8_l1-B8-p4/kernel"],
)
def test_features_that_differ_are_refused(exported: pathlib.Path, newest: Trained, tiny_dataset: Dataset, part: str):
    with pytest.raises(ParityError, match=r"PyTorch and JAX features differ by .*, the limit is 0.0001"):
        check_parity(exported, newest.spec, nudged(newest, part), tiny_dataset)


def test_an_earlier_step(trained: pathlib.Path, newest: Trained, tmp_path: pathlib.Path):
    (tmp_path / "weights").mkdir()  # an empty folder may be there
    result = export_run(trained, tmp_path / "weights", step=20)
    assert result["step"] == 20
    assert result["parity_max_abs"] <= 1e-4
    weights = load_file(tmp_path / "weights" / "model.safetensors")
    assert abs(weights["norm.weight"] - newest.params["encoder"]["norm"]["scale"]).max() > 0


def test_nothing_is_left_when_the_input_is_wrong(trained: pathlib.Path, tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "weights"
    with pytest.raises(InputError, match=r"no checkpoint of that step .* there are \[20, 30, 40\]"):
        export_run(trained, out, step=17)
    with pytest.raises(InputError, match="no run with checkpoints there"):
        export_run(tmp_path, out)
    with pytest.raises(InputError, match="give --data=FOLDER"):
        export_run(trained, out, data=str(tmp_path / "moved"))
    other = shutil.copytree(tiny_path, tmp_path / "other")
    summary = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(summary | {"digest": "0" * 64}))
    with pytest.raises(InputError, match="is not the dataset of the run"):
        export_run(trained, out, data=str(other))
    assert {file.name for file in tmp_path.iterdir()} == {"other"}


def test_a_folder_that_holds_something_is_left_alone(trained: pathlib.Path, tmp_path: pathlib.Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds something"):
        export_run(trained, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_in_bfloat16_trains_like_float32_and_exports(tiny: Config, trained: pathlib.Path, tmp_path: pathlib.Path):
    tiny.model.compute_dtype = "bfloat16"
    assert run_training(tiny, str(tmp_path / "run")) == 0
    ours, theirs = ([row["loss"] for row in read_metrics(epath.Path(run))] for run in (tmp_path / "run", trained))
    np.testing.assert_allclose(ours[:5], theirs[:5], rtol=0.02)
    assert np.mean(ours[-10:]) < 0.9 * np.mean(ours[:4])
    assert export_run(tmp_path / "run", tmp_path / "weights")["parity_max_abs"] <= 1e-4
