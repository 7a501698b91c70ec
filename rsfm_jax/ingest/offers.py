"""What scenes offer: the ground of every scene that can fill an acquisition, in the coordinate systems that places are laid out in."""

import dataclasses
import functools

import numpy as np

from rsfm_jax.geo import Rect
from rsfm_jax.ingest.footprints import Footprints, Systems, footprints
from rsfm_jax.ingest.places import common_rect, ground_rect
from rsfm_jax.ingest.raster import OpenScene
from rsfm_jax.layouts import Slot

_COVERS_KEPT = 1 << 16


class Pool:
    """The scenes that can fill an acquisition, or that are the terrain below one, with the ground they offer.

    Attributes:
      scenes: The scenes; a position is an index of it.
      slots: The acquisition's slots.
      numbers: The scenes' numbers by date and id, int64.
      native: Whether a slot takes the scene's own pixels, so that only scenes of the places' coordinate system count.
      prints: The footprints, in the order of the scenes.
    """

    def __init__(self, scenes: list[OpenScene], slots: list[Slot], numbers: np.ndarray, systems: Systems) -> None:
        """Gathers the footprints; see the attributes, and `Systems` numbers the coordinate systems."""
        self.scenes, self.slots, self.numbers = scenes, slots, numbers
        self.native = any(slot.resample == "none" for slot in slots)
        grounds = []
        for scene in scenes:
            common = common_rect(scene, slots[0].source_bands)
            for slot in slots[1:]:
                common = common.intersection(common_rect(scene, slot.source_bands))
            grounds.append((scene.crs, common))
        self.prints: Footprints = footprints(systems, grounds)
        self._known_cover = functools.lru_cache(_COVERS_KEPT)(self._cover)

    def _cover(self, position: int, target: int) -> tuple[float, float, float, float] | None:
        """The ground that a scene offers in a coordinate system."""
        systems = self.prints.systems
        if self.prints.system[position] == target:
            left, bottom, right, top = self.prints.bounds[position].tolist()
            return left, bottom, right, top
        if self.native:
            return None
        common = ground_rect(self.scenes[position], self.slots[0], systems.known[target])
        for slot in self.slots[1:]:
            common = common.intersection(ground_rect(self.scenes[position], slot, systems.known[target]))
        return common.left, common.bottom, common.right, common.top

    def offers(self, positions: np.ndarray, target: int, edge_m: float) -> "Offers":
        """What some scenes offer.

        Args:
          positions: Of the scenes, int64.
          target: Number of the coordinate system.
          edge_m: How far a place may reach beyond a scene, metres.

        Returns:
          The ground of those that can be laid out there.
        """
        covers = [(position, cover) for position in positions.tolist() if (cover := self._known_cover(position, target))]
        edges = np.array([cover for _, cover in covers], np.float64).reshape(-1, 4)
        return Offers(np.array([position for position, _ in covers], np.int64), edges + [-edge_m, -edge_m, edge_m, edge_m])


@dataclasses.dataclass(frozen=True)
class Offers:
    """The ground that scenes offer to the places of one grid.

    Attributes:
      positions: Of the scenes in their pool, int64 (n,).
      edges: Left, bottom, right and top, a tolerance included, float64 (n, 4).
    """

    positions: np.ndarray
    edges: np.ndarray

    def at(self, rect: Rect) -> np.ndarray:
        """Positions of the scenes that cover a place."""
        low, high = (rect.left, rect.bottom), (rect.right, rect.top)
        return self.positions[(self.edges[:, :2] <= low).all(axis=1) & (self.edges[:, 2:] >= high).all(axis=1)]
