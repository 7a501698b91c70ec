"""Folders and expected features that harness/make_folders.py wrote, and a table of the differences at the end.

These tests run in an environment of the libraries, without JAX: ``make test-harness``.
"""

import importlib.metadata
import os
import pathlib

import numpy as np
import pytest
import torch

FOLDERS = pathlib.Path(os.environ.get("RSFM_HARNESS_FOLDERS", pathlib.Path(__file__).parent / "folders"))
LIMIT = 1e-4
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "terratorch", "torchgeo", "torchgeo-bench", "onnxruntime", "numpy")
_DIFFERENCES: dict[str, float] = {}

torch.set_num_threads(2)


class Case:
    """One exported folder with its chips and what JAX computes of them."""

    def __init__(self, name: str, expected: str | None = None) -> None:
        self.name, self.folder = name, FOLDERS / name
        arrays = np.load(FOLDERS / f"{expected or name}.npz")
        self.arrays = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        self.values, self.normalised, self.tokens, self.layers, self.time = (
            self.arrays[key] for key in ("values", "normalised", "tokens", "layers", "time")
        )
        self.first = int(name.startswith("cls-"))

    def check(self, library: str, found: torch.Tensor, expected: torch.Tensor) -> None:
        """Compares, and notes the largest difference under a library's name."""
        assert found.shape == expected.shape
        difference = (found - expected).abs().max().item()
        key = f"{library}, {self.name}"
        _DIFFERENCES[key] = max(difference, _DIFFERENCES.get(key, 0.0))
        assert difference <= LIMIT


@pytest.fixture(autouse=True)
def _seeded_and_precise():
    """Importing TerraTorch lowers the precision of all float32 products (its Clay module does), here to bfloat16's."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")


def pytest_terminal_summary(terminalreporter):
    """Versions and largest differences."""
    versions = []
    for library in LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{library} missing")
    terminalreporter.write_line("versions: " + ", ".join(versions))
    for key, difference in sorted(_DIFFERENCES.items()):
        terminalreporter.write_line(f"{key}: differs from JAX by up to {difference:.1e}")
