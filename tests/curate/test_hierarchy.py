"""The hierarchy against flat affinity propagation, and its promises."""

import numpy as np
import pytest

from rsfm_jax.curate.assign import central_members, nearest
from rsfm_jax.curate.hierarchy import cluster
from rsfm_jax.curate.nodes import Method, Nodes, block_similarity, find_exemplars, merged
from rsfm_jax.curate.preference import find_preference
from rsfm_jax.errors import InputError

KINDS = 24


def mixture(points=720, seed=0, spread=0.3, dim=6):
    rng = np.random.default_rng(seed)
    kind = np.sort(np.concatenate([np.repeat(np.arange(KINDS), 6), rng.integers(KINDS, size=points - 6 * KINDS)]))
    return (rng.normal(size=(KINDS, dim))[kind] * 2 + spread * rng.normal(size=(points, dim))).astype(np.float32), kind


def net_similarity(points, exemplars, preference):
    squared = ((points[:, None] - points[exemplars][None]) ** 2).sum(axis=-1).min(axis=1)
    return len(exemplars) * preference - squared.sum()


@pytest.fixture(scope="module")
def deep():
    points, kind = mixture()
    return points, kind, cluster(points, kind, KINDS, block_size=48, last_block_size=64)


def test_levels_lose_little_of_the_flat_net_similarity(deep):
    points, kind, found = deep
    assert found.levels >= 3
    flat = cluster(points, kind, len(found.exemplars), last_block_size=720)
    assert flat.levels == 1
    ours, theirs = (net_similarity(points, x.exemplars, flat.preference) for x in (found, flat))
    assert ours >= theirs * 1.03  # both negative


def test_what_is_said_of_the_clustering_is_so(deep):
    points, kind, found = deep
    assert abs(len(found.exemplars) - KINDS) <= 1
    assert len(np.unique(kind[found.exemplars])) >= KINDS - 1
    assert (np.diff(found.exemplars) > 0).all()
    np.testing.assert_array_equal(found.cluster[found.exemplars], np.arange(len(found.exemplars)))
    all_squared = ((points[:, None] - points[found.exemplars][None]) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(found.cluster, all_squared.argmin(axis=1))
    assert found.net_similarity == pytest.approx(net_similarity(points, found.exemplars, found.preference), rel=1e-5)
    assert found.distortion == pytest.approx(all_squared.min(axis=1).mean(), rel=1e-5)
    counts = [(found.level >= level).sum() for level in range(found.levels + 1)]
    assert (np.diff(counts) < 0).all()
    assert counts[-1] == len(found.exemplars)


def test_same_input_same_clustering(deep):
    points, kind, found = deep
    again = cluster(points, kind, KINDS, block_size=48, last_block_size=64)
    np.testing.assert_array_equal(again.exemplars, found.exemplars)
    np.testing.assert_array_equal(again.cluster, found.cluster)


def test_rows_may_come_in_any_order(deep):
    points, _, found = deep
    order = np.random.default_rng(1).permutation(len(points))
    shuffled = cluster(points[order], order, KINDS, block_size=48, last_block_size=64)
    np.testing.assert_array_equal(np.sort(order[shuffled.exemplars]), found.exemplars)


def test_a_weight_of_two_is_the_point_twice():
    points, _ = mixture(160)
    weights = 1 + np.arange(160) % 2
    place = np.repeat(np.arange(160), weights)
    words = {"last_block_size": 256, "damping": 0.9, "max_iterations": 1000}
    once, twice = cluster(points, np.arange(160), KINDS, weights=weights, **words), cluster(points[place], place, KINDS, **words)
    np.testing.assert_array_equal(points[once.exemplars], points[place[twice.exemplars]])
    assert once.distortion == pytest.approx(twice.distortion, rel=1e-5)


@pytest.mark.parametrize("target", [1, 2, 57, 180, 199, 200])
def test_targets_from_one_to_all(target):
    points, kind = mixture(200)
    found = cluster(points, kind, target, block_size=48, last_block_size=64)
    assert abs(len(found.exemplars) - target) <= max(3, 0.03 * target)


def test_nodes_lose_what_their_members_lose():
    """The problem that nodes pose is that of their members: same differences in similarity, summed over members by hand."""
    points, _ = mixture(180)
    points, order = points[::2], np.arange(90)
    below = Nodes(order, points, points, np.ones(90))
    found = find_exemplars(below, -3.0, Method(block_size=30))
    nodes = merged(below, found.exemplar_of)
    assert found.blocks == 3
    assert nodes.weight.sum() == 90
    np.testing.assert_array_equal(np.unique(found.exemplar_of), nodes.row)
    all_squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    by_hand = np.stack([-all_squared[found.exemplar_of == row][:, nodes.row].sum(axis=0) for row in nodes.row])
    ours = np.asarray(block_similarity(nodes.point[None], nodes.mean[None], nodes.weight[None].astype(np.float32))[0])
    np.testing.assert_allclose(ours - ours[:, :1], by_hand - by_hand[:, :1], atol=2e-3)


def test_blocks_decide_for_themselves():
    points, _ = mixture(200)
    nodes = Nodes(np.arange(200), points, points, np.ones(200))
    method = Method(block_size=40)
    full = find_exemplars(nodes, -2.0, method)
    some = find_exemplars(nodes, -2.0, method, np.array([1, 3]))
    inside = some.exemplar_of >= 0
    np.testing.assert_array_equal(np.flatnonzero(inside), [*range(40, 80), *range(120, 160)])
    np.testing.assert_array_equal(some.exemplar_of[inside], full.exemplar_of[inside])
    np.testing.assert_array_equal(full.exemplar_of // 40, np.arange(200) // 40)


def test_points_that_are_all_the_same():
    found = cluster(np.ones((50, 3), np.float32), np.arange(50), 5, block_size=16, last_block_size=16)
    assert found.distortion == 0
    assert len(found.cluster) == 50


def test_nearest_and_central_members_as_by_hand(monkeypatch):
    monkeypatch.setattr("rsfm_jax.curate.assign._CELLS", 100)
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(60, 4)).astype(np.float32) + 50, rng.integers(1, 4, size=60).astype(float)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    index, found = nearest(points, points[:7])
    np.testing.assert_array_equal(index, squared[:, :7].argmin(axis=1))
    np.testing.assert_allclose(found, squared[:, :7].min(axis=1), atol=1e-4)
    sums = np.where(index[:, None] == index[None], weights[:, None] * squared, 0.0).sum(axis=0)
    best = [min(np.flatnonzero(index == k), key=lambda row: sums[row]) for k in range(7)]
    np.testing.assert_array_equal(central_members(points, weights, index, 7), best)


@pytest.mark.parametrize("wanted", [3, 40, 700])
@pytest.mark.parametrize("guess", [-1e-3, -1.0, -1e5])
def test_preference_is_found_from_any_guess(wanted, guess):
    found = find_preference(lambda p: min(1000, round(2000 * (-p) ** -0.6)), wanted, guess, 0.01)
    assert abs(found.count - wanted) <= max(0.01 * wanted, 0.5)
    assert found.trials <= 20


def test_a_count_that_cannot_be_had_ends_with_the_nearest():
    found = find_preference(lambda p: 10 if p < -2 else 30, 14, -1.0, 0.01)
    assert found.count == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"points": np.full((20, 2), np.nan)}, "points: 20 rows .* the first is row 0"),
        ({"points": np.full((20, 2), 1e39)}, "points: 20 rows"),
        ({"points": np.zeros(20)}, r"points: shape \(20,\)"),
        ({"order": np.arange(19)}, "order"),
        ({"order": np.arange(20.0)}, "order"),
        ({"target": 21}, "target=21: from 1 to the number of points, 20"),
        ({"target": 0}, "target=0"),
        ({"weights": np.zeros(20)}, "weights"),
        ({"block_size": 4}, "block_size=4"),
        ({"damping": 1.0}, "damping=1.0"),
    ],
)
def test_bad_input(words, message):
    points = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(InputError, match=message):
        cluster(**({"points": points, "order": np.arange(20), "target": 3} | words))
