"""Affinity propagation against scikit-learn's, which works in float64 and one problem at a time."""

import warnings

import numpy as np
import pytest

from rsfm_jax.curate.affinity import propagate
from rsfm_jax.errors import InputError

sklearn_cluster = pytest.importorskip("sklearn.cluster", reason="scikit-learn isn't installed; it is the peer")
WIDTH = 96


def blobs(points, seed, kinds=6, dim=5):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(kinds, dim))
    return centres[rng.integers(kinds, size=points)] + rng.normal(size=(points, dim))


def similarity(points, quantile):
    s = -((points[:, None] - points[None]) ** 2).sum(axis=-1)
    preference = np.quantile(s[~np.eye(len(s), dtype=bool)], quantile)
    np.fill_diagonal(s, preference)
    return s


def padded(blocks, width=WIDTH):
    s = np.full((len(blocks), width, width), np.nan, np.float32)
    valid = np.zeros((len(blocks), width), bool)
    for b, block in enumerate(blocks):
        s[b, : len(block), : len(block)] = block
        valid[b, : len(block)] = True
    return s, valid


def theirs(s, damping):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        centres, labels = sklearn_cluster.affinity_propagation(s, preference=np.diag(s), damping=damping, random_state=0)
    return np.asarray(centres)[labels]


@pytest.mark.parametrize("damping", [0.5, 0.8])
@pytest.mark.parametrize("quantile", [0.01, 0.3, 0.5])
def test_same_exemplars_as_scikit_learn(damping, quantile):
    sizes = (96, 95, 70, 41, 25, 60, 80, 33)
    blocks = [similarity(blobs(size, seed), quantile) for seed, size in enumerate(sizes)]
    found = propagate(*padded(blocks), damping)
    assert np.asarray(found.converged).all()
    for block, ours in zip(blocks, np.asarray(found.exemplar_of), strict=True):
        np.testing.assert_array_equal(ours[: len(block)], theirs(block, damping))
        assert (ours[len(block) :] == -1).all()


def test_pairs_alone_may_swap_but_lose_nothing():
    """Where many clusters are pairs, either may be the exemplar: scikit-learn's noise decides, here the hash."""
    blocks = [similarity(blobs(size, seed), 0.9) for seed, size in enumerate((96, 95, 70, 60, 80))]
    found = propagate(*padded(blocks), 0.8)
    for block, ours in zip(blocks, np.asarray(found.exemplar_of), strict=True):
        peer = theirs(block, 0.8)
        row = np.arange(len(block))
        assert block[row, ours[: len(block)]].sum() == pytest.approx(block[row, peer].sum(), rel=1e-6)
        assert len(np.unique(peer)) == len(np.unique(ours[: len(block)]))


def test_neither_padding_nor_neighbours_in_the_batch_change_a_block():
    blocks = [similarity(blobs(size, seed), 0.4) for seed, size in enumerate((40, 64, 51))]
    together = propagate(*padded(blocks), 0.7)
    for b, block in enumerate(blocks):
        alone = propagate(*padded([block], len(block)), 0.7)
        np.testing.assert_array_equal(alone.exemplar_of[0], together.exemplar_of[b, : len(block)])
        assert int(alone.iterations[0]) == int(together.iterations[b])


def test_order_of_the_points_changes_no_exemplar():
    s = similarity(blobs(60, 3), 0.3)
    order = np.random.default_rng(0).permutation(60)
    plain = np.asarray(propagate(*padded([s], 60)).exemplar_of[0])
    shuffled = np.asarray(propagate(*padded([s[order][:, order]], 60)).exemplar_of[0])
    np.testing.assert_array_equal(order[shuffled], plain[order])


def test_weights_say_what_copies_say():
    rng = np.random.default_rng(2)
    points, copies = blobs(24, 5, kinds=4), rng.integers(1, 5, size=24)
    place = np.repeat(np.arange(24), copies)
    plain = similarity(points, 0.05)
    preference = plain[0, 0]
    weighted = copies[:, None] * plain
    np.fill_diagonal(weighted, preference)
    full = similarity(points[place], 0.5)
    np.fill_diagonal(full, preference)
    as_copies = np.asarray(propagate(*padded([full], len(place)), 0.8, 1000).exemplar_of[0])
    as_weights = np.asarray(propagate(*padded([weighted], 24), 0.8, 1000).exemplar_of[0])
    assert 1 < len(np.unique(as_weights)) < 24
    np.testing.assert_array_equal(place[as_copies], as_weights[place])


@pytest.mark.parametrize(("preference", "expected"), [(-1.0, [0, 1, 2, 3]), (-9.0, [0, 0, 0, 0])])
def test_points_that_nothing_tells_apart(preference, expected):
    s = np.full((4, 4), -4.0)
    np.fill_diagonal(s, preference)
    found = propagate(*padded([s, [[-3.0]]], 6))
    np.testing.assert_array_equal(found.exemplar_of, [[*expected, -1, -1], [0, -1, -1, -1, -1, -1]])


def test_a_block_without_exemplars_gets_its_centre():
    s = similarity(blobs(30, 1), 0.5)
    found = propagate(*padded([s], 30), 0.5, 1)
    assert not np.asarray(found.converged).any()
    centre = int(s.sum(axis=0).argmax())
    np.testing.assert_array_equal(found.exemplar_of[0], np.full(30, centre))


@pytest.mark.parametrize(
    ("words", "message"),
    [({"damping": 0.4}, "damping=0.4"), ({"damping": 1.0}, "damping=1.0"), ({"max_iterations": 0}, "max_iterations=0")],
)
def test_bad_settings(words, message):
    with pytest.raises(InputError, match=message):
        propagate(*padded([np.zeros((3, 3))], 3), **words)


def test_bad_shapes():
    with pytest.raises(InputError, match=r"similarity \(1, 3, 4\)"):
        propagate(np.zeros((1, 3, 4)), np.ones((1, 3), bool))
