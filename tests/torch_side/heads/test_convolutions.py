"""The norm, the change of stride and the check of features."""

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.torch.heads.convolutions import LayerNorm2d, Rescale, check_features, conv_norm, resize  # noqa: E402
from tests.torch_side.heads.training import features  # noqa: E402


def test_the_norm_is_over_the_channels_of_each_position():
    (x,) = features(1, 2, 6, 3, 5)
    norm = LayerNorm2d(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    ours = norm(x)
    for row in range(3):
        for column in range(5):
            at = x[:, :, row, column]
            expected = (at - at.mean(1, keepdim=True)) / (at.var(1, keepdim=True, correction=0) + 1e-6).sqrt() * norm.weight + norm.bias
            torch.testing.assert_close(ours[:, :, row, column], expected)


def test_a_tile_away_from_its_edge_does_not_know_the_rest_of_the_scene():
    (x,) = features(1, 1, 6, 12, 12)
    conv = conv_norm(6, 4, 3)
    torch.testing.assert_close(conv(x)[..., 3:9, 3:9], conv(x[..., 2:10, 2:10])[..., 1:7, 1:7])


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("patch", [1, 4, 7, 8, 14, 16, 20, 32])
def test_any_patch_reaches_any_stride(patch, stride):
    rescale = Rescale(32, patch, stride)
    for h, w in ((1, 1), (3, 5), (6, 4)):
        y = rescale(torch.randn(2, 32, h, w))
        assert y.shape == (2, rescale.width, -(-h * patch // stride), -(-w * patch // stride))


def test_rescaling_keeps_things_in_their_place():
    """Weights that copy: a spot in one patch comes out at the same ground."""
    x = torch.zeros(1, 8, 6, 6)
    x[0, :, 4, 1] = 1.0
    for patch in (8, 14):
        rescale = Rescale(8, patch, 4)
        for layer in rescale.layers:
            if isinstance(layer, torch.nn.ConvTranspose2d):
                torch.nn.init.constant_(layer.weight, 1.0)
                torch.nn.init.zeros_(layer.bias)
            if isinstance(layer, LayerNorm2d):
                layer.forward = lambda y: y
        y = rescale(x).detach().sum(dim=1)[0]
        weight = y / y.sum()
        rows, columns = (((torch.arange(side) + 0.5) * 4) for side in y.shape)
        assert float((weight.sum(1) * rows).sum()) == pytest.approx(4.5 * patch, abs=0.2)
        assert float((weight.sum(0) * columns).sum()) == pytest.approx(1.5 * patch, abs=0.2)


def test_resizing_keeps_the_footprint():
    ramp = (torch.arange(8.0) + 0.5).expand(1, 1, 4, 8)  # value: ground position of the pixel's centre
    finer = resize(ramp, (4, 16))[0, 0, 0]
    torch.testing.assert_close(finer[1:-1], ((torch.arange(16.0) + 0.5) / 2)[1:-1])
    assert resize(ramp, (4, 8)) is ramp


def test_wrong_features_are_named():
    good = features(2, 1, 4, 2, 3)
    check_features(good, 4)
    for bad, message in (
        (good[0], r"got a tensor \(1, 4, 2, 3\); expected a sequence of \(B, 4, h, w\)"),
        ([], r"got shapes \[\]"),
        (features(2, 1, 5, 2, 3), r"got shapes \[\(1, 5, 2, 3\), \(1, 5, 2, 3\)\]; expected a sequence of \(B, 4, h, w\)"),
        ([good[0], good[0][0]], "expected a sequence"),
        ([good[0], good[0][..., :2]], "layers have different shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            check_features(bad, 4)
    with pytest.raises(ValueError, match="got 2 layers; this head was made for 3"):
        check_features(good, 4, 3)
    with pytest.raises(ValueError, match="patch is 0 and stride 4 pixels"):
        Rescale(8, 0, 4)
    with pytest.raises(ValueError, match="width is 4; it is halved 3 times"):
        Rescale(4, 32, 4)
