"""Features that need neither training nor labels: the pixels themselves and their statistics. An encoder should beat both.

Legend: N chips, C bands, H W pixels.
"""

import numpy as np

from rsfm_jax.errors import InputError


def raw_pixels(values: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """All pixels of a chip, one after another.

    Args:
      values: Physical values (N, C, H, W).
      valid: Where they were observed, bool of a shape that broadcasts to theirs; None for wherever they are finite. NaN never counts.

    Returns:
      Features float64 (N, C * H * W), band by band, and how many values were not observed: they have the mean of what was, of the same
      band and chip.

    Raises:
      InputError: Shapes do not fit, or a band of a chip has no observation.
    """
    values, valid = _observed("raw_pixels", values, valid)
    mean = _mean(values, valid)
    return np.where(valid, values, mean).reshape(len(values), -1), int((~valid).sum())


def window_statistics(values: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Mean and standard deviation of each band over the observed pixels of a chip.

    Args:
      values: As `raw_pixels` takes them.
      valid: As `raw_pixels` takes it.

    Returns:
      Features float64 (N, 2 * C), means first, and how many values were not observed, which are left out.

    Raises:
      InputError: As `raw_pixels`.
    """
    values, valid = _observed("window_statistics", values, valid)
    mean = _mean(values, valid)
    variance = _mean(np.where(valid, values - mean, 0.0) ** 2, valid)
    return np.concatenate([mean, np.sqrt(variance)], axis=1)[:, :, 0, 0], int((~valid).sum())


def _mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean over what was observed, (N, C, 1, 1)."""
    return np.where(valid, values, 0.0).sum(axis=(2, 3), keepdims=True) / valid.sum(axis=(2, 3), keepdims=True)


def _observed(name: str, values: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 and what was observed, bool, both (N, C, H, W)."""
    values = np.asarray(values, np.float64)
    if values.ndim != 4 or not values.size:
        raise InputError(f"{name}: values have shape {values.shape}; expected (N, C, H, W)")
    seen = np.isfinite(values)
    if valid is not None:
        try:
            seen &= valid
        except (ValueError, TypeError) as error:
            raise InputError(f"{name}: valid is {np.asarray(valid).dtype} {np.shape(valid)}; expected bool like {values.shape}") from error
    empty = ~seen.any(axis=(2, 3))
    if empty.any():
        chip, band = np.argwhere(empty)[0]
        raise InputError(
            f"{name}: {int(empty.sum())} bands of chips have no observation, the first is band {band} of chip {chip}; drop them"
        )
    return values, seen
