"""Images for people: bands, stretch, and pixels without an observation."""

import numpy as np
import pytest

from rsfm_jax.display import shown_channels, stretch_limits, stretched


@pytest.mark.parametrize(
    ("sensor", "bands", "shown"),
    [
        ("sentinel2_l2a", ("B08", "B02", "B03", "B04"), ["B04", "B03", "B02"]),
        ("sentinel2_l2a", ("B05", "B06", "B07", "B8A", "B11", "B12"), ["B12", "B8A", "B05"]),
        ("landsat8_l1", ("B4", "B5", "B6"), ["B6", "B5", "B4"]),
        ("sentinel1_grd", ("VH", "VV"), ["VV"]),
        ("sentinel1_grd", ("VH",), ["VH"]),
        ("sentinel2_l1c", ("B01", "B09"), ["B01"]),
    ],
)
def test_shown_bands(sensor, bands, shown):
    assert [bands[c] for c in shown_channels(sensor, bands)] == shown


def test_the_stretch_is_of_valid_pixels_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (20, 30, 3))
    valid = rng.random((20, 30)) < 0.6
    values[~valid] = 1e6
    limits = stretch_limits(values, valid)
    for c in range(3):
        ordered = np.sort(values[..., c][valid])
        assert (ordered < limits[0, c]).sum() == pytest.approx(0.02 * len(ordered), abs=1)
        assert (ordered > limits[1, c]).sum() == pytest.approx(0.02 * len(ordered), abs=1)
    colours = stretched(values, limits)
    assert colours.min() == 0
    assert colours.max() == 1
    inside = valid & ((values > limits[0]) & (values < limits[1])).all(axis=-1)
    np.testing.assert_allclose(colours[inside] * (limits[1] - limits[0]) + limits[0], values[inside])


def test_one_band_is_grey():
    values = np.arange(6.0).reshape(2, 3, 1)
    colours = stretched(values, np.array([[0.0], [5.0]]))
    assert colours.shape == (2, 3, 3)
    np.testing.assert_allclose(colours, np.repeat(values / 5, 3, axis=-1))


def test_no_valid_pixel():
    np.testing.assert_array_equal(stretch_limits(np.ones((2, 2, 3)), np.zeros((2, 2), bool)), np.zeros((2, 3)))
    assert np.isfinite(stretched(np.ones((2, 2, 1)), np.zeros((2, 1)))).all()
