"""Draws the masking policies on the example scenes, and the position codes, for the pages in docs/.

    python examples/pictures.py --data=demo/data --out=docs/pictures

Makes OUT/masks.png (all policies), OUT/masks_POLICY.png and OUT/positions.png. All ground is drawn at one scale. The anchor is chosen by
its GSD, so the pictures are a function of the dataset and the seed.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from position_codes import FAINT, INK, MARGIN, MARK, positions_picture, write

from rsfm_jax.config import MaskConfig
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.display import INVALID, shown_channels
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.mask_rules import POLICIES, parse_table
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.objectives.masking import sample_masks
from rsfm_jax.objectives.relations import policy_numbers
from rsfm_jax.sensors import get_sensor
from rsfm_jax.train.pictures import display_colours

RECORDS = {"landsat7_landsat8": 193, "sentinel2_13_bands": 46}  # which set of a layout is drawn
PLACES = ("One place seen by Landsat 8, at two resolutions, and Landsat 7", "One place seen by Sentinel-2, at three resolutions")
MEANINGS = {
    "consistent": "hides the ground that the anchor hides",
    "independent": "draws anew, so it may show what the anchor hides",
    "complementary": "shows ground that the anchor hides, and hides what the anchor shows",
    "full": "is hidden whole, to be predicted from the others",
}
BY_ANCHOR = {
    "coarsest": "fine patches follow a coarse anchor nearly everywhere",
    "finest": "a coarse patch cannot follow a fine anchor, and leaks",
}
HIDDEN, BORDER = (122, 122, 130), (255, 214, 10)
METRES_PER_PIXEL = 2.5
HEAD, FOOT = 92, 46  # pixels above and below the members of a row


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One image set: its layout, its decoded members and their colours, uint8 (H, W, 3) each."""

    layout: Layout
    members: list[dict[str, np.ndarray]]
    colours: list[np.ndarray]


def read_set(dataset: Dataset, path: pathlib.Path, name: str) -> ImageSet:
    """Reads one set of a layout; raises `InputError` with the command that makes the dataset when it has no such layout."""
    layout = next((layout for layout in dataset.layouts if layout.name == name), None)
    if layout is None:
        raise InputError(f"--data={path}: has no layout {name!r}; {making(path)}")
    source = dataset.source(layout, "train")
    members = Decoder(dataset, layout)(source[RECORDS[name] % len(source)])["members"]
    return ImageSet(layout, members, [colours(dataset, slot, m) for slot, m in zip(layout.slots, members, strict=True)])


def making(path: pathlib.Path) -> str:
    """What to do where the dataset is missing."""
    return f"make it with python -m rsfm_jax.ingest --scenes=examples/scenes --out={path} --config=configs/demo.py"


def shown_slot(slot: Slot) -> Slot:
    """The slot with the bands that are drawn: all where it has its sensor's natural colours, else the first as grey."""
    natural = set(get_sensor(slot.sensor).display) <= set(slot.bands)
    return slot if natural else dataclasses.replace(slot, bands=slot.bands[:1])


def colours(dataset: Dataset, slot: Slot, member: dict[str, np.ndarray]) -> np.ndarray:
    """A member as uint8 (H, W, 3), pixels without an observation in the colour of `rsfm_jax.display.INVALID`."""
    shown = shown_slot(slot)
    (bright,) = display_colours(shown, dataset.statistics[slot.sensor], member["pixels"], member["valid"])
    valid = member["valid"][..., shown_channels(shown.sensor, shown.bands)].all(axis=-1, keepdims=True)
    return (255 * np.where(valid, bright, INVALID)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Role:
    """What a member is ('anchor', its policy, or its date where nothing is hidden), which patches it hides, and its leak."""

    name: str
    hidden_N: np.ndarray
    leak: float


def all_shown(image_set: ImageSet) -> list[Role]:
    """The roles of members before anything is hidden."""
    dates = [f"{m['time'][1]:.0f}, day {m['time'][2] + 1:.0f}" if m["time"][0] else "date unknown" for m in image_set.members]
    return [Role(date, np.zeros(slot.tokens, bool), 0.0) for date, slot in zip(dates, image_set.layout.slots, strict=True)]


def drawn_roles(image_set: ImageSet, config: MaskConfig, seed: int) -> list[Role]:
    """The roles of members under masks drawn for a batch of this one set."""
    layout, members = image_set.layout, image_set.members
    grids, times = ([jnp.asarray(member[name])[None] for member in members] for name in ("grid_m", "time"))
    real = [patchify(jnp.asarray(m["valid"])[None], slot.patch).any(axis=-1) for slot, m in zip(layout.slots, members, strict=True)]
    keys = jax.random.split(jax.random.key(seed), 1)
    masks = jax.device_get(jax.jit(lambda keys: sample_masks(keys, layout, config, grids, times, real))(keys))
    gsd = [slot.gsd_m for slot in layout.slots]
    anchor = gsd.index(max(gsd) if config.anchor == "coarsest" else min(gsd))
    numbers = policy_numbers(layout, parse_table(config.table), [grid[0] for grid in grids], [time[0] for time in times])[anchor]
    names = ["anchor" if t == anchor else POLICIES[int(number)] for t, (_, number) in enumerate(numbers)]
    return [Role(name, hidden[0], float(leak[0])) for name, hidden, leak in zip(names, masks.hidden, masks.leaks, strict=True)]


def patch_boxes(slot: Slot, grid_m: np.ndarray, window_m: tuple[float, float]) -> list[tuple[int, int, int, int]]:
    """Left, upper, right, lower edge in pixels of every patch, row by row, in a window with this left and upper edge in metres."""
    left, top = (grid_m[0] - window_m[0]) / METRES_PER_PIXEL, (window_m[1] - grid_m[1]) / METRES_PER_PIXEL
    width, height = (slot.patch * size / METRES_PER_PIXEL for size in grid_m[2:])
    columns, rows = ([round(start + k * size) for k in range(slot.grid + 1)] for start, size in ((left, width), (top, height)))
    return [(columns[j], rows[i], columns[j + 1], rows[i + 1]) for i in range(slot.grid) for j in range(slot.grid)]


def draw_member(image_set: ImageSet, roles: list[Role], t: int, window_m: tuple[float, float], size: tuple[int, int]) -> Image.Image:
    """One member on its ground, its hidden patches grey, the ground that the anchor shows outlined."""
    tile = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(tile)
    boxes = [patch_boxes(slot, m["grid_m"], window_m) for slot, m in zip(image_set.layout.slots, image_set.members, strict=True)]
    left, top, right, bottom = (*boxes[t][0][:2], *boxes[t][-1][2:])
    tile.paste(Image.fromarray(image_set.colours[t]).resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    for (left, top, right, bottom), hidden in zip(boxes[t], roles[t].hidden_N, strict=True):
        if hidden:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=HIDDEN, outline=FAINT)
    for anchor in (i for i, role in enumerate(roles) if role.name == "anchor"):
        for (left, top, right, bottom), hidden in zip(boxes[anchor], roles[anchor].hidden_N, strict=True):
            if not hidden:
                draw.rectangle((left, top, right - 1, bottom - 1), outline=BORDER, width=2)
    return tile


def member_row(image_set: ImageSet, roles: list[Role], title: str, subtitle: str) -> Image.Image:
    """The members of a set side by side, at one scale and on one window of ground."""
    slots, grids = image_set.layout.slots, [member["grid_m"] for member in image_set.members]
    left, top = min(g[0] for g in grids), max(g[1] for g in grids)
    right = max(g[0] + slot.pixels * g[2] for slot, g in zip(slots, grids, strict=True))
    bottom = min(g[1] - slot.pixels * g[3] for slot, g in zip(slots, grids, strict=True))
    size = (round((right - left) / METRES_PER_PIXEL), round((top - bottom) / METRES_PER_PIXEL))
    row = Image.new("RGB", (MARGIN + len(slots) * (size[0] + MARGIN), HEAD + size[1] + FOOT), "white")
    draw = ImageDraw.Draw(row)
    write(draw, MARGIN, 4, title, 19)
    write(draw, MARGIN, 30, subtitle, 12, FAINT)
    for t, (slot, role) in enumerate(zip(slots, roles, strict=True)):
        x, y, shown = MARGIN + t * (size[0] + MARGIN), HEAD + size[1] + 8, shown_slot(slot)
        row.paste(draw_member(image_set, roles, t, (left, top), size), (x, HEAD))
        anchors = role.name == "anchor"
        if anchors:
            draw.rectangle((x - 6, HEAD - 6, x + size[0] + 5, HEAD + size[1] + 5), outline=MARK, width=4)
        write(draw, x, HEAD - 43, f"{get_sensor(slot.sensor).title}, {slot.gsd_m:g} m")
        write(draw, x, HEAD - 26, "ANCHOR" if anchors else role.name, 14, MARK if anchors else INK)
        visible = int((~role.hidden_N).sum())
        unbound = {"anchor": " (drawn at random)", "independent": " (nothing binds it)", "full": " (shows nothing)"}.get(role.name, "")
        if role.hidden_N.any():
            write(draw, x, y, f"leak {100 * role.leak:.1f} %{unbound}", 14)
        bands = ", ".join(shown.bands[c] for c in shown_channels(shown.sensor, shown.bands))
        write(draw, x, y + 18, f"{visible} of {slot.tokens} patches of {slot.patch * slot.gsd_m:g} m shown; drawn: {bands}", 12, FAINT)
    return row


def mask_row(image_set: ImageSet, policy: str, anchor: str, seed: int, title: str) -> Image.Image:
    """The members of a set under masks in which other acquisitions have one policy."""
    config = MaskConfig(anchor=anchor, table=("acquisition=same: consistent", f"any: {policy}"))
    subtitle = f"mask.anchor: {anchor}; mask.table: {'; '.join(config.table)}"
    return member_row(image_set, drawn_roles(image_set, config, seed), title, subtitle)


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Rows one above the other, and below them what the colours mean and the scale."""
    width, height = max(row.width for row in rows), sum(row.height for row in rows)
    picture = Image.new("RGB", (width, height + 52), "white")
    for i, row in enumerate(rows):
        picture.paste(row, (0, sum(above.height for above in rows[:i])))
    draw = ImageDraw.Draw(picture)
    x, y = MARGIN, height + 10
    legend = (("hidden patch", HIDDEN, FAINT, 1), ("ground that the anchor shows", None, BORDER, 2), ("the anchor", None, MARK, 3))
    for text, fill, outline, thick in legend:
        draw.rectangle((x, y, x + 15, y + 15), fill, outline, thick)
        write(draw, x + 21, y, text)
        x += 50 + round(ImageFont.load_default(13).getlength(text))
    bar = round(240 / METRES_PER_PIXEL)
    draw.rectangle((x, y + 6, x + bar, y + 9), fill=INK)
    write(draw, x + bar + 8, y, "240 m")
    write(draw, MARGIN, y + 21, "leak: of the ground that a member must not show, the share that it shows all the same", 12, FAINT)
    return picture


def main() -> None:
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("demo/data"), help="the demo's dataset folder")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/pictures"), help="folder for the pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the masks")
    arguments = parser.parse_args()
    if not (arguments.data / "dataset.json").exists():
        raise InputError(f"--data={arguments.data}: no dataset there; {making(arguments.data)}")
    dataset = open_dataset(str(arguments.data))
    landsat, sentinel2 = (read_set(dataset, arguments.data, name) for name in RECORDS)
    arguments.out.mkdir(parents=True, exist_ok=True)
    whole = [member_row(s, all_shown(s), title, "nothing hidden yet") for s, title in zip((landsat, sentinel2), PLACES, strict=True)]
    rows = {policy: mask_row(landsat, policy, "coarsest", arguments.seed, f"{policy}: {text}") for policy, text in MEANINGS.items()}
    by_gsd = [mask_row(sentinel2, "consistent", anchor, arguments.seed, f"consistent: {text}") for anchor, text in BY_ANCHOR.items()]
    pictures = {f"masks_{policy}": stack([whole[0], row]) for policy, row in rows.items()}
    pictures["masks_consistent"] = stack([whole[0], rows["consistent"], whole[1], *by_gsd])
    for name, picture in {"masks": stack([whole[0], *rows.values()]), **pictures, "positions": positions_picture()}.items():
        picture.save(arguments.out / f"{name}.png", optimize=True)
        print(f"wrote {arguments.out / name}.png")


if __name__ == "__main__":
    sys.exit(exit_code(main))
