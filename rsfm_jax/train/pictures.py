"""Reconstruction pictures: input, masked input and reconstruction of a set's members, in physical values and sensible colours.

With norm-pix the model predicts patch-normalised values, so a reconstructed patch is drawn with its own true mean and contrast: judge the
structure inside the patches, not their brightness.

Legend: B examples, H W pixels, C bands, N patches, P values of a patch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
from PIL import Image, ImageDraw

from rsfm_jax.config import Config
from rsfm_jax.display import INVALID, shown_channels, stretch_limits, stretched
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import AbstractModel, Params
from rsfm_jax.nn.patchify import patchify, unpatchify
from rsfm_jax.nn.placing import placed_by
from rsfm_jax.objectives.reconstruction import target_scale
from rsfm_jax.parallel.sharding import placement, replicated
from rsfm_jax.train.step import Batch, predict, read_batch

EXAMPLES = 2
_TILE = 160
_HIDDEN = 0.35  # grey of removed patches
Reconstruct = Callable[[Params, Batch], list[dict[str, jax.Array]]]


def make_reconstruct(model: AbstractModel, config: Config, layout: Layout, mesh: Mesh) -> Reconstruct:
    """A jitted function that reconstructs the first examples of a batch.

    Args:
      model: The model's definition.
      config: The experiment.
      layout: The layout.
      mesh: The mesh.

    Returns:
      A function of (params, batch) to, per slot, ``pixels``, ``reconstruction`` (visible patches as they are) in normalised values,
      ``hidden`` and ``valid``, each (B, H, W, C), and ``time`` (B, 3).
    """

    def reconstruct(params: Params, batch: Batch) -> list[dict[str, jax.Array]]:
        with placed_by(placement(mesh)):
            view, masks = read_batch(config, layout, batch)
            predictions = predict(model, params, view, masks)
        shown = []
        parts = zip(view.layout.slots, view.batch["members"], view.valid, predictions, masks.hidden, strict=True)
        for slot, member, observed, predicted, hidden in parts:
            values, valid = patchify(member["pixels"], slot.patch), patchify(observed, slot.patch)
            mean, scale = target_scale(values, valid, config.loss.norm_pix)
            hidden_BNP = jnp.broadcast_to(hidden[..., None], values.shape)
            filled = jnp.where(hidden_BNP, predicted * scale + mean, values)
            planes = {"pixels": values, "reconstruction": filled, "hidden": hidden_BNP, "valid": valid}
            images = {name: unpatchify(x[:EXAMPLES], slot.patch, slot.grid, slot.grid) for name, x in planes.items()}
            shown.append(images | {"time": member["time"][:EXAMPLES]})
        return shown

    return jax.jit(reconstruct, out_shardings=replicated(mesh))


def draw(layout: Layout, statistics: dict[str, Any], shown: Sequence[dict[str, np.ndarray]], config: Config) -> np.ndarray:
    """Draws a picture: a row for each member, for each example the columns input, masked input, reconstruction.

    Args:
      layout: The layout.
      statistics: The dataset's statistics, to undo the normalisation.
      shown: What the function of `make_reconstruct` returned, as numpy.
      config: The experiment; the captions say what it does to brightness and scale.

    Returns:
      uint8 (height, width, 3).
    """
    rows = []
    for slot, images in zip(layout.slots, shown, strict=True):
        tiles = [tile for b in range(len(images["pixels"])) for tile in _tiles(slot, statistics[slot.sensor], images, b)]
        rows.append(np.concatenate([_caption(slot, images["time"], sum(t.shape[1] for t in tiles), config), np.concatenate(tiles, axis=1)]))
    return np.concatenate(rows)


def display_colours(
    slot: Slot, table: dict[str, Any], pixels_HWC: np.ndarray, valid_HWC: np.ndarray, *others_HWC: np.ndarray
) -> list[np.ndarray]:
    """Normalised values as colours: physical values of the display bands, stretched from the 2nd to the 98th percentile of the valid ones.

    Args:
      slot: The slot.
      table: Its sensor's statistics, to undo the normalisation.
      pixels_HWC: Normalised values; they set the stretch.
      valid_HWC: Which of them are observations.
      *others_HWC: More normalised values of the slot, stretched alike.

    Returns:
      For ``pixels_HWC`` and each of the others float (H, W, 3) in [0, 1].
    """
    channels = shown_channels(slot.sensor, slot.bands)
    known = {"mean": 0.0, "std": 1.0}  # bands drawn for every example stay in normalised values
    mean, std = (np.array([table.get(slot.bands[c], known)[name] for c in channels]) for name in ("mean", "std"))
    physical = [x[..., channels] * std + mean for x in (pixels_HWC, *others_HWC)]
    limits = stretch_limits(physical[0], np.all(valid_HWC[..., channels], axis=-1))
    return [stretched(x, limits) for x in physical]


def _tiles(slot: Slot, table: dict[str, Any], images: dict[str, np.ndarray], b: int) -> list[np.ndarray]:
    channels = shown_channels(slot.sensor, slot.bands)
    valid, hidden = (images[name][b][..., channels] for name in ("valid", "hidden"))
    pixels, filled = display_colours(slot, table, *(images[name][b] for name in ("pixels", "valid", "reconstruction")))
    planes = [pixels, np.where(hidden, _HIDDEN, pixels), filled]
    return [_tile(np.where(valid.all(axis=-1, keepdims=True), x, INVALID)) for x in planes]


def _tile(image_HW3: np.ndarray) -> np.ndarray:
    picture = Image.fromarray((255 * image_HW3).astype(np.uint8)).resize((_TILE, _TILE), Image.Resampling.NEAREST)
    return np.pad(np.asarray(picture), ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _caption(slot: Slot, time_B3: np.ndarray, width: int, config: Config) -> np.ndarray:
    band = Image.new("RGB", (width, 14), "white")
    shown = "/".join(slot.bands[c] for c in shown_channels(slot.sensor, slot.bands))
    dates = ", ".join(f"{year:.0f} day {day + 1:.0f}" if known else "date unknown" for known, year, day in time_B3)
    cropped = " before cropping" * (config.augment.crop_min_area < 1)
    columns = "input, masked, reconstruction" + " (with the true mean and contrast of each patch)" * config.loss.norm_pix
    ImageDraw.Draw(band).text((2, 1), f"{slot.sensor} {shown} {slot.gsd_m:g} m{cropped}  [{dates}]  {columns}", fill="black")
    return np.asarray(band)
