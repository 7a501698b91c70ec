"""Quotas against a list of everyone in the order they come in, and draws."""

import numpy as np
import pytest

from rsfm_jax.curate.quota import draw, quotas
from rsfm_jax.errors import InputError


def by_hand(counts, target, exponent):
    everyone = [(j / float(n) ** exponent, -n, c) for c, n in enumerate(counts) for j in range(n)]
    return np.bincount([c for *_, c in sorted(everyone)[:target]], minlength=len(counts))


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_as_by_hand(seed, exponent):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 60, size=rng.integers(1, 40)) if seed % 2 else np.full(9, 7)
    for target in {len(counts), int(counts.sum()), *rng.integers(len(counts), counts.sum() + 1, size=5).tolist()}:
        found = quotas(counts, target, exponent)
        assert found.sum() == target
        assert ((found >= 1) & (found <= counts)).all()
        np.testing.assert_array_equal(found, by_hand(counts.tolist(), target, exponent))
        rising = found[np.argsort(counts, kind="stable")]
        larger = np.diff(np.sort(counts)) > 0
        assert (np.diff(rising)[larger] >= 0).all()


def test_exponents_ends():
    counts = np.array([100, 50, 10])
    np.testing.assert_array_equal(quotas(counts, 30, 0.0), [10, 10, 10])
    np.testing.assert_array_equal(quotas(counts, 16, 1.0), [10, 5, 1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": 2}, "target=2: from the number of clusters, 3"),
        ({"target": 99}, "target=99.*members, 6"),
        ({"exponent": 1.5}, "exponent=1.5"),
        ({"counts": np.array([1, 0, 3])}, "counts"),
        ({"counts": np.array([1.0, 2.0])}, "counts"),
    ],
)
def test_bad_quotas(words, message):
    with pytest.raises(InputError, match=message):
        quotas(**({"counts": np.array([1, 2, 3]), "target": 4, "exponent": 0.5} | words))


def case(seed=0, points=500, clusters=12):
    rng = np.random.default_rng(seed)
    cluster = np.concatenate([np.arange(clusters), rng.integers(clusters, size=points - clusters)])
    order = rng.permutation(points)
    exemplars = np.array([np.flatnonzero(cluster[order] == c)[-1] for c in range(clusters)])
    return cluster[order], exemplars, np.bincount(cluster)


def test_draws_are_the_quota_exemplar_first():
    cluster, exemplars, counts = case()
    wanted = quotas(counts, 100, 0.5)
    rows = draw(cluster, exemplars, wanted, seed=3)
    assert len(set(rows.tolist())) == 100
    np.testing.assert_array_equal(np.bincount(cluster[rows]), wanted)
    starts = np.cumsum(wanted) - wanted
    np.testing.assert_array_equal(rows[starts], exemplars)


def test_one_cluster_draws_without_looking_at_others():
    cluster, exemplars, counts = case()
    rows = draw(cluster, exemplars, np.minimum(counts, 8), seed=3)
    more = draw(cluster, exemplars, np.where(np.arange(12) == 5, 2, counts), seed=3)
    for c in range(12):
        first, second = rows[cluster[rows] == c], more[cluster[more] == c]
        shared = min(len(first), len(second))
        np.testing.assert_array_equal(first[:shared], second[:shared])


def test_seeds_draw_differently_and_evenly():
    cluster, exemplars = np.zeros(40, int), np.array([0])
    taken = np.zeros(40)
    for seed in range(400):
        taken[draw(cluster, exemplars, np.array([11]), seed)] += 1
    assert taken[0] == 400
    assert abs(taken[1:] - 400 * 10 / 39).max() < 4.5 * np.sqrt(400 * 10 / 39 * 29 / 39)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"quotas": np.array([3, 1])}, "quotas"),
        ({"quotas": np.array([0, 1])}, "quotas"),
        ({"exemplars": np.array([2, 0])}, "exemplars"),
        ({"cluster": np.array([0, 0, 2])}, "cluster"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_draws(words, message):
    fine = {"cluster": np.array([0, 0, 1]), "exemplars": np.array([0, 2]), "quotas": np.array([2, 1]), "seed": 0}
    with pytest.raises(InputError, match=message):
        draw(**(fine | words))
