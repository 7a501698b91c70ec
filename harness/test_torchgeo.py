"""TorchGeo: the weights entry of rsfm_jax/torch/torchgeo.py, and its own task on the folder alone."""

import copy
import json

from conftest import Case
import pytest
from safetensors.torch import load_file
import torch
from torchgeo.trainers import ClassificationTask
from torchvision.models._api import WeightsEnum

from rsfm_jax.torch.torchgeo import FolderWeights, rsfm_vit, rsfm_weights

META = {"dataset", "in_chans", "img_size", "model", "publication", "repo", "ssl_method", "bands"}


@pytest.mark.parametrize("name", ["cls-timm", "plain-timm"])
def test_the_entry(name):
    case = Case(name)
    weights = rsfm_weights(case.folder, publication="https://arxiv.org/abs/2406.08079")
    assert isinstance(weights, WeightsEnum)
    assert str(weights).endswith("SENTINEL2_L3A")
    assert copy.deepcopy(weights) is weights
    assert weights.meta.keys() >= META
    assert (weights.meta["in_chans"], weights.meta["img_size"], weights.meta["bands"]) == (4, [20, 16], ["B02", "B03", "B04", "B08"])
    assert weights.meta["dataset"].startswith("dataset ")
    normalised = weights.transforms(case.values)
    torch.testing.assert_close(normalised, case.normalised, atol=1e-5, rtol=1e-5)
    model = rsfm_vit(weights).eval()
    with torch.no_grad():
        case.check("torchgeo", model.forward_features(normalised), case.tokens)
        case.check("torchgeo", model(normalised), case.tokens[:, case.first :].mean(dim=1))


def test_two_folders_are_not_mistaken_for_each_other():
    """By its URL torchvision would keep the first file of that name, and give it for the second."""
    with_token, without = rsfm_weights(Case("cls-timm").folder), rsfm_weights(Case("plain-timm").folder)
    assert "cls_token" in with_token.get_state_dict(progress=True)
    assert "cls_token" not in without.get_state_dict(progress=True)


def test_a_head_is_added_and_only_the_head_is_random():
    case = Case("cls-timm")
    model = rsfm_vit(rsfm_weights(case.folder), num_classes=7)
    state, file = model.state_dict(), load_file(case.folder / "model.safetensors")
    assert state.keys() - file.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(state[key], file[key]) for key in file)
    assert model(case.normalised).shape == (4, 7)
    assert rsfm_vit(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, in_chans=5, num_classes=0)(
        torch.zeros(1, 5, 32, 32)
    ).shape


def test_a_wrong_shape_is_refused():
    with pytest.raises(RuntimeError, match=r"size mismatch for patch_embed\.proj\.weight"):
        rsfm_vit(rsfm_weights(Case("cls-timm").folder), in_chans=3)


@pytest.mark.parametrize("name", ["cls-rsfm", "cls-transformers"])
def test_another_format_is_refused(name):
    folder = Case(name).folder
    with pytest.raises(ValueError, match=r"give a folder that .*--format=timm wrote"):
        rsfm_weights(folder)
    assert not list(FolderWeights)


def test_the_classification_task_takes_the_folder():
    case = Case("cls-timm")
    task = ClassificationTask(model=f"local-dir:{case.folder}", weights=True, in_channels=4, num_classes=3)
    task.configure_models()
    state, file = task.model.state_dict(), load_file(case.folder / "model.safetensors")
    assert all(torch.equal(state[key], file[key]) for key in file)
    assert state.keys() - file.keys() == {"head.weight", "head.bias"}
    assert task(case.normalised).shape == (4, 3)
    assert json.loads((case.folder / "config.json").read_text())["input"]["sensor"] == "sentinel2_l3a"
