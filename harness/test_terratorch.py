"""TerraTorch with the backbone ``rsfm_encoder`` of rsfm_jax/torch/terratorch.py."""

import json
import sys

from conftest import Case
import numpy as np
from pyproj import Geod
import pytest
from terratorch.models import EncoderDecoderFactory
from terratorch.registry import BACKBONE_REGISTRY
import torch

from rsfm_jax.torch.images import footprints_deg
import rsfm_jax.torch.terratorch

BANDS = ["B02", "B03", "B04", "B08"]
CHOICE = {"sensor": "sentinel2_l3a", "bands": BANDS, "gsd_m": 12.0}


def build(case, **changes):
    return BACKBONE_REGISTRY.build("rsfm_encoder", ckpt_path=str(case.folder), **CHOICE | {"num_frames": 1} | changes).eval()


def with_class_token(case, tokens):
    """As the backbone returns them: the mean where the model has no class token."""
    return tokens if case.first else torch.cat([tokens.mean(dim=-2, keepdim=True), tokens], dim=-2)


def test_no_jax():
    assert not {"jax", "jaxlib", "flax"} & set(sys.modules)
    assert rsfm_jax.torch.terratorch.__file__


@pytest.mark.parametrize("model", ["cls-rsfm", "plain-rsfm"])
@pytest.mark.parametrize("dates", [1, 2])
@pytest.mark.parametrize("first_day", [0, 1])
def test_every_layer(model, dates, first_day):
    case = Case(model, None if dates == 2 else f"{model}-one")
    backbone = build(case, num_frames=dates, first_day=first_day)
    temporal_coords = case.time[..., 1:] + torch.tensor([0.0, float(first_day)])
    with torch.no_grad():
        *layers, tokens = backbone(case.values, temporal_coords=temporal_coords)
    assert backbone.out_channels == [48 * dates] * 4
    assert backbone.patch_size == 4
    case.check(f"terratorch, rsfm_encoder, {dates} dates", tokens, with_class_token(case, case.tokens))
    case.check(f"terratorch, rsfm_encoder, {dates} dates", torch.stack(layers), with_class_token(case, case.layers[:-1]))


def test_chosen_bands_scale_and_layers():
    """Digital numbers of bands in another order, two layers; date unknown as None and as NaN."""
    case = Case("cls-rsfm", "cls-rsfm-one")
    plain = build(case, bands=["B08", "B02"], out_indices=[1, -1])
    scaled = build(case, bands=["B02", "B08"], out_indices=[1, 3], scale=1e-4, offset=-0.1)
    with torch.no_grad():
        expected = plain(case.values[:, [3, 0]])
        found = scaled((case.values[:, [0, 3]] + 0.1) * 1e4, temporal_coords=torch.full((len(case.values), 1, 2), torch.nan), mask=None)
    assert len(found) == 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_the_place_moves_the_features():
    case = Case("cls-rsfm", "cls-rsfm-one")
    backbone = build(case)
    here = torch.tensor([[52.5, 13.4]]).expand(len(case.values), -1)
    with torch.no_grad():
        unknown, berlin, exchanged = (backbone(case.values, location_coords=x)[-1] for x in (None, here, here.flip(-1)))
    assert (berlin - unknown).abs().max() > 1e-3
    assert (berlin - exchanged).abs().max() > 1e-3


def test_footprints_against_geodesics():
    lat, lon = np.array([60.0, -33.0]), np.array([24.0, -71.0])
    corners = footprints_deg(torch.tensor(np.stack([lat, lon], axis=-1)), 2000.0, 3000.0).numpy()
    for i, (x, y) in enumerate(((-1, 1), (1, 1), (1, -1), (-1, -1))):
        _, _, metres = Geod(ellps="WGS84").inv(lon, lat, corners[:, i, 0], corners[:, i, 1])
        np.testing.assert_allclose(metres, np.hypot(1000.0, 1500.0), rtol=5e-3)
        assert (np.sign(corners[:, i, 0] - lon) == x).all()
        assert (np.sign(corners[:, i, 1] - lat) == y).all()


@pytest.mark.parametrize("model", ["cls-rsfm", "plain-rsfm"])
@pytest.mark.parametrize("dates", [1, 2])
@pytest.mark.parametrize("necks", [True, False])
def test_a_segmentation_model_learns(model, dates, necks):
    """Height 18 and width 16 with a patch of 4: TerraTorch pads to 24 x 16, whose grid of 6 x 4 no square root finds."""
    case = Case(model, None if dates == 2 else f"{model}-one")
    values = case.values[..., :18, :]
    pyramid = [{"name": "ReshapeTokensToImage", "effective_time_dim": dates}, {"name": "LearnedInterpolateToPyramidal"}]
    built = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="rsfm_encoder",
        backbone_ckpt_path=str(case.folder),
        backbone_num_frames=dates,
        **{f"backbone_{name}": value for name, value in CHOICE.items()},
        necks=pyramid if necks else None,
        decoder="UNetDecoder" if necks else "FCNDecoder",
        **({"decoder_channels": [32, 16, 8, 4]} if necks else {"decoder_channels": 16, "decoder_num_convs": 2}),
        num_classes=2,
    )
    near_infrared = values[:, 3] if dates == 1 else values[:, 3, 0]
    labels = (near_infrared > near_infrared.median()).long()
    optimizer, losses = torch.optim.AdamW(built.parameters(), lr=1e-3), []
    for _ in range(10):
        logits = built(values, temporal_coords=case.time[..., 1:], location_coords=torch.zeros(len(values), 2)).output
        assert logits.shape == (len(values), 2, 18, 16)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0], losses
    gradients = [p.grad for name, p in built.encoder.named_parameters() if name.startswith("encoder.blocks.0.")]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("grid", "right"),
    [((24, 16), True), ((16, 36), False)],
)
def test_maps_without_a_neck_are_right_where_terratorch_guesses(grid, right):
    """TerraTorch's neck takes any square number of patches, as 4 x 9, for a square; the backbone's own maps know the size."""
    from terratorch.models.necks import ReshapeTokensToImage

    case, (height, width) = Case("cls-rsfm", "cls-rsfm-one"), grid
    values = case.values.repeat(1, 1, 2, 3)[..., :height, :width]
    backbone = build(case)
    with torch.no_grad():
        tokens = backbone(values)
        (*_, own) = backbone.prepare_features_for_image_model(tokens)
        (*_, guessed) = ReshapeTokensToImage(backbone.out_channels)(tokens, image_size=grid)
        expected = backbone.encode(values).grids[0]
    assert torch.equal(own, expected)
    assert (guessed.shape == expected.shape and torch.equal(guessed, expected)) is right


def test_random_weights():
    case = Case("cls-rsfm", "cls-rsfm-one")
    random, trained = build(case, pretrained=False).state_dict(), build(case).state_dict()
    assert random.keys() == trained.keys()
    assert not torch.equal(random["encoder.blocks.0.attn.qkv.weight"], trained["encoder.blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ckpt_path": None}, "needs ckpt_path, the folder of an exported encoder"),
        ({"ckpt_path": "nowhere"}, "nowhere: holds no config.json"),
        ({"sensor": "sentinel9"}, "sensor 'sentinel9' with patch any is not known"),
        ({"bands": ["B02", "B99"]}, "bands B02, B99 are not together in one group"),
        (
            {"sensor": "landsat8_l1", "bands": None},
            r"name the bands, the model has several kinds of input for it: B4, B5, B6 \(patch 4\); B8",
        ),
        ({"out_indices": [0, 4]}, r"layers are \[0, 4\]; expected at least one, each from -4 to 3"),
        ({"gsd_m": -1.0}, "gsd_m is -1.0"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"first_day": 2}, "first_day is 2"),
        ({"patch": 16}, "patch 16 is not known"),
    ],
)
def test_bad_arguments(changes, said):
    case = Case("cls-rsfm")
    with pytest.raises(ValueError, match=said):
        rsfm_jax.torch.terratorch.rsfm_encoder(**{"ckpt_path": str(case.folder)} | CHOICE | changes)


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="is not of the format rsfm"):
        rsfm_jax.torch.terratorch.rsfm_encoder(ckpt_path=str(Case("cls-timm").folder), **CHOICE)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, b: b(x * 1e4), "raw digital numbers"),
        (lambda x, b: b(x[:, :3]), r"images are .*; expected \(B, 4, H, W\)"),
        (lambda x, b: b(x[:, :, None].repeat(1, 1, 2, 1, 1)), "x holds 2 dates; this backbone was built for num_frames=1"),
        (lambda x, b: b(x, temporal_coords=torch.zeros(len(x), 2)), r"temporal_coords are \(4, 2\); expected \(4, 1, 2\)"),
        (
            lambda x, b: b(x, temporal_coords=torch.tensor([[[188.0, 2018.0]]]).expand(len(x), 1, 2)),
            "expected a year, then a day from 0 to 365",
        ),
        (lambda x, b: b(x, location_coords=torch.zeros(len(x), 3)), r"centres are \(4, 3\)"),
        (lambda x, b: b(x[..., :18, :]), "values are 18 x 16 pixels; both must be multiples of the patch, 4"),
    ],
)
def test_bad_inputs(call, said):
    case = Case("cls-rsfm", "cls-rsfm-one")
    with pytest.raises(ValueError, match=said):
        call(case.values, build(case))


def test_the_configured_task():
    """TerraTorch's own segmentation task, as its yaml builds it, takes a batch of its datasets."""
    from terratorch.tasks import SemanticSegmentationTask

    case = Case("cls-rsfm", "cls-rsfm-one")
    arguments = {
        "backbone": "rsfm_encoder",
        "backbone_ckpt_path": str(case.folder),
        "backbone_pretrained": True,
        **{f"backbone_{name}": value for name, value in CHOICE.items()},
        "necks": [{"name": "ReshapeTokensToImage"}, {"name": "LearnedInterpolateToPyramidal"}],
        "decoder": "UNetDecoder",
        "decoder_channels": [32, 16, 8, 4],
        "num_classes": 2,
    }
    task = SemanticSegmentationTask(
        json.loads(json.dumps(arguments)), "EncoderDecoderFactory", loss="ce", ignore_index=-1, freeze_backbone=True
    )
    task.log, task.log_dict = lambda *_, **__: None, lambda *_, **__: None
    batch = {
        "image": case.values,
        "mask": torch.randint(2, (len(case.values), 20, 16)),
        "temporal_coords": case.time[..., 1:],
        "location_coords": torch.zeros(len(case.values), 2),
        "filename": ["a"] * len(case.values),
    }
    task.training_step(batch, 0).backward()
    assert not any(p.requires_grad for p in task.model.encoder.parameters())
