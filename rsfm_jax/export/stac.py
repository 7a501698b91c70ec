"""A STAC item with the machine-learning-model extension (mlm 1.4): what a catalogue needs to know of an exported folder."""

import datetime
from typing import Any

import pystac
from pystac.extensions.mlm import InputStructure, MLMExtension, ModelBand, ModelInput, ModelOutput, ResultStructure, TaskType
from pystac.extensions.raster import DataType

from rsfm_jax.export.baking import Baked

FILE = "stac_item.json"
_WEIGHT_TYPES = {
    ".safetensors": "application/vnd.safetensors",
    ".onnx": "application/onnx",
    ".pt": "application/octet-stream; application=pytorch",
}


def stac_item(name: str, description: dict[str, Any], parameters: int, files: dict[str, str], baked: Baked | None) -> dict[str, Any]:
    """Describes a model.

    Args:
      name: Identifier of the item.
      description: The content of config.json of the format "rsfm".
      parameters: How many.
      files: SHA-256 of each file, by name.
      baked: The one input of a baked model; None where the model takes all of config.json.

    Returns:
      JSON. A model has no footprint, so its geometry is null; the date is that of the export.
    """
    item = pystac.Item(name, None, None, datetime.datetime.now(datetime.UTC).replace(microsecond=0), {})
    slots = [_baked_slot(baked)] if baked else description["slots"]
    mlm = MLMExtension.ext(item, add_if_missing=True)
    mlm.apply(
        name=name,
        architecture="Vision Transformer",
        tasks=[TaskType.SIMILARITY_SEARCH],
        framework="PyTorch" if not any(file.endswith(".onnx") for file in files) else "ONNX",
        framework_version=description["training"]["versions"].get("torch", "unknown"),
        total_parameters=parameters,
        pretrained=True,
        pretrained_source=f"dataset {description['training']['dataset_digest']}",
        input=[_input(slot, baked) for slot in slots],
        output=[
            ModelOutput.create(
                name="pooled",
                tasks=[TaskType.SIMILARITY_SEARCH],
                result=ResultStructure.create([-1, description["width"]], ["batch", "feature"], DataType.FLOAT32),
            )
        ],
    )
    for file, digest in files.items():
        suffix = "." + file.rpartition(".")[2]
        roles = ["mlm:model"] if suffix in _WEIGHT_TYPES else ["metadata"]
        extra = {"file:checksum": f"1220{digest}"} | ({"mlm:artifact_type": "safetensors"} if suffix == ".safetensors" else {})
        item.add_asset(file, pystac.Asset(f"./{file}", media_type=_WEIGHT_TYPES.get(suffix), roles=roles, extra_fields=extra))
    return item.to_dict(include_self_link=False)


def _baked_slot(baked: Baked) -> dict[str, Any]:
    return {"sensor": baked.choice.sensor, "gsd_m": baked.choice.gsd_m, "bands": baked.bands}


def _input(slot: dict[str, Any], baked: Baked | None) -> ModelInput:
    bands = slot["bands"]
    height, width = baked.size if baked else (-1, -1)
    units = ", ".join(f"{band['name']} in {band['unit']}" for band in bands)
    made = ModelInput.create(
        name=f"{slot['sensor']} {' '.join(band['name'] for band in bands)}",
        bands=[ModelBand.create(band["name"]) for band in bands],
        input=InputStructure.create([-1, len(bands), height, width], ["batch", "bands", "height", "width"], DataType.FLOAT32),
        description=f"physical values, {units}, at {slot['gsd_m']:g} m",
    )
    scaling = [{"type": "z-score", "mean": band["mean"], "stddev": band["std"]} for band in bands]
    made.properties["value_scaling"] = scaling  # one for each band; the library's setter takes only one
    return made
