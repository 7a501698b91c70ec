"""TerraTorch's own Prithvi backbone loads the format "prithvi" without any code of ours."""

import json
import logging
import math

from conftest import Case
import pytest
from terratorch.models import EncoderDecoderFactory
from terratorch.registry import BACKBONE_REGISTRY
import torch

STREAM = math.sqrt(10)  # tokens after a block are that much larger, see rsfm_jax/export/prithvi.py
POSITIONS = "encoder.pos_encoder.embed"


def build(case, **changes):
    kwargs = json.loads((case.folder / "config.json").read_text())["backbone_kwargs"] | changes
    return BACKBONE_REGISTRY.build(
        "terratorch_prithvi_eo_v2_300", pretrained=True, ckpt_path=str(case.folder / "model.pt"), **kwargs
    ).eval()


@pytest.mark.parametrize("name", ["cls-prithvi", "cls-prithvi-square"])
def test_every_layer(name, caplog):
    case = Case(name)
    with caplog.at_level(logging.WARNING):
        model = build(case)
    assert "keys" not in caplog.text  # TerraTorch only warns of missing and unexpected ones
    file, state = torch.load(case.folder / "model.pt"), model.state_dict()
    assert file.keys() - state.keys() == {POSITIONS}
    assert all(torch.equal(file[key], state[key]) for key in state)
    with torch.no_grad():
        *layers, tokens = model(case.normalised)
    assert len(layers) == 3
    case.check("terratorch, its Prithvi", tokens, case.tokens)
    case.check("terratorch, its Prithvi", torch.stack(layers) / STREAM, case.layers[:-1])


def test_bands_are_chosen_by_name():
    case = Case("cls-prithvi")
    whole, some = build(case), build(case, bands=["B08", "B03"])
    expected = whole.patch_embed.proj.weight[:, [3, 1]]
    assert torch.equal(some.patch_embed.proj.weight, expected)


def test_a_segmentation_model_learns():
    case = Case("cls-prithvi-square")
    kwargs = json.loads((case.folder / "config.json").read_text())["backbone_kwargs"]
    model = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="prithvi_eo_v2_300",
        backbone_kwargs={"pretrained": True, "ckpt_path": str(case.folder / "model.pt"), **kwargs},
        necks=[{"name": "ReshapeTokensToImage"}, {"name": "LearnedInterpolateToPyramidal"}],
        decoder="UNetDecoder",
        decoder_kwargs={"channels": [32, 16, 8, 4]},
        num_classes=2,
    )
    labels = (case.normalised[:, 3] > 0).long()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(case.normalised).output, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert model.encoder.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
