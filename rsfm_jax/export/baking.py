"""One sensor, one date, one size: the tokeniser and the encodings baked into a plain patch embedding and a table of positions.

What remains is a ViT as everyone knows it. The image lies on its own centre, its place is unknown (the learned token), its date is the one
chosen or unknown; sensor, bands and GSD are fixed. Nothing is approximated: features equal the encoder's for such an image.

Legend: D width, C bands, p patch side in pixels, N patches, row by row.
"""

import dataclasses
import datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.export.checkpoint import Trained
from rsfm_jax.export.description import describe_model
from rsfm_jax.export.weights import encoder_state_dict, pretraining_state_dict
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import abstract_model, merge
from rsfm_jax.models.one_image import one_image_batch
from rsfm_jax.models.spec import slot_key
from rsfm_jax.models.tokenizer import WaveLinears
from rsfm_jax.models.torch_names import Arrays

MIN_PATCHES = 4  # a side; fewer leave attention nothing to compare


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is baked.

    Attributes:
      sensor: Sensor name.
      bands: Band names in the order wanted; empty for all of the one kind of input that the sensor has.
      patch: Patch side, where the model has several for the sensor.
      pixels: Height and width of the image; None for the training's.
      gsd_m: Metres per pixel; None for the training's.
      acquired: Date of the image, ``YYYY-MM-DD``; None for unknown.
    """

    sensor: str
    bands: tuple[str, ...] = ()
    patch: int | None = None
    pixels: tuple[int, int] | None = None
    gsd_m: float | None = None
    acquired: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Baked:
    """A plain ViT, float32 numpy arrays in PyTorch's layouts.

    Attributes:
      choice: What was baked, with nothing left open.
      slot: The token slot of the model.
      columns: Of the token slot's bands those chosen, in order.
      bands: What config.json says of each band: name, unit, mean, std, ...
      encoder: Names and shapes as `rsfm_jax.torch.published.PublishedVit.encoder` has them; ``pos_embed`` (1, 1 + N, D) with zeros first;
        no ``cls_token`` where the model has none.
      decoder: As `PublishedVit.decoder` has them.
    """

    choice: Choice
    slot: Slot
    columns: tuple[int, ...]
    bands: list[dict[str, Any]]
    encoder: Arrays
    decoder: Arrays

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert self.choice.pixels
        return self.choice.pixels

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.slot.patch, self.size[1] // self.slot.patch


def bake(trained: Trained, choice: Choice) -> Baked:
    """Bakes a model.

    Args:
      trained: What was trained.
      choice: For what input.

    Returns:
      The plain ViT.

    Raises:
      InputError: the model has no such input, or its encodings depend on other members of a set.
    """
    if trained.spec.encoding.positions == "a2mae_released":
        raise InputError(
            "config.encoding.positions='a2mae_released' gives each image the positions of all three; only --format=rsfm has them"
        )
    slot, described, columns = _find(trained, choice)
    pixels = choice.pixels or (slot.pixels, slot.pixels)
    for side in pixels:
        if side % slot.patch or side < MIN_PATCHES * slot.patch:
            least = MIN_PATCHES * slot.patch
            raise InputError(f"--pixels={pixels[0]}x{pixels[1]}: both must be multiples of the patch, {slot.patch}, and at least {least}")
    choice = dataclasses.replace(
        choice,
        bands=tuple(described["bands"][c]["name"] for c in columns),
        patch=slot.patch,
        pixels=pixels,
        gsd_m=choice.gsd_m or described["gsd_m"],
    )
    drawn = "choose" in described
    token_columns = tuple(range(len(columns))) if drawn else columns
    batch = jax.tree.map(jnp.asarray, one_image(slot, choice))
    model, layout = merge(abstract_model(trained.spec).graphdef, trained.params), Layout("baked", (slot,))
    encoder = encoder_state_dict(trained.spec, trained.params)
    decoder = pretraining_state_dict(trained.spec, trained.params)
    if isinstance(model.decoder.pred, WaveLinears):
        kernel, bias = model.decoder.pred.weights(slot)
        predicted = (kernel.T, bias)
    else:
        predicted = tuple(decoder[f"decoder.pred.{slot_key(slot)}.{name}"] for name in ("weight", "bias"))
    return Baked(
        choice,
        slot,
        token_columns,
        [described["bands"][c] for c in columns],
        _vit(encoder, _patch_embedding(encoder, slot, token_columns), model.encoder.encodings(layout, batch, 0, None)),
        _decoder(decoder, predicted, slot, token_columns, model.decoder.encodings(layout, batch, 0, None)),
    )


def _find(trained: Trained, choice: Choice) -> tuple[Slot, dict[str, Any], tuple[int, ...]]:
    """The token slot, what config.json says of it, and the columns of the bands chosen."""
    slots = describe_model(trained.spec, trained.run, trained.step)["slots"]
    names = {id(slot): [band["name"] for band in slot["bands"]] for slot in slots}
    of_sensor = [slot for slot in slots if slot["sensor"] == choice.sensor and choice.patch in (None, slot["patch"])]
    offers = "; ".join(sorted({f"--sensor={s['sensor']} --bands={','.join(names[id(s)])} --patch={s['patch']}" for s in slots}))
    if not of_sensor:
        raise InputError(f"--sensor={choice.sensor}: the model has no such input; it has {offers}")
    fitting = [slot for slot in of_sensor if set(choice.bands) <= set(names[id(slot)])]
    if not fitting:
        raise InputError(f"--bands={','.join(choice.bands)}: not together in one kind of input; the model has {offers}")
    if len(fitting) > 1:
        exact = [slot for slot in fitting if set(choice.bands) == set(names[id(slot)])]
        if len(exact) != 1:
            raise InputError(f"--sensor={choice.sensor}: the model has several such inputs; choose by --bands and --patch: {offers}")
        fitting = exact
    described = fitting[0]
    bands = choice.bands or tuple(names[id(described)])
    wanted = described.get("choose", len(bands))
    if len(bands) != wanted:
        raise InputError(f"--bands={','.join(bands)}: this model takes {wanted} bands at a time, for instance {','.join(bands[:wanted])}")
    slot = next(slot for slot in trained.spec.slots if slot_key(slot) == described["key"])
    slot = dataclasses.replace(slot, sensor=described["sensor"], pixels=described["pixels"], gsd_m=described["gsd_m"])
    return slot, described, tuple(names[id(described)].index(band) for band in bands)


def one_image(slot: Slot, choice: Choice, pixels: np.ndarray | None = None, columns: tuple[int, ...] = ()) -> dict[str, Any]:
    """The encoder's input for images on their own centre, place unknown.

    Args:
      slot: The token slot.
      choice: Size, GSD and date.
      pixels: Normalised, float32 (B, H, W, C) in the order chosen; None for one image of which only the size matters.
      columns: The token slot's bands that ``pixels`` holds; the others are without observation.

    Returns:
      ``members`` and ``place``, as `rsfm_jax.models.encoder.Encoder` takes them.
    """
    assert choice.pixels
    assert choice.gsd_m
    (height, width), B = choice.pixels, 1 if pixels is None else len(pixels)
    planes = np.zeros((B, height, width, len(slot.bands)), np.float32)
    valid = np.ones(planes.shape, bool) if pixels is None else np.zeros(planes.shape, bool)
    if pixels is not None:
        planes[..., list(columns)], valid[..., list(columns)] = pixels, True
    return one_image_batch([(planes, valid)], choice.gsd_m, _known(choice.acquired))


def _known(acquired: str | None) -> tuple[float, float, float]:
    """Known, year and day of year from 0."""
    if acquired is None:
        return 0.0, 0.0, 0.0
    try:
        date = datetime.date.fromisoformat(acquired)
    except ValueError:
        raise InputError(f"--acquired={acquired}: not a date; write YYYY-MM-DD, for instance 2024-06-30") from None
    return 1.0, float(date.year), float(date.timetuple().tm_yday - 1)


def _patch_embedding(encoder: Arrays, slot: Slot, columns: tuple[int, ...]) -> Arrays:
    weight = encoder[f"patch_embed.{slot_key(slot)}.weight"].reshape(-1, slot.patch, slot.patch, len(slot.bands))
    proj = weight[..., list(columns)].transpose(0, 3, 1, 2)
    return {"patch_embed.proj.weight": proj, "patch_embed.proj.bias": encoder[f"patch_embed.{slot_key(slot)}.bias"]}


def _vit(arrays: Arrays, first: Arrays, code: jax.Array) -> Arrays:
    """Blocks and norm as they are, behind the part that is baked; the class token has no position."""
    kept = {name: array for name, array in arrays.items() if name.startswith(("blocks.", "norm."))}
    tokens = {name: arrays[name].reshape(1, 1, -1) for name in ("cls_token",) if name in arrays}
    vit = first | tokens | {"pos_embed": np.pad(np.asarray(code), ((0, 0), (1, 0), (0, 0)))} | kept
    return {name: np.ascontiguousarray(array, np.float32) for name, array in vit.items()}


def _decoder(arrays: Arrays, predicted: tuple[Any, ...], slot: Slot, columns: tuple[int, ...], code: jax.Array) -> Arrays:
    decoder = {name.removeprefix("decoder."): array for name, array in arrays.items() if name.startswith("decoder.")}
    weight, bias = (np.asarray(x).reshape(slot.patch**2, len(slot.bands), -1)[:, list(columns)] for x in predicted)
    first = {"embed.weight": decoder["embed.weight"], "embed.bias": decoder["embed.bias"]}
    first |= {"mask_token": decoder["mask_token"].reshape(1, 1, -1)}
    first |= {"pred.weight": weight.reshape(-1, weight.shape[-1]), "pred.bias": bias.reshape(-1)}
    return _vit(decoder, first, code)
