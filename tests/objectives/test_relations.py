"""Relations between members, measured per example, and the policy that a table gives for them."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import MaskConfig
from rsfm_jax.geo import year_and_day
from rsfm_jax.layouts import Layout
from rsfm_jax.mask_rules import POLICIES, parse_table
from rsfm_jax.objectives.masking import Masks
from rsfm_jax.objectives.relations import gap_days, overlap_share, policy_numbers
from tests.objectives.drawing import SAME_GROUND, UNKNOWN, centred, draw, shared_areas, slot


def date(day: int, year: int = 2020) -> np.ndarray:
    return np.array([1, year, day], np.float32)


def policies_seen(masks: Masks) -> list[str]:
    """The policy of the second member of SAME_GROUND in each example, from the masks of both."""
    seen = []
    for anchor, member, shown in zip(masks.hidden[0], masks.hidden[1], masks.shown[1], strict=True):
        if not shown:
            seen.append("full")
        elif (anchor == member).all():
            seen.append("consistent")
        else:
            seen.append("independent" if (~anchor & ~member).any() else "complementary")
    return seen


def policy_table(layout: Layout, *lines: str, **arrays: list[np.ndarray]) -> list[list[str]]:
    """Names of the policies, [anchor][member]."""
    grids = arrays.get("grids", [centred(s) for s in layout.slots])
    times = arrays.get("times", [UNKNOWN for _ in layout.slots])
    numbers = policy_numbers(layout, parse_table(lines), [jnp.asarray(g) for g in grids], [jnp.asarray(t) for t in times])
    for row in numbers:
        for possible, number in row:
            assert int(number) in possible
    return [[POLICIES[int(number)] for _, number in row] for row in numbers]


moments = st.datetimes(datetime.datetime(1984, 1, 1), datetime.datetime(2040, 1, 1))


@settings(max_examples=100, deadline=None)
@given(first=moments, days=st.floats(-400, 400))
def test_gaps_are_the_calendar_s(first, days):
    second = first + datetime.timedelta(days=days)
    gap = gap_days(*(jnp.array(year_and_day(moment), jnp.float32) for moment in (first, second)))
    assert abs(float(gap) - abs(days)) < 0.005


def test_new_year_is_one_day_after_new_year_s_eve():
    for year in (1999, 2000, 2019, 2020, 2100):
        eve = datetime.datetime(year, 12, 31)
        gap = gap_days(*(jnp.array(year_and_day(moment), jnp.float32) for moment in (eve, eve + datetime.timedelta(days=1))))
        assert float(gap) == 1


@settings(max_examples=50, deadline=None)
@given(place=st.tuples(st.floats(-900, 900), st.floats(-900, 900)), gsds=st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)))
def test_overlap_is_the_share_of_the_member_s_ground(place, gsds):
    member, anchor = (slot(gsd, 16, 4) for gsd in gsds)
    grids = centred(member, *place), centred(anchor)
    expected = shared_areas(member, grids[0], anchor, grids[1]).sum() / (16 * gsds[0]) ** 2
    found = overlap_share(jnp.asarray(grids[0]), member, jnp.asarray(grids[1]), anchor)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_sensor_acquisition_and_gsd_follow_from_the_layout():
    slots = (slot(10.0, 16, 4, acquisition="a"), slot(20.0, 8, 4, acquisition="a"), slot(10.0, 16, 4), slot(30.0, 8, 4, "landsat8_l1"))
    layout = Layout("all", slots)
    found = policy_table(layout, "acquisition=same: consistent", "sensor=same: independent", "any: full")
    assert found[0] == ["consistent", "consistent", "independent", "full"]
    assert found[2] == ["independent", "independent", "consistent", "full"]
    found = policy_table(layout, "sensor=other: full", "acquisition=other: independent", "any: consistent")
    assert found[1] == ["consistent", "consistent", "independent", "full"]
    assert found[3] == ["full", "full", "full", "consistent"]
    found = policy_table(layout, "gsd_ratio<=1: consistent", "gsd_ratio>2: full", "any: complementary")
    assert found[0] == ["consistent", "complementary", "consistent", "full"]
    assert found[3] == ["full", "complementary", "full", "consistent"]  # 30 over 20 is 1.5, whichever is the anchor


def test_several_conditions_must_all_hold():
    layout = Layout("all", (slot(10.0, 16, 4), slot(20.0, 8, 4), slot(20.0, 8, 4, "landsat8_l1")))
    times = [date(10), date(10), date(90)]
    lines = ("sensor=same and gsd_ratio>1 and gap_days<=3: full", "gsd_ratio>1 and gap_days>3: complementary", "any: consistent")
    assert policy_table(layout, *lines, times=times)[0] == ["consistent", "full", "complementary"]
    assert policy_table(layout, *lines, times=times)[1] == ["full", "consistent", "consistent"]


def test_the_first_line_that_holds_wins():
    layout = Layout("two", (slot(10.0, 16, 4), slot(10.0, 16, 4, "landsat8_l1")))
    for lines, wanted in (
        (("gap_days<=30: full", "gap_days<=3: complementary", "any: consistent"), "full"),
        (("gap_days<=3: complementary", "gap_days<=30: full", "any: consistent"), "complementary"),
        (("gap_days<=1: complementary", "gap_days<=30: full", "any: consistent"), "full"),
    ):
        assert policy_table(layout, *lines, times=[date(10), date(12)])[0][1] == wanted


def test_date_gaps_switch_the_policy_per_example():
    days = [date(100), date(103), date(104), date(97), date(96), date(100, 2021), UNKNOWN]
    first = np.stack([date(100)] * len(days) + [UNKNOWN, UNKNOWN])
    second = np.stack([*days, date(100), UNKNOWN])
    config = MaskConfig(anchor="finest", table=("gap_days<=3: full", "gap_days>3: complementary", "any: consistent"))
    seen = policies_seen(draw(SAME_GROUND, config, examples=9, times=[first, second]))
    assert seen == ["full", "full", "complementary", "full", *["complementary"] * 2, *["consistent"] * 3]


def test_a_gap_across_new_year_switches_the_policy_like_any_other():
    first, second = np.stack([date(364, 2019), date(365, 2020)]), np.stack([date(1, 2020), date(2, 2021)])
    config = MaskConfig(anchor="finest", table=("gap_days<=2: full", "any: consistent"))
    assert policies_seen(draw(SAME_GROUND, config, examples=2, times=[first, second])) == ["full", "consistent"]


def test_overlap_switches_the_policy_per_example():
    east = np.array([0.0, 310.0, 330.0, 639.0, 641.0, -310.0])  # the chips are 640 m wide
    grids = [np.stack([centred(SAME_GROUND.slots[0])] * 6), np.stack([centred(SAME_GROUND.slots[1], x) for x in east])]
    config = MaskConfig(anchor="finest", table=("overlap>0.5: full", "overlap<=0: independent", "any: consistent"))
    masks = draw(SAME_GROUND, config, examples=6, grids=grids)
    assert masks.shown[1].tolist() == [False, False, True, True, True, False]
    kept = policy_table(SAME_GROUND, "overlap>0.5: full", "overlap<=0: independent", "any: consistent", grids=[grids[0][4], grids[1][4]])
    assert kept[0][1] == "independent"


def test_overlap_is_of_the_member_s_ground_and_not_of_the_anchor_s():
    layout = Layout("nested", (slot(10.0, 64, 8), slot(10.0, 16, 8, "landsat8_l1")))
    found = policy_table(layout, "overlap>0.5: full", "any: consistent")
    assert found == [["full", "full"], ["consistent", "full"]]  # the small chip lies in the large one


@pytest.mark.parametrize(("limit", "policy"), [(29.9, "full"), (30, "consistent")])
def test_gsd_ratio_switches_the_policy_of_a_layout(limit, policy):
    layout = Layout("two", (slot(1.0, 64, 8), slot(30.0, 8, 1, "landsat8_l1")))
    masks = draw(layout, MaskConfig(anchor="finest", table=(f"gsd_ratio>{limit}: full", "any: consistent")), examples=4)
    assert (masks.shown[1] == (policy != "full")).all()
    assert masks.shown[0].all()


def test_policies_of_a_batch_are_those_of_its_examples():
    """What `vmap` makes of the table equals the table of each example alone."""
    rng = np.random.default_rng(0)
    lines = ("gap_days<=3 and overlap>0.5: full", "gap_days>30: independent", "overlap<=0.25: complementary", "any: consistent")
    grids = [np.stack([centred(s, *rng.uniform(-400, 400, 2)) for _ in range(50)]) for s in SAME_GROUND.slots]
    times = [np.stack([date(int(day)) * (rng.random() < 0.8) for day in rng.choice([10, 12, 30, 60], 50)]) for _ in range(2)]

    def number(grids: list[jax.Array], times: list[jax.Array]) -> jax.Array:
        return policy_numbers(SAME_GROUND, parse_table(lines), grids, times)[0][1][1]

    found = [POLICIES[n] for n in jax.vmap(number)([jnp.asarray(g) for g in grids], [jnp.asarray(t) for t in times])]
    expected = []
    for b in range(50):
        overlap = shared_areas(SAME_GROUND.slots[1], grids[1][b], SAME_GROUND.slots[0], grids[0][b]).sum() / 640.0**2
        known = times[0][b][0] * times[1][b][0] > 0
        gap = abs(times[0][b][2] - times[1][b][2])
        if known and gap <= 3 and overlap > 0.5:
            expected.append("full")
        elif known and gap > 30:
            expected.append("independent")
        else:
            expected.append("complementary" if overlap <= 0.25 else "consistent")
    assert found == expected
    assert set(found) == set(POLICIES)
