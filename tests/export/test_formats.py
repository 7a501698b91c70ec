"""Formats for one sensor and date: the files load in what their users have, and compute what JAX computes."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch
import transformers

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.export.baking import bake
from rsfm_jax.export.folder import Order, write_folder
from rsfm_jax.export.formats import FORMATS
from rsfm_jax.export.parity import ParityError
from rsfm_jax.torch.published import read_published
from tests.export.untrained import SENTINEL, never_trained, with_class_token
from tests.models.test_variants import VARIANTS, variant

FILES = {
    "timm": {"model.safetensors", "config.json"},
    "transformers": {"model.safetensors", "config.json", "preprocessor_config.json"},
    "prithvi": {"model.pt", "config.json"},
    "onnx": {"model.onnx", "config.json"},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("cls_token", [True, False])
def test_every_format_computes_what_jax_computes(name: str, cls_token: bool, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    trained = with_class_token(tiny, tiny_dataset) if cls_token else never_trained(tiny, tiny_dataset)
    order = Order(name, SENTINEL)
    if name == "prithvi" and not cls_token:
        with pytest.raises(InputError, match=r"Prithvi has a class token, this model has none; train with --config\.model\.cls_token=True"):
            write_folder(trained, tiny_dataset, tmp_path / "weights", order)
        assert list(tmp_path.iterdir()) == []
        return
    result = write_folder(trained, tiny_dataset, tmp_path / "weights", order)
    assert {file.name for file in (tmp_path / "weights").iterdir()} == FILES[name] | {"README.md", "parity.json", "stac_item.json"}
    assert [row["input"] for row in result["parity"]] == [f"sentinel2_l3a, {h} x 16 pixels" for h in (20, 24)]
    assert all(row["layers"] == 2 for row in result["parity"])
    assert 0 < result["parity_max_abs"] <= 1e-4


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("mae", "index")])
def test_every_kind_of_model_is_baked(name: str, tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    bands = {"groups": ("B08", "B04"), "random3": ("B08", "B03", "B03")}.get(name, ("B08", "B02", "B04"))
    choice = dataclasses.replace(SENTINEL, bands=bands)
    result = write_folder(never_trained(variant(tiny, name), tiny_dataset), tiny_dataset, tmp_path / "weights", Order("timm", choice))
    assert 0 < result["parity_max_abs"] <= 1e-4
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    statistics = tiny_dataset.statistics["sentinel2_l3a"]
    assert config["pretrained_cfg"]["mean"] == [statistics[band]["mean"] for band in bands]
    assert config["model_args"]["in_chans"] == len(bands)


def test_the_decoder_goes_on_pretraining_in_transformers(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    order = Order("transformers", dataclasses.replace(SENTINEL, pixels=(16, 16)), decoder=True)
    result = write_folder(with_class_token(tiny, tiny_dataset), tiny_dataset, tmp_path / "weights", order)
    assert 0 < result["parity"][0]["predictions_max_abs"] <= 1e-4
    model = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "weights")
    assert model.config.norm_pix_loss
    loss = model(torch.randn(2, 4, 16, 16)).loss
    loss.backward()
    assert 0.5 < loss.item() < 3
    assert model.decoder.mask_token.grad.abs().sum() > 0


def test_what_is_written_is_read_as_published_weights(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    """A file of ours is one of theirs: the reader of published weights finds every weight where it should be."""
    trained = with_class_token(tiny, tiny_dataset)
    square = dataclasses.replace(SENTINEL, pixels=(16, 16))
    baked = bake(trained, square)
    for name, order in {"timm": Order("timm", square), "transformers": Order("transformers", square, decoder=True)}.items():
        write_folder(trained, tiny_dataset, tmp_path / name, order)
        vit = read_published(tmp_path / name / "model.safetensors")
        assert (vit.format, vit.width, vit.depth, vit.patch, vit.bands) == (name, 48, 2, 4, 4)
        for key, array in baked.encoder.items():
            np.testing.assert_array_equal(vit.encoder[key], array)
    assert vit.decoder is not None
    for key, array in baked.decoder.items():
        np.testing.assert_array_equal(vit.decoder[key], array)


def test_onnx_takes_physical_values_and_any_batch(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    import onnxruntime

    write_folder(never_trained(tiny, tiny_dataset), tiny_dataset, tmp_path / "weights", Order("onnx", SENTINEL))
    session = onnxruntime.InferenceSession(tmp_path / "weights" / "model.onnx")
    assert [out.name for out in session.get_outputs()] == ["pooled", "tokens", "layer_0", "layer_1"]
    values = np.random.default_rng(0).uniform(0.05, 0.3, (3, 4, 20, 16)).astype(np.float32)
    pooled, tokens, *layers = session.run(None, {"values": values})
    (alone,) = session.run(["pooled"], {"values": values[:1]})
    np.testing.assert_allclose(pooled[:1], alone, atol=1e-5)
    np.testing.assert_allclose(pooled, tokens.mean(axis=1), atol=1e-5)
    assert tokens.shape == layers[1].shape == (3, 20, 48)


def test_weights_that_differ_are_refused(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A GELU by tanh, as in other implementations, is seen in some layer."""
    monkeypatch.setattr("rsfm_jax.torch.modeling_rsfm.F.gelu", lambda x: torch.nn.functional.silu(x))
    with pytest.raises(ParityError, match=r"sentinel2_l3a, 20 x 16 pixels: PyTorch and JAX features differ by .*, the limit is 0.0001"):
        write_folder(never_trained(tiny, tiny_dataset), tiny_dataset, tmp_path / "weights", Order("timm", SENTINEL))
    assert list(tmp_path.iterdir()) == []


def test_prithvi_holds_what_terratorch_needs(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    """All that is added to the residual stream is larger, so that an epsilon of 1e-5 does what 1e-6 does; positions are there twice."""
    trained = with_class_token(tiny, tiny_dataset)
    write_folder(trained, tiny_dataset, tmp_path / "weights", Order("prithvi", SENTINEL))
    encoder, state = bake(trained, SENTINEL).encoder, torch.load(tmp_path / "weights" / "model.pt", weights_only=True)
    assert state.keys() == encoder.keys() | {"encoder.pos_encoder.embed"}
    assert torch.equal(state["pos_embed"], state["encoder.pos_encoder.embed"])
    times = {name: state[name].numpy().flat[-1] / encoder[name].flat[-1] for name in encoder}
    larger = {name for name, value in times.items() if abs(value - 10**0.5) < 1e-5}
    assert all(name in larger or abs(value - 1) < 1e-6 for name, value in times.items())
    added = {f"blocks.{i}.{part}.{kind}" for i in range(2) for part in ("attn.proj", "mlp.fc2") for kind in ("weight", "bias")}
    assert larger == added | {"patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token", "pos_embed"}
    kwargs = json.loads((tmp_path / "weights" / "config.json").read_text())["backbone_kwargs"]
    assert kwargs["pretrained_bands"] == kwargs["bands"] == ["B02", "B03", "B04", "B08"]


def test_prithvi_refuses_what_terratorch_can_not_be(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    config = variant(tiny, "random3")
    config.model.cls_token = True
    repeated = Order("prithvi", dataclasses.replace(SENTINEL, bands=("B08", "B03", "B03")))
    with pytest.raises(InputError, match=r"--bands=B08,B03,B03: TerraTorch finds bands by name, so none may be repeated"):
        write_folder(never_trained(config, tiny_dataset), tiny_dataset, tmp_path / "weights", repeated)
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, cls_token=True, width=24))
    with pytest.raises(InputError, match="the width must be a multiple of 16, not 24"):
        write_folder(never_trained(config, tiny_dataset), tiny_dataset, tmp_path / "weights", Order("prithvi", SENTINEL))
    assert list(tmp_path.iterdir()) == []


def test_the_catalogue_item(tiny: Config, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    import pystac

    write_folder(never_trained(tiny, tiny_dataset), tiny_dataset, tmp_path / "weights", Order("timm", SENTINEL))
    item = pystac.Item.from_file(str(tmp_path / "weights" / "stac_item.json"))
    assert item.stac_extensions[0].startswith("https://stac-extensions.github.io/mlm/")
    (taken,) = item.properties["mlm:input"]
    assert [band["name"] for band in taken["bands"]] == ["B02", "B03", "B04", "B08"]
    assert taken["input"]["shape"] == [-1, 4, 20, 16]
    assert taken["value_scaling"][2]["mean"] == tiny_dataset.statistics["sentinel2_l3a"]["B04"]["mean"]
    assert "mlm:model" in item.assets["model.safetensors"].roles


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensor": "sentinel1_grd"}, r"--sensor=sentinel1_grd: the model has no such input; it has --sensor=landsat7_l1 --bands=B3,B4,B5"),
        ({"bands": ("B02", "B99")}, r"--bands=B02,B99: not together in one kind of input"),
        ({"sensor": "landsat8_l1"}, r"several such inputs; choose by --bands and --patch"),
        ({"pixels": (18, 16)}, r"--pixels=18x16: both must be multiples of the patch, 4, and at least 16"),
        ({"pixels": (16, 12)}, r"--pixels=16x12: both must be multiples of the patch, 4, and at least 16"),
        ({"acquired": "8.7.2018"}, r"--acquired=8.7.2018: not a date; write YYYY-MM-DD"),
    ],
)
def test_bad_choices(changes: dict[str, Any], said: str, tiny: Config, tiny_dataset: Dataset):
    with pytest.raises(InputError, match=said):
        bake(never_trained(tiny, tiny_dataset), dataclasses.replace(SENTINEL, **changes))
