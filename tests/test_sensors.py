import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.sensors import SENSORS, get_sensor

EVERY_BAND = [pytest.param(sensor, band, id=f"{sensor.name}-{band.name}") for sensor in SENSORS.values() for band in sensor.bands.values()]


@pytest.mark.parametrize(
    ("sensor", "band", "wavelength_nm", "gsd_m", "unit"),
    [
        ("sentinel2_l1c", "B01", 442.7, 60, "reflectance"),
        ("sentinel2_l1c", "B10", 1373.5, 60, "reflectance"),
        ("sentinel2_l2a", "B04", 664.6, 10, "reflectance"),
        ("sentinel2_l2a", "B8A", 864.7, 20, "reflectance"),
        ("sentinel2_l3a", "B12", 2202.4, 20, "reflectance"),
        ("landsat5_l2", "B4", 830, 30, "reflectance"),
        ("landsat7_l1", "B8", 710, 15, "dn"),
        ("landsat7_l1", "B6_VCID_1", 11450, 60, "dn"),
        ("landsat8_l1", "B5", 865, 30, "reflectance"),
        ("landsat8_l1", "B8", 589.5, 15, "reflectance"),
        ("landsat9_l2", "B2", 482, 30, "reflectance"),
        ("landsat9_l2", "ST_B10", 10895, 30, "kelvin"),
        ("naip", "N", 845, 0.6, "dn"),
        ("worldview2_ms", "Y", 605, 2, "dn"),
        ("worldview3_pan", "P", 625, 0.3, "dn"),
        ("geoeye1_ms", "R", 672.5, 2, "dn"),
        ("landsat4_l2", "B4", 830, 30, "reflectance"),
        ("hls_l30", "B05", 865, 30, "reflectance"),
        ("hls_l30", "B10", 10895, 30, "kelvin"),
        ("hls_s30", "B8A", 864.7, 30, "reflectance"),
        ("sentinel1_grd", "VH", None, 10, "dB"),
        ("dem", "elevation", None, 30, "m"),
    ],
)
def test_bands_have_the_published_figures(sensor, band, wavelength_nm, gsd_m, unit):
    found = get_sensor(sensor).band(band)
    assert (found.wavelength_nm, found.gsd_m, found.unit) == (wavelength_nm, gsd_m, unit)


@pytest.mark.parametrize(
    ("sensor", "band", "dn", "value"),
    [
        ("sentinel2_l2a", "B04", 10000, 1.0),
        ("landsat8_l1", "B4", 10000, 0.1),
        ("landsat8_l2", "B4", 20000, 0.35),
        ("landsat9_l2", "ST_B10", 44177, 300.0),
        ("hls_s30", "B8A", 10000, 1.0),
        ("hls_l30", "B10", 2685, 300.0),
        ("landsat7_l1", "B3", 77, 77.0),
        ("dem", "elevation", 812, 812.0),
    ],
)
def test_digital_numbers_become_the_published_values(sensor, band, dn, value):
    found = get_sensor(sensor).band(band)
    assert found.scale * dn + found.offset == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(("sensor", "band"), EVERY_BAND)
def test_figures_are_plausible(sensor, band):
    assert sensor.bands[band.name] is band
    assert 0.05 <= band.gsd_m <= 120
    assert band.scale > 0
    assert band.valid_range[0] < band.valid_range[1]
    if band.kind in ("optical", "thermal"):
        low, high = (400, 2500) if band.kind == "optical" else (8000, 14000)
        assert low < band.wavelength_nm < high
        assert 5 < band.bandwidth_nm < band.wavelength_nm
        assert band.polarisation is None
    else:
        assert band.wavelength_nm is None
        assert band.bandwidth_nm is None
        assert (band.polarisation == band.name) == (band.kind == "sar")


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_display_bands_exist_and_run_from_red_to_blue(sensor):
    shown = [sensor.band(name).wavelength_nm for name in sensor.display]
    assert len(shown) in (1, 3)
    assert len(shown) == 1 or shown == sorted(shown, reverse=True)


def test_only_sentinel2_products_with_baselines_ask_for_the_offset():
    assert {name for name, sensor in SENSORS.items() if sensor.needs_baseline_offset} == {"sentinel2_l1c", "sentinel2_l2a"}


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(InputError, match=r"'sentinel2_l2b' is not in the registry.*did you mean 'sentinel2_l2a'\?"):
        get_sensor("sentinel2_l2b")
    with pytest.raises(InputError, match=r"'sentinel2_l2a' has no band 'B8a' \(it has B01, .*did you mean 'B8A'\?"):
        get_sensor("sentinel2_l2a").band("B8a")
    with pytest.raises(InputError, match=r"in the registry \(rsfm_jax/sensors.py has .*\)$"):
        get_sensor("quux")
