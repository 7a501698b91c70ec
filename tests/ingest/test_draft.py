"""Which scenes are drafted together: a union of trees against comparing all, and the ends of the map."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from rsfm_jax.ingest.draft import overlapping
from tests.ingest.synthetic import made_scene

SENSORS = {"naip": "R", "dem": "elevation", "dsm": "elevation", "worldview2_pan": "P"}


def _scene(name, sensor, left, top, crs=4326, gsd=1e-3, side=20):
    return made_scene(name, sensor, crs=crs, **{SENSORS[sensor]: (left, top, gsd, side, side)})


def _brute_groups(scenes):
    """Scene numbers of each group, in order of the groups' last scenes."""
    boxes = [next(iter(scene.bands.values())).rect for scene in scenes]
    groups = [{i} for i in range(len(scenes))]
    for i, j in itertools.combinations(range(len(scenes)), 2):
        common = boxes[i].intersection(boxes[j])
        if min(common.width_m, common.height_m) > 0:
            one, other = (next(group for group in groups if k in group) for k in (i, j))
            if one is not other:
                groups.remove(other)
                one |= other
    return [sorted(group) for group in sorted(groups, key=max)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(SENSORS)), st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=12))
def test_groups_are_those_of_comparing_all(made):
    scenes = [_scene(f"s{i}", sensor, 8.0 + 0.011 * x, 45.0 + 0.011 * y) for i, (sensor, x, y) in enumerate(made)]
    assert [[scenes.index(scene) for scene in group] for group in overlapping(scenes)] == _brute_groups(scenes)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((32660, 829_000.0, 1_000.0), (4326, -179.99, 0.0), True),  # from 179.96 east over the antimeridian
        ((32660, 829_000.0, 1_000.0), (4326, 8.0, 0.0), False),
        ((32660, 829_000.0, 1_000.0), (4326, 179.9, 0.0), False),
        ((3413, -10_000.0, 10_000.0), (4326, 77.0, 89.97), True),  # around the pole
        ((3413, -10_000.0, 10_000.0), (4326, 77.0, 80.0), False),
        ((3031, 1_000_000.0, 10_000.0), (4326, 90.0, -80.8), True),
    ],
)
def test_scenes_meet_across_the_antimeridian_and_around_the_poles(one, other, together):
    crs, left, top = one
    scenes = [_scene("one", "naip", left, top, crs, 500.0, 40), _scene("other", "dem", *other[1:], other[0])]
    assert overlapping(scenes) == ([scenes] if together else [scenes[:1], scenes[1:]])
