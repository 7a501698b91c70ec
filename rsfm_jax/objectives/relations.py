"""Relations between the members of a set, and the policy that the table gives for each pair.

What follows from the layout alone (sensor, acquisition, GSD) is settled when the program is compiled; date gaps and overlaps are arrays.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.mask_rules import POLICIES, Condition, Rule
from rsfm_jax.nn.dates import EPOCH_YEAR

Policies = list[list[tuple[set[int], jax.Array]]]


def policy_numbers(
    layout: Layout, rules: Sequence[Rule], grids_m: Sequence[Float[Array, "4"]], times: Sequence[Float[Array, "3"]]
) -> Policies:
    """The policy of each member under each anchor, for one image set.

    Args:
      layout: The set's layout.
      rules: The table, from `rsfm_jax.mask_rules.parse_table`.
      grids_m: For each slot the pixel grid, float32 (4,).
      times: For each slot known, year, day of year, float32 (3,).

    Returns:
      ``[anchor][member]``: which policies it can be in this layout, and which it is, an int32 scalar; numbers into `POLICIES`.
    """
    return [
        [_policy(rules, layout, anchor, member, grids_m, times) for member in range(len(layout.slots))]
        for anchor in range(len(layout.slots))
    ]


def _policy(
    rules: Sequence[Rule], layout: Layout, anchor: int, member: int, grids_m: Sequence[jax.Array], times: Sequence[jax.Array]
) -> tuple[set[int], jax.Array]:
    possible, number, open_ = set(), jnp.zeros((), jnp.int32), jnp.array(True)
    for rule in rules:
        held = [_holds(condition, layout, anchor, member, grids_m, times) for condition in rule.conditions]
        if any(h is False for h in held):
            continue
        holds = open_
        for h in held:
            holds = holds & h
        policy = POLICIES.index(rule.policy)
        possible.add(policy)
        number, open_ = jnp.where(holds, policy, number), open_ & ~holds
        if all(h is True for h in held):
            break
    return possible, number


def _holds(
    condition: Condition, layout: Layout, anchor: int, member: int, grids_m: Sequence[jax.Array], times: Sequence[jax.Array]
) -> bool | jax.Array:
    a, m = layout.slots[anchor], layout.slots[member]
    if condition.relation == "sensor":
        return (a.sensor == m.sensor) == (condition.value == "same")
    if condition.relation == "acquisition":
        return any(anchor in group and member in group for group in layout.acquisitions()) == (condition.value == "same")
    limit, at_most = float(condition.value), condition.operator == "<="
    if condition.relation == "gsd_ratio":
        return (max(a.gsd_m, m.gsd_m) / min(a.gsd_m, m.gsd_m) <= limit) == at_most
    if condition.relation == "overlap":
        share = overlap_share(grids_m[member], m, grids_m[anchor], a)
        return share <= limit if at_most else share > limit
    gap = gap_days(times[anchor], times[member])
    known = (times[anchor][0] > 0) & (times[member][0] > 0)
    return known & (gap <= limit if at_most else gap > limit)


def overlap_share(grid_m_4: Float[Array, "4"], slot: Slot, other_grid_m_4: Float[Array, "4"], other: Slot) -> Float[Array, ""]:
    """Share of a member's ground that lies in another's chip, float32 scalar."""

    def shared(start: jax.Array, size: jax.Array, other_start: jax.Array, other_size: jax.Array) -> jax.Array:
        return jnp.maximum(jnp.minimum(start + size, other_start + other_size) - jnp.maximum(start, other_start), 0.0) / size

    east = shared(grid_m_4[0], slot.pixels * grid_m_4[2], other_grid_m_4[0], other.pixels * other_grid_m_4[2])
    return east * shared(-grid_m_4[1], slot.pixels * grid_m_4[3], -other_grid_m_4[1], other.pixels * other_grid_m_4[3])


def gap_days(time_3: Float[Array, "3"], other_time_3: Float[Array, "3"]) -> Float[Array, ""]:
    """Days between two known dates, across leap years too, to a few minutes, float32 scalar."""

    def leap_days(year: jax.Array | float) -> jax.Array:
        """Of the years before."""
        return jnp.floor((year - 1) / 4) - jnp.floor((year - 1) / 100) + jnp.floor((year - 1) / 400)

    days, other = (365 * (t[1] - EPOCH_YEAR) + leap_days(t[1]) - leap_days(EPOCH_YEAR) + t[2] for t in (time_3, other_time_3))
    return jnp.abs(days - other)
