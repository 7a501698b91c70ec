"""The exported encoder, used as a stranger would: names, units, gaps, missing bands."""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.data.dataset import Dataset  # noqa: E402
from rsfm_jax.export.parity import load_modeling  # noqa: E402
from tests.helpers import records  # noqa: E402

_RGBN = ["B02", "B03", "B04", "B08"]


@pytest.fixture(scope="module")
def model(exported: pathlib.Path) -> Any:
    torch.set_grad_enabled(False)
    yield load_modeling(exported).RSFMEncoder.from_folder(exported)
    torch.set_grad_enabled(True)


@pytest.fixture
def chip(tiny_path: pathlib.Path, tiny_dataset: Dataset) -> dict[str, Any]:
    """A Sentinel-2 member of two examples, in reflectance."""
    rows = records(tiny_path, "series")[:2]
    values = np.stack([row["pixels_0"] * row["scale_0"] + row["offset_0"] for row in rows]).transpose(0, 3, 1, 2)
    time = torch.tensor([[1.0, 2018.0, 188.0]] * 2)
    return {"sensor": "sentinel2_l3a", "bands": _RGBN, "values": torch.tensor(values, dtype=torch.float32), "gsd_m": 10.0, "time": time}


def panchromatic(**more: Any) -> dict[str, Any]:
    values = 0.1 + 0.05 * torch.rand(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    return {"sensor": "landsat8_l1", "bands": ["B8"], "values": values, "gsd_m": 15.0} | more


def close(ours: Any, theirs: Any, atol: float = 1e-5) -> bool:
    return bool(torch.allclose(ours, theirs, atol=atol))


def test_shapes(model, chip):
    out = model([chip, panchromatic()], return_layers=True)
    assert out.tokens.shape == (2, 16 + 20, 48)
    assert [tuple(grid.shape) for grid in out.grids] == [(2, 48, 4, 4), (2, 48, 4, 5)]
    assert close(out.grids[1][:, :, 3, 4], out.tokens[:, -1])
    assert close(out.pooled, out.tokens.mean(dim=1))
    assert len(out.layers) == 2
    assert close(model.norm(out.layers[-1]), out.tokens)
    assert out.real.all()


def test_the_order_of_the_bands_is_given_by_name(model, chip):
    order = [2, 0, 3, 1]
    swapped = chip | {"bands": [_RGBN[i] for i in order], "values": chip["values"][:, order]}
    assert close(model([swapped]).tokens, model([chip]).tokens)
    assert not close(model([chip | {"bands": swapped["bands"]}]).tokens, model([chip]).tokens, 1e-3)


def test_a_band_left_out_is_a_band_at_its_mean(model, chip):
    three = [0, 1, 3]
    fewer = model([chip | {"bands": [_RGBN[i] for i in three], "values": chip["values"][:, three]}]).tokens
    slot = model.find_slot("sentinel2_l3a", _RGBN)
    values = chip["values"].clone()
    values[:, 2] = slot["bands"][2]["mean"]  # zero after the normalisation
    assert close(fewer, model([chip | {"values": values}]).tokens)


def test_what_is_not_valid_is_never_read(model, chip):
    valid = torch.rand(chip["values"].shape, generator=torch.Generator().manual_seed(1)) < 0.8
    valid[:, :, :4, :4] = False  # the first patch wholly
    told = model([chip | {"valid": valid}])
    found = model([chip | {"values": torch.where(valid, chip["values"], torch.nan), "valid": valid}])
    assert torch.equal(told.tokens, found.tokens)
    assert torch.isfinite(found.tokens).all()
    assert found.real[:, 0].tolist() == [False, False]
    assert found.real[:, 1:].all()
    assert close(found.pooled, found.tokens[:, 1:].mean(dim=1))


def test_a_member_without_observation_changes_nothing_in_the_others(model, chip):
    alone = model([chip])
    nothing = torch.full((2, 1, 16, 20), torch.nan)
    empty = panchromatic(values=nothing, valid=torch.isfinite(nothing))
    beside = model([chip, empty])
    assert close(beside.tokens[:, :16], alone.tokens)
    assert close(beside.pooled, alone.pooled)
    assert not close(model([chip, panchromatic()]).tokens[:, :16], alone.tokens, 1e-4)


def test_gsd_is_a_centred_grid(model, chip):
    grid = torch.tensor([[-80.0, 80.0, 10.0, 10.0]]).expand(2, 4)
    member = {name: value for name, value in chip.items() if name != "gsd_m"}
    assert close(model([member | {"grid_m": grid}]).tokens, model([chip]).tokens)
    assert not close(model([member | {"grid_m": grid + torch.tensor([40.0, 0, 0, 0])}]).tokens, model([chip]).tokens, 1e-3)


def test_a_date_that_is_not_given_is_unknown(model, chip):
    without = {name: value for name, value in chip.items() if name != "time"}
    unknown = model([without]).tokens
    assert close(unknown, model([chip | {"time": torch.tensor([[0.0, 1999.0, 3.0]] * 2)}]).tokens)
    assert not close(unknown, model([chip]).tokens, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensor": "sentinel2_l2a"}, "sensor 'sentinel2_l2a' with patch any is not known.*sentinel2_l3a"),
        ({"patch": 16}, "'sentinel2_l3a' with patch 16 is not known"),
        ({"bands": ["B02", "B03", "B04", "B11"]}, "B11 are not together in one group; the groups are: B02, B03, B04, B08"),
        ({"bands": ["B02", "B03"]}, r"values have shape \(2, 4, 16, 16\), expected \(B, 2, H, W\)"),
        ({"gsd_m": None}, "needs gsd_m"),
        ({"gsd_m": -3.0}, "needs gsd_m"),
    ],
)
def test_wrong_input_is_named(model, chip, change, message):
    with pytest.raises(ValueError, match=message):
        model([chip | change])


def test_a_size_that_is_no_multiple_of_the_patch(model, chip):
    with pytest.raises(ValueError, match="values are 14 x 16 pixels; both must be multiples of the patch, 4"):
        model([chip | {"values": chip["values"][:, :, :14]}])


def test_values_without_a_number_must_be_marked(model, chip):
    values = chip["values"].clone()
    values[0, 1, :4] = torch.nan
    with pytest.raises(ValueError, match=r"3\.1% of the values are NaN or infinite and not marked .* valid=torch\.isfinite\(values\)"):
        model([chip | {"values": values}])
    wrong = torch.isfinite(values)
    wrong[0, 1, 0, 0] = True
    with pytest.raises(ValueError, match="not marked as missing"):
        model([chip | {"values": values, "valid": wrong}])
    assert torch.isfinite(model([chip | {"values": values, "valid": torch.isfinite(values)}]).tokens).all()
    with pytest.raises(ValueError, match=r"valid has shape \(2, 16, 16\), values have \(2, 4, 16, 16\)"):
        model([chip | {"valid": torch.ones(2, 16, 16, dtype=torch.bool)}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: (x * 1e4 + 1000).round(),
            r"'sentinel2_l3a', band 'B02': 100% .* outside \[-0.2, 2\] reflectance .* raw .*, here 0.0001 \* DN \+ 0",
        ),
        (lambda x: (x * 255).round() + 3, "an 8-bit picture"),
        (lambda x: x * 100, "in per cent"),
        (lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True), "normalised already"),
        (lambda x: (x * 255).to(torch.uint8), "values are torch.uint8, .* whole numbers are raw digital numbers or an 8-bit picture"),
        (lambda x: (x * 1e4).to(torch.int16), "values are torch.int16"),
    ],
)
def test_values_in_another_unit(model, chip, change, message):
    with pytest.raises(ValueError, match=message):
        model([chip | {"values": change(chip["values"])}])


def band(name: str, unit: str, mean: float, std: float, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "mean": mean, "std": std, "valid_range": (low, high), "dn_scale": 1.0, "dn_offset": 0.0}


def test_linear_power_of_a_radar(exported):
    check, radar = load_modeling(exported).check_values, [band("VV", "dB", -11.0, 4.0, -60.0, 40.0)]
    decibels = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 3 - 11
    everywhere = torch.ones_like(decibels, dtype=torch.bool)
    check("sentinel1_grd", radar, decibels, everywhere)
    with pytest.raises(ValueError, match=r"band 'VV': no value is negative .* linear power\? give 10 \* log10 of it"):
        check("sentinel1_grd", radar, 10 ** (decibels / 10), everywhere)
    check("sentinel1_grd", radar, 10 ** (decibels / 10), torch.zeros_like(everywhere))  # nothing was observed


def test_bands_in_another_order(exported):
    """Vegetation: the near infrared is far from all visible bands, which are near each other and can't be told apart."""
    check = load_modeling(exported).check_values
    statistics = {"B02": (0.05, 0.02), "B03": (0.07, 0.02), "B04": (0.05, 0.03), "B08": (0.30, 0.06)}
    bands = [band(name, "reflectance", *both, -0.2, 2.0) for name, both in statistics.items()]
    values = torch.tensor([0.05, 0.08, 0.06, 0.28])[None, :, None, None].expand(2, 4, 16, 16)
    everywhere = torch.ones_like(values, dtype=torch.bool)
    for order in ((0, 1, 2, 3), (2, 1, 0, 3)):
        check("sentinel2_l2a", bands, values[:, list(order)], everywhere)
    with pytest.raises(ValueError, match="what was given as B04 looks like B08, and the other way round; are the bands in another order"):
        check("sentinel2_l2a", bands, values[:, [0, 1, 3, 2]], everywhere)
    check("sentinel2_l2a", bands, values + 0.6, everywhere)  # snow: far from training, in no other order nearer


def test_a_chip_of_few_patches_is_refused_where_training_saw_more(model, chip):
    with pytest.raises(ValueError, match="values are 12 x 16 pixels; features of less than 16 x 16 mean little"):
        model([chip | {"values": chip["values"][:, :, :12]}])


@pytest.fixture
def copy(exported: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(exported, tmp_path / "copy")


def test_weights_that_were_changed_are_refused(copy: pathlib.Path):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: its SHA-256 is .* config\.json expects"):
        load_modeling(copy).RSFMEncoder.from_folder(copy)


def test_another_format_is_refused(copy: pathlib.Path):
    description = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(description | {"format_version": 1}))
    with pytest.raises(ValueError, match="format_version is 1, this file reads 2"):
        load_modeling(copy).RSFMEncoder.from_folder(copy)


_FOOTPRINT = torch.tensor([[[1.35, 43.6], [1.352, 43.6], [1.352, 43.598], [1.35, 43.598]]] * 2, dtype=torch.float64)


def test_the_place_matters_and_an_unknown_one_is_a_token_of_its_own(model, chip):
    here, nowhere = model([chip], _FOOTPRINT).tokens, model([chip]).tokens
    null_island = model([chip], torch.zeros(2, 4, 2, dtype=torch.float64)).tokens
    assert not close(here, nowhere, 1e-3)
    assert not close(null_island, nowhere, 1e-3)


def test_a_place_that_is_not_on_earth_is_refused(model, chip):
    for corner in ([1.35, 91.0], [181.0, 43.6], [float("nan"), 43.6]):
        footprint = _FOOTPRINT.clone()
        footprint[0, 0] = torch.tensor(corner)
        with pytest.raises(ValueError, match="latitudes within 90 degrees, longitude first"):
            model([chip], footprint)


def test_geosot_bits_are_those_of_training(exported: pathlib.Path):
    from rsfm_jax.geo import geosot_bits

    corners = np.random.default_rng(0).uniform([-180, -90], [180, 90], (32, 4, 2))
    ours = np.stack([geosot_bits(c) for c in corners])
    np.testing.assert_array_equal(load_modeling(exported).geosot_bits(torch.from_numpy(corners)).numpy(), ours)
