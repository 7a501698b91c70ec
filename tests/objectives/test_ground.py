"""What followers show and hide, against rectangles intersected one by one: the least forbidden ground, and how much of it."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import MaskConfig
from rsfm_jax.layouts import Layout
from rsfm_jax.objectives.ground import draw_field, overlap_fractions
from rsfm_jax.objectives.masking import Masks, visible_count
from tests.objectives.drawing import PYRAMID, SAME_GROUND, THREE_GSDS, centred, draw, shared_areas, shares, slot

LEVEL = 1 / 256  # shares of a patch closer than this count as equal
EXACT = 2e-4  # float32 positions of small patches far from the set's centre

# Where members lie and their GSD come from their grids, which are arrays: four programs for each policy do for all geometries.
CASES = (
    (Layout("squares", (slot(10.0, 64, 8), slot(20.0, 32, 4, "landsat8_l1"))), 0.75),
    (Layout("fine", (slot(10.0, 48, 4), slot(30.0, 10, 2, "landsat8_l1"))), 0.6),
    (Layout("coarse", (slot(10.0, 30, 5), slot(12.0, 48, 3, "landsat8_l1"))), 0.9),
    (Layout("sixty", (slot(1.0, 32, 4), slot(60.0, 8, 2, "landsat8_l1"))), 0.75),  # fields are padded by the slots' own GSDs
)


def placed(patch_m: tuple[float, float], layout: Layout, place: tuple[float, float]) -> list[np.ndarray]:
    """Grids of two members with patches of these sizes: the chips meet with their edges at a place of 1, and do not meet beyond."""
    sides = [size * s.grid for size, s in zip(patch_m, layout.slots, strict=True)]
    gsds = [size / s.patch for size, s in zip(patch_m, layout.slots, strict=True)]
    east, north = (x * sum(sides) / 2 for x in place)
    centres = ((east / 3, north / 3), (-2 * east / 3, -2 * north / 3))  # neither has the set's centre in its own
    return [np.array([x - side / 2, y + side / 2, gsd, gsd], np.float32) for (x, y), side, gsd in zip(centres, sides, gsds, strict=True)]


def assert_least_forbidden(
    layout: Layout,
    grids: list[np.ndarray],
    masks: Masks,
    leader: int,
    member: int,
    policy: str = "consistent",
    real: np.ndarray | None = None,
) -> np.ndarray:
    """Asserts that a member shows no forbidden ground it could have left out, and that its leak is the true one; returns the shares."""
    ours, theirs = (layout.slots[member], grids[member]), (layout.slots[leader], grids[leader])
    patch_m2, leader_patch_m2 = (s.patch**2 * float(grid[2]) * float(grid[3]) for s, grid in (ours, theirs))
    found = []
    for b, hidden in enumerate(masks.hidden[member]):
        forbidden = masks.hidden[leader][b] if policy == "consistent" else ~masks.hidden[leader][b]
        share = shares(*ours, *theirs, forbidden)
        observed = np.ones(len(share), bool) if real is None else real[b]
        shown, left_out = ~hidden & observed, hidden & observed
        count = min((~hidden).sum(), observed.sum())
        assert shown.sum() == count
        assert share[shown].sum() <= np.sort(share[observed])[:count].sum() + count * (LEVEL + EXACT)
        if left_out.any() and count:
            assert share[shown].max() <= share[left_out].min() + LEVEL + EXACT
        leak = share[shown].sum() * patch_m2 / (forbidden.sum() * leader_patch_m2)
        np.testing.assert_allclose(masks.leaks[member][b], leak, atol=EXACT, rtol=1e-3)
        assert masks.leaks[leader][b] == 0
        found.append(share)
    return np.stack(found)


@pytest.mark.parametrize("policy", ["consistent", "complementary"])
@settings(max_examples=80, deadline=None)
@given(
    case=st.sampled_from(CASES),
    gsd_ratio=st.floats(0, 1).map(lambda x: 60**x),
    anchor_is_coarse=st.booleans(),
    place=st.tuples(st.floats(-1.3, 1.3), st.floats(-1.3, 1.3)),
    observed=st.sampled_from([1.0, 0.7, 0.1]),
    seed=st.integers(0, 2**30),
)
def test_a_follower_shows_the_least_forbidden_ground_wherever_it_lies(policy, case, gsd_ratio, anchor_is_coarse, place, observed, seed):
    (layout, ratio), gsds_m = case, (10.0, 10.0 * gsd_ratio)
    patch_m = tuple(g * s.patch for g, s in zip(gsds_m[:: -1 if anchor_is_coarse else 1], layout.slots, strict=True))
    grids = placed(patch_m, layout, place)
    real = [np.ones((2, layout.slots[0].tokens), bool), np.random.default_rng(seed).random((2, layout.slots[1].tokens)) < observed]
    config = MaskConfig(ratio=ratio, anchor="finest", table=(f"any: {policy}",))
    masks = draw(layout, config, examples=2, grids=grids, real=real, seed=seed)
    assert_least_forbidden(layout, grids, masks, 0, 1, policy, real[1])


@pytest.mark.parametrize("policy", ["consistent", "complementary"])
@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    times=st.integers(1, 16),
    anchor_is_coarse=st.booleans(),
    shift=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    seed=st.integers(0, 2**30),
)
def test_nothing_leaks_where_grids_nest_and_a_choice_without_leak_exists(policy, case, times, anchor_is_coarse, shift, seed):
    layout, ratio = case
    patch_m = (40.0 * times, 40.0) if anchor_is_coarse else (40.0, 40.0 * times)
    grids = [np.array([0, 0, size / s.patch, size / s.patch], np.float32) for size, s in zip(patch_m, layout.slots, strict=True)]
    grids[1][:2] += 40.0 * np.float32(shift)
    config = MaskConfig(ratio=ratio, anchor="finest", table=(f"any: {policy}",))
    masks = draw(layout, config, examples=2, grids=grids, seed=seed)
    share = assert_least_forbidden(layout, grids, masks, 0, 1, policy)
    free = (share < 1e-5).sum(axis=1) >= visible_count(layout.slots[1], ratio)
    assert (masks.leaks[1][free] < 1e-6).all()
    assert (masks.leaks[1][~free] > 1e-5).all()


@pytest.mark.parametrize(("anchor", "leader", "followers"), [("finest", 0, (1, 2)), ("coarsest", 2, (0, 1))])
def test_followers_of_one_acquisition_hide_what_the_anchor_hides(anchor, leader, followers):
    grids = [centred(s) for s in THREE_GSDS.slots]
    masks = draw(THREE_GSDS, MaskConfig(anchor=anchor), grids=grids)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    for member in followers:
        assert_least_forbidden(THREE_GSDS, grids, masks, leader, member)


def test_a_complementary_member_shows_just_what_the_anchor_hides():
    masks = draw(PYRAMID, MaskConfig(anchor="coarsest", table=("any: complementary",)), examples=64)
    anchor_shows = ~masks.hidden[2].reshape(64, 4, 4)
    for member, times in ((0, 4), (1, 2)):
        there = anchor_shows.repeat(times, axis=1).repeat(times, axis=2).reshape(64, -1)
        assert not (there & ~masks.hidden[member]).any()
        assert not masks.leaks[member].any()


def test_patches_beyond_the_anchor_come_before_forbidden_ground_and_at_random():
    layout = Layout("inside", (slot(10.0, 32, 8), slot(20.0, 32, 4, "landsat8_l1")))  # 4 x 4 in the middle of 8 x 8 patches of 80 m
    masks = draw(layout, MaskConfig(anchor="finest"), examples=1200)
    shown = ~masks.hidden[1].reshape(-1, 8, 8)
    assert not (shown[:, 2:6, 2:6] & masks.hidden[0].reshape(-1, 4, 4)).any()
    assert not masks.leaks[1].any()
    beyond = np.ones((8, 8), bool)
    beyond[2:6, 2:6] = False
    frequency = shown.mean(axis=0)[beyond]
    assert 12 <= 48 * frequency.mean() <= 16  # the 4 patches that the anchor shows leave at least 12 of 16
    assert abs(frequency - frequency.mean()).max() < 5 * np.sqrt(0.25 / 1200)
    pairs = np.corrcoef(shown[:, beyond].T)[~np.eye(48, dtype=bool)]
    assert abs(pairs).max() < 0.2  # about -1 / 47 each, five standard deviations of 0.03 around it


@pytest.mark.parametrize(("east_m", "least"), [(5000.0, 0.2), (700.0, 0.05), (330.0, 0.05)])
def test_ground_far_from_the_anchor_is_shown_at_random_too(east_m, least):
    grids = [centred(SAME_GROUND.slots[0]), centred(SAME_GROUND.slots[1], east_m)]
    masks = draw(SAME_GROUND, MaskConfig(anchor="finest"), examples=1000, grids=grids)
    beyond = shares(SAME_GROUND.slots[1], grids[1], SAME_GROUND.slots[0], grids[0], np.ones(64, bool)) == 0
    frequency = (~masks.hidden[1]).mean(axis=0)[beyond]
    assert least < frequency.min()
    assert frequency.max() < 0.5
    assert len({mask.tobytes() for mask in masks.hidden[1]}) == 1000


def assert_nobody_favoured(layout: Layout, config: MaskConfig, examples: int) -> None:
    masks = draw(layout, config, examples)
    for s, hidden in zip(layout.slots, masks.hidden, strict=True):
        expected = visible_count(s, config.ratio) / s.tokens
        deviation = np.sqrt(expected * (1 - expected) / examples)
        assert abs((~hidden).mean(axis=0) - expected).max() < 5 * deviation


@pytest.mark.parametrize("anchor", ["finest", "coarsest", "random"])
def test_no_patch_is_favoured_where_chips_cover_the_same_ground(anchor):
    assert_nobody_favoured(PYRAMID, MaskConfig(anchor=anchor), 600)


@pytest.mark.parametrize("anchor", ["finest", "coarsest"])
def test_no_patch_is_favoured_where_counts_force_a_leak(anchor):
    layout = Layout("two", (slot(10.0, 64, 4), slot(40.0, 16, 4, "landsat8_l1")))
    assert_nobody_favoured(layout, MaskConfig(ratio=0.6, anchor=anchor), 2000)  # 102 of 256 patches are more than 6 of 16


@pytest.mark.parametrize("leader", [0, 1])
@pytest.mark.parametrize("layout", [layout for layout, _ in CASES], ids=lambda layout: layout.name)
def test_a_field_reaches_as_far_as_any_member_that_was_snapped(layout, leader):
    leads, member = layout.slots[leader], layout.slots[1 - leader]
    field = draw_field(jax.random.key(0), layout.slots, leader, 1, jnp.ones(leads.tokens, bool))
    for east_m, north_m in ((member.gsd_m, 0.0), (0.0, -member.gsd_m)):
        grids = jnp.asarray(centred(member, east_m, north_m)), jnp.asarray(centred(leads))
        for part in overlap_fractions(grids[0], member, grids[1], leads, field.pad):
            np.testing.assert_allclose(part.sum(axis=1), 1.0, atol=EXACT)


def test_overlap_fractions_are_areas_of_rectangles():
    a, b = slot(10.0, 24, 8), slot(20.0, 12, 4, "landsat8_l1")
    grid_a, grid_b = centred(a, 35.0, -20.0), centred(b, -110.0, 70.0)
    R, C = overlap_fractions(jnp.asarray(grid_a), a, jnp.asarray(grid_b), b)
    ours = np.einsum("ik,jl->ijkl", R, C).reshape(a.tokens, b.tokens)
    brute = shared_areas(a, grid_a, b, grid_b) / 80.0**2
    np.testing.assert_allclose(ours, brute, atol=1e-5)
    assert 0.2 < brute.sum() < a.tokens  # the case has overlap, and ground that is not shared


def test_overlap_fractions_go_on_beyond_the_chip():
    a, b = slot(10.0, 24, 8), slot(20.0, 12, 4, "landsat8_l1")
    grid_a, grid_b = centred(a, 35.0, -20.0), centred(b, -110.0, 70.0)
    R, C = overlap_fractions(jnp.asarray(grid_a), a, jnp.asarray(grid_b), b, pad=3)
    wider, wider_grid = slot(20.0, 36, 4), centred(slot(20.0, 36, 4), -110.0, 70.0)
    brute = shared_areas(a, grid_a, wider, wider_grid) / 80.0**2
    np.testing.assert_allclose(np.einsum("ik,jl->ijkl", R, C).reshape(a.tokens, wider.tokens), brute, atol=1e-5)
    np.testing.assert_allclose(brute.sum(axis=1), 1.0)


def test_bands_on_one_grid_share_their_mask_even_where_a_coarser_anchor_leaves_ties():
    layout = Layout("bands", (slot(10, 72, 8, acquisition="a"), slot(20, 36, 4, acquisition="a"), slot(60, 12, 4, acquisition="a")))
    masks = draw(layout, examples=300)
    np.testing.assert_array_equal(masks.hidden[0], masks.hidden[1])
    whole_blocks = (~masks.hidden[0]).reshape(300, 3, 3, 3, 3).all(axis=(2, 4)).sum(axis=(1, 2))
    assert 60 < (whole_blocks == 2).sum() < 140  # where the coarse one is the anchor: 18 of the 20 patches


def test_nested_members_show_nothing_of_what_a_coarsest_anchor_hides():
    layout = Layout("bands", (slot(10, 96, 8, acquisition="a"), slot(60, 16, 4, acquisition="a")))
    masks = draw(layout, MaskConfig(anchor="coarsest"), examples=200)
    fine_hidden = masks.hidden[0].reshape(-1, 4, 3, 4, 3).any(axis=(2, 4)).reshape(200, 16)
    assert not (fine_hidden & ~masks.hidden[1]).any()  # 4 of 16 coarse patches cover just the 36 fine ones that stay visible
    assert not masks.leaks[0].any()
