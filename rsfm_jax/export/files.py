"""What a format is, weight files that read back as written, and digests."""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import pathlib

import numpy as np
from safetensors.numpy import load_file, save
import torch

from rsfm_jax.config import Config
from rsfm_jax.export.baking import Baked
from rsfm_jax.models.torch_names import Arrays

Encode = Callable[[torch.Tensor], tuple[torch.Tensor, Sequence[torch.Tensor | None]]]
"""From normalised values (B, C, H, W) to tokens after the final norm (B, T, D), and after each block where the format gives them."""
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From normalised values and noise (B, N), whose lowest quarter stays visible, to every patch's predicted values (B, N, P)."""
PARITY_MASK_RATIO = 0.75
NORMALISED = "normalised by the table's mean and std, band by band: (value - mean) / std"


@dataclasses.dataclass(frozen=True)
class Format:
    """One format that a ViT of one sensor and date is written in.

    Attributes:
      what: What it is, for the model card.
      needs: Python packages that writing or reading it back takes, from the extra "export".
      values: What goes in.
      write: Writes a baked model into a folder; the last argument says whether the decoder goes along.
      read: Loads a folder as its users would, strictly.
      usage: Lines of Python for the model card.
      predict: Loads a folder with a decoder; None where the format holds none.
    """

    what: str
    needs: tuple[str, ...]
    values: str
    write: Callable[[Baked, Config, pathlib.Path, bool], None]
    read: Callable[[Baked, Config, pathlib.Path], Encode]
    usage: Callable[[Baked, Config, bool], list[str]]
    predict: Callable[[pathlib.Path], Predict] | None = None


def write_weights(weights: Arrays, file: pathlib.Path) -> None:
    """Writes contiguous arrays as safetensors, and compares what the file holds.

    Raises:
      RuntimeError: it reads back otherwise.
    """
    file.write_bytes(save(weights, metadata={"format": "pt"}))
    written = load_file(file)
    wrong = [name for name, array in weights.items() if not np.array_equal(written[name], array)]
    if wrong or set(written) != set(weights):
        raise RuntimeError(f"{file}: does not read back as written: {wrong or sorted(set(written) ^ set(weights))}")


def sha256(file: pathlib.Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
