import json

import numpy as np
import pytest

from rsfm_jax.curate.scaling import fit_scaling, scaling_from_dict

NAMES = {"a": "spectral", "b": "spectral", "c": "texture", "d": "metadata"}
WEIGHTS = {"spectral": 1.0, "texture": 0.5, "metadata": 2.0}


@pytest.fixture
def descriptors() -> np.ndarray:
    return np.random.default_rng(0).normal([5.0, -2.0, 100.0, 0.0], [1.0, 0.1, 30.0, 2.0], (400, 4)).astype(np.float32)


def test_points_are_z_scores_with_their_groups_weights(descriptors: np.ndarray):
    points = fit_scaling(descriptors, NAMES, WEIGHTS, 100.0).points(descriptors)
    assert points.dtype == np.float32
    for f, weight in enumerate((1 / np.sqrt(2), 1 / np.sqrt(2), 0.5, 2.0)):
        column = descriptors[:, f].astype(np.float64)
        mad = np.sort(np.abs(column - np.median(column)))[199:201].mean()
        np.testing.assert_allclose(points[:, f], (column - np.median(column)) / (1.4826 * mad) * weight, rtol=1e-5, atol=1e-6)
        assert points[:, f].std() == pytest.approx(weight, rel=0.1)  # of a normal distribution, the standard deviation


def test_an_outlier_moves_nothing_but_itself_and_is_cut(descriptors: np.ndarray):
    before = fit_scaling(descriptors, NAMES, WEIGHTS, 5.0)
    outlier = descriptors.copy()
    outlier[7, 2] = 1e9
    after = fit_scaling(outlier, NAMES, WEIGHTS, 5.0)
    others = np.arange(400) != 7
    np.testing.assert_allclose(after.points(outlier)[others], before.points(descriptors)[others], atol=0.02)
    assert after.points(outlier)[7, 2] == pytest.approx(5.0 * 0.5)
    assert after.clipped(outlier)["c"] == before.clipped(descriptors).get("c", 0) + 1


def test_unknown_values_lie_at_the_median_and_have_no_say(descriptors: np.ndarray):
    holed = descriptors.copy()
    holed[::3, 1] = np.nan
    scaling = fit_scaling(holed, NAMES, WEIGHTS, 5.0)
    assert (scaling.points(holed)[::3, 1] == 0).all()
    assert scaling.median[1] == pytest.approx(np.median(descriptors[np.arange(400) % 3 != 0, 1]))


def test_entries_that_do_not_vary_or_are_never_known_take_no_part(descriptors: np.ndarray):
    descriptors[:, 0], descriptors[:, 3] = 4.0, np.nan
    scaling = fit_scaling(descriptors, NAMES, WEIGHTS, 5.0)
    assert scaling.weight.tolist() == [0.0, 1.0, 0.5, 0.0]  # b is now the only one of its group
    assert scaling.points(descriptors).shape == (400, 2)


def test_a_flag_that_is_set_for_few_still_tells_them_apart(descriptors: np.ndarray):
    descriptors[:, 3] = np.arange(400) % 10 == 0  # the median absolute deviation is 0
    scaling = fit_scaling(descriptors, NAMES, WEIGHTS, 100.0)
    assert scaling.deviation[3] == pytest.approx(1.2533 * 0.1)
    assert np.unique(scaling.points(descriptors)[:, 3]).size == 2


def test_where_nothing_varies_all_points_are_one():
    same = np.ones((5, 4), np.float32)
    assert fit_scaling(same, NAMES, WEIGHTS, 5.0).points(same).tolist() == [[0.0]] * 5


def test_a_scaling_comes_back_from_json(descriptors: np.ndarray):
    descriptors[:, 0] = np.nan
    scaling = fit_scaling(descriptors, NAMES, WEIGHTS, 5.0)
    again = scaling_from_dict(json.loads(json.dumps(scaling.to_dict(), allow_nan=False)), 5.0)
    np.testing.assert_array_equal(again.points(descriptors), scaling.points(descriptors))
    assert again.names == scaling.names
