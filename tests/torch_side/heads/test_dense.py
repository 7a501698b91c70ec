"""Dense regression: sizes, the identity at the start, learning an image and a correction by heart."""

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.features import layer_grids  # noqa: E402
from rsfm_jax.torch.heads.dense import DenseRegression  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import WIDTH, optical, small_encoder  # noqa: E402


@pytest.mark.parametrize(("patch", "h", "w", "size"), [(16, 2, 3, (32, 48)), (14, 1, 3, (14, 42)), (1, 3, 2, (3, 2)), (4, 5, 7, (33, 41))])
def test_sizes(patch, h, w, size):
    head = DenseRegression(16, 3, patch, layers=2, channels=8)
    assert head(features(2, 1, 16, h, w), size).shape == (1, 3, *size)


def test_a_residual_head_starts_as_the_identity():
    head, layers = DenseRegression(16, 4, 8, channels=8, residual=True), features(1, 2, 16, 2, 3)
    image = torch.rand(2, 4, 16, 24)
    assert torch.equal(head(layers, (16, 24), image), image)
    coarse = torch.rand(2, 4, 4, 6)
    assert torch.equal(head(layers, (16, 24), coarse), F.interpolate(coarse, size=(16, 24), mode="bicubic", align_corners=False))


@pytest.mark.parametrize("residual", [False, True])
def test_all_parameters_learn(residual):
    torch.manual_seed(0)
    head, layers = DenseRegression(16, 3, 4, channels=8, residual=residual), features(1, 1, 16, 3, 5)
    image = torch.rand(1, 3, 12, 20) if residual else None
    if residual:  # at the start only the last layer has a gradient; it lets the others learn from the second step
        assert set(without_gradient(head, lambda: head(layers, (12, 20), image))) == {
            n for n, _ in head.named_parameters() if "decoder" in n
        }
        overfit(head.parameters(), lambda: head(layers, (12, 20), image).square().mean(), 1, 1e-2)
    assert without_gradient(head, lambda: head(layers, (12, 20), image)) == []


def test_a_cloud_is_removed_by_heart():
    """A real encoder sees a clouded scene; the correction restores it."""
    encoder, scene = small_encoder(), optical(1, 16, 24)
    clear = F.interpolate(0.2 + 0.3 * torch.rand(1, 4, 4, 6), size=(16, 24), mode="bilinear")
    clouded = clear.clone()
    clouded[..., 4:12, 8:20] = 0.9
    with torch.no_grad():
        layers = layer_grids(encoder, encoder([scene | {"values": clouded}], return_layers=True), layers=[3], norm=True)
    head = DenseRegression(WIDTH, 4, 4, channels=16, residual=True)

    def loss():
        return (head(layers, (16, 24), clouded) - clear).square().mean()

    start = (clouded - clear).square().mean()
    assert float(loss().detach()) == pytest.approx(float(start))
    assert overfit(head.parameters(), loss, 80, 1e-2) < 0.05 * float(start)


def test_an_image_is_learnt_within_the_patch():
    """Detail finer than the patch: a checkerboard of 2 pixels under patches of 8."""
    torch.manual_seed(0)
    head, layers = DenseRegression(16, 1, 8, channels=16), features(1, 1, 16, 2, 3)
    row, column = torch.meshgrid(torch.arange(16) // 2 % 2, torch.arange(24) // 2 % 2, indexing="ij")
    target = (row ^ column)[None, None].float()
    assert overfit(head.parameters(), lambda: F.mse_loss(head(layers, (16, 24)), target), 60, 1e-2) < 0.02


def test_wrong_input_is_named():
    layers, image = features(1, 2, 16, 2, 3), torch.rand(2, 3, 8, 12)
    with pytest.raises(ValueError, match="image is missing, but this head was made with residual=True"):
        DenseRegression(16, 3, 4, residual=True)(layers, (8, 12))
    with pytest.raises(ValueError, match="image is given, but this head was made with residual=False"):
        DenseRegression(16, 3, 4)(layers, (8, 12), image)
    for bad in (image[:, :2], image[:1], image[0]):
        with pytest.raises(ValueError, match=r"image has shape .*; expected \(2, 3, rows, columns\)"):
            DenseRegression(16, 3, 4, residual=True)(layers, (8, 12), bad)
    with pytest.raises(ValueError, match="patch is 0 pixels"):
        DenseRegression(16, 3, 0)
