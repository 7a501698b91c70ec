"""What a published ViT's values become in the model: kernels are transposed weights, layers are stacked, patches and bands adapted.

Legend: D width, P values of a patch (rows, columns, bands; band fastest).
"""

from collections.abc import Mapping
import types
from typing import Any

import numpy as np

from rsfm_jax.layouts import Slot
from rsfm_jax.models.build import Params
from rsfm_jax.models.encodings import LEARNED_GRID
from rsfm_jax.models.spec import ANY_BAND, ModelSpec, slot_key
from rsfm_jax.models.torch_names import from_torch
from rsfm_jax.sensors import get_sensor

RGB = ("red", "green", "blue")
Arrays = Mapping[str, np.ndarray]


class PublishedParts:
    """What one file gives to one model.

    Attributes:
      taken: What was used so far, a line each; grows as the parts are asked for.
      left_out: What of the file was not, with the reason.
    """

    def __init__(self, spec: ModelSpec, vit: Any, adapting: types.ModuleType) -> None:
        """Sets out with nothing taken.

        Args:
          spec: The model's spec; its encoder is of the file's size.
          vit: A `rsfm_jax.torch.published.PublishedVit`.
          adapting: The module `rsfm_jax.torch.adapting`; this one imports no PyTorch.
        """
        self.spec, self.vit, self.adapting = spec, vit, adapting
        self.taken: list[str] = []
        self.left_out: list[str] = []

    def encoder(self, params: Params) -> Params:
        """What the file has of the encoder's parameters, float32, in the model's structure."""
        arrays = self.vit.encoder
        part: Params = {"blocks": from_torch(params["blocks"], arrays, "blocks.")}
        self.taken.append(f"{self.vit.depth} encoder blocks")
        if "norm.weight" in arrays:
            part["norm"] = from_torch(params["norm"], arrays, "norm.")
            self.taken.append("encoder norm")
        if "cls_token" in arrays and "cls_token" in params:
            part["cls_token"] = (arrays["cls_token"] + arrays["pos_embed"][:, :1]).reshape(-1)
            self.taken.append("class token")
        elif "cls_token" in arrays:
            self.left_out.append("class token: the model has none; --config.model.cls_token=true would take it")
        if self.spec.tokenizer.kind == "wavelength":
            self.left_out.append("patch embedding: config.tokenizer.kind='wavelength' generates its own")
        else:
            part["patch_embed"] = {"slots": {slot_key(slot): self._patch_embedding(slot) for slot in self.spec.slots}}
        return part | self._positions("encoder", params, arrays["pos_embed"])

    def has_decoder(self) -> bool:
        """Whether the file has a decoder of the model's width, depth and MLP."""
        vit, config = self.vit, self.spec.config
        if vit.decoder is None:
            return False
        hidden, ours = hidden_size(vit.decoder), int(config.decoder_width * config.mlp_ratio)
        if (vit.decoder_width, vit.decoder_depth, hidden) == (config.decoder_width, config.decoder_depth, ours):
            return True
        self.left_out.append(
            f"decoder of width {vit.decoder_width}, depth {vit.decoder_depth} and {hidden} hidden values: the model's has width "
            f"{config.decoder_width}, depth {config.decoder_depth} and {ours}"
        )
        return False

    def decoder(self, params: Params) -> Params:
        """What the file has of the decoder's parameters, float32, in the model's structure."""
        arrays = self.vit.decoder
        part: Params = {"embed": from_torch(params["embed"], arrays, "embed."), "norm": from_torch(params["norm"], arrays, "norm.")}
        part |= {"blocks": from_torch(params["blocks"], arrays, "blocks."), "mask_token": arrays["mask_token"].reshape(-1)}
        self.taken.append(f"{self.vit.decoder_depth} decoder blocks, with embedding, mask token and norm")
        heads = {slot_key(slot): self._prediction(slot) for slot in self.spec.slots if self._predicts_rgb(slot)}
        if heads:
            part["pred"] = {"slots": heads}
            self.taken += [f"prediction of {key}" for key in heads]
        elif self.spec.tokenizer.kind == "wavelength":
            self.left_out.append("prediction: config.tokenizer.kind='wavelength' generates its own")
        else:
            self.left_out.append(
                f"prediction: no kind of token slot is of patch {self.vit.patch} and the three display bands of its sensor"
            )
        if self.spec.config.cls_token and arrays["pos_embed"][0, 0].any():
            self.left_out.append("position of the decoder's class token: the model's decoder has none")
        return part | self._positions("decoder", params, arrays["pos_embed"])

    def _patch_embedding(self, slot: Slot) -> Params:
        roles = band_roles(slot)
        weight = self.adapting.resize_patch(self.vit.encoder["patch_embed.proj.weight"], slot.patch)
        weight = self.adapting.inflate_bands(weight, roles)
        how = [f"resized to patch {slot.patch}"] if slot.patch != self.vit.patch else []
        if ANY_BAND in slot.bands:
            how.append("red, green, blue in turn")
        elif any(roles):
            how += [f"{role} to {band}" for band, role in zip(slot.bands, roles, strict=True) if role]
            if set(roles) != set(RGB):
                how.append(f"the rest of their sum to {'the other' if None in roles else 'all'} bands")
        else:
            how.append("red, green and blue alike to all bands")
        self.taken.append(f"patch embedding of {slot_key(slot)}: {', '.join(how)}")
        return {"kernel": weight.transpose(2, 3, 1, 0).reshape(slot.patch_values, -1), "bias": self.vit.encoder["patch_embed.proj.bias"]}

    def _predicts_rgb(self, slot: Slot) -> bool:
        kind, roles = self.spec.tokenizer.kind, set(band_roles(slot))
        return kind == "groups" and slot.patch == self.vit.patch and roles == set(RGB)

    def _prediction(self, slot: Slot) -> Params:
        order = [RGB.index(role) for role in band_roles(slot) if role]

        def reordered(values: np.ndarray) -> np.ndarray:
            return values.reshape(-1, len(RGB), *values.shape[1:])[:, order].reshape(values.shape)

        return {"kernel": reordered(self.vit.decoder["pred.weight"]).T, "bias": reordered(self.vit.decoder["pred.bias"])}

    def _positions(self, half: str, params: Params, pos_embed: np.ndarray) -> Params:
        kind = self.spec.encoding.positions
        if kind != "learned":
            known = "fixed sines and cosines" if self.adapting.is_sincos(pos_embed) else "learned"
            self.left_out.append(f"{half} positions ({known}): positions are computed, config.encoding.positions={kind!r}")
            return {}
        width = params["encodings"]["position_table"].shape[-1]
        if width != pos_embed.shape[-1]:
            self.left_out.append(
                f"{half} positions of width {pos_embed.shape[-1]}: the model's table has width {width} beside its other codes"
            )
            return {}
        self.taken.append(f"{half} positions, as a table of {LEARNED_GRID} x {LEARNED_GRID}")
        table = self.adapting.interpolate_positions(pos_embed, LEARNED_GRID, LEARNED_GRID)
        return {"encodings": {"position_table": table.reshape(LEARNED_GRID, LEARNED_GRID, width)}}


def band_roles(slot: Slot) -> list[str | None]:
    """Which of a token slot's bands its sensor shows as "red", "green" and "blue"; bands that are drawn are the three in turn."""
    if ANY_BAND in slot.bands:
        return list(RGB)
    display = get_sensor(slot.sensor).display
    roles = dict(zip(display, RGB, strict=True)) if len(display) == len(RGB) else {}
    return [roles.get(band) for band in slot.bands]


def hidden_size(arrays: Arrays) -> int:
    """Hidden width of the MLPs."""
    return len(arrays["blocks.0.mlp.fc1.bias"])
