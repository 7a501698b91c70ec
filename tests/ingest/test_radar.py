"""Radar to decibels as stated, against 10 log10 of the power computed here."""

import math

import numpy as np
import pytest
import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import ingest, manifest, one_slot, open_one, records, scene, valid_pixels, write_geotiff, write_scenes_yaml

LAYOUT = one_slot("sentinel1_grd", ("VV",), pixels=16)


def _power(size=64):
    return np.random.default_rng(0).gamma(4, 0.02, (size, size)).astype(np.float32)


def _grd(**fields):
    return scene(**({"sensor": "sentinel1_grd", "bands": {"VV": "vv.tif"}} | fields))


def _ingested(tmp_path, values, **fields):
    """The pixels and valid bits of a dataset of one chip, and the scene's row."""
    folder = tmp_path / "scenes"
    write_geotiff(folder / "vv.tif", values)
    layout = one_slot("sentinel1_grd", ("VV",), pixels=values.shape[-1])
    dataset, summary = ingest(write_scenes_yaml(folder, _grd(**fields)), layout)
    (record,), (row,) = records(dataset, "sentinel1_grd"), manifest(dataset, "scene")
    assert summary["layouts"][0]["dtypes"] == ["float32"]
    assert summary["statistics"]["sentinel1_grd"]["VV"]["unit"] == "dB"
    assert (record["scale_0"].tolist(), record["offset_0"].tolist()) == ([1.0], [0.0])
    return record["pixels_0"][..., 0], valid_pixels(record, 0)[..., 0], row["bands"]["VV"]


@pytest.mark.parametrize("place", ["scene", "band"])
@pytest.mark.parametrize("unit", ["power", "amplitude"])
def test_linear_values_become_decibels(tmp_path, unit, place):
    power = _power()
    power[:2] = 0  # no power, no decibels
    stored = power if unit == "power" else np.sqrt(power)
    stored[5, 5:9] = np.nan, -0.25, np.inf, 0
    fields = {"unit": unit} if place == "scene" else {"bands": {"VV": {"file": "vv.tif", "unit": unit}}}
    pixels, valid, row = _ingested(tmp_path, stored, **fields)
    expected = np.ones((64, 64), bool)
    expected[:2] = expected[5, 5:9] = False
    assert np.array_equal(valid, expected)
    assert pixels[expected] == pytest.approx(10 * np.log10(power[expected].astype(np.float64)), abs=1e-4)
    assert (pixels[~expected] == 0).all()
    assert row["conversion"] == f"unit: {unit}"


def test_the_scale_gives_the_stated_unit_before_the_conversion(tmp_path):
    """Amplitudes as uint16 with a calibration factor: ALOS mosaics are 20 log10(DN) - 83."""
    amplitude = np.random.default_rng(1).integers(1000, 9000, (32, 32)).astype(np.uint16)
    amplitude[0, 0] = 0
    pixels, valid, _ = _ingested(tmp_path, amplitude, unit="amplitude", scale=10 ** (-83 / 20), offset=0)
    assert valid.sum() == 32 * 32 - 1
    assert pixels[valid] == pytest.approx(20 * np.log10(amplitude[valid].astype(np.float64)) - 83, abs=1e-4)


def test_nodata_is_that_of_the_stored_numbers(tmp_path):
    power = _power(32)
    power[3, :7] = 77
    _, valid, row = _ingested(tmp_path, power, unit="power", nodata=77)
    assert valid.sum() == 32 * 32 - 7
    assert not valid[3, :7].any()
    assert row["nodata"] == 77


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_values_become_decibels(tmp_path, dtype):
    rng = np.random.default_rng(2)
    parts = rng.integers(-300, 300, (2, 32, 32))
    values = (parts[0] + 1j * parts[1]).astype(np.complex64)
    values[0, :3] = 0
    folder = tmp_path / "scenes"
    profile = {"driver": "GTiff", "crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.8e6)}
    folder.mkdir()
    with rasterio.open(folder / "slc.tif", "w", height=32, width=32, count=1, dtype=dtype, **profile) as dataset:
        dataset.write(values.astype(np.complex128 if dtype == "complex128" else np.complex64), 1)
    bands = {"VV": {"file": "slc.tif", "complex": "dB", "scale": 0.01}}
    out, _ = ingest(write_scenes_yaml(folder, _grd(bands=bands)), one_slot("sentinel1_grd", ("VV",), pixels=32))
    (record,) = records(out, "sentinel1_grd")
    valid = valid_pixels(record, 0)[..., 0]
    expected = parts[0] ** 2 + parts[1] ** 2 > 0
    expected[0, :3] = False
    assert np.array_equal(valid, expected)
    decibels = 10 * np.log10((np.abs(values.astype(np.complex128)) ** 2)[expected]) - 40  # 0.01 squared
    assert record["pixels_0"][..., 0][expected] == pytest.approx(decibels, abs=1e-4)
    assert record["pixels_0"].dtype == np.float32
    assert manifest(out, "scene")[0]["bands"]["VV"]["conversion"] == "complex: dB"


@pytest.mark.parametrize(("word", "of"), [("amplitude", np.abs), ("power", lambda z: np.abs(z) ** 2)])
def test_complex_values_of_a_band_in_digital_numbers(tmp_path, word, of):
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(16, 16)) + 1j * rng.normal(size=(16, 16))).astype(np.complex64)
    write_geotiff(tmp_path / "slc.tif", values)
    opened = open_one(tmp_path, sensor="naip", bands={"R": {"file": "slc.tif", "complex": word}})
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_window(opened, ("R",), 0, 0, 16)
    assert valid_HWC.all()
    assert dn_HWC[..., 0] == pytest.approx(of(values), rel=1e-5)


def test_a_converted_band_beside_one_as_acquired(tmp_path):
    power, decibels = _power(32), (10 * np.log10(_power(32))).astype(np.float32) - 6
    write_geotiff(tmp_path / "scenes" / "vv.tif", power)
    write_geotiff(tmp_path / "scenes" / "vh.tif", decibels)
    bands = {"VV": {"file": "vv.tif", "unit": "power"}, "VH": {"file": "vh.tif", "unit": "dB"}}
    folder = write_scenes_yaml(tmp_path / "scenes", _grd(bands=bands))
    out, _ = ingest(folder, Layout("pair", (Slot("sentinel1_grd", ("VH", "VV"), 10.0, 32, 4),)))
    (record,) = records(out, "pair")
    assert np.array_equal(record["pixels_0"][..., 0], decibels)
    assert record["pixels_0"][..., 1] == pytest.approx(decibels + 6, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "likely", "median"),
    [(_power(), "power", "0.07"), (np.random.default_rng(0).integers(40, 900, (64, 64)).astype(np.uint16), "amplitude", "4")],
)
def test_linear_values_that_nobody_states_are_refused(tmp_path, values, likely, median):
    write_geotiff(tmp_path / "scenes" / "vv.tif", values)
    message = (
        rf"scenes\.yaml: scene 'one', band 'VV': the values of \S*vv\.tif should be decibels, but none is negative \(they go from .* "
        rf"median {median}\S*\), as in linear {likely}; state unit: power or unit: amplitude in scenes\.yaml, or unit: dB if they are"
    )
    with pytest.raises(InputError, match=message):
        ingest(write_scenes_yaml(tmp_path / "scenes", _grd()), LAYOUT)


def test_stated_decibels_are_believed(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "vv.tif", _power() + 1)  # a city, all of it above 0 dB
    _, summary = ingest(write_scenes_yaml(folder, _grd(unit="dB")), LAYOUT)
    assert 1 < summary["statistics"]["sentinel1_grd"]["VV"]["mean"] < 2


def test_decibels_as_scaled_integers_need_no_statement(tmp_path):
    stored = np.random.default_rng(0).integers(7000, 9800, (64, 64)).astype(np.uint16)
    write_geotiff(tmp_path / "scenes" / "vv.tif", stored)
    _, summary = ingest(write_scenes_yaml(tmp_path / "scenes", _grd(scale=0.01, offset=-100)), LAYOUT)
    assert -30 < summary["statistics"]["sentinel1_grd"]["VV"]["mean"] < -2


SLC, REAL = np.ones((16, 16), np.complex64), np.full((16, 16), -12, np.float32)


@pytest.mark.parametrize(
    ("values", "fields", "message"),
    [
        (SLC, {}, r"vv\.tif holds complex64 values, as single-look complex radar images do; state complex: dB in scenes\.yaml"),
        (SLC, {"complex": "power"}, "states complex: power, but the band is in dB; state complex: dB"),
        (SLC, {"complex": "dB", "unit": "power"}, "complex numbers take neither a unit nor an offset"),
        (SLC, {"complex": "phase"}, "field 'complex' is 'phase', it must be one of dB, power, amplitude"),
        (REAL, {"complex": "dB"}, r"states complex: dB, but \S*vv\.tif holds float32 values; leave it out, or use unit"),
        (REAL, {"unit": "decibel"}, "field 'unit' is 'decibel', it must be one of dB, power, amplitude"),
        (REAL, {"unit": ["dB"]}, r"field 'unit' is \['dB'\], it must be one of"),
        (REAL, {"sensor": "dem", "bands": {"elevation": "vv.tif"}, "unit": "power"}, "is for radar bands in dB; this band is in m"),
        (SLC, {"sensor": "dem", "bands": {"elevation": "vv.tif"}}, "state complex: amplitude or complex: power"),
        (SLC, {"sensor": "dem", "bands": {"elevation": "vv.tif"}, "complex": "dB"}, "states complex: dB, but the band is in m"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, values, fields, message):
    write_geotiff(tmp_path / "vv.tif", values)
    with pytest.raises(InputError, match=message) as caught:
        open_one(tmp_path, **_grd(**fields))
    assert "scenes.yaml: scene 'one', band" in str(caught.value)


def test_no_power_is_not_a_very_small_one(tmp_path):
    power = np.array([[0.0, 1e-30], [1.0, 1e-3]], np.float32)
    write_geotiff(tmp_path / "vv.tif", power)
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_window(open_one(tmp_path, **_grd(unit="power")), ("VV",), 0, 0, 2)
    assert valid_HWC[..., 0].tolist() == [[False, True], [True, True]]
    assert dn_HWC[..., 0].ravel().tolist() == pytest.approx([0, -300, 0, -30], abs=1e-4)
    assert math.isfinite(dn_HWC.sum())
