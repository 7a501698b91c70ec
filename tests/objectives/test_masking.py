"""The masks: how many, where, and in whose favour. Ground overlaps are checked against rectangles intersected one by one."""

from collections.abc import Callable
import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from rsfm_jax.config import Layout, MaskConfig, ParallelConfig, Slot
from rsfm_jax.objectives.masking import Masks, overlap_fractions, policy, sample_masks, visible_count
from rsfm_jax.parallel.mesh import make_mesh

_TIE = 3e-3  # shares closer than this may be told apart by the random tie-break


def slot(gsd_m: float, pixels: int, patch: int, sensor: str = "sentinel2_l1c", acquisition: str = "") -> Slot:
    return Slot(sensor, ("B02",), gsd_m, pixels, patch, acquisition)


def centred(slot: Slot, east_m: float = 0.0, north_m: float = 0.0) -> np.ndarray:
    half = slot.pixels * slot.gsd_m / 2
    return np.array([east_m - half, north_m + half, slot.gsd_m, slot.gsd_m], np.float32)


@functools.cache
def compiled(layout_text: str, config_text: str) -> Callable[..., Masks]:
    """`sample_masks` of a layout and a config, given as the text that makes them: neither can be hashed."""
    layout, config = (eval(text, {"Layout": Layout, "Slot": Slot, "MaskConfig": MaskConfig}) for text in (layout_text, config_text))
    return jax.jit(lambda keys, grids, real: sample_masks(keys, layout, config, grids, real))


def draw(
    layout: Layout,
    config: MaskConfig | None = None,
    examples: int = 8,
    grids: list[np.ndarray] | None = None,
    real: list[np.ndarray] | None = None,
    seed: int = 0,
) -> Masks:
    """Masks of a batch, as numpy arrays."""
    grids = [centred(s) for s in layout.slots] if grids is None else grids
    batched = [jnp.broadcast_to(jnp.asarray(grid), (examples, 4)) for grid in grids]
    real = [np.ones((examples, s.tokens), bool) for s in layout.slots] if real is None else real
    keys = jax.random.split(jax.random.key(seed), examples)
    return jax.device_get(compiled(repr(layout), repr(config or MaskConfig()))(keys, batched, real))


def rectangles(slot: Slot, grid: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Left, bottom, right, top of every patch, row by row."""
    left, top, width, height = (float(x) for x in grid)
    size_x, size_y = slot.patch * width, slot.patch * height
    corners = [(left + j * size_x, top - (i + 1) * size_y) for i in range(slot.grid) for j in range(slot.grid)]
    return [(x, y, x + size_x, y + size_y) for x, y in corners]


def hidden_share(slot: Slot, grid: np.ndarray, leader: Slot, leader_grid: np.ndarray, leader_hidden: np.ndarray) -> np.ndarray:
    """The share of each patch's ground that some of the leader's patches cover, by brute force."""
    shares = []
    for left, bottom, right, top in rectangles(slot, grid):
        area = 0.0
        for hidden, (l, b, r, t) in zip(leader_hidden, rectangles(leader, leader_grid), strict=True):
            if hidden:
                area += max(0.0, min(right, r) - max(left, l)) * max(0.0, min(top, t) - max(bottom, b))
        shares.append(area / ((right - left) * (top - bottom)))
    return np.array(shares)


def assert_least_covered(layout: Layout, grids: list[np.ndarray], masks: Masks, leader: int, member: int) -> None:
    """No kept patch has surely more hidden ground than a removed one may have; what lies beyond the leader's chip is unknown."""
    ours, theirs = (layout.slots[member], grids[member]), (layout.slots[leader], grids[leader])
    unknown = 1 - hidden_share(*ours, *theirs, np.ones(layout.slots[leader].tokens, bool))
    for b in range(len(masks.hidden[member])):
        share, hidden = hidden_share(*ours, *theirs, masks.hidden[leader][b]), masks.hidden[member][b]
        assert share[~hidden].max() <= (share + unknown)[hidden].min() + _TIE


def in_blocks(hidden_N: np.ndarray, grid: int, block: int) -> bool:
    """Whether a mask is made of whole blocks of patches."""
    tiles = hidden_N.reshape(grid // block, block, grid // block, block).transpose(0, 2, 1, 3).reshape(-1, block * block)
    return bool((tiles.all(axis=1) | ~tiles.any(axis=1)).all())


SAME_GROUND = Layout(  # 80 m patches in both, the second sensor at half the resolution
    "same_ground", (slot(10.0, 64, 8), slot(20.0, 32, 4, "landsat8_l1"))
)
THREE_GSDS = Layout(  # one acquisition: 80 m, 80 m and 240 m patches, the last one's ground is larger
    "three_gsds", (slot(10.0, 64, 8, acquisition="a"), slot(20.0, 32, 4, acquisition="a"), slot(60.0, 12, 4, acquisition="a"))
)
PYRAMID = Layout(  # 40, 80 and 160 m patches on the same ground, three sensors
    "pyramid", (slot(10.0, 64, 4), slot(20.0, 32, 4, "landsat8_l1"), slot(40.0, 16, 4, "landsat7_l1"))
)
THREE_DATES = Layout("three_dates", tuple(slot(10.0, 56, 4) for _ in range(3)))


@settings(max_examples=10, deadline=None)
@given(
    ratio=st.floats(0.05, 0.95),
    grids=st.lists(st.tuples(st.integers(2, 7), st.sampled_from([1, 2, 4]), st.sampled_from([10.0, 20.0, 33.0])), min_size=2, max_size=2),
    offset=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
    anchor=st.sampled_from(["random", "finest", "coarsest"]),
    seed=st.integers(0, 2**30),
)
def test_every_member_keeps_exactly_its_share_and_finds_its_places_again(ratio, grids, offset, anchor, seed):
    sensors = ("sentinel2_l1c", "landsat8_l1", "sentinel2_l1c")
    slots = tuple(slot(gsd, n * patch, patch, sensors[i]) for i, (n, patch, gsd) in enumerate(grids))
    placed = [centred(s, *(i * np.array(offset))) for i, s in enumerate(slots)]
    masks = draw(Layout("any", slots), MaskConfig(ratio=ratio, anchor=anchor), examples=2, grids=placed, seed=seed)
    for s, keep, restore, hidden in zip(slots, masks.ids_keep, masks.ids_restore, masks.hidden, strict=True):
        count = min(max(round(s.tokens * (1 - ratio)), 1), s.tokens - 1)
        assert keep.shape == (2, count)
        for b in range(2):
            assert (~hidden[b]).sum() == count
            assert set(keep[b]) == set(np.flatnonzero(~hidden[b]))
            assert sorted(restore[b]) == list(range(s.tokens))
            np.testing.assert_array_equal(restore[b][keep[b]], np.arange(count))  # a kept patch returns to its place


def test_every_image_of_three_keeps_a_quarter():
    masks = draw(THREE_DATES, MaskConfig(ratio=0.75))
    assert [keep.shape[1] for keep in masks.ids_keep] == [49, 49, 49]  # the released A2-MAE code keeps 147, 0 and 0
    assert [visible_count(n, r) for n, r in ((196, 0.75), (196, 0.6), (4, 0.99), (4, 0.01))] == [49, 78, 1, 3]


def test_another_sensor_on_the_same_grid_hides_exactly_the_same_ground():
    masks = draw(SAME_GROUND, examples=64)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    assert len({mask.tobytes() for mask in masks.hidden[0]}) == 64


def test_followers_keep_what_the_anchor_hides_least():
    grids = [centred(s) for s in THREE_GSDS.slots]
    masks = draw(THREE_GSDS, MaskConfig(anchor="finest"), grids=grids)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    assert_least_covered(THREE_GSDS, grids, masks, leader=0, member=2)
    masks = draw(THREE_GSDS, MaskConfig(anchor="coarsest"), grids=grids)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    for member in (0, 1):
        assert_least_covered(THREE_GSDS, grids, masks, leader=2, member=member)


@settings(max_examples=25, deadline=None)
@given(
    place=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    beyond=st.booleans(),
    gsd=st.sampled_from([15.0, 20.0, 30.0]),
    ratio=st.sampled_from([0.6, 0.75]),
    seed=st.integers(0, 2**30),
)
def test_followers_keep_what_the_anchor_hides_least_wherever_they_lie(place, beyond, gsd, ratio, seed):
    layout = Layout("offset", (slot(10.0, 64, 8), slot(30.0, 20, 4, "landsat8_l1")))  # where a member lies and its GSD come from its grid
    room = 320 - 10 * gsd + 20 * beyond  # metres between the edges of the two chips
    grids = [centred(layout.slots[0]), centred(slot(gsd, 20, 4), room * place[0], room * place[1])]
    masks = draw(layout, MaskConfig(ratio=ratio, anchor="finest"), examples=2, grids=grids, seed=seed)
    assert_least_covered(layout, grids, masks, leader=0, member=1)


def test_ground_beyond_the_anchor_is_hidden_at_the_same_ratio():
    layout = Layout("inside", (slot(10.0, 32, 8), slot(20.0, 32, 4, "landsat8_l1")))  # 4 x 4 in the middle of 8 x 8 patches of 80 m
    masks = draw(layout, MaskConfig(anchor="finest"), examples=256)
    visible = ~masks.hidden[1].reshape(-1, 8, 8)
    inside = visible[:, 2:6, 2:6].mean()
    outside = (visible.sum() - visible[:, 2:6, 2:6].sum()) / (256 * 48)
    assert 0.22 < inside < 0.28
    assert 0.22 < outside < 0.28


def test_overlap_fractions_are_areas_of_rectangles():
    a, b = slot(10.0, 24, 8), slot(20.0, 12, 4, "landsat8_l1")
    grid_a, grid_b = centred(a, 35.0, -20.0), centred(b, -110.0, 70.0)
    R, C = overlap_fractions(jnp.asarray(grid_a), a, jnp.asarray(grid_b), b)
    ours = np.einsum("ik,jl->ijkl", R, C).reshape(a.tokens, b.tokens)
    brute = np.stack([hidden_share(a, grid_a, b, grid_b, np.eye(b.tokens, dtype=bool)[n]) for n in range(b.tokens)], axis=1)
    np.testing.assert_allclose(ours, brute, atol=1e-5)
    assert 0.2 < brute.sum() < a.tokens  # the case has overlap, and ground that is not shared


def test_other_dates_are_drawn_on_their_own():
    masks = draw(THREE_DATES, examples=64)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = (~masks.hidden[i] & ~masks.hidden[j]).sum(axis=1)
        assert (both < 49).all()
        assert 11 < both.mean() < 13.5  # 49 x 49 / 196 = 12.25 when independent


def test_other_dates_follow_when_told_so():
    masks = draw(THREE_DATES, MaskConfig(other_time="consistent"))
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[2])


def test_other_sensors_do_not_follow_when_told_so():
    masks = draw(SAME_GROUND, MaskConfig(other_sensor="independent"), examples=32)
    assert (masks.hidden[0] != masks.hidden[1]).any(axis=1).all()


@pytest.mark.parametrize("anchor", ["random", "finest", "coarsest"])
def test_bands_of_one_moment_share_one_draw(anchor):
    slots = tuple(slot(gsd, int(640 / gsd), int(80 / gsd), acquisition=letter) for letter in "ab" for gsd in (10.0, 20.0))
    masks = draw(Layout("two_dates", slots), MaskConfig(anchor=anchor), examples=32)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    np.testing.assert_array_equal(masks.hidden[2], masks.hidden[3])
    assert (masks.hidden[0] != masks.hidden[2]).any(axis=1).all()


def test_patches_without_observation_are_hidden_first():
    rng = np.random.default_rng(0)
    real = [np.ones((16, s.tokens), bool) for s in PYRAMID.slots]
    real[1] = rng.random((16, 64)) < 0.4  # more than the 16 that stay visible
    real[2] = rng.random((16, 16)) < 0.1  # fewer than the 4 that stay visible, often
    real[1][:, :16] = True
    masks = draw(PYRAMID, MaskConfig(anchor="finest"), examples=16, real=real)
    assert not (~masks.hidden[1] & ~real[1]).any()
    for b in range(16):
        visible = ~masks.hidden[2][b]
        assert (visible & real[2][b]).sum() == min(4, real[2][b].sum())
    assert {real[2][b].sum() < 4 for b in range(16)} == {True}


def test_the_same_ground_is_hidden_where_the_leader_has_no_observation_either():
    real = [np.random.default_rng(0).random((32, 64)) < 0.7, np.ones((32, 64), bool)]
    masks = draw(SAME_GROUND, MaskConfig(anchor="finest"), examples=32, real=real)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])


def anchors_seen(config: MaskConfig, examples: int) -> np.ndarray:
    """The anchor of each example of PYRAMID: finer members follow a coarser anchor in whole blocks."""
    masks = draw(PYRAMID, config, examples=examples)
    by_coarsest = np.array([in_blocks(mask, 16, 4) for mask in masks.hidden[0]])
    by_middle = np.array([in_blocks(mask, 16, 2) for mask in masks.hidden[0]])
    return np.where(by_coarsest, 2, np.where(by_middle, 1, 0))


def test_random_anchors_are_each_member_in_turn():
    counts = np.bincount(anchors_seen(MaskConfig(anchor="random"), 600), minlength=3)
    assert (abs(counts - 200) < 60).all(), counts  # five standard deviations


@pytest.mark.parametrize(("anchor", "member"), [("finest", 0), ("coarsest", 2)])
def test_anchors_by_gsd(anchor, member):
    assert (anchors_seen(MaskConfig(anchor=anchor), 64) == member).all()


def test_policies_come_from_the_relation_to_the_anchor():
    slots = (slot(10.0, 16, 4, acquisition="a"), slot(20.0, 8, 4, acquisition="a"), slot(10.0, 16, 4), slot(30.0, 8, 4, "landsat8_l1"))
    layout, config = Layout("all", slots), MaskConfig(other_time="independent", other_sensor="consistent")
    assert [policy(layout, config, 0, t) for t in range(4)] == ["consistent", "consistent", "independent", "consistent"]
    assert [policy(layout, config, 2, t) for t in range(4)] == ["independent", "independent", "consistent", "consistent"]


def test_masks_depend_on_the_key_and_not_on_the_row():
    keys = jax.random.split(jax.random.key(3), 16)
    order = np.random.default_rng(0).permutation(16)
    grids = [np.stack([centred(s, 7.0 * b, -3.0 * b) for b in range(16)]) for s in THREE_GSDS.slots]
    real = [np.random.default_rng(i).random((16, s.tokens)) < 0.9 for i, s in enumerate(THREE_GSDS.slots)]
    sample = compiled(repr(THREE_GSDS), repr(MaskConfig()))
    masks = sample(keys, grids, real)
    again = sample(keys[order], [g[order] for g in grids], [r[order] for r in real])
    for ours, theirs in zip(jax.tree.leaves(masks), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours[order], theirs)


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (2, 4), (4, 2)])
def test_masks_are_the_same_on_any_mesh(data, fsdp):
    mesh = make_mesh(ParallelConfig(data, fsdp), jax.devices()[: data * fsdp])
    keys = jax.random.split(jax.random.key(5), 16)
    grids = [np.stack([centred(s, 11.0 * b, 5.0 * b) for b in range(16)]) for s in PYRAMID.slots]
    real = [np.ones((16, s.tokens), bool) for s in PYRAMID.slots]
    expected = compiled(repr(PYRAMID), repr(MaskConfig()))(keys, grids, real)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    placed = jax.device_put((keys, grids, real), sharding)
    found = jax.jit(lambda k, g, r: sample_masks(k, PYRAMID, MaskConfig(), g, r), out_shardings=sharding)(*placed)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("anchor", ["finest", "coarsest", "random"])
def test_no_part_of_a_member_is_favoured_where_it_reaches_beyond_the_anchor(anchor):
    layout = Layout("bands", (slot(10, 64, 8, acquisition="a"), slot(20, 32, 4, acquisition="a"), slot(60, 12, 4, acquisition="a")))
    masks = draw(layout, MaskConfig(anchor=anchor), examples=4000)
    coarse = 1 - masks.hidden[2].mean(axis=0)
    expected = visible_count(9, 0.75) / 9
    assert np.abs(coarse - expected).max() < 0.04  # 4000 draws scatter by 0.007


def test_bands_on_one_grid_share_their_mask_even_where_a_coarser_anchor_leaves_ties():
    layout = Layout("bands", (slot(10, 72, 8, acquisition="a"), slot(20, 36, 4, acquisition="a"), slot(60, 12, 4, acquisition="a")))
    for anchor in ("finest", "coarsest", "random"):
        masks = draw(layout, MaskConfig(anchor=anchor), examples=200)
        np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])


def test_nested_members_show_nothing_of_what_a_coarsest_anchor_hides():
    layout = Layout("bands", (slot(10, 96, 8, acquisition="a"), slot(60, 16, 4, acquisition="a")))
    masks = draw(layout, MaskConfig(anchor="coarsest"), examples=200)
    fine_hidden = masks.hidden[0].reshape(-1, 4, 3, 4, 3).any(axis=(2, 4)).reshape(200, 16)
    assert not (fine_hidden & ~masks.hidden[1]).any()  # 4 of 16 coarse patches cover just the 36 fine ones that stay visible
