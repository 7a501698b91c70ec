"""Reconstruction loss on hidden patches, valid values only, by default against each patch's normalised values (norm-pix).

Legend: B batch, N patches of a member, P values of a patch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

NORM_PIX_EPSILON = 1e-6


def patch_moments(
    values_BNP: Float[Array, "B N P"], valid_BNP: Bool[Array, "B N P"]
) -> tuple[Float[Array, "B N 1"], Float[Array, "B N 1"]]:
    """Mean and unbiased variance of each patch's valid values.

    Args:
      values_BNP: Values; what is not valid is ignored, NaN included.
      valid_BNP: Which values are observations.

    Returns:
      float32 (B, N, 1) each; zero where a patch has too few valid values.
    """
    count = valid_BNP.sum(axis=-1, keepdims=True).astype(jnp.float32)
    values_BNP = jnp.where(valid_BNP, values_BNP, 0.0)
    mean = values_BNP.sum(axis=-1, keepdims=True) / jnp.maximum(count, 1.0)
    squares = jnp.where(valid_BNP, jnp.square(values_BNP - mean), 0.0).sum(axis=-1, keepdims=True)
    return mean, squares / jnp.maximum(count - 1.0, 1.0)


def target_scale(
    values_BNP: Float[Array, "B N P"], valid_BNP: Bool[Array, "B N P"], norm_pix: bool
) -> tuple[Float[Array, "B N 1"], Float[Array, "B N 1"]]:
    """What a prediction is relative to: (value - mean) / scale is predicted, with each patch's own mean and scale, or 0 and 1.

    Args:
      values_BNP: Values.
      valid_BNP: Which of them are observations.
      norm_pix: Whether patches are normalised one by one.

    Returns:
      Mean and scale, float32 (B, N, 1) each.
    """
    if not norm_pix:
        none = jnp.zeros((*values_BNP.shape[:2], 1), jnp.float32)
        return none, none + 1
    mean, variance = patch_moments(values_BNP, valid_BNP)
    return mean, jnp.sqrt(variance + NORM_PIX_EPSILON)


def reconstruction_loss(
    predicted_BNP: Float[Array, "B N P"],
    values_BNP: Float[Array, "B N P"],
    valid_BNP: Bool[Array, "B N P"],
    hidden_BN: Bool[Array, "B N"],
    norm_pix: bool,
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Squared error against the target: per patch the mean over valid values, per example the sum over hidden patches.

    A patch without a valid value counts neither in the sum nor in the number of patches. With norm-pix, predicting every patch's mean gives
    (P - 1) / P, for the variance is the unbiased one.

    Args:
      predicted_BNP: Predictions.
      values_BNP: True values.
      valid_BNP: Which of them are observations.
      hidden_BN: Which patches were removed.
      norm_pix: Whether the target is normalised patch by patch.

    Returns:
      float32 (B,) sum of the hidden patches' errors, and float32 (B,) number of patches scored.

    Source: MAE (arXiv 2111.06377) section 4.1, "reconstruction target"; facebookresearch/mae forward_loss (unbiased variance, 1e-6).
    """
    mean, scale = target_scale(values_BNP, valid_BNP, norm_pix)
    target_BNP = (jnp.where(valid_BNP, values_BNP, 0.0) - mean) / scale
    errors = jnp.where(valid_BNP, jnp.square(predicted_BNP - target_BNP), 0.0)
    count_BN = valid_BNP.sum(axis=-1)
    scored_BN = (hidden_BN & (count_BN > 0)).astype(jnp.float32)
    patch_error_BN = errors.sum(axis=-1) / jnp.maximum(count_BN, 1)
    return (patch_error_BN * scored_BN).sum(axis=1), scored_BN.sum(axis=1)
