"""Members of an image set as tiles that show the same ground, so that they can be compared by eye.

Legend: H W pixels of a member or of a tile.
"""

import dataclasses
import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rsfm_jax.display import INVALID, PERCENTILES, shown_channels, stretch_limits, stretched
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.report.sampling import BandValues, member_values
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor

UNSEEN = (0.93, 0.93, 0.93)  # ground that a member does not reach
STRIPE = 4  # width of the stripes over invalid pixels, along a row
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


def set_tiles(layout: Layout, record: dict[str, Any], titles: list[str], values: dict[tuple[str, str], BandValues]) -> list[Tile]:
    """A tile for each member, and a checkerboard of the first with one of another acquisition where there is one.

    Args:
      layout: The layout.
      record: As `rsfm_jax.ingest.builder` wrote it.
      titles: Of the members.
      values: Of many records, by sensor and band; they set the stretch of every band but elevation.

    Returns:
      The tiles, all of the same ground and size.
    """
    ground = common_ground(layout, record)
    shape = tile_shape(layout, ground)
    members = [member_values(record, i) for i in range(len(layout.slots))]
    tiles = []
    for i, (slot, title) in enumerate(zip(layout.slots, titles, strict=True)):
        limits, own = _limits(slot, values), ""
        if limits is None:
            limits = _own_limits(slot, *members[i])
            own = f" from {limits[0, 0]:.4g} to {limits[1, 0]:.4g} {get_sensor(slot.sensor).band(slot.bands[0]).unit}"
        colours_HW3, valid_share = _colours(slot, *members[i], limits)
        names = [slot.bands[c] for c in shown_channels(slot.sensor, slot.bands)]
        notes = f"{', '.join(names)}{own}; {valid_share:.1%} valid"
        tiles.append(Tile(_framed(on_ground(colours_HW3, record[f"grid_m_{i}"], ground, shape)), f"{i + 1}: {title}", notes))
    others = [numbers[0] for numbers in layout.acquisitions()[1:]]
    for i in others[:1]:
        greys = [
            on_ground(
                _colours(layout.slots[k], *members[k], _own_limits(layout.slots[k], *members[k]))[0], record[f"grid_m_{k}"], ground, shape
            )
            for k in (0, i)
        ]
        tiles.append(
            Tile(_framed(checkerboard(*greys)), f"1 and {i + 1} in turn, in grey", "edges on the ground run on across the squares")
        )
    return tiles


def checkerboard(first_HW3: np.ndarray, second_HW3: np.ndarray) -> np.ndarray:
    """Squares of two pictures in turn, as grey; what is `INVALID` or `UNSEEN` in a picture keeps its colour."""
    rows, columns = (np.arange(size) * _SQUARES // size for size in first_HW3.shape[:2])
    from_first = (rows[:, None] + columns) % 2 == 0
    taken = np.where(from_first[..., None], first_HW3, second_HW3)
    marked = (taken == INVALID).all(axis=-1) | (taken == UNSEEN).all(axis=-1)
    return np.where(marked[..., None], taken, (taken @ _GREY)[..., None])


def _limits(slot: Slot, values: dict[tuple[str, str], BandValues]) -> np.ndarray | None:
    """Ends of the stretch of a slot's shown bands, (2, bands); None for elevation, whose relief is small against its range."""
    shown = [values[slot.sensor, slot.bands[c]] for c in shown_channels(slot.sensor, slot.bands)]
    if any(v.band.kind == "elevation" for v in shown):
        return None
    return np.stack([v.percentiles(PERCENTILES) for v in shown], axis=-1)


def _own_limits(slot: Slot, values_HWC: np.ndarray, valid_HWC: np.ndarray) -> np.ndarray:
    """Ends of the stretch by this image alone, (2, bands)."""
    channels = shown_channels(slot.sensor, slot.bands)
    return stretch_limits(values_HWC[..., channels], np.all(valid_HWC[..., channels], axis=-1))


def _colours(slot: Slot, values_HWC: np.ndarray, valid_HWC: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, float]:
    """A member's colours, and the share of its pixels that are valid in all shown bands."""
    channels = shown_channels(slot.sensor, slot.bands)
    valid_HW = np.all(valid_HWC[..., channels], axis=-1)
    return np.where(valid_HW[..., None], stretched(values_HWC[..., channels], limits), INVALID), float(valid_HW.mean())


def _framed(ground_HW3: np.ndarray) -> np.ndarray:
    """A tile as bytes, white stripes over invalid pixels, with marks at the quarters of its sides in the margin around it."""
    height, width = ground_HW3.shape[:2]
    striped = (np.add.outer(np.arange(height), np.arange(width)) // STRIPE) % 2 == 0
    striped &= (ground_HW3 == INVALID).all(axis=-1)
    ground_HW3 = np.where(striped[..., None], 1.0, ground_HW3)
    framed = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(framed)
    for k in range(1, _QUARTERS):
        x, y = MARGIN + width * k / _QUARTERS, MARGIN + height * k / _QUARTERS
        draw.line((x, 0, x, height + 2 * MARGIN), fill="black")
        draw.line((0, y, width + 2 * MARGIN, y), fill="black")
    framed.paste(Image.fromarray((255 * ground_HW3).round().astype(np.uint8)), (MARGIN, MARGIN))
    return np.asarray(framed)
