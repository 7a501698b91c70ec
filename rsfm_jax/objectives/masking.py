"""Anchor-aware masking in ground coordinates.

One member of the set, present and chosen at random or by its GSD, is the anchor and hides a random choice of its patches. Every other
member gets its policy from its relation to the anchor, by the table of `rsfm_jax.mask_rules`:

    consistent      shows the patches with the least ground that the anchor hides: another sensor cannot leak the answer
    complementary   shows the patches with the least ground that the anchor shows
    independent     draws anew; slots of one acquisition then follow that acquisition's first slot by the table
    full            is hidden whole, to be predicted from the others

Overlap is by area, so it works across GSDs and footprints that meet only in part. Where the counts force a member to show ground it should
not (a coarse patch over a fine random mask always holds some), it shows as little as can be, and `Masks.leaks` says how much. Ground beyond
the anchor's chip binds nobody: such patches come before forbidden ground, in a random order.

All of it is a function of one key per example. Each member keeps exactly ``visible_count`` patches; patches without a valid pixel are
hidden first, and a member without any is never the anchor.

Source: A2-MAE (arXiv 2406.08079), the intention its text states; the released code keeps only patches of the first image.

Legend: B batch, T members, N patches of a member, K visible patches; I J rows and columns of patches.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rsfm_jax.config import MaskConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.mask_rules import POLICIES, parse_table
from rsfm_jax.objectives.ground import NEVER_VISIBLE, draw_field, overlap_fractions
from rsfm_jax.objectives.relations import policy_numbers

_LEVELS = 256  # shares of ground are told apart to 1 / 256 of a patch; closer ones count as equal
_OFF_HALF = 0.137  # keeps shares that are equal on the ground off the edge between two levels
_EXACT = 1e-4  # of a patch: rounding in shares that are 1
_AROUND, _TIE = 0.4, 0.05  # weights of the ground beyond the anchor and of the random order, below one level together


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masks:
    """Masks of a batch, a tuple entry for each slot.

    Attributes:
      ids_keep: Visible patches, int32 (B, K).
      ids_restore: Place of each patch in the order (visible, removed); the inverse of that order, int32 (B, N).
      hidden: 1 where a patch is removed, bool (B, N); the whole member where its policy is `full`.
      shown: False where the whole member is hidden, bool (B,); its K patches must then not be read.
      leaks: Share of the ground a member must not show that it shows all the same, float32 (B,); 0 for members that nothing binds.
    """

    ids_keep: tuple[Any, ...]
    ids_restore: tuple[Any, ...]
    hidden: tuple[Any, ...]
    shown: tuple[Any, ...]
    leaks: tuple[Any, ...]


def visible_count(slot: Slot, ratio: float) -> int:
    """How many of a slot's patches stay visible: round(N (1 - ratio)).

    Raises:
      InputError: the ratio leaves no patch visible, or none hidden.
    """
    count = round(slot.tokens * (1.0 - ratio))
    if not 0 < count < slot.tokens:
        left = "no patch visible" if count == 0 else "no patch hidden"
        raise InputError(
            f"config.mask.ratio={ratio}: leaves {left} of the {slot.tokens} of {slot.sensor} ({slot.pixels} pixels, patch {slot.patch}); "
            f"must be between {1 / slot.tokens:.3g} and {1 - 1 / slot.tokens:.3g} for it"
        )
    return count


def sample_masks(
    keys_B: Key[Array, "B"],
    layout: Layout,
    config: MaskConfig,
    grids_m: Sequence[Float[Array, "B 4"]],
    times: Sequence[Float[Array, "B 3"]],
    real: Sequence[Bool[Array, "B _"]],
) -> Masks:
    """Draws the masks of a batch.

    Args:
      keys_B: One random key for each example, a function of seed and global index.
      layout: The sets' layout.
      config: Ratio, anchor and policies.
      grids_m: For each slot the pixel grid, float32 (B, 4); see `rsfm_jax.nn.positions.patch_centres_m`.
      times: For each slot known (1 or 0), year, day of year, float32 (B, 3).
      real: For each slot which patches hold a valid pixel, bool (B, N).

    Returns:
      The masks.

    Raises:
      InputError: a ratio that leaves a slot nothing visible or nothing hidden.
    """
    counts = [visible_count(slot, config.ratio) for slot in layout.slots]

    def one(key: jax.Array, grids: list[jax.Array], times: list[jax.Array], real_N: list[jax.Array]) -> Masks:
        return _Example(key, layout, config, counts, grids, times, real_N).masks()

    return jax.vmap(one)(keys_B, list(grids_m), list(times), list(real))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Order:
    """What an anchor makes of a member: scores (I, J), whether it is shown at all, and the ground it must not show, its share per patch."""

    scores_IJ: jax.Array
    shown: jax.Array
    forbidden_IJ: jax.Array
    forbidden_whole: jax.Array


class _Example:
    """The masks of one image set."""

    def __init__(
        self,
        key: jax.Array,
        layout: Layout,
        config: MaskConfig,
        counts: list[int],
        grids: list[jax.Array],
        times: list[jax.Array],
        real_N: list[jax.Array],
    ) -> None:
        self.slots, self.counts, self.grids, self.real_N = layout.slots, counts, grids, real_N
        self.members = range(len(layout.slots))
        self.leads = {i: group[0] for group in layout.acquisitions() for i in group}
        self.policies = policy_numbers(layout, parse_table(config.table), grids, times)
        slot_keys = [jax.random.fold_in(key, t + 1) for t in self.members]
        self.fields = [draw_field(slot_keys[t], layout.slots, t, counts[t], real_N[t]) for t in self.members]
        self.anchor = self._choose_anchor(jax.random.fold_in(key, 0), config.anchor)

    def _choose_anchor(self, key: jax.Array, choice: str) -> jax.Array:
        present_T = jnp.stack([real.any() for real in self.real_N])
        gsd_T = jnp.array([slot.gsd_m for slot in self.slots])
        preference_T = {"finest": -gsd_T, "coarsest": gsd_T, "random": jax.random.uniform(key, gsd_T.shape)}[choice]
        return jnp.argmax(jnp.where(present_T, preference_T, -jnp.inf))

    def masks(self) -> Masks:
        parts = [self._member(t) for t in self.members]
        return Masks(*(tuple(values) for values in zip(*parts, strict=True)))

    def _member(self, t: int) -> tuple[jax.Array, ...]:
        order = jax.tree.map(lambda *leaves: jnp.stack(leaves)[self.anchor], *[self._order(a, t) for a in self.members])
        ids = jnp.argsort(order.scores_IJ.reshape(-1) + NEVER_VISIBLE * ~self.real_N[t], stable=True)
        restore = jnp.argsort(ids)
        hidden = (restore >= self.counts[t]) | ~order.shown
        shows = ~hidden & self.real_N[t]
        leak = jnp.where(shows, order.forbidden_IJ.reshape(-1), 0.0).sum() / jnp.maximum(order.forbidden_whole, 1.0)
        return ids[: self.counts[t]], restore, hidden, order.shown, leak

    def _order(self, anchor: int, t: int) -> _Order:
        """A member's order under one anchor: the policies that the table may give are worked out, and the one that holds is taken."""
        if anchor == t:
            return self._own(t)
        possible, number = self.policies[anchor][t]
        orders = {p: self._by_policy(POLICIES[p], anchor, t) for p in sorted(possible)}
        chosen = orders[min(possible)]
        for p, order in orders.items():
            chosen = _where(number == p, order, chosen)
        return chosen

    def _by_policy(self, policy: str, anchor: int, t: int) -> _Order:
        if policy == "independent":
            lead = self.leads[t]
            return self._own(t) if lead in (t, anchor) else self._follow_lead(lead, t)
        if policy == "full":
            return dataclasses.replace(self._own(t), shown=jnp.array(False))
        return self._follow(anchor, t, shows_hidden=policy == "complementary")

    def _follow_lead(self, lead: int, t: int) -> _Order:
        """Slots of one acquisition stay together where the table says so; what binds them then is not the anchor, so nothing can leak."""
        follows = self._follow(lead, t, shows_hidden=False)
        _, number = self.policies[lead][t]
        order = _where(number == POLICIES.index("consistent"), follows, self._own(t))
        return dataclasses.replace(order, forbidden_IJ=jnp.zeros_like(order.forbidden_IJ))

    def _own(self, t: int) -> _Order:
        noise_IJ = self.fields[t].noise_IJ
        return _Order(noise_IJ, jnp.array(True), jnp.zeros_like(noise_IJ), jnp.zeros(()))

    def _follow(self, leader: int, t: int, shows_hidden: bool) -> _Order:
        """Ranks a member's patches by the share of their ground that it must not show, then by the ground around, then at random.

        Ties are broken by the noise of the leader and of the slot with the smallest patches, both by ground, so that members on one grid
        break them alike.
        """
        field = self.fields[leader]
        finest = min(self.members, key=lambda i: self.slots[i].patch * self.slots[i].gsd_m)

        def on_member(source: int, wide: jax.Array, pad: int) -> jax.Array:
            R, C = overlap_fractions(self.grids[t], self.slots[t], self.grids[source], self.slots[source], pad)
            return R @ wide @ C.T

        forbidden = 1.0 - field.hidden_IJ if shows_hidden else field.hidden_IJ
        share_IJ = on_member(leader, forbidden, 0)
        around_IJ = on_member(leader, field.wide_hidden_around, field.pad)
        tie_IJ = on_member(leader, field.wide_noise, field.pad) + on_member(finest, self.fields[finest].wide_noise, self.fields[finest].pad)
        undrawn_IJ = jnp.maximum(1.0 - _EXACT - on_member(leader, jnp.ones_like(field.wide_noise), field.pad), 0.0)
        around_IJ += undrawn_IJ * self.fields[t].hidden_IJ  # so far from the leader that its field ends: the member's own draw decides
        tie_IJ += undrawn_IJ * self.fields[t].noise_IJ
        scores_IJ = jnp.round(_LEVELS * share_IJ + _OFF_HALF) + _AROUND * around_IJ + _TIE * tie_IJ
        area, leader_area = (self.slots[i].patch ** 2 * self.grids[i][2] * self.grids[i][3] for i in (t, leader))
        return _Order(scores_IJ, jnp.array(True), share_IJ * area / leader_area, forbidden.sum())


def _where(condition: jax.Array, order: _Order, other: _Order) -> _Order:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), order, other)
