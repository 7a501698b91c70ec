"""Checks of arrays that every figure needs."""

import numpy as np

from rsfm_jax.errors import InputError


def must_be_finite(name: str, values: np.ndarray) -> None:
    """Raises InputError, with the argument's name and counts, if a value is NaN or infinite."""
    count = int((~np.isfinite(values)).sum())
    if count:
        raise InputError(f"{name} has {count} values that are not finite, of {values.size}; expected none")
