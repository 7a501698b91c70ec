"""Masks drawn for made-up layouts, and the ground of their patches as plain rectangles."""

from collections.abc import Callable, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.config import MaskConfig
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.objectives.masking import Masks, sample_masks

UNKNOWN = np.zeros(3, np.float32)  # a date


def slot(gsd_m: float, pixels: int, patch: int, sensor: str = "sentinel2_l1c", acquisition: str = "") -> Slot:
    return Slot(sensor, ("B02",), gsd_m, pixels, patch, acquisition)


def centred(slot: Slot, east_m: float = 0.0, north_m: float = 0.0) -> np.ndarray:
    half = slot.pixels * slot.gsd_m / 2
    return np.array([east_m - half, north_m + half, slot.gsd_m, slot.gsd_m], np.float32)


@functools.cache
def compiled(layout_text: str, config_text: str) -> Callable[..., Masks]:
    """`sample_masks` of a layout and a config, given as the text that makes them: neither can be hashed."""
    layout, config = (eval(text, {"Layout": Layout, "Slot": Slot, "MaskConfig": MaskConfig}) for text in (layout_text, config_text))
    return jax.jit(lambda keys, grids, times, real: sample_masks(keys, layout, config, grids, times, real))


def draw(
    layout: Layout,
    config: MaskConfig | None = None,
    examples: int = 8,
    grids: Sequence[np.ndarray] | None = None,
    times: Sequence[np.ndarray] | None = None,
    real: Sequence[np.ndarray] | None = None,
    seed: int = 0,
) -> Masks:
    """Masks of a batch, as numpy arrays; grids and times with or without the batch's axis."""
    keys = jax.random.split(jax.random.key(seed), examples)
    return jax.device_get(compiled(repr(layout), repr(config or MaskConfig()))(keys, *inputs(layout, examples, grids, times, real)))


def inputs(
    layout: Layout,
    examples: int,
    grids: Sequence[np.ndarray] | None = None,
    times: Sequence[np.ndarray] | None = None,
    real: Sequence[np.ndarray] | None = None,
) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """Grids, dates and observed patches of a batch: chips around one point, unknown dates and all patches unless told otherwise."""
    grids = [centred(s) for s in layout.slots] if grids is None else grids
    times = [UNKNOWN for _ in layout.slots] if times is None else times
    real = [np.ones((examples, s.tokens), bool) for s in layout.slots] if real is None else real
    wide = [[jnp.broadcast_to(jnp.asarray(x, jnp.float32), (examples, x.shape[-1])) for x in part] for part in (grids, times)]
    return wide[0], wide[1], [jnp.asarray(r) for r in real]


def shared_areas(slot: Slot, grid_m: np.ndarray, other: Slot, other_grid_m: np.ndarray) -> np.ndarray:
    """Square metres that each patch of a member shares with each of another, (N, N2): rectangles intersected one by one."""
    ours, theirs = rectangles(slot, grid_m)[:, None], rectangles(other, other_grid_m)[None]
    width = np.minimum(ours[..., 2], theirs[..., 2]) - np.maximum(ours[..., 0], theirs[..., 0])
    height = np.minimum(ours[..., 3], theirs[..., 3]) - np.maximum(ours[..., 1], theirs[..., 1])
    return np.maximum(width, 0.0) * np.maximum(height, 0.0)


def rectangles(slot: Slot, grid_m: np.ndarray) -> np.ndarray:
    """Left, bottom, right, top of every patch, row by row, float64 (N, 4)."""
    left, top, width, height = (float(x) for x in grid_m)
    east, south = slot.patch * width, slot.patch * height
    return np.array(
        [
            (left + j * east, top - (i + 1) * south, left + (j + 1) * east, top - i * south)
            for i in range(slot.grid)
            for j in range(slot.grid)
        ]
    )


def shares(slot: Slot, grid_m: np.ndarray, leader: Slot, leader_grid_m: np.ndarray, chosen_N: np.ndarray) -> np.ndarray:
    """The share of each patch's ground that lies in some of the leader's patches."""
    areas = shared_areas(slot, grid_m, leader, leader_grid_m)[:, chosen_N].sum(axis=1)
    return areas / (slot.patch**2 * float(grid_m[2]) * float(grid_m[3]))


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
