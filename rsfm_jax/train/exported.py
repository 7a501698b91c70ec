"""Starting from a folder that `rsfm_jax.export` wrote, or that `RSFMEncoder.save_folder` wrote after fine-tuning: PyTorch back to JAX.

Weights go by name, so a kind of token slot that the folder knows keeps its patch embedding, and one that it doesn't starts at random. With
``pretraining.safetensors`` (export's --decoder) the decoder goes on too.
"""

import hashlib
import json
import pathlib
from typing import Any

from safetensors.numpy import load_file

from rsfm_jax.errors import InputError
from rsfm_jax.models.build import Params
from rsfm_jax.models.spec import ModelSpec
from rsfm_jax.models.torch_names import Arrays, from_torch, torch_names

_ENCODER, _PRETRAINING = "model.safetensors", "pretraining.safetensors"


def is_exported(folder: str) -> bool:
    """Whether a folder is one of this project's format "rsfm"."""
    config = pathlib.Path(folder) / "config.json"
    try:
        return json.loads(config.read_text()).get("architecture") == "rsfm_encoder"
    except (OSError, ValueError, AttributeError):
        return False


def read_exported(folder: str, spec: ModelSpec) -> tuple[dict[str, Any], Arrays, Arrays]:
    """Reads a folder and checks that its encoder is of the model's size.

    Args:
      folder: The folder.
      spec: The model's spec.

    Returns:
      config.json, the encoder's arrays, and those that pretraining needs besides, empty where the folder has none.

    Raises:
      InputError: another size of encoder, or a file that is not the one config.json was written for.
    """
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    check_size(folder, spec, config["width"], config["depth"], config["mlp_hidden"], config["heads"])
    return config, _read(folder, _ENCODER, config), _read(folder, _PRETRAINING, config) if _PRETRAINING in config["sha256"] else {}


def load_exported(folder: str, spec: ModelSpec, params: Params) -> tuple[Params, list[str]]:
    """What of a folder fits a model's parameters.

    Args:
      folder: The folder.
      spec: The model's spec.
      params: The model's parameters; only their structure and shapes are read.

    Returns:
      A tree that holds the parameters taken, float32 numpy arrays, and a report, line by line: what it is, what of it is left out.

    Raises:
      InputError: see `read_exported`, or an array of another shape.
    """
    config, arrays, more = read_exported(folder, spec)
    generator = {name: array for name, array in more.items() if name.startswith("patch_embed_generator.")}
    encoder, used = params["encoder"], set()
    taken: Params = {}
    if spec.tokenizer.kind == "wavelength":
        embed = _fitting(folder, encoder["patch_embed"], generator, "patch_embed_generator.", used)
        taken["encoder"] = _fitting(folder, {k: v for k, v in encoder.items() if k != "patch_embed"}, arrays, "", used)
        taken["encoder"] |= {"patch_embed": embed} if embed else {}
    else:
        taken["encoder"] = _fitting(folder, encoder, arrays, "", used)
    decoder = _fitting(folder, params["decoder"], more, "decoder.", used)
    taken |= {"decoder": decoder} if decoder else {}
    left_out = sorted((arrays.keys() | more.keys()) - used)
    without = "" if more else f"; it has no {_PRETRAINING}, so no decoder"
    report = [
        f"started from {folder} (rsfm: width {config['width']}, depth {config['depth']}, {config['training']['step']} steps of training)",
        f"  taken: {len(used)} of {len(arrays) + len(more)} arrays{without}",
    ]
    return taken, report + [f"  left out: {name}, for which this model has no place" for name in left_out]


def check_size(file: str, spec: ModelSpec, width: int, depth: int, mlp_hidden: int, heads: int | None = None) -> None:
    """Checks that an encoder is of the model's size.

    Args:
      file: Its file or folder, for the message.
      spec: The model's spec.
      width: Width of its tokens.
      depth: Number of its blocks.
      mlp_hidden: Width of its MLPs' hidden layer.
      heads: Heads of its attention; None: the file does not tell.

    Raises:
      InputError: another size; names both and the overrides that fit.
    """
    model = spec.config
    ratio = model.mlp_ratio if mlp_hidden == int(width * model.mlp_ratio) else mlp_hidden / width
    theirs = {"width": width, "depth": depth, "heads": model.heads if heads is None else heads, "mlp_ratio": ratio}
    wrong = {name: value for name, value in theirs.items() if value != getattr(model, name)}
    if wrong:
        differing = ", ".join(f"{name} {value}, not the model's {getattr(model, name)}" for name, value in wrong.items())
        overrides = " ".join(f"--config.model.{name}={value}" for name, value in wrong.items())
        raise InputError(f"config.init.torch={file}: its encoder has {differing}; give {overrides}, or weights of the model's size")


def _read(folder: str, name: str, config: dict[str, Any]) -> Arrays:
    file = pathlib.Path(folder) / name
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"config.init.torch: {file}: cannot be read ({error.strerror})") from None
    if digest != config["sha256"][name]:
        raise InputError(
            f"config.init.torch: {file}: its SHA-256 is not the one in config.json; copy the folder again, or write fine-tuned weights "
            "with RSFMEncoder.save_folder"
        )
    return load_file(file)


def _fitting(folder: str, template: Params, arrays: Arrays, prefix: str, used: set[str]) -> Params:
    """The parts of a tree that the arrays have, blocks all or none; adds the names to ``used``."""
    taken: Params = {}
    for name, part in template.items():
        if isinstance(part, dict) and "layers" not in part:
            found = _fitting(folder, part, arrays, prefix if name == "slots" else f"{prefix}{name}.", used)
            taken |= {name: found} if found else {}
            continue
        names = torch_names({name: part}, prefix)
        if arrays.keys() >= set(names):
            try:
                taken |= from_torch({name: part}, arrays, prefix)
            except ValueError as error:
                raise InputError(f"config.init.torch={folder}: {error}") from None
            used |= set(names)
    return taken
