"""The picture of the position codes, drawn by `examples/pictures.py`: which patches of two members their codes take to be one place."""

import math

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsfm_jax.config import EncodingConfig
from rsfm_jax.layouts import Slot
from rsfm_jax.models.encodings import position_dims
from rsfm_jax.nn.positions import encode_positions, patch_centres_m, patch_indices

Colour = tuple[int, int, int]
INK, FAINT, MARK = (30, 30, 30), (98, 98, 106), (214, 40, 40)
MARGIN = 16
PANEL = 264  # pixels along a panel's side
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # low to high
WIDTH = 192  # of the codes, as in configs/demo.py
COMPARED = (Slot("sentinel2_l1c", ("B04",), 10.0, pixels=192, patch=8), Slot("landsat8_l1", ("B4",), 30.0, pixels=64, patch=8))
PROBE = (7, 4)  # row and column of the patch of the first that all patches are compared with


def write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int = 13, fill: Colour = INK) -> None:
    """Writes one line of text, its upper left corner at (x, y)."""
    draw.text((x, y), text, fill=fill, font=ImageFont.load_default(size))


def similarity(kind: str) -> list[np.ndarray]:
    """Cosine similarity of the probe's position code with those of all patches of `COMPARED`, (rows, columns) for each member."""
    codes = []
    for slot in COMPARED:
        half = slot.pixels * slot.gsd_m / 2
        steps = patch_indices(slot.grid, slot.grid)[None]
        if kind == "metres":
            grid_m = jnp.array([[-half, half, slot.gsd_m, slot.gsd_m]])
            steps = patch_centres_m(grid_m, slot.grid, slot.grid, slot.patch) / EncodingConfig().position_unit_m
        code = np.asarray(encode_positions(steps, position_dims(kind, WIDTH, 2)))[0]
        codes.append((code / np.linalg.norm(code, axis=-1, keepdims=True)).reshape(slot.grid, slot.grid, WIDTH))
    return [code @ codes[0][PROBE] for code in codes]


def ramp(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as colours of `RAMP`, uint8 with a last axis of 3."""
    stops = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(values, stops, channel) for channel in zip(*RAMP, strict=True)], axis=-1).astype(np.uint8)


def positions_picture() -> Image.Image:
    """Where the codes of two members of different GSD take a patch to be, by metres and by index."""
    kinds = {"metres": similarity("metres"), "index": similarity("index")}
    low = min(float(values.min()) for panels in kinds.values() for values in panels)
    picture = Image.new("RGB", (7 * MARGIN + 4 * PANEL, PANEL + 172), "white")
    draw = ImageDraw.Draw(picture)
    question = "How alike are position codes? One patch of the 10 m member, marked by a cross, against all patches of both members"
    write(draw, MARGIN, 4, question, 19)
    probe_m = [(place + 0.5) * COMPARED[0].patch * COMPARED[0].gsd_m for place in PROBE]
    for k, (kind, panels) in enumerate(kinds.items()):
        for t, (slot, values) in enumerate(zip(COMPARED, panels, strict=True)):
            x, y = MARGIN + 2 * k * (PANEL + 2 * MARGIN) + t * (PANEL + MARGIN), 86
            cell, patch_m = PANEL // slot.grid, slot.patch * slot.gsd_m
            write(draw, x, y - 48, f"encoding.positions='{kind}'" if t == 0 else "", 16)
            write(draw, x, y - 20, f"member of {slot.gsd_m:g} m, {slot.grid} x {slot.grid} patches of {patch_m:g} m")
            heat = Image.fromarray(ramp((values - low) / (1 - low)))
            picture.paste(heat.resize((PANEL, PANEL), Image.Resampling.NEAREST), (x, y))
            row, column = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
            draw.rectangle((x + column * cell, y + row * cell, x + (column + 1) * cell, y + (row + 1) * cell), outline="black", width=2)
            down, across = (metres * PANEL / (slot.grid * patch_m) for metres in probe_m)
            for dx, dy in ((8, 0), (0, 8)):
                draw.line((x + across - dx, y + down - dy, x + across + dx, y + down + dy), fill=MARK, width=3)
            away_m = math.hypot(*((place + 0.5) * patch_m - metres for place, metres in zip((row, column), probe_m, strict=True)))
            write(draw, x, y + PANEL + 4, f"most alike (box): {values.max():.2f}, {away_m:.0f} m from the cross")
    y = 86 + PANEL + 34
    picture.paste(Image.fromarray(ramp(np.tile(np.linspace(0, 1, PANEL), (12, 1)))), (MARGIN, y))
    write(draw, MARGIN, y + 15, f"cosine similarity {low:.2f}")
    write(draw, MARGIN + PANEL - 26, y + 15, "1.00")
    metres = "Both members cover the same 1920 m of ground. 'metres' codes the same ground alike in both."
    index = f"'index' (counted from 0) takes patch {PROBE} of one member for patch {PROBE} of the other, which is other ground."
    write(draw, 2 * MARGIN + PANEL, y - 4, metres, 14)
    write(draw, 2 * MARGIN + PANEL, y + 16, index, 14)
    return picture
