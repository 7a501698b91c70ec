"""Plans of windows and the weights of their blend."""

import numpy as np
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.windows import WindowPlan, blend_weights

SIZES = [
    (100, 100, 4, 32, 8),
    (97, 201, 4, 32, 8),
    (33, 31, 4, 32, 24),
    (10, 50, 4, 16, 0),
    (5, 3, 4, 16, 4),
    (64, 64, 16, 64, 16),
    (1, 1, 1, 1, 0),
]


@pytest.mark.parametrize("size", SIZES)
def test_windows_cover_every_pixel_and_stay_on_the_grid(size):
    plan = WindowPlan(*size)
    height, _, patch, side, overlap = size
    assert plan.padded_height == max(side, -(-height // patch) * patch)
    covered = np.zeros((plan.padded_height, plan.padded_width), int)
    for row in plan.row_starts:
        for column in plan.column_starts:
            assert row % patch == 0
            assert column % patch == 0
            covered[row : row + side, column : column + side] += 1
            assert row + side <= plan.padded_height
            assert column + side <= plan.padded_width
    assert covered.min() >= 1
    for starts in (plan.row_starts, plan.column_starts):
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (steps <= side - overlap).all()
        assert (steps[:-1] == side - overlap).all()


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_finished_when_no_later_window_covers_them(size):
    plan = WindowPlan(*size)
    last_cover = np.zeros(plan.padded_height, int)
    for k, row in enumerate(plan.row_starts):
        last_cover[row : row + plan.side] = k
    for k in range(len(plan.row_starts)):
        assert plan.finished_after(k) == (last_cover <= k).sum()


@pytest.mark.parametrize(("side", "overlap"), [(8, 0), (8, 2), (8, 4), (32, 7), (8, 6), (1, 0)])
def test_weights_are_positive_and_symmetric_and_neighbours_sum_to_one(side, overlap):
    weights = blend_weights(side, overlap)
    assert weights.shape == (side, side)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1])
    np.testing.assert_allclose(weights, weights.T)
    axis = np.sqrt(np.diag(weights))
    np.testing.assert_allclose(weights, np.outer(axis, axis), rtol=1e-5)
    np.testing.assert_allclose(axis[overlap : side - overlap], 1)
    if 0 < overlap <= side // 2:
        np.testing.assert_allclose(axis[side - overlap :] + axis[:overlap], 1, rtol=1e-5)
        assert (np.diff(axis[:overlap]) > 0).all()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 10, 4, 16, 4), "raster of 0 x 10 pixels"),
        ((10, 10, 4, 18, 4), "window of 18 pixels: must be a positive multiple of the patch, 4"),
        ((10, 10, 4, 0, 0), "window of 0 pixels"),
        ((10, 10, 4, 16, 16), "overlap of 16 pixels: .* less than the window, 16"),
        ((10, 10, 4, 16, 6), "overlap of 6 pixels: must be a multiple of the patch, 4"),
        ((10, 10, 4, 16, -4), "overlap of -4 pixels"),
    ],
)
def test_wrong_sizes_are_named(size, message):
    with pytest.raises(InputError, match=message):
        WindowPlan(*size)
