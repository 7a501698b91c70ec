"""Codes of ground positions against MAE's formula, and against arithmetic by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.nn.positions import GSD_FEATURES, TIME_FEATURES, encode_positions, gsd_features, patch_centres_m, sincos, time_features

UNIT = 10.0


def mae_1d(dim: int, position: np.ndarray) -> np.ndarray:
    """get_1d_sincos_pos_embed_from_grid of facebookresearch/mae."""
    omega = np.arange(dim // 2, dtype=float)
    omega /= dim / 2.0
    omega = 1.0 / 10000**omega
    out = np.einsum("m,d->md", position.reshape(-1), omega)
    return np.concatenate([np.sin(out), np.cos(out)], axis=1)


def mae_2d(dim: int, size: int) -> np.ndarray:
    """get_2d_sincos_pos_embed of facebookresearch/mae: the first half codes the column."""
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    return np.concatenate([mae_1d(dim // 2, columns), mae_1d(dim // 2, rows)], axis=1)


def grid(left: float, top: float, gsd: float) -> jnp.ndarray:
    return jnp.array([[left, top, gsd, gsd]], jnp.float32)


def test_sincos_is_mae_s():
    positions = np.linspace(-40, 40, 17)
    np.testing.assert_allclose(sincos(jnp.asarray(positions), 32), mae_1d(32, positions), atol=2e-5)


def test_codes_of_a_plain_image_are_mae_s():
    # patches of one unit whose centres are at 0, 1, 2, ... units east and south
    centres = patch_centres_m(grid(-UNIT / 2, UNIT / 2, UNIT / 4), 5, 5, 4)
    np.testing.assert_allclose(encode_positions(centres, UNIT, 64)[0], mae_2d(64, 5), atol=1e-5)


def test_centres_by_hand():
    centres = patch_centres_m(jnp.array([[-100.0, 60.0, 10.0, 20.0]]), 2, 3, 2)  # 20 m wide, 40 m high patches
    assert centres[0].tolist() == [[-90, -40], [-70, -40], [-50, -40], [-90, 0], [-70, 0], [-50, 0]]


def test_a_chip_that_lies_elsewhere_in_the_set_moves_all_positions():
    here, there = (patch_centres_m(grid(left, top, 10.0), 4, 4, 4) for left, top in ((-80.0, 80.0), (-50.0, 95.0)))
    np.testing.assert_allclose(there - here, np.broadcast_to([30.0, -15.0], here.shape))
    same_ground = patch_centres_m(grid(-80.0 + 40.0, 80.0, 10.0), 4, 3, 4)  # starts one patch further east
    np.testing.assert_allclose(
        encode_positions(same_ground, UNIT, 32)[0].reshape(4, 3, 32), encode_positions(here, UNIT, 32)[0].reshape(4, 4, 32)[:, 1:]
    )


def test_half_the_gsd_means_four_centres_around_each():
    coarse = patch_centres_m(grid(-80.0, 80.0, 20.0), 2, 2, 4)[0].reshape(2, 2, 2)
    fine = patch_centres_m(grid(-80.0, 80.0, 10.0), 4, 4, 4)[0].reshape(2, 2, 2, 2, 2)
    np.testing.assert_allclose(fine.mean(axis=(1, 3)), coarse)


def test_a_patch_keeps_its_code_when_the_gsd_changes():
    codes = [encode_positions(patch_centres_m(grid(-80.0, 80.0, gsd), 4, 4, patch), UNIT, 32) for gsd, patch in ((10.0, 4), (20.0, 2))]
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-6)


def test_dates():
    dates = jnp.array([[1.0, 2018.0, 100.0], [1.0, 2019.0, 100.0], [1.0, 2018.0, 280.0], [1.0, 2018.0, 100.0 + 365.2425]])
    features = np.asarray(time_features(dates))
    assert features.shape == (4, TIME_FEATURES)
    np.testing.assert_allclose(features[0, :16], mae_1d(16, np.array([18.0]))[0], atol=1e-5)
    np.testing.assert_array_equal(features[0, 16:], features[1, 16:])  # one season
    assert abs(features[0, :16] - features[1, :16]).max() > 0.1
    np.testing.assert_array_equal(features[0, :16], features[2, :16])  # one year
    assert abs(features[0, 16:] - features[2, 16:]).max() > 0.1
    np.testing.assert_allclose(features[0, 16:], features[3, 16:], atol=1e-4)  # the season comes again
    angle = 2 * np.pi * 100.0 / 365.2425 * np.arange(1, 5)
    np.testing.assert_allclose(features[0, 16:], np.concatenate([np.sin(angle), np.cos(angle)]), atol=1e-5)


@pytest.mark.parametrize("gsd", [0.3, 10.0, 60.0])
def test_gsd_is_coded_by_octaves(gsd):
    features = gsd_features(grid(0.0, 0.0, gsd))
    np.testing.assert_allclose(features[0], mae_1d(GSD_FEATURES, np.array([10 * np.log2(gsd)]))[0], atol=1e-4)
