"""Change between two dates."""

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.features import layer_grids  # noqa: E402
from rsfm_jax.torch.heads.change import SiameseChange  # noqa: E402
from rsfm_jax.torch.heads.segmentation import LinearSegmentation, UPerSegmentation  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import WIDTH, optical, small_encoder  # noqa: E402

FUSIONS = ("difference", "concatenate", "both")


def uper(width):
    return UPerSegmentation(width, 2, patch=16, channels=8)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_sizes_and_gradients(fusion):
    head = SiameseChange(uper, 16, fusion)
    before, after = features(4, 1, 16, 3, 5), features(4, 1, 16, 3, 5, seed=1)
    assert head(before, after, (41, 77)).shape == (1, 2, 41, 77)
    assert without_gradient(head, lambda: head(before, after, (48, 80))) == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_only_the_difference_is_symmetric_in_the_dates(fusion):
    torch.manual_seed(0)
    head = SiameseChange(uper, 16, fusion)
    before, after = features(4, 2, 16, 3, 5), features(4, 2, 16, 3, 5, seed=1)
    forth, back = head(before, after, (24, 40)), head(after, before, (24, 40))
    if fusion == "difference":
        assert torch.equal(forth, back)
    else:
        assert not torch.allclose(forth, back, atol=1e-3)


def test_what_the_head_is_given():
    class Same(torch.nn.Module):
        def forward(self, features, size):
            return features[0]

    (a,), (b,) = features(1, 1, 3, 2, 2), features(1, 1, 3, 2, 2, seed=1)
    widths = []
    fused = [SiameseChange(lambda width: widths.append(width) or Same(), 3, fusion)([a], [b], (2, 2)) for fusion in FUSIONS]
    assert widths == [3, 6, 9]
    assert torch.equal(fused[0], (a - b).abs())
    assert torch.equal(fused[1], torch.cat([a, b], dim=1))
    assert torch.equal(fused[2], torch.cat([a, b, (a - b).abs()], dim=1))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_changed_patches_are_found(fusion):
    """A real encoder sees one scene twice; a block of the second is bright."""
    torch.manual_seed(0)
    encoder, scene = small_encoder(), optical(1, 16, 24)
    later = scene | {"values": scene["values"].clone()}
    later["values"][..., 4:12, 8:16] += 0.9
    with torch.no_grad():
        before, after = (layer_grids(encoder, encoder([x], return_layers=True), layers=[1, 3], norm=True) for x in (scene, later))
    target = torch.zeros(1, 16, 24, dtype=torch.long)
    target[:, 4:12, 8:16] = 1
    head = SiameseChange(lambda width: LinearSegmentation(width, 2, layers=2), WIDTH, fusion)
    assert overfit(head.parameters(), lambda: F.cross_entropy(head(before, after, (16, 24)), target), 90, 5e-2) < 0.2
    centres = head(before, after, (4, 6)).argmax(1)
    assert torch.equal(centres, target[:, ::4, ::4])


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="fusion is 'sum'; expected one of 'difference', 'concatenate', 'both'"):
        SiameseChange(uper, 16, "sum")
    head = SiameseChange(uper, 16)
    with pytest.raises(ValueError, match=r"before has layers of shapes .*\(1, 16, 2, 3\).* after .*expected equal ones"):
        head(features(4, 1, 16, 2, 3), features(4, 1, 16, 2, 2), (32, 32))
    with pytest.raises(ValueError, match="expected equal ones"):
        head(features(4, 1, 16, 2, 3), features(3, 1, 16, 2, 3), (32, 32))
