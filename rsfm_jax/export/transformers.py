"""Hugging Face folders: ViTMAE with the decoder, ViT without it, and I-JEPA, the one ViT there that has no class token.

The keys are the ones of the Hub's published files, which every version of transformers reads.
"""

import importlib
import json
import pathlib
import re
from typing import Any

import numpy as np
import torch

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.errors import InputError
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import NORMALISED, PARITY_MASK_RATIO, Encode, Format, Predict, write_weights
from rsfm_jax.models.torch_names import Arrays

WEIGHTS = "model.safetensors"
_BLOCK = (
    (r"\bblocks\.", "layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_ENCODER = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^layer\.", "encoder.layer."),
)
_DECODER = ((r"^(embed|pos_embed|norm|pred)(?=[.]|$)", r"decoder_\1"), (r"^layer\.", "decoder_layers."))


def write(baked: Baked, config: Config, folder: pathlib.Path, decoder: bool) -> None:
    """Writes model.safetensors and config.json into a folder.

    Args:
      baked: The model.
      config: The experiment.
      folder: Where to.
      decoder: Whether the decoder goes along, for continued pretraining.

    Raises:
      InputError: a decoder is asked for that ViTMAE can't hold.
    """
    model, square = config.model, baked.size[0] == baked.size[1]
    if decoder and not (model.cls_token and square):
        reason = f"square, not {baked.size[0]} x {baked.size[1]}" if model.cls_token else "of models with a class token"
        raise InputError(f"--format=transformers --decoder: ViTMAE's images are {reason}; leave --decoder out, or choose --format=rsfm")
    described = {
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": int(model.width * model.mlp_ratio),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": baked.size[0] if square else list(baked.size),
        "patch_size": baked.slot.patch,
        "num_channels": len(baked.bands),
        "qkv_bias": True,
    }
    if decoder:
        described |= {
            "model_type": "vit_mae",
            "architectures": ["ViTMAEForPreTraining"],
            "decoder_hidden_size": model.decoder_width,
            "decoder_num_hidden_layers": model.decoder_depth,
            "decoder_num_attention_heads": model.decoder_heads,
            "decoder_intermediate_size": int(model.decoder_width * model.mlp_ratio),
            "norm_pix_loss": config.loss.norm_pix,
        }
    elif model.cls_token:
        described |= {"model_type": "vit", "architectures": ["ViTModel"]}
    else:
        described |= {"model_type": "ijepa", "architectures": ["IJepaModel"]}
    write_weights(_names(baked, model, decoder), folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    statistics = {"image_mean": [band["mean"] for band in baked.bands], "image_std": [band["std"] for band in baked.bands]}
    unchanged = {"do_resize": False, "do_rescale": False, "do_normalize": True, "image_processor_type": "ViTImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(unchanged | statistics, indent=1) + "\n")


def _names(baked: Baked, model: ModelConfig, decoder: bool) -> Arrays:
    encoder = dict(baked.encoder)
    if not model.cls_token:
        encoder["pos_embed"] = np.ascontiguousarray(encoder["pos_embed"][:, 1:])
    named = _renamed(encoder, _ENCODER)
    if decoder:
        named = {f"vit.{name}": array for name, array in named.items()}
        named |= {f"decoder.{name}": array for name, array in _renamed(baked.decoder, _DECODER).items()}
    return named


def _renamed(arrays: Arrays, rules: tuple[tuple[str, str], ...]) -> Arrays:
    renamed = {}
    for name, array in arrays.items():
        parts = {name: array}
        if ".attn.qkv." in name:
            split = zip(("query", "key", "value"), np.split(array, 3), strict=True)
            parts = {name.replace(".attn.qkv.", f".attention.attention.{part}."): values for part, values in split}
        for old, values in parts.items():
            new = old
            for pattern, replacement in (*_BLOCK, *rules):
                new = re.sub(pattern, replacement, new)
            renamed[new] = np.ascontiguousarray(values)
    return renamed


def read(baked: Baked, config: Config, folder: pathlib.Path) -> Encode:
    """Loads the folder with transformers.

    Raises:
      RuntimeError: a key is missing, unknown or of another shape.
    """
    del baked, config
    loaded, described = _load(folder)

    def encode(values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if described["model_type"] == "vit_mae":
            loaded.config.mask_ratio = 0.0  # which still shuffles, by the noise
            side = described["image_size"] // described["patch_size"]
            out = loaded.vit(values, noise=torch.arange(side**2, dtype=values.dtype).expand(len(values), -1), output_hidden_states=True)
        else:
            out = loaded(values, output_hidden_states=True)
        return out.last_hidden_state, list(out.hidden_states[1:])

    return encode


def predict(folder: pathlib.Path) -> Predict:
    """Loads a folder with a decoder; see `read`."""
    loaded, _ = _load(folder)

    def decode(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        loaded.config.mask_ratio = PARITY_MASK_RATIO
        return loaded(values, noise=noise).logits

    return decode


def _load(folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    described = json.loads((folder / "config.json").read_text())
    cls = getattr(importlib.import_module("transformers"), described["architectures"][0])
    options = {} if described["model_type"] == "vit_mae" else {"add_pooling_layer": False}
    loaded, report = cls.from_pretrained(folder, output_loading_info=True, **options)
    wrong = {name: sorted(map(str, keys)) for name, keys in report.items() if keys}
    if wrong:
        raise RuntimeError(f"{folder}: transformers does not load it whole: {wrong}")
    return loaded.eval(), described


def usage(baked: Baked, config: Config, decoder: bool) -> list[str]:
    """Lines of Python for the model card."""
    name, options = ("ViTModel" if config.model.cls_token else "IJepaModel"), ", add_pooling_layer=False"
    if decoder:
        name, options = "ViTMAEForPreTraining", ""
    return [
        f"from transformers import {name}",
        "",
        f'model = {name}.from_pretrained("."{options})',
        f"# x: (B, {len(baked.bands)}, {baked.size[0]}, {baked.size[1]}), normalised: (values - mean) / std, band by band",
        "model(x)",
    ]


FORMAT = Format("a Hugging Face folder", ("transformers",), NORMALISED, write, read, usage, predict)
