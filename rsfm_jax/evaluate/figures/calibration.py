"""How well predicted probabilities of exclusive classes hold: log-loss, Brier score, expected calibration error.

Takes numpy arrays and returns Python numbers for JSON.

Legend: N samples, K classes.
"""

from typing import Any

import numpy as np
from sklearn.metrics import brier_score_loss, log_loss

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_finite


def probabilistic(target: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> dict[str, Any]:
    """How well predicted probabilities of K exclusive classes hold.

    Args:
      target: Classes, int (N,), 0 to K - 1.
      probabilities: (N, K); rows sum to 1.
      bins: Bins of equal width for the calibration error.

    Returns:
      `log_loss`, natural logarithm, with probabilities below 2.2e-16 counted as that; `impossible_n`, for how many samples that was so;
      `brier`, the squared distance to the one-hot truth summed over classes (0 to 2); `ece` as `expected_calibration_error`; `n`.

    Raises:
      InputError: Shapes do not fit, a class has no column, or a row is no distribution.
    """
    target, probabilities = _distributions(target, probabilities)
    labels = list(range(probabilities.shape[1]))
    brier = brier_score_loss(target, probabilities, labels=labels, scale_by_half=False)  # pyright: ignore[reportArgumentType]
    of_truth = probabilities[np.arange(len(target)), target]
    return {
        "log_loss": float(log_loss(target, probabilities, labels=labels)),
        "impossible_n": int((of_truth < np.finfo(np.float64).eps).sum()),
        "brier": float(brier),
        "ece": expected_calibration_error(target, probabilities, bins),
        "n": len(target),
    }


def expected_calibration_error(target: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Mean distance of the top label's probability from its accuracy, over bins of equal width, closed above.

    torchmetrics' `multiclass_calibration_error` closes the bins below and gives probabilities of exactly 1, which saturated models have,
    a bin of their own, so it can be larger there; elsewhere both agree.

    Args:
      target: Classes, int (N,).
      probabilities: (N, K).
      bins: How many bins.

    Returns:
      The error, 0 to 1.

    Raises:
      InputError: As `probabilistic`, or there is no bin.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equations 2, 3 and 5.
    """
    target, probabilities = _distributions(target, probabilities)
    if bins < 1:
        raise InputError(f"bins is {bins}; expected at least 1")
    top = np.minimum(probabilities.max(axis=1), 1.0)
    gap = (probabilities.argmax(axis=1) == target) - top
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:], top, side="left")
    return float(np.abs(np.bincount(place, gap, minlength=bins)).sum() / len(target))


def _distributions(target: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes int64 (N,) and distributions float64 (N, K), checked; rows are rescaled by the rounding that the check allows."""
    target, probabilities = np.asarray(target), np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or target.shape != (len(probabilities),) or not target.size:
        raise InputError(f"target has shape {target.shape} and probabilities {probabilities.shape}; expected (N,) and (N, K)")
    if not np.issubdtype(target.dtype, np.integer) or target.min() < 0 or target.max() >= probabilities.shape[1]:
        raise InputError(f"target is {target.dtype} from {target.min()} to {target.max()}; expected int, 0 to {probabilities.shape[1] - 1}")
    must_be_finite("probabilities", probabilities)
    total = probabilities.sum(axis=1, keepdims=True)
    if probabilities.min() < 0 or np.abs(total - 1).max() > 1e-4:
        worst = float(total.flat[np.abs(total - 1).argmax()])
        raise InputError(f"probabilities go down to {probabilities.min():g} and sum to as far as {worst:g} in a row; expected >= 0 and 1")
    return target.astype(np.int64), probabilities / total
