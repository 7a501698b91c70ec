"""Segmentation heads: sizes, gradients, batch 1, learning a map by heart."""

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.features import even_layers, layer_grids  # noqa: E402
from rsfm_jax.torch.heads.segmentation import LinearSegmentation, PyramidSegmentation, UPerSegmentation  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import DEPTH, WIDTH, optical, small_encoder  # noqa: E402

HEADS = {
    "linear": lambda width, classes, patch: LinearSegmentation(width, classes, layers=4),
    "uper": lambda width, classes, patch: UPerSegmentation(width, classes, patch, channels=8),
    "pyramid": lambda width, classes, patch: PyramidSegmentation(width, classes, patch, channels=8),
}


@pytest.fixture(params=HEADS.values(), ids=HEADS)
def build(request):
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize(("patch", "h", "w", "size"), [(16, 2, 3, (32, 48)), (14, 3, 1, (41, 13)), (8, 1, 1, (8, 8)), (4, 5, 7, (99, 101))])
def test_sizes_with_one_image_in_training(build, patch, h, w, size):
    head = build(16, 5, patch).train()
    assert head(features(4, 1, 16, h, w), size).shape == (1, 5, *size)


def test_all_parameters_learn(build):
    head = build(16, 3, 16)
    assert without_gradient(head, lambda: head(features(4, 1, 16, 3, 5), (48, 80))) == []


def test_examples_of_a_batch_do_not_meet(build):
    head, layers = build(16, 3, 8).train(), features(4, 3, 16, 3, 5)
    together = head(layers, (24, 40))
    for i in range(3):
        torch.testing.assert_close(head([x[i : i + 1] for x in layers], (24, 40)), together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_a_map_is_learnt_by_heart(build):
    """Classes of blocks of 8 x 8 pixels, the patches of a real encoder; odd pixels are ignored."""
    encoder = small_encoder()
    with torch.no_grad():
        out = encoder([optical(1, 16, 24)], return_layers=True)
        layers = layer_grids(encoder, out, layers=even_layers(DEPTH, 4), norm=True)
    target = torch.randint(3, (1, 2, 3)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    target[:, 1::2] = 255
    head = build(WIDTH, 3, 4)
    loss = overfit(head.parameters(), lambda: F.cross_entropy(head(layers, (16, 24)), target, ignore_index=255), 80, 2e-2)
    with torch.no_grad():
        right = (head(layers, (16, 24)).argmax(1) == target)[target != 255].float().mean()
    assert loss < 0.35
    assert right > 0.9


def test_the_linear_head_is_a_linear_classifier_of_patches():
    head, layers = LinearSegmentation(6, 4, layers=2), features(2, 2, 6, 3, 5)
    tokens = torch.cat(layers, dim=1).permute(0, 2, 3, 1)
    expected = tokens @ head.classifier.weight[:, :, 0, 0].T + head.classifier.bias
    torch.testing.assert_close(head(layers, (3, 5)).permute(0, 2, 3, 1), expected)
    by_torch = F.interpolate(expected.permute(0, 3, 1, 2), size=(7, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(layers, (7, 9)), by_torch)


def test_the_top_of_uper_sees_the_whole_image():
    """Pyramid pooling: the far corner's features change this corner's logits, out of reach of the convolutions."""
    layers = features(4, 1, 16, 8, 8)
    changed = [x.clone() for x in layers]
    changed[-1][..., -1, -1] += 5.0
    head = HEADS["uper"](16, 3, 32)
    corner = (head(layers, (64, 64)) - head(changed, (64, 64)))[..., :4, :4]
    assert corner.abs().max() > 1e-6
    for pooled in head.pooled:
        torch.nn.init.zeros_(pooled[1].weight)
    corner = (head(layers, (64, 64)) - head(changed, (64, 64)))[..., :4, :4]
    assert torch.equal(corner, torch.zeros_like(corner))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_level_of_uper_reaches_the_finest_map(level):
    """With only the finest map in the fusion, the others can arrive by the top-down path alone."""
    torch.manual_seed(0)
    head, layers = HEADS["uper"](16, 3, 16), features(4, 1, 16, 4, 4)
    head.fuse[0].weight.data[:, : 3 * 8] = 0.0  # maps are concatenated from the top
    changed = [x + float(i == level) * torch.randn_like(x) for i, x in enumerate(layers)]
    assert (head(layers, (64, 64)) - head(changed, (64, 64))).abs().max() > 1e-4


def test_wrong_features_are_named():
    with pytest.raises(ValueError, match="got 3 layers; this head was made for 4"):
        HEADS["uper"](16, 3, 16)(features(3, 1, 16, 2, 2), (32, 32))
    with pytest.raises(ValueError, match="got 2 layers; this head was made for 1"):
        LinearSegmentation(16, 3)(features(2, 1, 16, 2, 2), (32, 32))
    with pytest.raises(ValueError, match=r"expected a sequence of \(B, 16, h, w\)"):
        HEADS["pyramid"](16, 3, 16)(features(1, 1, 8, 2, 2), (32, 32))
