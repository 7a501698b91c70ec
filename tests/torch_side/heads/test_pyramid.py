"""The simple feature pyramid, and what torchvision's detectors do with a backbone."""

from collections import OrderedDict
import math

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.torch.heads.pyramid import PyramidBackbone, SimpleFeaturePyramid  # noqa: E402
from rsfm_jax.torch.images import ImageEncoder, Taps  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import RGBN, WIDTH, small_encoder  # noqa: E402


@pytest.mark.parametrize("patch", [4, 8, 14, 16])
@pytest.mark.parametrize(("h", "w"), [(4, 8), (3, 7), (1, 1)])
def test_sizes(patch, h, w):
    pyramid = SimpleFeaturePyramid(16, patch, channels=8, p6=True)
    maps = pyramid(features(2, 2, 16, h, w))
    assert isinstance(maps, OrderedDict)
    assert list(maps) == ["p2", "p3", "p4", "p5", "p6"]
    for name, stride in zip(maps, (4, 8, 16, 32), strict=False):
        assert maps[name].shape == (2, 8, math.ceil(h * patch / stride), math.ceil(w * patch / stride))
    assert torch.equal(maps["p6"], maps["p5"][..., ::2, ::2])
    assert pyramid.out_channels == 8
    assert "p6" not in SimpleFeaturePyramid(16, patch, channels=8)(features(1, 2, 16, h, w))


def test_only_the_last_layer_counts_and_all_parameters_learn():
    pyramid = SimpleFeaturePyramid(16, 16, channels=8)
    layers = features(3, 1, 16, 3, 5)
    maps = pyramid(layers)
    for name, x in pyramid([torch.zeros_like(layers[0]), layers[-1]]).items():
        assert torch.equal(x, maps[name])
    assert without_gradient(pyramid, lambda: torch.cat([x.flatten() for x in pyramid(layers).values()])) == []


def test_a_spot_is_found_at_every_stride():
    """Learns to answer, in each map, at the place of one patch."""
    torch.manual_seed(0)
    pyramid = SimpleFeaturePyramid(16, 16, channels=8)
    (x,) = features(1, 1, 16, 4, 6)
    x = 0.1 * x
    x[:, :, 2, 4] += 3.0
    targets = {"p2": (8, 16, 4), "p3": (4, 8, 2), "p4": (2, 4, 1), "p5": (1, 2, 1)}

    def loss():
        total = torch.tensor(0.0)
        for name, y in pyramid([x]).items():
            row, column, side = targets[name]
            target = torch.zeros_like(y[:, 0])
            target[:, row : row + side, column : column + side] = 4.0
            total = total + (y[:, 0] - target).square().mean()
        return total

    before = float(loss().detach())
    assert overfit(pyramid.parameters(), loss, 60, 1e-2) < 0.1 * before


def test_a_real_encoder_as_backbone_of_a_detector():
    """torchvision reads `out_channels`, takes the dict's values as levels and infers each level's scale from its size."""
    encode = Taps(ImageEncoder(small_encoder(), "sentinel2_l2a", RGBN, gsd_m=10.0))
    backbone = PyramidBackbone(encode, SimpleFeaturePyramid(WIDTH, 4, channels=8, p6=True))
    images = torch.rand(1, 4, 64, 96)
    maps = backbone(images)
    assert backbone.out_channels == 8
    assert {x.shape[1] for x in maps.values()} == {8}
    scales = [2 ** round(math.log2(x.shape[-2] / 64)) for x in maps.values()]
    assert scales == [2 ** round(math.log2(x.shape[-1] / 96)) for x in maps.values()] == [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
    unused = without_gradient(backbone, lambda: torch.cat([x.flatten() for x in backbone(images).values()]))
    assert all("landsat8_l1" in name or ".proj." in name for name in unused)  # of the other input, and for known dates and places
    assert not any("blocks" in name or "patch_embed.sentinel2" in name or name.startswith("pyramid.") for name in unused)
    assert any(name.startswith("encode.images.encoder.blocks.0.") for name, _ in backbone.named_parameters())
    with pytest.raises(ValueError, match=r"images are \(1, 3, 64, 96\); expected \(B, 4, H, W\)"):
        backbone(images[:, :3])
