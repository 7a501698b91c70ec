"""Codes of ground positions against MAE's formula, and against arithmetic by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.nn.positions import (
    GSD_FEATURES,
    encode_positions,
    gsd_features,
    patch_centres_m,
    patch_indices,
    resize_table,
    sincos,
)

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


def codes(centres_m: jnp.ndarray, dim: int) -> jnp.ndarray:
    """Codes of ground positions, half for each coordinate."""
    return encode_positions(centres_m / UNIT, (dim // 2, dim // 2))


def grid(left: float, top: float, gsd: float) -> jnp.ndarray:
    return jnp.array([[left, top, gsd, gsd]], jnp.float32)


def test_sincos_is_mae_s():
    positions = np.linspace(-40, 40, 17)
    np.testing.assert_allclose(sincos(jnp.asarray(positions), 32), mae_1d(32, positions), atol=2e-5)


def test_codes_of_a_plain_image_are_mae_s():
    # patches of one unit whose centres are at 0, 1, 2, ... units east and south
    centres = patch_centres_m(grid(-UNIT / 2, UNIT / 2, UNIT / 4), 5, 5, 4)
    np.testing.assert_allclose(codes(centres, 64)[0], mae_2d(64, 5), atol=1e-5)


def test_centres_by_hand():
    centres = patch_centres_m(jnp.array([[-100.0, 60.0, 10.0, 20.0]]), 2, 3, 2)  # 20 m wide, 40 m high patches
    assert centres[0].tolist() == [[-90, -40], [-70, -40], [-50, -40], [-90, 0], [-70, 0], [-50, 0]]


def test_a_chip_that_lies_elsewhere_in_the_set_moves_all_positions():
    here, there = (patch_centres_m(grid(left, top, 10.0), 4, 4, 4) for left, top in ((-80.0, 80.0), (-50.0, 95.0)))
    np.testing.assert_allclose(there - here, np.broadcast_to([30.0, -15.0], here.shape))
    same_ground = patch_centres_m(grid(-80.0 + 40.0, 80.0, 10.0), 4, 3, 4)  # starts one patch further east
    np.testing.assert_allclose(codes(same_ground, 32)[0].reshape(4, 3, 32), codes(here, 32)[0].reshape(4, 4, 32)[:, 1:])


def test_half_the_gsd_means_four_centres_around_each():
    coarse = patch_centres_m(grid(-80.0, 80.0, 20.0), 2, 2, 4)[0].reshape(2, 2, 2)
    fine = patch_centres_m(grid(-80.0, 80.0, 10.0), 4, 4, 4)[0].reshape(2, 2, 2, 2, 2)
    np.testing.assert_allclose(fine.mean(axis=(1, 3)), coarse)


def test_a_patch_keeps_its_code_when_the_gsd_changes():
    fine, coarse = (codes(patch_centres_m(grid(-80.0, 80.0, gsd), 4, 4, patch), 32) for gsd, patch in ((10.0, 4), (20.0, 2)))
    np.testing.assert_allclose(fine, coarse, atol=1e-6)


def test_indices_count_columns_then_rows():
    assert patch_indices(2, 3).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    np.testing.assert_allclose(encode_positions(patch_indices(5, 5)[None], (32, 32))[0], mae_2d(64, 5), atol=1e-5)


def test_each_coordinate_has_its_own_width_and_place_in_the_code():
    steps = np.random.default_rng(0).uniform(-20, 20, (2, 5, 3))
    found = encode_positions(jnp.asarray(steps, jnp.float32), (6, 12, 4))
    assert found.shape == (2, 5, 22)
    assert found.dtype == jnp.float32
    for x, (start, dim) in enumerate(((0, 6), (6, 12), (18, 4))):
        expected = mae_1d(dim, steps[..., x]).reshape(2, 5, dim)
        np.testing.assert_allclose(found[..., start : start + dim], expected, atol=1e-5)


def test_a_table_of_the_same_grid_is_taken_as_it_is():
    table = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(resize_table(jnp.asarray(table), 4, 4), table.reshape(16, 3))


def test_a_table_is_interpolated_between_the_centres_of_its_cells():
    row, column = np.mgrid[:4, :4].astype(np.float32)
    plane = jnp.asarray(np.stack([column, row], axis=-1))
    finer = np.asarray(resize_table(plane, 8, 8)).reshape(8, 8, 2)
    np.testing.assert_allclose(finer[1:-1, 1:-1, 0], np.broadcast_to(np.arange(1, 7) / 2 - 0.25, (6, 6)), atol=1e-6)
    np.testing.assert_allclose(finer[1:-1, 1:-1, 1], finer[1:-1, 1:-1, 0].T)
    oblong = np.asarray(resize_table(plane, 2, 4)).reshape(2, 4, 2)
    np.testing.assert_allclose(oblong[..., 0], [[0, 1, 2, 3]] * 2, atol=1e-6)
    np.testing.assert_allclose(oblong[..., 1], [[0.5] * 4, [2.5] * 4], atol=1e-6)


@pytest.mark.parametrize("gsd", [0.3, 10.0, 60.0])
def test_gsd_is_coded_by_octaves(gsd):
    features = gsd_features(grid(0.0, 0.0, gsd))
    np.testing.assert_allclose(features[0], mae_1d(GSD_FEATURES, np.array([10 * np.log2(gsd)]))[0], atol=1e-4)
