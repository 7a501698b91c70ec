"""Combinations of scenes at one place: which dates go together in an image set, and the draw among them.

Scenes are numbered by date and id, so a smaller number is an earlier scene. The scenes of one set are distinct. Acquisitions of one sensor
whose slots ask the same of their dates are in order of date, for any other order would be the same set again.
"""

from collections.abc import Iterator, Sequence
import hashlib
import itertools
import math

import numpy as np

from rsfm_jax.geo import Rect
from rsfm_jax.layouts import Layout

_MOST_ENUMERATED = 4096  # combinations of dates listed at one place; above that they are drawn
_MOST_VISITED = 16 * _MOST_ENUMERATED  # with those that come to nothing, where more than the order is asked
_DRAWS_PER_SET = 32
_DAY_US = 86_400_000_000


class DateRules:
    """What a layout asks of the dates of its members, acquisition by acquisition.

    Attributes:
      timed: Whether anything but the order is asked.
    """

    def __init__(self, layout: Layout, times_us: np.ndarray, seasons: np.ndarray, ids: Sequence[str]) -> None:
        """Reads the layout.

        Args:
          layout: The layout.
          times_us: Acquisition times by scene number, microseconds, int64.
          seasons: 0 to 3 by scene number: which quarter from December on; all that counts is whether they differ.
          ids: Scene ids by scene number.
        """
        slots = [[layout.slots[i] for i in numbers] for numbers in layout.acquisitions()]
        self._layout, self._times_us, self._seasons, self._ids = layout, times_us, seasons, ids
        self._sensors = [acquisition[0].sensor for acquisition in slots]
        self._roles = [(a[0].sensor, *sorted({(tuple(s.months), s.season, tuple(s.days)) for s in a})) for a in slots]
        self._timeless = [all(slot.timeless for slot in acquisition) for acquisition in slots]
        self._days = [[slot.days for slot in acquisition if slot.days] for acquisition in slots]
        self.timed = layout.max_days > 0 or layout.distinct_seasons or len(set(self._roles)) > len(set(self._sensors))
        self.timed = self.timed or any(self._days)
        self._last: tuple[tuple[bytes, ...], list[tuple[int, ...]] | None] = ((), None)

    def draw(self, pools: list[np.ndarray], seed: int, rect: Rect) -> list[tuple[int, ...]]:
        """Draws the combinations at one place.

        Args:
          pools: For each acquisition the numbers of the scenes that cover the place, ascending.
          seed: Of the draw; with the place and the layout's name it decides all.
          rect: The place.

        Returns:
          At most ``sets_per_place`` combinations, one scene number for each acquisition.
        """
        if not all(len(pool) for pool in pools):
            return []
        wanted, every = self._layout.sets_per_place, self._every(pools)
        if every is not None and len(every) <= wanted:
            return every
        token = f"{seed}:{self._layout.name}:{rect.left:.3f}:{rect.top:.3f}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(token, digest_size=8).digest(), "big"))
        if every is None:
            return self._ruled(pools, wanted, rng) if self.timed else self._ordered(pools, wanted, rng)
        return [every[i] for i in sorted(rng.choice(len(every), wanted, replace=False))]

    def _every(self, pools: list[np.ndarray]) -> list[tuple[int, ...]] | None:
        """All combinations, or None when they are too many; the last answer is kept, for neighbouring places ask the same."""
        key = tuple(pool.tobytes() for pool in pools)
        if self._last[0] != key:
            every: list[tuple[int, ...]] | None = None
            if self.timed or math.prod(len(pool) for pool in pools) <= _MOST_ENUMERATED:
                visited = list(itertools.islice(self._walk(pools, ()), _MOST_VISITED + 1))
                every = [combination for combination in visited if len(combination) == len(pools)]
                if len(visited) > _MOST_VISITED or len(every) > _MOST_ENUMERATED:
                    every = None
            self._last = (key, every)
        return self._last[1]

    def _walk(self, pools: list[np.ndarray], chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Combinations that begin with some scenes, in the order of the pools; beginnings that nothing goes with, too."""
        following = self._next(pools[len(chosen)], chosen).tolist() if len(chosen) < len(pools) else []
        if not following:
            yield chosen
        for number in following:
            yield from self._walk(pools, (*chosen, number))

    def _next(self, pool: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
        """The scenes of the next acquisition's pool that go with those chosen before."""
        a = len(chosen)
        kin = [number for other, number in enumerate(chosen) if self._roles[other] == self._roles[a]]
        if kin:
            pool = pool[np.searchsorted(pool, kin[-1], "right") :]
        same = [other for other in range(a) if self._sensors[other] == self._sensors[a]]
        if not self.timed or not chosen:
            return pool
        first, last = self._window(a, chosen)
        times_us = self._times_us[pool]
        pool = pool[np.searchsorted(times_us, first, "left") : np.searchsorted(times_us, last, "right")]
        pool = pool[~np.isin(pool, [chosen[other] for other in same])]
        if self._layout.distinct_seasons and not self._timeless[a]:
            pool = pool[~np.isin(self._seasons[pool], [self._seasons[chosen[o]] for o in same if not self._timeless[o]])]
        return pool

    def _window(self, a: int, chosen: tuple[int, ...]) -> tuple[int, int]:
        """Earliest and latest time that acquisition ``a`` may have, microseconds."""
        limits = np.iinfo(np.int64)
        first, last = limits.min, limits.max
        timed = [int(self._times_us[number]) for other, number in enumerate(chosen) if not self._timeless[other]]
        if self._layout.max_days > 0 and not self._timeless[a] and timed:
            span_us = round(self._layout.max_days * _DAY_US)
            first, last = max(timed) - span_us, min(timed) + span_us
        for least, most in self._days[a]:
            start_us = int(self._times_us[chosen[0]])
            first, last = max(first, start_us + round(least * _DAY_US)), min(last, start_us + round(most * _DAY_US))
        return min(first, limits.max), max(last, limits.min)

    def _ordered(self, pools: list[np.ndarray], wanted: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
        """Draws combinations of which nothing but the order is asked: scenes at random, put in order."""
        drawn: set[tuple[int, ...]] = set()
        members = [set(pool.tolist()) for pool in pools]
        for _ in range(_DRAWS_PER_SET * wanted):
            scenes = [int(pool[rng.integers(len(pool))]) for pool in pools]
            waiting = {
                sensor: iter(sorted(s for s, of in zip(scenes, self._sensors, strict=True) if of == sensor))
                for sensor in set(self._sensors)
            }
            combination = tuple(next(waiting[sensor]) for sensor in self._sensors)
            fits = all(scene in pool for scene, pool in zip(combination, members, strict=True))
            if fits and len(set(combination)) == len(combination) and len(drawn) < wanted:
                drawn.add(combination)
        return sorted(drawn, key=lambda combination: tuple(self._ids[number] for number in combination))

    def _ruled(self, pools: list[np.ndarray], wanted: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
        """Draws combinations acquisition by acquisition, each among those that go with the ones before."""
        drawn: set[tuple[int, ...]] = set()
        for _ in range(_DRAWS_PER_SET * wanted):
            chosen: tuple[int, ...] = ()
            for pool in pools:
                fitting = self._next(pool, chosen)
                if not len(fitting):
                    break
                chosen = (*chosen, int(fitting[rng.integers(len(fitting))]))
            if len(chosen) == len(pools) and len(drawn) < wanted:
                drawn.add(chosen)
        return sorted(drawn)

    def reach_us(self, a: int) -> tuple[int, int] | None:
        """How far before and after the first acquisition's time acquisition ``a`` may lie, microseconds; None: anywhere."""
        limits = []
        if self._layout.max_days > 0 and not self._timeless[a] and not self._timeless[0]:
            limits.append((-self._layout.max_days, self._layout.max_days))
        limits += self._days[a]
        if not limits:
            return None
        return round(max(least for least, _ in limits) * _DAY_US), round(min(most for _, most in limits) * _DAY_US)
