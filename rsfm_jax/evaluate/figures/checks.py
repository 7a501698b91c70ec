"""Checks of arguments that several figures share."""

import numpy as np
import torch
from torch import Tensor

from rsfm_jax.errors import InputError


def must_be_finite(name: str, values: np.ndarray) -> None:
    """Raises InputError, with the argument's name and counts, if a value is NaN or infinite."""
    count = int((~np.isfinite(values)).sum())
    if count:
        raise InputError(f"{name} has {count} values that are not finite, of {values.size}; expected none")


def must_be_positive(name: str, value: float) -> None:
    """Raises InputError, with the argument's name, unless the value is above 0."""
    if not value > 0:
        raise InputError(f"{name} is {value}; expected a positive number")


def same_images(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Images and their references, (B, C, H, W), as float64; raises InputError if shapes differ or a value is not finite."""
    if target.ndim != 4 or predicted.shape != target.shape or not target.numel():
        raise InputError(f"predicted has shape {tuple(predicted.shape)} and target {tuple(target.shape)}; expected (B, C, H, W) of both")
    for name, values in (("predicted", predicted), ("target", target)):
        if not torch.isfinite(values).all():
            raise InputError(f"{name} has {int((~torch.isfinite(values)).sum())} values that are not finite, of {values.numel()}")
    return predicted.double(), target.double()
