"""TorchGeo: an exported folder of the format "timm" as an entry of pretrained weights.

    from rsfm_jax.torch.torchgeo import rsfm_vit, rsfm_weights
    weights = rsfm_weights("weights-timm")
    model = rsfm_vit(weights, num_classes=10)
    features = model(weights.transforms(physical_values))

TorchGeo's `ClassificationTask` takes such a folder without this file, by its model ``"local-dir:weights-timm"`` and ``weights=True``.
"""

import json
import pathlib
from typing import Any

from safetensors.torch import load_file
import timm
from timm.models.vision_transformer import VisionTransformer
import torch
from torch import nn
from torchvision.models._api import Weights, WeightsEnum
import torchvision.transforms.v2 as T

WEIGHTS, CONFIG, CATALOGUE = "model.safetensors", "config.json", "stac_item.json"


class FolderWeights(WeightsEnum):
    """Weights in a local folder; the members are made by `rsfm_weights`."""

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The folder's state dict; arguments of TorchGeo's downloads (``progress``) change nothing."""
        del args, kwargs
        return load_file(pathlib.Path(self.meta["folder"]) / WEIGHTS)


def rsfm_weights(
    folder: str | pathlib.Path, publication: str | None = None, repo: str | None = None, ssl_method: str = "mae"
) -> FolderWeights:
    """The weights entry of a folder.

    Args:
      folder: Of the format "timm".
      publication: Where the weights are described, for ``meta``.
      repo: Where they come from, for ``meta``.
      ssl_method: How they were pretrained, for ``meta``.

    Returns:
      The only member, of the sensor's name, of an enumeration ``RSFM_Weights``, with ``transforms`` (normalises physical values
      (..., C, H, W) by the folder's mean and standard deviation), ``meta`` and ``get_state_dict``.

    Raises:
      ValueError: the folder is not of that format.
    """
    folder = pathlib.Path(folder).resolve()
    missing = [name for name in (WEIGHTS, CONFIG, CATALOGUE) if not (folder / name).is_file()]
    described = {} if missing else json.loads((folder / CONFIG).read_text())
    if "model_args" not in described or "input" not in described:
        reason = f"{', '.join(missing)} missing" if missing else f"{CONFIG} is of another format"
        raise ValueError(f"{folder}: {reason}; give a folder that python -m rsfm_jax.export --format=timm wrote")
    statistics, arguments, taken = described["pretrained_cfg"], described["model_args"], described["input"]
    catalogued = json.loads((folder / CATALOGUE).read_text())["properties"]
    meta = {
        "dataset": catalogued["mlm:pretrained_source"],
        "in_chans": arguments["in_chans"],
        "img_size": arguments["img_size"],
        "model": described["architecture"],
        "publication": publication,
        "repo": repo,
        "ssl_method": ssl_method,
        "bands": taken["bands"],
        "units": taken["units"],
        "model_args": arguments,
        "folder": str(folder),
    }
    transforms = nn.Sequential(T.Normalize(mean=statistics["mean"], std=statistics["std"]))
    entry = Weights(url=(folder / WEIGHTS).as_uri(), transforms=transforms, meta=meta)
    name = taken["sensor"].upper()
    return FolderWeights("RSFM_Weights", {name: entry})[name]


def rsfm_vit(weights: FolderWeights | None = None, *args: Any, **kwargs: Any) -> VisionTransformer:
    """Builds timm's VisionTransformer of a folder, or one with random weights.

    Args:
      weights: From `rsfm_weights`; None: random weights, the architecture is then that of ``kwargs``.
      *args: Passed to `timm.create_model`.
      **kwargs: Passed to `timm.create_model`; over those of the folder. ``num_classes`` above 0 adds a head with random weights.

    Returns:
      The model; every weight of the folder is in it, and only the head is not from there.

    Raises:
      RuntimeError: a key is missing, unknown or of another shape.
    """
    if weights is None:
        return timm.create_model("vit_base_patch16_224", *args, **kwargs)
    FolderWeights.verify(weights)
    arguments = {"num_classes": 0} | weights.meta["model_args"] | kwargs
    model = timm.create_model(weights.meta["model"], *args, pretrained=False, **arguments)
    head = {f"head.{name}": value for name, value in model.head.state_dict().items()}
    model.load_state_dict(weights.get_state_dict() | head, strict=True)
    return model
