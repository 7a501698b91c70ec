"""A clustering that grows."""

import dataclasses

import numpy as np
import pytest

from rsfm_jax.curate.hierarchy import cluster
from rsfm_jax.curate.nodes import Method
from rsfm_jax.curate.streaming import add, begin, renew
from rsfm_jax.errors import InputError

CENTRES = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
FAR = np.array([40, 40], np.float32)


def around(centre, points, seed, spread=0.5):
    return (centre + spread * np.random.default_rng(seed).normal(size=(points, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def started():
    points = np.concatenate([around(centre, 50, seed) for seed, centre in enumerate(CENTRES)])
    return begin(points, cluster(points, np.arange(200), 4), near=6.0, capacity=20, method=Method(block_size=64))


def same(a, b):
    for one, other in zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True):
        if isinstance(one, tuple):
            for x, y in zip(one, other, strict=True):
                np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_array_equal(one, other)


def test_near_points_join_and_change_no_exemplar(started):
    new = np.concatenate([around(centre, 30, 10 + seed) for seed, centre in enumerate(CENTRES)])
    grown = add(started, new)
    assert grown.renewals == 0
    np.testing.assert_array_equal(grown.nodes.row, started.nodes.row)
    np.testing.assert_array_equal(grown.exemplar[:200], started.exemplar)
    assert (grown.exemplar[200:] >= 0).all()
    own = started.nodes.row[((new[:, None] - started.nodes.point[None]) ** 2).sum(axis=-1).argmin(axis=1)]
    np.testing.assert_array_equal(grown.exemplar[200:], own)
    np.testing.assert_array_equal(grown.nodes.weight, [(grown.exemplar == row).sum() for row in grown.nodes.row])


def test_far_points_wait_and_then_are_a_class_of_their_own(started):
    new = around(FAR, 21, 3)
    waiting = add(started, new[:20])
    assert waiting.renewals == 0
    np.testing.assert_array_equal(waiting.exemplar[200:], -1)
    np.testing.assert_array_equal(waiting.waiting_row, np.arange(200, 220))
    found = add(waiting, new[20:])
    assert found.renewals == 1
    assert len(found.waiting_row) == 0
    assert set(found.nodes.row) > set(started.nodes.row)
    assert len(found.nodes) == 5
    assert len(set(found.exemplar[200:])) == 1
    assert found.exemplar[200] >= 200
    np.testing.assert_array_equal(found.exemplar[:200], started.exemplar)
    np.testing.assert_array_equal(found.nodes.weight, [(found.exemplar == row).sum() for row in found.nodes.row])
    np.testing.assert_allclose(found.nodes.mean[found.nodes.row >= 200][0], new.mean(axis=0), rtol=1e-5)


def test_how_points_are_cut_into_pieces_changes_nothing_but_rounding(started):
    new = np.concatenate([around(FAR, 30, 3), around(CENTRES[0], 30, 4)])[np.random.default_rng(0).permutation(60)]
    whole = add(started, new)
    pieces = started
    for piece in np.array_split(new, 7):
        pieces = add(pieces, piece)
    np.testing.assert_array_equal(pieces.exemplar, whole.exemplar)
    np.testing.assert_array_equal(pieces.waiting_row, whole.waiting_row)
    np.testing.assert_allclose(pieces.nodes.mean, whole.nodes.mean, atol=1e-4)
    same(whole, add(started, new))


def test_who_waits_can_be_called_in(started):
    found = renew(add(started, FAR[None]))
    assert found.renewals == 1
    assert (found.exemplar >= 0).all()
    assert renew(found) is found


def test_near_is_by_default_where_most_members_are():
    points = np.concatenate([around(centre, 50, seed) for seed, centre in enumerate(CENTRES)])
    clustering = cluster(points, np.arange(200), 4)
    stream = begin(points, clustering)
    squared = ((points - points[clustering.exemplars[clustering.cluster]]) ** 2).sum(axis=1)
    assert (squared <= stream.near).mean() == pytest.approx(0.95, abs=0.01)
    assert stream.preference == clustering.preference


@pytest.mark.parametrize(
    ("words", "message"),
    [({"preference": 0.0}, "preference=0.0"), ({"near": -1.0}, "near=-1.0"), ({"capacity": 0}, "capacity=0")],
)
def test_bad_beginnings(words, message):
    points = around(CENTRES[0], 30, 0)
    with pytest.raises(InputError, match=message):
        begin(points, cluster(points, np.arange(30), 3), **words)


def test_other_points_than_the_clusterings():
    points = around(CENTRES[0], 30, 0)
    with pytest.raises(InputError, match="clustering: of 30 points; expected 20"):
        begin(points[:20], cluster(points, np.arange(30), 3))


@pytest.mark.parametrize("points", [np.full((3, 2), np.inf), np.zeros((3, 5))])
def test_bad_additions(started, points):
    with pytest.raises(InputError, match="points: "):
        add(started, points)
