"""One sensor's images through an exported encoder: what the plug-ins of other libraries share."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.torch.images import METRES_PER_DEGREE, ImageEncoder, Taps, footprints_deg, known_time  # noqa: E402
from tests.torch_side.small_encoder import RGBN, WIDTH, small_encoder  # noqa: E402


def images(cls_token: bool = True, **options) -> ImageEncoder:
    return ImageEncoder(small_encoder(cls_token), "sentinel2_l2a", **{"gsd_m": 10.0} | options)


@pytest.mark.parametrize("cls_token", [True, False])
def test_dates_are_members_of_one_set(cls_token: bool):
    model, values = images(cls_token), torch.rand(2, 4, 3, 8, 12)
    time = torch.tensor([[1.0, 2020.0, 3.0], [0.0, 0.0, 0.0], [1.0, 2021.0, 200.0]]).expand(2, 3, 3)
    centre_deg = torch.tensor([[52.5, 13.4], [-33.0, 151.0]])
    encoded = model.encode(values, time, centre_deg)
    shared = {"sensor": "sentinel2_l2a", "bands": RGBN, "gsd_m": 10.0}
    members = [shared | {"values": values[:, :, t], "time": time[:, t]} for t in range(3)]
    expected = model.encoder(members, footprints_deg(centre_deg, 80.0, 120.0), return_layers=True)
    assert torch.equal(encoded.tokens, expected.tokens)
    maps = model.maps_after(encoded, [1, 3])
    assert [tuple(x.shape) for x in maps] == [(2, WIDTH, 3, 2, 3)] * 2
    for t in range(3):
        assert torch.equal(maps[1][:, :, t], expected.grids[t])
    tokens = model.tokens_after(encoded, [1, 3])
    assert torch.equal(tokens[0], expected.layers[1])
    assert torch.equal(tokens[1], expected.tokens)


def test_scale_offset_and_the_order_of_bands():
    values = torch.rand(2, 4, 8, 8)
    expected = images().encode(values).tokens
    found = images(bands=("B08", "B02", "B03", "B04"), scale=1e-4, offset=-0.1).encode((values[:, [3, 0, 1, 2]] + 0.1) * 1e4).tokens
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_parameters_of_other_inputs_are_frozen():
    encoder = images().encoder
    assert {name for name, p in encoder.named_parameters() if not p.requires_grad} == {
        "patch_embed.landsat8_l1-p8.weight",
        "patch_embed.landsat8_l1-p8.bias",
        "encodings.slot.landsat8_l1-p8",
    }


def test_taps_are_what_heads_take():
    model, values = images(), torch.rand(2, 4, 8, 12)
    encoded = model.encode(values)
    (last,) = Taps(model)(values)
    assert torch.equal(last, encoded.grids[0])
    found, expected = Taps(model, (1, -1))(values), model.maps_after(encoded, [1, 3])
    assert all(torch.equal(x, y[:, :, 0]) for x, y in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match=r"layers are \[4\]; expected at least one, each from -4 to 3"):
        Taps(model, (4,))


def test_missing_pixels_are_left_out():
    values = torch.rand(1, 4, 8, 8)
    values[..., :4, :4] = torch.nan
    encoded = images(cls_token=False).encode(values)
    assert encoded.real.tolist() == [[False, True, True, True]]
    assert bool(torch.isfinite(encoded.tokens).all())


def test_corners_lie_half_an_image_from_the_centre():
    (corners,) = footprints_deg(torch.tensor([[60.0, 24.0]]), 2000.0, 3000.0).numpy()
    north, east = 1000.0 / METRES_PER_DEGREE, 1500.0 / METRES_PER_DEGREE / np.cos(np.deg2rad(60.0))
    expected = [(24 - east, 60 + north), (24 + east, 60 + north), (24 + east, 60 - north), (24 - east, 60 - north)]
    np.testing.assert_allclose(corners, expected, rtol=0, atol=1e-9)


def test_dates():
    year, day = torch.tensor([[2020.0, torch.nan]]), torch.tensor([[365.0, 3.0]])
    assert known_time(year, day).tolist() == [[[1.0, 2020.0, 365.0], [0.0, 0.0, 0.0]]]


@pytest.mark.parametrize(("year", "day"), [(2020.0, -1.0), (2020.0, 366.0), (188.0, 2018.0)])
def test_bad_dates(year: float, day: float):
    with pytest.raises(ValueError, match=f"a date is year {year:g}, day of year {day:g}; expected a year, then a day from 0 to 365"):
        known_time(torch.tensor([[year]]), torch.tensor([[day]]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gsd_m": -10.0}, "gsd_m is -10.0"),
        ({"bands": ("B02", "B99")}, "bands B02, B99 are not together"),
        ({"patch": 8}, "with patch 8 is not known"),
    ],
)
def test_bad_choices(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        images(**options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({"optical": torch.zeros(1, 4, 8, 8)},), "images are dict"),
        ((torch.zeros(1, 3, 8, 8),), r"images are \(1, 3, 8, 8\); expected \(B, 4, H, W\) or \(B, 4, T, H, W\) for B02, B03, B04, B08"),
        ((torch.zeros(1, 4, 8, 8), torch.zeros(1, 2, 3)), r"time is \(1, 2, 3\); expected \(1, 1, 3\)"),
        ((torch.zeros(1, 4, 8, 8), None, torch.full((1, 2), torch.nan)), "finite latitude and longitude"),
        ((torch.full((1, 4, 8, 8), 3000.0),), "raw digital numbers"),
    ],
)
def test_bad_images(arguments: tuple, said: str):
    with pytest.raises(ValueError, match=said):
        images().encode(*arguments)


@pytest.mark.parametrize("numbers", [[], [4], [-5]])
def test_bad_layers(numbers: list[int]):
    with pytest.raises(ValueError, match="expected at least one, each from -4 to 3: the encoder has 4 blocks"):
        images().blocks(numbers)


def test_layers_are_counted_from_either_end():
    assert images().blocks(None) == [0, 1, 2, 3]
    assert images().blocks([1, -1]) == [1, 3]
