"""Published ViT and MAE weight files, read into one form: numpy arrays under timm's names, in PyTorch's layouts.

Three formats are known: facebookresearch/mae (``{"model": state_dict, ...}``, or decoder weights beside the encoder's), timm (a bare
state dict) and transformers (ViTMAEForPreTraining, ViTMAEModel, ViTModel and classifiers, under the names before and since version 5).
A key of a file is used, or left out for a reason that is given, or an error.

Legend: D width, C bands, p patch side in pixels, N patches (a square grid, row by row).
"""

import argparse
from collections.abc import Iterable
import dataclasses
import itertools
import math
import pathlib
import pickle
import re
from typing import Any

import numpy as np
from safetensors.torch import load_file
import torch

from rsfm_jax.errors import InputError

Arrays = dict[str, np.ndarray]
Found = dict[str, tuple[str, torch.Tensor]]  # canonical name, the decoder's as "decoder.NAME": key in the file, weight

_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_BESIDE_MODEL = {
    "optimizer": "optimizer state",
    "lr_scheduler": "schedule state",
    "epoch": "training progress",
    "scaler": "loss scaler",
    "args": "training arguments",
}
_LEFT_OUT = {
    r"(head|classifier)\.(weight|bias)$": "classification head",
    r"fc_norm\.(weight|bias)$": "norm of the mean-pooling head",
    r"(vit\.)?pooler\.": "pooling head",
}
_UNSUPPORTED = {
    r"\b(reg_token|register_tokens)\b": "register tokens",
    r"\b(ls\d|layer_scale\d?|gamma_\d)\b": "layer scale",
    r"\bmlp\.(w\d+|weights_in|weights_out|fc1_[gx])\b": "a SwiGLU MLP",
    r"\b(dist_token|distillation_token)\b": "a distillation token",
    r"\b[qk]_norm\b": "norms of queries and keys",
}
_MAE_NAMES = ((r"^mask_token$", "decoder.mask_token"), (r"^decoder_(?=(embed|pos_embed|blocks|norm|pred)\b)", "decoder."))
_TRANSFORMERS_PATCH = r"(vit\.)?embeddings\.patch_embeddings\.projection\.weight$"
_TRANSFORMERS_NAMES = (
    (r"^vit\.", ""),
    (r"^embeddings\.(?=cls_token$)", ""),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^(encoder\.layer|layers)\.(?=\d)", "blocks."),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.(?=\d)", "decoder.blocks."),  # transformers 5 writes the second
    (r"^decoder\.decoder_(?=(embed|pos_embed|norm|pred)\b)", "decoder."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.([qkv])(uery|ey|alue)\.", r".attn.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(?<=\d)\.output\.dense\.", ".mlp.fc2."),
)


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedVit:
    """A plain pre-norm ViT as published, contiguous float32 arrays.

    Attributes:
      format: "facebookresearch/mae", "timm" or "transformers".
      encoder: ``patch_embed.proj.weight`` (D, C, p, p) and ``.bias``, ``cls_token`` (1, 1, D), ``pos_embed`` (1, 1 + N, D), ``norm.*``, and
        for each block ``blocks.I.``: ``norm1.*``, ``attn.qkv.*`` ((3D, D), queries first), ``attn.proj.*``, ``norm2.*``, ``mlp.fc1.*``,
        ``mlp.fc2.*``. A file without a class token gives no ``cls_token``, one whose final norm is a head's ``fc_norm`` no ``norm.*``. The
        first row of ``pos_embed`` is the class token's: zeros where it has no position.
      decoder: MAE's decoder or None: ``embed.*``, ``mask_token`` (1, 1, decoder_width), ``pos_embed`` (1, 1 + N, decoder_width),
        ``blocks.I.*`` and ``norm.*`` as in the encoder, ``pred.*`` ((p * p * C, decoder_width), channel fastest).
      width: D.
      depth: Number of blocks.
      patch: p.
      bands: C.
      decoder_width: Width of the decoder, 0 without one.
      decoder_depth: Number of its blocks, 0 without one.
      left_out: The file's keys that are not used, with the reason.
    """

    format: str
    encoder: Arrays
    decoder: Arrays | None
    width: int
    depth: int
    patch: int
    bands: int
    decoder_width: int
    decoder_depth: int
    left_out: dict[str, str]


def read_published(file: str | pathlib.Path) -> PublishedVit:
    """Reads published weights; no code in the file is run.

    Args:
      file: A ``.safetensors`` file, a file written by ``torch.save`` (.pth, .bin), or a folder with model.safetensors or pytorch_model.bin.

    Returns:
      The weights; float16, bfloat16 and float64 are converted to float32.

    Raises:
      InputError: it can't be read, isn't a plain ViT, or a key is unknown, missing, of a wrong shape or of a wrong type.
    """
    path = _weight_file(pathlib.Path(file))
    state, left_out, wrapped = _state_dict(path)
    for (pattern, what), key in itertools.product(_UNSUPPORTED.items(), state):
        if re.search(pattern, key):
            raise InputError(f"{path}: key {key!r} means {what}; this architecture is not supported, only a plain ViT as MAE's is")
    is_transformers = any(re.match(_TRANSFORMERS_PATCH, key) for key in state)
    if not is_transformers and "patch_embed.proj.weight" not in state:
        raise InputError(
            f"{path}: not a ViT: it has neither key 'patch_embed.proj.weight' nor 'embeddings.patch_embeddings.projection.weight'"
        )
    found: Found = {}
    for key, weight in state.items():
        reason = next((reason for pattern, reason in _LEFT_OUT.items() if re.match(pattern, key)), None)
        if reason:
            left_out[key] = reason
            continue
        name = key
        for pattern, new in _TRANSFORMERS_NAMES if is_transformers else _MAE_NAMES:
            name = re.sub(pattern, new, name)
        if name in found:
            raise InputError(f"{path}: keys {found[name][0]!r} and {key!r} are the same weight; a file must hold it once")
        found[name] = (key, _float32(path, key, weight))
    _check(path, found, ("attn.q", "attn.k", "attn.v") if is_transformers else ("attn.qkv",), headed="fc_norm.weight" in left_out)
    arrays = _canonical(found)
    decoder = {name.removeprefix("decoder."): array for name, array in arrays.items() if name.startswith("decoder.")}
    encoder = {name: array for name, array in arrays.items() if not name.startswith("decoder.")}
    width, bands, patch, _ = encoder["patch_embed.proj.weight"].shape
    return PublishedVit(
        format="transformers" if is_transformers else "facebookresearch/mae" if wrapped or decoder else "timm",
        encoder=encoder,
        decoder=decoder or None,
        width=width,
        depth=len(_blocks(encoder)),
        patch=patch,
        bands=bands,
        decoder_width=len(decoder["norm.bias"]) if decoder else 0,
        decoder_depth=len(_blocks(decoder)),
        left_out=left_out,
    )


def _weight_file(path: pathlib.Path) -> pathlib.Path:
    if not path.is_dir():
        return path
    inside = [path / name for name in _FOLDER_FILES if (path / name).is_file()]
    if not inside:
        raise InputError(f"{path}: holds no {' or '.join(_FOLDER_FILES)}; give the weight file itself, in one piece")
    return inside[0]


def _state_dict(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, str], bool]:
    """The weights by the file's keys, what lies beside them with the reasons to leave it out, and whether they were under "model"."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path), {}, False
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        reason = (str(error).strip() or "it is empty").splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to run the code in the file
            classes = re.search(r"GLOBAL (\S+)", str(error))
            reason = f"it needs the code of {classes[1]}" if classes else "it was not written by torch.save"
        raise InputError(f"{path}: can't be read as weights ({reason}); expected .safetensors, or a state dict by torch.save") from error
    wrapped = isinstance(state, dict) and "model" in state
    weights = state["model"] if wrapped else state
    if not isinstance(weights, dict) or not all(isinstance(key, str) for key in weights):
        raise InputError(f"{path}: {'model' if wrapped else 'it'} is a {type(weights).__name__}; expected a state dict, weights by name")
    beside = [key for key in state if key != "model"] if wrapped else []
    for key in beside:
        if key not in _BESIDE_MODEL:
            raise InputError(f"{path}: key {key!r} is unknown; beside 'model' there may be {', '.join(_BESIDE_MODEL)}")
    return weights, {key: _BESIDE_MODEL[key] for key in beside}, wrapped


def _float32(path: pathlib.Path, key: str, weight: Any) -> torch.Tensor:
    if not isinstance(weight, torch.Tensor):
        raise InputError(f"{path}: key {key!r} is unknown and holds a {type(weight).__name__}; expected a tensor")
    if weight.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InputError(f"{path}: key {key!r} is {weight.dtype}; expected float32, float16, bfloat16 or float64")
    return weight.detach().float().contiguous()


def _check(path: pathlib.Path, found: Found, attention: tuple[str, ...], headed: bool) -> None:
    """Refuses anything that is not exactly the weights of one ViT, with or without MAE's decoder."""
    key, weight = found["patch_embed.proj.weight"]
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise InputError(f"{path}: key {key!r} has shape {tuple(weight.shape)}; expected (width, bands, patch, patch)")
    width, bands, patch, _ = weight.shape
    tokens = _size(found, "pos_embed", -2)
    expected = {"patch_embed.proj.weight": tuple(weight.shape), "patch_embed.proj.bias": (width,), "pos_embed": (1, tokens, width)}
    expected |= _blocks_shapes(path, found, "", width, attention)
    if "cls_token" in found or _is_square(tokens - 1):
        expected["cls_token"] = (1, 1, width)
    if headed and not {"norm.weight", "norm.bias"} & set(found):
        del expected["norm.weight"], expected["norm.bias"]
    if any(name.startswith("decoder.") for name in found):
        inner = _size(found, "decoder.embed.weight", 0)
        expected |= {"decoder.embed.weight": (inner, width), "decoder.embed.bias": (inner,), "decoder.mask_token": (1, 1, inner)}
        expected |= {"decoder.pos_embed": (1, tokens, inner), "decoder.pred.weight": (patch * patch * bands, inner)}
        expected |= {"decoder.pred.bias": (patch * patch * bands,)} | _blocks_shapes(path, found, "decoder.", inner, attention)
    for name, (key, _) in found.items():
        if name not in expected:
            raise InputError(f"{path}: key {key!r} is unknown; a plain ViT and MAE's decoder have no such weight")
    for name, shape in expected.items():
        if name not in found:
            fitting = f"; expected shape {shape}" if all(shape) else ""
            raise InputError(f"{path}: weight {name!r} (as PublishedVit names it) is missing{fitting}")
        key, weight = found[name]
        if tuple(weight.shape) != shape:
            raise InputError(f"{path}: key {key!r} has shape {tuple(weight.shape)}; expected {shape} beside the other weights")
    if not _is_square(tokens) and not _is_square(tokens - 1):
        raise InputError(
            f"{path}: key {found['pos_embed'][0]!r} has {tokens} positions; expected a square, or one more for the class token"
        )


def _blocks_shapes(path: pathlib.Path, found: Found, prefix: str, width: int, attention: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the blocks and the final norm, by canonical name."""
    blocks = _blocks(found, prefix)
    gap = next(i for i in itertools.count() if i not in blocks)
    if gap <= max(blocks, default=0):
        raise InputError(
            f"{path}: weights '{prefix}blocks.{gap}.*' (as PublishedVit names them) are missing; expected blocks from 0, no gaps"
        )
    hidden = _size(found, f"{prefix}blocks.0.mlp.fc1.weight", 0)
    block = {"norm1": (width,), "norm2": (width,), "attn.proj": (width, width), "mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    block |= {name: (3 * width // len(attention), width) for name in attention}
    layers = {f"{prefix}blocks.{i}.{name}": shape for i in blocks for name, shape in block.items()} | {f"{prefix}norm": (width,)}
    return {f"{name}.weight": shape for name, shape in layers.items()} | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def _blocks(names: Iterable[str], prefix: str = "") -> set[int]:
    matches = (re.match(rf"{prefix}blocks\.(\d+)\.", name) for name in names)
    return {int(match[1]) for match in matches if match}


def _size(found: Found, name: str, dim: int) -> int:
    """The size of a dim, 0 where there is no such weight or dim: the check of shapes will say so."""
    shape = found[name][1].shape if name in found else ()
    return shape[dim] if -len(shape) <= dim < len(shape) else 0


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _canonical(found: Found) -> Arrays:
    """Fuses queries, keys and values, and puts zeros where the class token has no position."""
    arrays = {name: weight.numpy() for name, (_, weight) in found.items()}
    for name in [name for name in arrays if ".attn.q." in name]:
        parts = [arrays.pop(name.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"]
        arrays[name.replace(".attn.q.", ".attn.qkv.")] = np.concatenate(parts)
    for name in {"pos_embed", "decoder.pos_embed"} & set(arrays):
        if not _is_square(arrays[name].shape[1] - 1):
            arrays[name] = np.pad(arrays[name], ((0, 0), (1, 0), (0, 0)))
    return arrays
