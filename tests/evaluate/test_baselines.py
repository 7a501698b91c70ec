"""Features without training, by hand; what was not observed moves nothing and is counted."""

import numpy as np
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.baselines import raw_pixels, window_statistics


def test_all_observed():
    values = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)
    features, missing = raw_pixels(values)
    np.testing.assert_array_equal(features, values.reshape(5, -1))
    assert missing == 0
    features, _ = window_statistics(values)
    np.testing.assert_allclose(features[:, :3], values.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features[:, 3:], values.std(axis=(2, 3)), rtol=1e-5)


def test_what_was_not_observed_moves_nothing():
    values = np.random.default_rng(0).normal(size=(2, 2, 3, 3)) + 1000
    valid = np.ones((2, 1, 3, 3), bool)
    valid[0, 0, 0] = False
    values[1, 1, 2, 2] = np.nan
    clean, missing = window_statistics(values, valid)
    assert missing == 2 * 3 + 1
    seen = values[0, 1, 1:]
    assert clean[0, [1, 3]] == pytest.approx([seen.mean(), seen.std()], rel=1e-12)
    pixels, missing = raw_pixels(values, valid)
    assert missing == 7
    assert pixels[0, 9:12] == pytest.approx([seen.mean()] * 3)
    assert pixels[1, -1] == pytest.approx(np.nanmean(values[1, 1]))
    values[0, :, 0] = -9999
    np.testing.assert_array_equal(window_statistics(values, valid)[0], clean)
    np.testing.assert_array_equal(raw_pixels(values, valid)[0], pixels)


@pytest.mark.parametrize("features_of", [raw_pixels, window_statistics])
def test_bad_chips_are_refused(features_of):
    values = np.ones((2, 3, 2, 2))
    values[1, 2] = np.nan
    with pytest.raises(InputError, match=f"{features_of.__name__}: 1 bands of chips have no observation, the first is band 2 of chip 1"):
        features_of(values)
    with pytest.raises(InputError, match=r"expected \(N, C, H, W\)"):
        features_of(values[0])
    with pytest.raises(InputError, match=r"valid is bool \(5,\); expected bool like \(2, 3, 2, 2\)"):
        features_of(values, np.ones(5, bool))
    with pytest.raises(InputError, match="valid is float64"):
        features_of(values, np.ones((2, 3, 2, 2)))
