"""Two resolutions of one place, and the place itself."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.features import layer_grids  # noqa: E402
from rsfm_jax.torch.heads.fusion import DualResolutionFusion, LocationEncoding, LocationFusion  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import WIDTH, optical, panchromatic, small_encoder  # noqa: E402


@pytest.mark.parametrize(("fine", "coarse", "size"), [((6, 9), (2, 3), (48, 72)), ((7, 5), (3, 4), (55, 41)), ((4, 4), (4, 1), (4, 4))])
def test_sizes_and_gradients_of_two_resolutions(fine, coarse, size):
    head = DualResolutionFusion(16, 12, 3, channels=8)
    x, y = features(2, 1, 16, *fine), features(1, 1, 12, *coarse)
    assert head(x, y, size).shape == (1, 3, *size)
    assert without_gradient(head, lambda: head(x, y, size)) == []


def test_the_coarse_branch_lies_on_the_ground_of_the_fine_one():
    """One coarse cell of 6 x 6 fine ones, rows 6 to 11 and columns 24 to 29, reaches as far as it is interpolated, 3, and convolved, 2."""
    head = DualResolutionFusion(4, 4, 2, channels=8)
    fine, coarse = features(1, 1, 4, 24, 36), features(1, 1, 4, 4, 6)
    changed = [coarse[0].clone()]
    changed[0][..., 1, 4] += 3.0
    moved = (head(fine, coarse, (24, 36)) - head(fine, changed, (24, 36))).abs().sum(dim=1)[0]
    rows, columns = torch.nonzero(moved > 1e-7, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (6 - 5, 11 + 5)
    assert (int(columns.min()), int(columns.max())) == (24 - 5, 29 + 5)


def test_a_label_that_needs_both_branches_is_learnt():
    """The class is the exclusive or of a sign in the fine and a sign in the coarse member of a real encoder's features."""
    torch.manual_seed(0)
    encoder = small_encoder()
    with torch.no_grad():
        out = encoder([optical(1, 24, 24), panchromatic(1, 16, 16)], return_layers=True)
        fine, coarse = (layer_grids(encoder, out, member, layers=[-1], norm=True) for member in (0, 1))
    a, b = torch.randint(2, (6, 6)), torch.randint(2, (2, 2)).repeat_interleave(3, 0).repeat_interleave(3, 1)
    fine[0][:, 0], coarse[0][:, 0] = 4.0 * a - 2, 4.0 * b[::3, ::3] - 2
    target = (a ^ b)[None]
    head = DualResolutionFusion(WIDTH, WIDTH, 2, channels=16)
    assert overfit(head.parameters(), lambda: F.cross_entropy(head(fine, coarse, (6, 6)), target), 80, 1e-2) < 0.1


def test_wrong_grids_are_named():
    head = DualResolutionFusion(4, 4, 2, channels=8)
    for fine, coarse in (((1, 2, 6), (1, 3, 3)), ((2, 4, 4), (1, 2, 2))):
        with pytest.raises(ValueError, match="expected one batch, and the fine grid not the coarser one"):
            head(features(1, fine[0], 4, *fine[1:]), features(1, coarse[0], 4, *coarse[1:]), (8, 8))


PLACES = torch.tensor([[1.44, 43.6], [-122.4, 37.8], [179.9, -16.5], [0.0, 90.0]], dtype=torch.float64)


def test_places_are_coded_as_numpy_does():
    encoding = LocationEncoding(features=12, deviations=(1.0, 16.0), seed=3)
    lon, lat = np.deg2rad(PLACES.numpy()).T
    unit = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    angle = 2 * np.pi * unit @ encoding.frequencies.double().numpy()
    np.testing.assert_allclose(encoding(PLACES).numpy(), np.concatenate([np.sin(angle), np.cos(angle)], axis=1), atol=1e-6)
    assert torch.equal(encoding.frequencies, LocationEncoding(12, (1.0, 16.0), seed=3).frequencies)
    assert not torch.equal(encoding.frequencies, LocationEncoding(12, (1.0, 16.0), seed=4).frequencies)
    assert "frequencies" in encoding.state_dict()
    many = LocationEncoding(features=12000, deviations=(1.0, 16.0, 256.0)).frequencies
    for i, deviation in enumerate((1.0, 16.0, 256.0)):
        assert float(many[:, 2000 * i : 2000 * (i + 1)].std()) == pytest.approx(deviation, rel=0.05)


def test_the_earth_has_no_seam():
    encoding = LocationEncoding()
    seam = encoding(torch.tensor([[180.0, 10.0], [-180.0, 10.0], [0.0, 90.0], [135.0, 90.0]], dtype=torch.float64))
    torch.testing.assert_close(seam[0], seam[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(seam[2], seam[3], atol=1e-5, rtol=0)
    assert not torch.allclose(seam[0], seam[2], atol=0.1)


@pytest.mark.parametrize("mode", ["add", "film"])
def test_location_fusion_starts_as_the_identity_and_all_parameters_learn(mode):
    torch.manual_seed(0)
    fusion, layers = LocationFusion(8, mode, hidden=16), features(2, 4, 8, 3, 5)
    places = PLACES.clone()
    places[2] = torch.nan
    for given in (None, PLACES, places):
        for before, after in zip(layers, fusion(layers, given), strict=True):
            assert torch.equal(before, after)
    for p in fusion.parameters():
        torch.nn.init.normal_(p, std=0.1)
    assert without_gradient(fusion, lambda: torch.stack(fusion(layers, places))) == []


@pytest.mark.parametrize("mode", ["add", "film"])
def test_what_the_place_does(mode):
    torch.manual_seed(0)
    fusion, (x,) = LocationFusion(8, mode, hidden=16), features(1, 4, 8, 3, 5)
    for p in fusion.parameters():
        torch.nn.init.normal_(p, std=0.1)
    places = PLACES.clone()
    places[2] = torch.nan
    code = fusion.mlp(fusion.encoding(PLACES))
    code[2] = fusion.unknown
    code = code[:, :, None, None]
    expected = x + code if mode == "add" else x * (1 + code[:, :8]) + code[:, 8:]
    torch.testing.assert_close(fusion([x], places)[0], expected)
    torch.testing.assert_close(fusion([x], None)[0][2], expected[2])


@pytest.mark.parametrize("mode", ["add", "film"])
def test_a_value_that_depends_on_the_place_is_learnt(mode):
    torch.manual_seed(0)
    fusion, last = LocationFusion(8, mode, hidden=32), torch.nn.Linear(8, 1)
    layers, target = [torch.ones(4, 8, 2, 2)], torch.tensor([[-1.0], [2.0], [0.5], [-2.0]])
    places = PLACES.clone()
    places[3] = torch.nan
    trained = [*fusion.parameters(), *last.parameters()]
    assert overfit(trained, lambda: F.mse_loss(last(fusion(layers, places)[0].mean(dim=(2, 3))), target), 80, 1e-2) < 0.01


def test_wrong_places_are_named():
    fusion, layers = LocationFusion(8), features(1, 1, 8, 2, 2)
    for place in ([43.6, 101.4], [181.0, 0.0], [math.nan, 10.0]):
        with pytest.raises(ValueError, match="longitudes within 180 and latitudes within 90 degrees, longitude first"):
            fusion(layers, torch.tensor([place]))
    with pytest.raises(ValueError, match=r"lonlat_deg has shape \(2, 2\); expected \(1, 2\)"):
        fusion(layers, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="mode is 'multiply'; expected 'add' or 'film'"):
        LocationFusion(8, "multiply")
    for count in (10, 0):
        with pytest.raises(ValueError, match=f"features is {count}; expected a positive multiple of 6"):
            LocationEncoding(count)
