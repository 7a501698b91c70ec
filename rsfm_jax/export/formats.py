"""The formats that one sensor and date are baked into, by name."""

import importlib.util

from rsfm_jax.errors import InputError
from rsfm_jax.export import onnx, prithvi, timm, transformers
from rsfm_jax.export.files import Format

RSFM = "rsfm"
FORMATS = {"timm": timm.FORMAT, "transformers": transformers.FORMAT, "prithvi": prithvi.FORMAT, "onnx": onnx.FORMAT}


def find_format(name: str, decoder: bool) -> Format:
    """A format by name.

    Args:
      name: A key of `FORMATS`.
      decoder: Whether it must hold a decoder.

    Returns:
      The format.

    Raises:
      InputError: no such format, one that holds no decoder, or a package is missing.
    """
    if name not in FORMATS:
        raise InputError(f"--format={name}: must be one of {', '.join([RSFM, *FORMATS])}")
    chosen = FORMATS[name]
    if decoder and not chosen.predict:
        able = ", ".join([RSFM, *(key for key, known in FORMATS.items() if known.predict)])
        raise InputError(f"--decoder: --format={name} holds no decoder; those that do are {able}")
    for package in chosen.needs:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--format={name} needs the package {package}: pip install 'rsfm_jax[export]'")
    return chosen
