"""Members of an image set as tiles that show the same ground, so that they can be compared by eye.

Legend: H W pixels of a member or of a tile.
"""

import dataclasses
import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rsfm_jax.display import INVALID, shown_channels, stretch_limits, stretched
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.report.sampling import member_values
from rsfm_jax.layouts import Layout, Slot

UNSEEN = (0.93, 0.93, 0.93)  # ground that a member does not reach
MARGIN = 7  # pixels around the ground, for the marks
_LEAST, _MOST = 240, 720  # pixels along a tile
_QUARTERS, _SQUARES = 4, 6
_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Tile:
    """One picture of a set.

    Attributes:
      image: uint8 (H, W, 3) with `MARGIN` around the ground.
      title: What it is.
      notes: Date, bands, stretch.
    """

    image: np.ndarray
    title: str
    notes: str

    def png(self) -> bytes:
        """The image as a PNG file's content."""
        stream = io.BytesIO()
        Image.fromarray(self.image).save(stream, format="png", optimize=True)
        return stream.getvalue()


def common_ground(layout: Layout, record: dict[str, Any]) -> Rect:
    """The ground that the members cover together, in metres from the set's centre."""
    rects = []
    for i, slot in enumerate(layout.slots):
        left, top, width, height = record[f"grid_m_{i}"]
        rects.append(Rect(left, top - slot.pixels * height, left + slot.pixels * width, top))
    return Rect(min(r.left for r in rects), min(r.bottom for r in rects), max(r.right for r in rects), max(r.top for r in rects))


def tile_shape(layout: Layout, ground: Rect) -> tuple[int, int]:
    """Height and width of a set's tiles in pixels: whole multiples of the finest member's where that is not too large."""
    gsd_m = min(slot.gsd_m for slot in layout.slots)
    finest = max(ground.width_m, ground.height_m) / gsd_m
    factor = gsd_m / math.ceil(_LEAST / finest) if finest <= _MOST else max(ground.width_m, ground.height_m) / _MOST
    return round(ground.height_m / factor), round(ground.width_m / factor)


def on_ground(colours_HW3: np.ndarray, grid_m: np.ndarray, ground: Rect, shape: tuple[int, int]) -> np.ndarray:
    """Draws an image where it lies: each pixel of the tile takes the colour of the image's pixel under its centre.

    Args:
      colours_HW3: The image's colours, in [0, 1].
      grid_m: Left edge, upper edge, pixel width and height, float64 (4,), metres.
      ground: The tile's ground.
      shape: Height and width of the tile.

    Returns:
      Float (H, W, 3), `UNSEEN` where the image does not reach.
    """
    left, top, width, height = grid_m
    x = ground.left + (np.arange(shape[1]) + 0.5) * ground.width_m / shape[1]
    y = ground.top - (np.arange(shape[0]) + 0.5) * ground.height_m / shape[0]
    columns, rows = (np.floor(where).astype(int) for where in ((x - left) / width, (top - y) / height))
    in_rows, in_columns = ((n >= 0) & (n < size) for n, size in zip((rows, columns), colours_HW3.shape[:2], strict=True))
    tile = np.full((*shape, 3), UNSEEN)
    tile[np.ix_(in_rows, in_columns)] = colours_HW3[np.ix_(rows[in_rows], columns[in_columns])]
    return tile


def set_tiles(layout: Layout, record: dict[str, Any], titles: list[str]) -> list[Tile]:
    """A tile for each member, and a checkerboard of the first with one of another acquisition where there is one.

    Args:
      layout: The layout.
      record: As `rsfm_jax.ingest.builder` wrote it.
      titles: Of the members.

    Returns:
      The tiles, all of the same ground and size.
    """
    ground = common_ground(layout, record)
    shape = tile_shape(layout, ground)
    grounds, tiles = [], []
    for i, (slot, title) in enumerate(zip(layout.slots, titles, strict=True)):
        colours_HW3, notes = _colours(slot, *member_values(record, i))
        grounds.append(on_ground(colours_HW3, record[f"grid_m_{i}"], ground, shape))
        tiles.append(Tile(_framed(grounds[-1]), f"{i + 1}: {title}", notes))
    others = layout.acquisitions()[1:]
    if others:
        other = others[0][0]
        title = f"1 and {other + 1} in turn, in grey"
        notes = "Edges on the ground run on from square to square where both members are in register."
        tiles.append(Tile(_framed(checkerboard(grounds[0], grounds[other])), title, notes))
    return tiles


def checkerboard(first_HW3: np.ndarray, second_HW3: np.ndarray) -> np.ndarray:
    """Squares of two pictures in turn, as grey; what is `INVALID` or `UNSEEN` in a picture keeps its colour."""
    rows, columns = (np.arange(size) * _SQUARES // size for size in first_HW3.shape[:2])
    from_first = (rows[:, None] + columns) % 2 == 0
    taken = np.where(from_first[..., None], first_HW3, second_HW3)
    marked = (taken == INVALID).all(axis=-1) | (taken == UNSEEN).all(axis=-1)
    return np.where(marked[..., None], taken, (taken @ _GREY)[..., None])


def _colours(slot: Slot, values_HWC: np.ndarray, valid_HWC: np.ndarray) -> tuple[np.ndarray, str]:
    """A member's colours, and what to say of them."""
    channels = shown_channels(slot.sensor, slot.bands)
    values, valid_HW = values_HWC[..., channels], np.all(valid_HWC[..., channels], axis=-1)
    limits = stretch_limits(values, valid_HW)
    colours_HW3 = np.where(valid_HW[..., None], stretched(values, limits), INVALID)
    names = [slot.bands[c] for c in channels]
    ends = [f"{name} {low:.3g} to {high:.3g}" for name, low, high in zip(names, *limits, strict=True)]
    way = f"{' / '.join(names)} as {'red / green / blue' if len(names) == 3 else 'grey'}"
    stretch = f"stretch {', '.join(ends)}" if valid_HW.any() else "nothing to show"
    return colours_HW3, f"{way}; {stretch}; {valid_HW.mean():.1%} of the pixels valid"


def _framed(ground_HW3: np.ndarray) -> np.ndarray:
    """A tile as bytes, with marks at the quarters of its sides in the margin around it."""
    height, width = ground_HW3.shape[:2]
    framed = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(framed)
    for k in range(1, _QUARTERS):
        x, y = MARGIN + width * k / _QUARTERS, MARGIN + height * k / _QUARTERS
        draw.line((x, 0, x, height + 2 * MARGIN), fill="black")
        draw.line((0, y, width + 2 * MARGIN, y), fill="black")
    framed.paste(Image.fromarray((255 * ground_HW3).round().astype(np.uint8)), (MARGIN, MARGIN))
    return np.asarray(framed)
