import numpy as np
import pytest

from rsfm_jax.ingest.even import draw_evenly, lot


def _points(seed=0):
    """900 points on one degree, 100 on another far away, and their lots."""
    rng = np.random.default_rng(seed)
    lonlat = np.concatenate([rng.uniform(0, 1, (900, 2)) + (10, 45), rng.uniform(0, 1, (100, 2)) + (-60, -30)])
    return lonlat, np.array([lot(seed, str(i)) for i in range(1000)], np.uint64)


@pytest.mark.parametrize("most", [1, 2, 20, 50, 999])
def test_exactly_so_many_are_drawn_whatever_their_order(most):
    lonlat, lots = _points()
    drawn = draw_evenly(lonlat, lots, most)
    assert drawn.sum() == most
    shuffled = np.random.default_rng(1).permutation(1000)
    assert np.array_equal(draw_evenly(lonlat[shuffled], lots[shuffled], most), drawn[shuffled])


def test_few_points_are_all_drawn():
    lonlat, lots = _points()
    assert draw_evenly(lonlat, lots, 1000).all()
    assert draw_evenly(lonlat[:0], lots[:0], 3).shape == (0,)


def test_parts_of_the_ground_get_equal_shares():
    lonlat, lots = _points()
    drawn = draw_evenly(lonlat, lots, 64)
    assert abs(drawn[:900].sum() - drawn[900:].sum()) <= 16  # a draw without a look at the ground takes 58 and 6
    west_south = np.floor((lonlat[:900][drawn[:900]] - (10, 45)) * 2).astype(int)
    counts = np.bincount(west_south[:, 0] + 2 * west_south[:, 1], minlength=4)
    assert counts.max() <= 2 * counts.min()


def test_another_seed_draws_others():
    lonlat, lots = _points()
    other = np.array([lot(1, str(i)) for i in range(1000)], np.uint64)
    assert (draw_evenly(lonlat, lots, 50) != draw_evenly(lonlat, other, 50)).any()


def test_a_lot_is_the_same_on_every_machine():
    assert lot(0, "demo") == 14543312910274047952
