"""The masks: how many patches, whose, by which policy, and as a function of the key alone."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from rsfm_jax.config import MaskConfig, ParallelConfig, TokenizerConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.spec import token_layout
from rsfm_jax.objectives.masking import Masks, sample_masks, visible_count
from rsfm_jax.parallel.mesh import make_mesh
from tests.objectives.drawing import PYRAMID, SAME_GROUND, THREE_DATES, centred, compiled, draw, in_blocks, inputs, shares, slot

MANY = 600  # examples of PYRAMID, the same in all tests that share its programs


def assert_exact(layout: Layout, ratio: float, masks: Masks) -> None:
    """Asserts the count of visible patches of every member, and that each of them finds its place again."""
    for t, s in enumerate(layout.slots):
        keep, restore, hidden, shown = masks.ids_keep[t], masks.ids_restore[t], masks.hidden[t], masks.shown[t]
        count = round(s.tokens * (1 - ratio))
        assert keep.shape == (len(hidden), count)
        for b in range(len(hidden)):
            assert sorted(restore[b]) == list(range(s.tokens))
            np.testing.assert_array_equal(restore[b][keep[b]], np.arange(count))  # a kept patch returns to its place
            order = np.argsort(restore[b])
            np.testing.assert_array_equal(order[:count], keep[b])
            np.testing.assert_array_equal(order[restore[b]], np.arange(s.tokens))  # the inverse from both sides
            assert set(np.flatnonzero(~hidden[b])) == (set(keep[b]) if shown[b] else set())


@pytest.mark.parametrize(
    ("slots", "ratio"),
    [(((10.0, 28, 4), (20.0, 6, 2), (33.0, 5, 1)), 0.75), (((10.0, 12, 4), (1.0, 16, 2), (60.0, 10, 2)), 0.31)],
)
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.tuples(*[st.floats(0.03, 30)] * 3),
    places=st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=3, max_size=3),
    observed=st.sampled_from([1.0, 0.5, 0.02]),
    seed=st.integers(0, 2**30),
)
def test_every_member_keeps_exactly_its_share_and_finds_its_places_again(slots, ratio, sizes, places, observed, seed):
    layout = Layout("any", tuple(slot(*s, sensor) for s, sensor in zip(slots, ("naip", "landsat8_l1", "naip"), strict=True)))
    grids = [centred(slot(s.gsd_m * size, s.pixels, s.patch), *place) for s, size, place in zip(layout.slots, sizes, places, strict=True)]
    rng = np.random.default_rng(seed)
    real = [rng.random((4, s.tokens)) < observed for s in layout.slots]
    table = ("gap_days<=1: full", "overlap>0.3: complementary", "sensor=same: independent", "any: consistent")
    times = [np.tile(np.float32([1, 2020, day]), (4, 1)) for day in (0, 5, 0)]
    masks = draw(layout, MaskConfig(ratio=ratio, table=table), examples=4, grids=grids, times=times, real=real, seed=seed)
    assert_exact(layout, ratio, masks)


def test_a_ratio_that_leaves_nothing_visible_or_nothing_hidden_is_refused():
    assert [visible_count(slot(10.0, 56, 4), ratio) for ratio in (0.75, 0.6, 0.01, 0.99)] == [49, 78, 194, 2]
    two_by_two = slot(10.0, 8, 4)
    assert [visible_count(two_by_two, ratio) for ratio in (0.75, 0.5, 0.25)] == [1, 2, 3]
    with pytest.raises(InputError, match=r"mask\.ratio=0\.9: leaves no patch visible of the 4 of sentinel2_l1c \(8 pixels, patch 4\)"):
        visible_count(two_by_two, 0.9)
    with pytest.raises(InputError, match=r"mask\.ratio=0\.1: leaves no patch hidden of the 4 .* must be between 0\.25 and 0\.75 for it"):
        visible_count(two_by_two, 0.1)
    with pytest.raises(InputError, match="leaves no patch visible"):
        draw(Layout("small", (slot(10.0, 56, 4), two_by_two)), MaskConfig(ratio=0.9))


def test_another_sensor_on_the_same_grid_hides_exactly_the_same_ground():
    masks = draw(SAME_GROUND, examples=64)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    assert len({mask.tobytes() for mask in masks.hidden[0]}) == 64


def test_the_same_ground_is_hidden_where_the_leader_has_no_observation_either():
    real = [np.random.default_rng(0).random((64, 64)) < 0.7, np.ones((64, 64), bool)]
    masks = draw(SAME_GROUND, MaskConfig(anchor="finest"), examples=64, real=real)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])


def assert_independent(masks: Masks, members: tuple[int, ...]) -> None:
    """Asserts that members of 196 patches with 49 visible share as many of them as chance would have it."""
    for i, j in ((i, j) for i in members for j in members if i < j):
        both = (~masks.hidden[i] & ~masks.hidden[j]).sum(axis=1)
        assert (both < 49).all()
        assert 11 < both.mean() < 13.5  # 49 x 49 / 196 = 12.25 when independent


def test_other_dates_are_drawn_on_their_own():
    masks = draw(THREE_DATES, examples=64)
    assert_independent(masks, (0, 1, 2))
    assert not np.stack(masks.leaks).any()


def test_other_dates_follow_when_told_so():
    masks = draw(THREE_DATES, MaskConfig(table=("any: consistent",)), examples=64)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[2])


def test_a_full_member_is_hidden_whole_and_the_anchor_never_is():
    masks = draw(THREE_DATES, MaskConfig(table=("any: full",)), examples=64)
    shown, hidden = np.stack(masks.shown), np.stack(masks.hidden)
    assert (shown.sum(axis=0) == 1).all()  # the anchor
    assert (shown.sum(axis=1) > 5).all()  # each in turn
    assert hidden[~shown].all()
    assert (hidden[shown].sum(axis=1) == 196 - 49).all()
    assert not np.stack(masks.leaks).any()
    assert_exact(THREE_DATES, 0.75, masks)


def test_bands_of_one_moment_share_one_draw_whichever_of_them_is_the_anchor():
    slots = tuple(slot(gsd, int(640 / gsd), int(80 / gsd), acquisition=letter) for letter in "ab" for gsd in (10.0, 20.0))
    masks = draw(Layout("two_dates", slots), examples=64)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    np.testing.assert_array_equal(masks.hidden[2], masks.hidden[3])
    assert (masks.hidden[0] != masks.hidden[2]).any(axis=1).all()
    assert not np.stack(masks.leaks).any()


def test_the_leak_is_of_the_anchor_s_ground_alone():
    """A coarse band of another date shows what is hidden of that date, as the counts force it to; nothing of the anchor binds it."""
    slots = (slot(10.0, 64, 8, acquisition="a"), slot(20.0, 32, 4, acquisition="b"), slot(60.0, 12, 4, acquisition="b"))
    grids = [centred(s) for s in slots]
    masks = draw(Layout("two_dates", slots), MaskConfig(anchor="finest"), examples=32, grids=grids)
    shown = [shares(slots[2], grids[2], slots[1], grids[1], masks.hidden[1][b])[~masks.hidden[2][b]].sum() for b in range(32)]
    assert min(shown) > 0
    assert not np.stack(masks.leaks).any()


def test_groups_of_bands_of_one_slot_have_masks_of_their_own_when_told_so():
    tokenizer = TokenizerConfig(groups=("sentinel2_l3a: B02 | B03 | B04",))
    layout = token_layout(Layout("one", (Slot("sentinel2_l3a", ("B02", "B03", "B04"), 10.0, 56, 4),)), tokenizer).layout
    assert len(layout.slots) == 3
    masks = draw(layout, MaskConfig(table=("acquisition=same: independent", "any: consistent")), examples=64)
    assert_independent(masks, (0, 1, 2))
    masks = draw(layout, MaskConfig(), examples=64)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[2])


def test_patches_without_observation_are_hidden_first():
    rng = np.random.default_rng(0)
    real = [np.ones((MANY, s.tokens), bool) for s in PYRAMID.slots]
    real[1] = rng.random((MANY, 64)) < 0.4
    real[2] = rng.random((MANY, 16)) < 0.1  # fewer than the 4 that stay visible, often
    real[1][:, :16] = True  # at least the 16 that stay visible
    masks = draw(PYRAMID, MaskConfig(anchor="finest"), examples=MANY, real=real)
    assert not (~masks.hidden[1] & ~real[1]).any()
    seen = (~masks.hidden[2] & real[2]).sum(axis=1)
    np.testing.assert_array_equal(seen, np.minimum(4, real[2].sum(axis=1)))
    assert (seen < 4).any()
    assert not masks.leaks[2][seen == 0].any()  # what nobody observed tells nothing
    assert (masks.leaks[2][seen == 4] > 0).any()


def anchors_seen(anchor: str) -> np.ndarray:
    """The anchor of each example of PYRAMID: finer members follow a coarser anchor in whole blocks."""
    masks = draw(PYRAMID, MaskConfig(anchor=anchor), examples=MANY)
    by_coarsest = np.array([in_blocks(mask, 16, 4) for mask in masks.hidden[0]])
    by_middle = np.array([in_blocks(mask, 16, 2) for mask in masks.hidden[0]])
    return np.where(by_coarsest, 2, np.where(by_middle, 1, 0))


def test_random_anchors_are_each_member_in_turn():
    counts = np.bincount(anchors_seen("random"), minlength=3)
    assert (abs(counts - MANY / 3) < 60).all(), counts  # five standard deviations


@pytest.mark.parametrize(("anchor", "member"), [("finest", 0), ("coarsest", 2)])
def test_anchors_by_gsd(anchor, member):
    assert (anchors_seen(anchor) == member).all()


@pytest.mark.parametrize("anchor", ["random", "finest", "coarsest"])
def test_a_member_without_any_observation_is_never_the_anchor(anchor):
    """All but the anchor are hidden whole, so the anchor is the one that is shown."""
    slots = tuple(slot(gsd, 16, 4, sensor) for gsd, sensor in ((10.0, "naip"), (20.0, "landsat8_l1"), (30.0, "landsat7_l1")))
    present = np.array([[i >> t & 1 for t in range(3)] for i in range(1, 8)] * 40, bool)  # all ways in which one is there
    real = [np.broadcast_to(present[:, t : t + 1], (280, 16)).copy() for t in range(3)]
    for member in real:
        member[:, 1:] &= np.random.default_rng(1).random((280, 15)) < 0.5  # one patch is enough
    masks = draw(Layout("gaps", slots), MaskConfig(anchor=anchor, table=("any: full",)), examples=280, real=real)
    shown = np.stack(masks.shown, axis=1)
    assert (shown.sum(axis=1) == 1).all()
    assert present[shown].all()
    chosen = shown.argmax(axis=1)
    if anchor == "random":
        assert {tuple(present[chosen == t].any(axis=0)) for t in range(3)} == {(True, True, True)}
    else:
        first = present.argmax(axis=1) if anchor == "finest" else 2 - present[:, ::-1].argmax(axis=1)
        np.testing.assert_array_equal(chosen, first)


def test_masks_depend_on_the_key_and_not_on_the_row():
    keys = jax.random.split(jax.random.key(3), 16)
    order = np.random.default_rng(0).permutation(16)
    grids = [np.stack([centred(s, 17.0 * b * i, -3.0 * b) for b in range(16)]) for i, s in enumerate(SAME_GROUND.slots)]
    days = np.random.default_rng(0).uniform(0, 20, (2, 16))
    times = [np.stack([np.ones(16), np.full(16, 2020.0), day], axis=1).astype(np.float32) for day in days]
    real = [np.random.default_rng(i).random((16, s.tokens)) < 0.9 for i, s in enumerate(SAME_GROUND.slots)]
    table = ("gap_days<=3: complementary", "overlap>0.9: consistent", "any: full")
    sample = compiled(repr(SAME_GROUND), repr(MaskConfig(table=table)))
    masks = sample(keys, grids, times, real)
    assert 0.6 < np.stack(masks.shown).mean() < 1  # the policies differ from example to example
    again = sample(keys[order], *([x[order] for x in part] for part in (grids, times, real)))
    for ours, theirs in zip(jax.tree.leaves(masks), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours[order], theirs)


@pytest.mark.parametrize(("data", "fsdp"), [(2, 4), (4, 2)])
def test_masks_are_the_same_on_any_mesh(data, fsdp):
    mesh = make_mesh(ParallelConfig(data, fsdp), jax.devices()[: data * fsdp])
    keys = jax.random.split(jax.random.key(5), 64)
    grids = [np.stack([centred(s, 11.0 * b, 5.0 * b) for b in range(64)]) for s in SAME_GROUND.slots]
    batch = inputs(SAME_GROUND, 64, grids)
    expected = compiled(repr(SAME_GROUND), repr(MaskConfig()))(keys, *batch)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    placed = jax.device_put((keys, *batch), sharding)
    found = jax.jit(lambda k, g, t, r: sample_masks(k, SAME_GROUND, MaskConfig(), g, t, r), out_shardings=sharding)(*placed)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
