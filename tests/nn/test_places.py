"""Codes of places against the formulas written out."""

import jax.numpy as jnp
import numpy as np

from rsfm_jax.geo import geosot_bits
from rsfm_jax.nn.places import cartesian_features, geosot_features, prithvi_place

_PLACES = np.array([[0.0, 0.0], [90.0, 0.0], [-180.0, 0.0], [30.0, 90.0], [12.0, -90.0], [60.0, 45.0]])


def test_cartesian_is_the_direction_from_the_centre_of_the_earth():
    found = cartesian_features(jnp.asarray(_PLACES, jnp.float32))
    half = np.sqrt(0.5)
    expected = [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [half / 2, half * np.sqrt(0.75), half]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cartesian_does_not_tear_at_the_antimeridian():
    west, east = cartesian_features(jnp.array([[-179.999, 10.0], [179.999, 10.0]]))
    assert abs(west - east).max() < 1e-4


def test_prithvi_codes_latitude_then_longitude():
    found = np.asarray(prithvi_place(jnp.asarray(_PLACES, jnp.float32), 16))
    assert found.shape == (6, 16)
    frequency = 10000.0 ** (-np.arange(4) / 4)
    for row, (lon, lat) in zip(found, _PLACES, strict=True):
        parts = [np.sin(lat * frequency), np.cos(lat * frequency), np.sin(lon * frequency), np.cos(lon * frequency)]
        np.testing.assert_allclose(row, np.concatenate(parts), atol=2e-5)


def test_geosot_features_are_the_bits():
    bits = geosot_bits(np.array([[116.3, 40.1], [116.4, 40.1], [116.4, 40.0], [116.3, 40.0]]))
    found = geosot_features(jnp.asarray(bits[None]))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[0], bits)
    assert 0 < bits.sum() < 256
