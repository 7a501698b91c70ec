"""timm's `VisionTransformer`: a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads, strictly.

The config names no first convolution: timm would otherwise adapt it to the number of bands, as if it were of three.
"""

import json
import pathlib

import numpy as np
from safetensors.torch import load_file

from rsfm_jax.config import Config
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import NORMALISED, Encode, Format, write_weights
from rsfm_jax.models.torch_names import Arrays
from rsfm_jax.torch.plain_vit import PlainVit

WEIGHTS = "model.safetensors"


def write(baked: Baked, config: Config, folder: pathlib.Path, decoder: bool) -> None:
    """Writes model.safetensors and config.json into a folder."""
    del decoder
    model = config.model
    write_weights(timm_names(baked.encoder), folder / WEIGHTS)
    arguments = {
        "img_size": list(baked.size),
        "patch_size": baked.slot.patch,
        "in_chans": len(baked.bands),
        "embed_dim": model.width,
        "depth": model.depth,
        "num_heads": model.heads,
        "mlp_ratio": model.mlp_ratio,
        "class_token": model.cls_token,
        "global_pool": "avg",
        "fc_norm": False,
    }
    described = {
        "architecture": "vit_base_patch16_224",
        "num_classes": 0,
        "num_features": model.width,
        "global_pool": "avg",
        "model_args": arguments,
        "input": {  # not read by timm
            "sensor": baked.choice.sensor,
            "bands": [band["name"] for band in baked.bands],
            "units": [band["unit"] for band in baked.bands],
            "gsd_m": baked.choice.gsd_m,
            "acquired": baked.choice.acquired,
        },
        "pretrained_cfg": {
            "input_size": [len(baked.bands), *baked.size],
            "fixed_input_size": True,
            "mean": [band["mean"] for band in baked.bands],
            "std": [band["std"] for band in baked.bands],
            "num_classes": 0,
            "pool_size": None,
            "classifier": "head",
            "license": "other",
        },
    }
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")


def timm_names(encoder: Arrays) -> Arrays:
    """The arrays as timm has them: without a class token there is no position for it."""
    positions = encoder["pos_embed"] if "cls_token" in encoder else encoder["pos_embed"][:, 1:]
    return encoder | {"pos_embed": np.ascontiguousarray(positions)}


def read(baked: Baked, config: Config, folder: pathlib.Path) -> Encode:
    """Loads the file strictly into a plain ViT of timm's names; timm itself would bring torchvision."""
    del baked
    return PlainVit.of_state_dict(load_file(folder / WEIGHTS), config.model.heads)


def usage(baked: Baked, config: Config, decoder: bool) -> list[str]:
    """Lines of Python for the model card."""
    del config, decoder
    return [
        "import timm",
        "",
        'model = timm.create_model("local-dir:.", pretrained=True)  # the path of this folder',
        f"# x: (B, {len(baked.bands)}, {baked.size[0]}, {baked.size[1]}), normalised: (values - mean) / std, band by band",
        "model.forward_features(x), model(x)  # tokens after the norm; their mean",
    ]


FORMAT = Format("timm's VisionTransformer", (), NORMALISED, write, read, usage)
