"""Tokens of the exported encoder as maps."""

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.torch.features import even_layers, layer_grids  # noqa: E402
from tests.torch_side.small_encoder import DEPTH, WIDTH, optical, panchromatic, small_encoder  # noqa: E402


@pytest.fixture(params=[True, False], ids=["class token", "no class token"])
def encoded(request):
    model = small_encoder(cls_token=request.param)
    with torch.no_grad():
        return model, model([optical(2, 12, 20), panchromatic(2, 16, 24)], return_layers=True)


@pytest.mark.parametrize(("member", "size"), [(0, (3, 5)), (1, (2, 3))])
def test_the_last_layer_after_the_norm_is_the_encoders_grid(encoded, member, size):
    model, out = encoded
    maps = layer_grids(model, out, member, norm=True)
    assert [tuple(x.shape) for x in maps] == [(2, WIDTH, *size)] * DEPTH
    torch.testing.assert_close(maps[-1], out.grids[member])
    plain = layer_grids(model, out, member)
    assert not torch.allclose(plain[-1], out.grids[member], atol=1e-2)


def test_each_position_is_its_token(encoded):
    model, out = encoded
    first = 0 if model.cls_token is None else 1
    optical_map, pan_map = (layer_grids(model, out, member, layers=[1])[0] for member in (0, 1))
    for row in range(3):
        for column in range(5):
            assert torch.equal(optical_map[:, :, row, column], out.layers[1][:, first + row * 5 + column])
    for row in range(2):
        for column in range(3):
            assert torch.equal(pan_map[:, :, row, column], out.layers[1][:, first + 15 + row * 3 + column])


def test_layers_are_chosen_in_the_given_order(encoded):
    model, out = encoded
    every = layer_grids(model, out)
    for chosen in ((2, 0), (-1,), even_layers(DEPTH, 2)):
        for ours, i in zip(layer_grids(model, out, layers=chosen), chosen, strict=True):
            assert torch.equal(ours, every[i])


def test_even_layers():
    assert even_layers(24, 4) == (5, 11, 17, 23)
    assert even_layers(12, 4) == (2, 5, 8, 11)
    assert even_layers(5, 2) == (1, 4)
    assert even_layers(3, 3) == (0, 1, 2)
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"count is {count}; expected 1 to 3"):
            even_layers(3, count)


def test_wrong_input_is_named(encoded):
    model, out = encoded
    with pytest.raises(ValueError, match="call the encoder with return_layers=True"):
        layer_grids(model, model([optical(1, 8, 8)]))
    for member in (2, -1):
        with pytest.raises(ValueError, match=f"member is {member}; expected 0 to 1, there are 2 members"):
            layer_grids(model, out, member)
    for layers in ((0, 4), (-5,), ()):
        with pytest.raises(ValueError, match="each from -4 to 3"):
            layer_grids(model, out, layers=layers)
