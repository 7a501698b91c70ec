"""Prithvi's keys: a file that TerraTorch's own Prithvi backbones load, without any code of ours.

The patch embedding has a dim of dates, of size one. Prithvi always has a class token.
"""

import json
import pathlib

import numpy as np
import torch

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.errors import InputError
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import NORMALISED, Encode, Format
from rsfm_jax.torch.plain_vit import PlainVit

WEIGHTS = "model.pt"


def write(baked: Baked, config: Config, folder: pathlib.Path, decoder: bool) -> None:
    """Writes model.pt, a bare state dict, and config.json into a folder.

    Raises:
      InputError: the model has no class token.
    """
    del decoder
    if not config.model.cls_token:
        raise InputError(
            "--format=prithvi: Prithvi has a class token, this model has none; train with --config.model.cls_token=True, or choose another"
        )
    state = dict(baked.encoder)
    state["patch_embed.proj.weight"] = np.ascontiguousarray(state["patch_embed.proj.weight"][:, :, None])
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps({"backbone_kwargs": arguments(baked, config.model)}, indent=1) + "\n")


def arguments(baked: Baked, model: ModelConfig) -> dict[str, object]:
    """Keyword arguments of TerraTorch's ``prithvi_eo_v2_300``."""
    return {
        "bands": [band["name"] for band in baked.bands],
        "num_frames": 1,
        "img_size": list(baked.size) if baked.size[0] != baked.size[1] else baked.size[0],
        "patch_size": [1, baked.slot.patch, baked.slot.patch],
        "embed_dim": model.width,
        "depth": model.depth,
        "num_heads": model.heads,
        "mlp_ratio": model.mlp_ratio,
    }


def read(baked: Baked, config: Config, folder: pathlib.Path) -> Encode:
    """Loads the file strictly into a plain ViT of the same keys; TerraTorch is not needed."""
    del baked
    return PlainVit.of_state_dict(torch.load(folder / WEIGHTS, weights_only=True), config.model.heads)


def usage(baked: Baked, config: Config, decoder: bool) -> list[str]:
    """Lines of Python for the model card."""
    del baked, config, decoder
    return [
        "from terratorch.registry import BACKBONE_REGISTRY",
        "",
        'model = BACKBONE_REGISTRY.build("terratorch_prithvi_eo_v2_300", pretrained=True, ckpt_path="model.pt", **kwargs)',
        "# kwargs: backbone_kwargs of config.json",
    ]


FORMAT = Format("the keys of Prithvi, which TerraTorch loads", (), NORMALISED, write, read, usage)
