import numpy as np
import pytest

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.selection import find_clusters, keep, keep_at_random, region_code, share_target
from rsfm_jax.errors import InputError


@pytest.mark.parametrize(
    ("candidates", "target", "expected"),
    [
        ({"a": 60, "b": 40}, 10, {"a": 6, "b": 4}),
        ({"a": 50, "b": 30, "c": 20}, 7, {"a": 4, "b": 2, "c": 1}),  # 3.5, 2.1, 1.4
        ({"a": 1000, "b": 1}, 10, {"a": 9, "b": 1}),
        ({"a": 3, "b": 0}, 3, {"a": 3, "b": 0}),
        ({"a": 2, "b": 2, "c": 96}, 3, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_the_target_is_dealt_in_proportion(candidates, target, expected):
    assert share_target(candidates, target) == expected


def test_shares_sum_to_the_target_and_never_exceed_what_there_is():
    rng = np.random.default_rng(0)
    for _ in range(200):
        candidates = {str(i): int(n) for i, n in enumerate(rng.integers(0, 50, 5))}
        total, least = sum(candidates.values()), sum(n > 0 for n in candidates.values())
        target = int(rng.integers(max(least, 1), total + 1))
        shares = share_target(candidates, target)
        assert sum(shares.values()) == target
        assert all(min(n, 1) <= shares[name] <= n for name, n in candidates.items())


@pytest.mark.parametrize(
    ("target", "message"),
    [(101, "only 100 image sets are left after the rejections"), (1, "at least 2, one set for each"), (-3, "at least 2")],
)
def test_a_target_that_cannot_be(target, message):
    with pytest.raises(InputError, match=rf"^--target={target}: .*{message}"):
        share_target({"a": 60, "b": 40}, target)


def test_nothing_left_at_all():
    with pytest.raises(InputError, match="only 0 image sets are left"):
        share_target({"a": 0}, 1)


def test_neighbours_in_the_order_are_neighbours_on_the_ground():
    rng = np.random.default_rng(0)
    towns = np.array([[2.3, 48.9], [2.31, 48.91], [-77.0, 38.9], [151.2, -33.9]])
    town = rng.integers(0, 4, 400)
    order = np.argsort(region_code(towns[town] + rng.uniform(-0.004, 0.004, (400, 2))), kind="stable")
    assert (np.diff(town[order]) != 0).sum() == 3  # each town is in one piece
    assert region_code(np.array([[-180.0, -90.0], [180.0, 90.0]])).tolist() == [0, 2**52 - 1]


def test_what_is_kept_holds_the_exemplars_and_meets_the_target():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 4))
    kind = np.repeat(np.arange(6), [200, 100, 50, 30, 15, 5])
    points = (centres[kind] + rng.normal(size=(400, 4)) * 0.1).astype(np.float32)
    lonlat = np.stack([kind + rng.random(400) * 0.01, np.zeros(400)], axis=1)
    clusters = find_clusters(points, lonlat, 60, CurateConfig(sets_per_cluster=10.0))
    assert len(clusters.exemplars) == 6  # a cluster for each ten kept
    assert all(len(np.unique(kind[clusters.cluster == k])) == 1 for k in range(6))
    found = keep(clusters.cluster, clusters.exemplars, 60, CurateConfig())
    assert found.kept[clusters.exemplars].all()
    assert found.kept.sum() == 60
    for k in range(6):
        members = clusters.cluster == k
        assert found.kept[members].sum() == found.quota[k] <= members.sum()
        assert found.weight[members].sum() == pytest.approx(members.sum())  # the kept stand for all
    assert not found.weight[~found.kept].any()
    again = keep(clusters.cluster, clusters.exemplars, 60, CurateConfig(seed=1))
    assert (again.kept != found.kept).any()


def test_rare_kinds_get_more_than_their_share():
    cluster = np.repeat(np.arange(2), [990, 10]).astype(np.int32)
    rare = [keep(cluster, np.array([0, 990]), 100, CurateConfig(quota_exponent=a)).quota[1] for a in (1.0, 0.5, 0.0)]
    assert rare == sorted(rare)
    assert rare[0] <= 2
    assert rare[2] == 10


def test_more_clusters_than_sets_to_keep():
    with pytest.raises(InputError, match=r"3 clusters were found of a layout that shall keep 2 sets.*curate\.sets_per_cluster"):
        keep(np.arange(3, dtype=np.int32), np.arange(3), 2, CurateConfig())


def test_a_random_sample_takes_all_candidates_alike():
    times = np.zeros(40)
    for seed in range(2000):
        chosen = keep_at_random(40, 10, seed)
        assert chosen.kept.sum() == 10
        assert chosen.weight.sum() == 40
        assert not chosen.weight[~chosen.kept].any()
        times += chosen.kept
    assert np.abs(times / 2000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 2000)
    np.testing.assert_array_equal(keep_at_random(40, 10, 3).kept, keep_at_random(40, 10, 3).kept)


def test_a_random_sample_of_nothing():
    assert not len(keep_at_random(0, 0, 0).kept)
