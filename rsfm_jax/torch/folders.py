"""Opening exported folders of the format "rsfm": what is asked of one before its encoder is used, whoever asks."""

import hashlib
import json
import pathlib
from typing import Any

from rsfm_jax.errors import InputError
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_WRITER = "python -m rsfm_jax.export --format=rsfm"


def read_config(folder: str | pathlib.Path) -> dict[str, Any]:
    """The content of a folder's config.json.

    Args:
      folder: The folder.

    Returns:
      What `rsfm_jax.export` described there.

    Raises:
      InputError: no such folder, or one of another format.
    """
    file = pathlib.Path(folder) / CONFIG
    if not file.is_file():
        raise InputError(f"{folder}: holds no {CONFIG}; give the folder that {_WRITER} wrote")
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file}: is no JSON ({error}); give the folder that {_WRITER} wrote") from None
    if not isinstance(config, dict) or config.get("architecture") != "rsfm_encoder":
        raise InputError(f"{folder}: is not of the format rsfm, which takes any date and size; export with --format=rsfm")
    return config


def open_encoder(folder: str | pathlib.Path, pretrained: bool = True) -> RSFMEncoder:
    """The encoder of a folder.

    Args:
      folder: The folder.
      pretrained: Load the weights, strictly; otherwise the encoder of config.json starts at random.

    Returns:
      The encoder in evaluation mode, on the CPU.

    Raises:
      InputError: see `read_config`, or weights that are missing or not those of config.json.
    """
    config, folder = read_config(folder), pathlib.Path(folder)
    if pretrained and not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder}: holds no {WEIGHTS}; give the folder that {_WRITER} wrote")
    try:
        return RSFMEncoder.from_folder(folder) if pretrained else RSFMEncoder(config).eval()
    except KeyError as error:
        raise InputError(f"{folder}: {CONFIG} has no {error}; give the folder that {_WRITER} wrote") from None
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: {' '.join(str(error).split())}") from None


def folder_digest(folder: str | pathlib.Path) -> str:
    """SHA-256 of a folder's config.json, which holds that of the weights: it stands for the model."""
    return hashlib.sha256((pathlib.Path(folder) / CONFIG).read_bytes()).hexdigest()
