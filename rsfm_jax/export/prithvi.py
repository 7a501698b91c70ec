"""Prithvi's keys: a file that TerraTorch's own Prithvi backbones load, without any code of ours.

The patch embedding has a dim of dates, of size one. Prithvi always has a class token. Three things of TerraTorch decide the rest.

Its layer norms have an epsilon of 1e-5, the encoder's 1e-6. A residual stream of sqrt(10) times the size makes them equal, for
``LN(sqrt(10) x, 1e-5) = LN(x, 1e-6)``. So what is added to the stream is written that much larger; tokens after the last norm are exactly
the encoder's, and those after a block are sqrt(10) times them.

It replaces what a file has as ``pos_embed`` by its own table, which knows neither sensor nor date nor GSD. The positions are therefore
written under a second name too, which becomes ``pos_embed`` when TerraTorch strips ``encoder.`` from names, after that.

It takes a band's weights where its name is in ``pretrained_bands``, and others at random; so the arguments name the bands twice.
"""

import json
import math
import pathlib

import numpy as np
import torch

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.errors import InputError
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import NORMALISED, Encode, Format
from rsfm_jax.models.torch_names import Arrays
from rsfm_jax.nn.layers import LAYER_NORM_EPSILON
from rsfm_jax.torch.plain_vit import PlainVit

WEIGHTS = "model.pt"
EPSILON = 1e-5  # of nn.LayerNorm, which TerraTorch's Prithvi has
STREAM = math.sqrt(EPSILON / LAYER_NORM_EPSILON)
POSITIONS = "encoder.pos_encoder.embed"  # without each "encoder.": pos_embed
_WIDTH_STEP = 16  # TerraTorch's own table needs a multiple
_ADDED = ("patch_embed.proj.", "cls_token", "pos_embed", "attn.proj.", "mlp.fc2.")


def write(baked: Baked, config: Config, folder: pathlib.Path, decoder: bool) -> None:
    """Writes model.pt, a bare state dict, and config.json into a folder.

    Raises:
      InputError: a model or choice of bands that TerraTorch's Prithvi can't be.
    """
    del decoder
    if not config.model.cls_token:
        raise InputError(
            "--format=prithvi: Prithvi has a class token, this model has none; train with --config.model.cls_token=True, or choose another"
        )
    if config.model.width % _WIDTH_STEP:
        raise InputError(
            f"--format=prithvi: the width must be a multiple of {_WIDTH_STEP}, not {config.model.width}; choose another format"
        )
    names = [band["name"] for band in baked.bands]
    if len(set(names)) < len(names):
        raise InputError(f"--format=prithvi --bands={','.join(names)}: TerraTorch finds bands by name, so none may be repeated")
    state = enlarged(baked.encoder)
    state["patch_embed.proj.weight"] = np.ascontiguousarray(state["patch_embed.proj.weight"][:, :, None])
    state[POSITIONS] = state["pos_embed"]
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, folder / WEIGHTS)
    described = {"backbone_kwargs": arguments(baked, config.model), "blocks_times": STREAM}
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")


def enlarged(encoder: Arrays) -> Arrays:
    """The arrays with all that is added to the residual stream times `STREAM`."""
    return {name: (array * STREAM).astype(np.float32) if any(part in name for part in _ADDED) else array for name, array in encoder.items()}


def arguments(baked: Baked, model: ModelConfig) -> dict[str, object]:
    """Keyword arguments of TerraTorch's ``prithvi_eo_v2_300``."""
    names = [band["name"] for band in baked.bands]
    return {
        "bands": names,
        "pretrained_bands": names,
        "num_frames": 1,
        "img_size": list(baked.size) if baked.size[0] != baked.size[1] else baked.size[0],
        "patch_size": [1, baked.slot.patch, baked.slot.patch],
        "embed_dim": model.width,
        "depth": model.depth,
        "num_heads": model.heads,
        "mlp_ratio": model.mlp_ratio,
    }


def read(baked: Baked, config: Config, folder: pathlib.Path) -> Encode:
    """Loads the file strictly into a plain ViT of the same keys and epsilon; TerraTorch is not needed."""
    del baked
    state = torch.load(folder / WEIGHTS, weights_only=True)
    state["pos_embed"] = state.pop(POSITIONS)
    vit = PlainVit.of_state_dict(state, config.model.heads, EPSILON)

    def encode(values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        tokens, layers = vit(values)
        return tokens, [layer / STREAM for layer in layers]

    return encode


def usage(baked: Baked, config: Config, decoder: bool) -> list[str]:
    """Lines of Python for the model card."""
    del baked, config, decoder
    return [
        "import json, torch",
        "from terratorch.registry import BACKBONE_REGISTRY",
        "",
        'kwargs = json.load(open("config.json"))["backbone_kwargs"]',
        'model = BACKBONE_REGISTRY.build("terratorch_prithvi_eo_v2_300", pretrained=True, ckpt_path="model.pt", **kwargs)',
        'assert torch.equal(model.pos_embed, torch.load("model.pt")["pos_embed"])  # else it is not ours',
        "# its list of tokens: the last after the norm, as the encoder's; those of earlier blocks sqrt(10) times as large",
    ]


FORMAT = Format("the keys of Prithvi, which TerraTorch loads", (), NORMALISED, write, read, usage)
