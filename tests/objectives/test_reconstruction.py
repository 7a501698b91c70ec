"""The loss against MAE's, written again in float64 numpy, and what invalid values may not do."""

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.objectives.reconstruction import patch_moments, reconstruction_loss

B, N, P = 3, 10, 16


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, values, all valid, three quarters hidden."""
    rng = np.random.default_rng(seed)
    predicted, values = rng.normal(size=(B, N, P)), rng.normal(2.0, 3.0, size=(B, N, P))
    return predicted.astype(np.float32), values.astype(np.float32), np.ones((B, N, P), bool), rng.random((B, N)) < 0.75


def mae_loss(predicted: np.ndarray, values: np.ndarray, hidden: np.ndarray) -> float:
    """facebookresearch/mae forward_loss with norm_pix_loss, in float64; torch's var is unbiased."""
    values, predicted = values.astype(np.float64), predicted.astype(np.float64)
    target = (values - values.mean(axis=-1, keepdims=True)) / (values.var(axis=-1, keepdims=True, ddof=1) + 1.0e-6) ** 0.5
    loss = ((predicted - target) ** 2).mean(axis=-1)
    return float((loss * hidden).sum() / hidden.sum())


def mean_loss(*arguments: np.ndarray) -> jax.Array:
    errors, patches = reconstruction_loss(*map(jnp.asarray, arguments), norm_pix=True)
    return errors.sum() / patches.sum()


def test_the_loss_is_mae_s():
    predicted, values, valid, hidden = batch()
    np.testing.assert_allclose(mean_loss(predicted, values, valid, hidden), mae_loss(predicted, values, hidden), rtol=1e-6)


def test_predicting_the_mean_costs_one():
    _, values, valid, hidden = batch()
    np.testing.assert_allclose(mean_loss(np.zeros_like(values), values, valid, hidden), (P - 1) / P, rtol=1e-4)


def test_predicting_the_target_costs_nothing():
    _, values, valid, hidden = batch()
    mean, variance = patch_moments(jnp.asarray(values), jnp.asarray(valid))
    np.testing.assert_allclose(mean[..., 0], values.mean(axis=-1), rtol=1e-4)
    np.testing.assert_allclose(variance[..., 0], values.var(axis=-1, ddof=1), rtol=1e-4)
    assert mean_loss(np.asarray((values - mean) / np.sqrt(variance + 1e-6)), values, valid, hidden) < 1e-9


def test_invalid_values_change_neither_loss_nor_gradient():
    predicted, values, valid, hidden = batch()
    valid &= np.random.default_rng(9).random(valid.shape) < 0.6
    results = []
    for filling in (0.0, 1e6, np.nan, np.inf):
        filled = np.where(valid, values, np.float32(filling))
        loss, grads = jax.value_and_grad(mean_loss, argnums=(0, 1))(predicted, filled, valid, hidden)
        assert np.isfinite(loss)
        assert not np.asarray(grads[0])[~valid].any()
        assert not np.asarray(grads[1])[~valid].any()
        results.append((loss, *grads))
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_partly_valid_patch_is_normalised_by_its_valid_values():
    predicted, values, valid, _ = (x[:1, :1] for x in batch())
    valid[..., 5:] = False
    hidden = np.ones((1, 1), bool)
    np.testing.assert_allclose(
        mean_loss(predicted, values, valid, hidden), mae_loss(predicted[..., :5], values[..., :5], hidden), rtol=1e-5
    )


def test_a_wholly_invalid_patch_counts_nothing():
    predicted, values, valid, _ = batch()
    hidden = np.ones((B, N), bool)
    without = mean_loss(predicted[:, 1:], values[:, 1:], valid[:, 1:], hidden[:, 1:])
    valid[:, 0] = False
    errors, patches = reconstruction_loss(*map(jnp.asarray, (predicted, values, valid, hidden)), norm_pix=True)
    np.testing.assert_array_equal(patches, N - 1)
    np.testing.assert_allclose(errors.sum() / patches.sum(), without, rtol=1e-6)
    errors, patches = reconstruction_loss(*map(jnp.asarray, (predicted, values, np.zeros_like(valid), hidden)), norm_pix=True)
    assert not errors.any()
    assert not patches.any()


def test_visible_patches_count_nothing():
    predicted, values, valid, hidden = batch()
    loss, grad = jax.value_and_grad(mean_loss)(predicted, values, valid, hidden)
    assert not np.asarray(grad)[~hidden].any()
    assert (np.asarray(grad)[hidden] != 0).all()
    changed = np.where(hidden[..., None], predicted, 1e3).astype(np.float32)
    np.testing.assert_array_equal(mean_loss(changed, values, valid, hidden), loss)


def test_a_constant_patch_has_a_finite_loss_and_gradient():
    predicted, values, valid, hidden = batch()
    values[:] = 4.0
    loss, grad = jax.value_and_grad(mean_loss)(predicted, values, valid, hidden)
    np.testing.assert_allclose(loss, mae_loss(predicted, values, hidden), rtol=1e-4)
    assert np.isfinite(grad).all()


def test_without_norm_pix_the_error_is_that_of_the_values():
    rng = np.random.default_rng(2)
    values, predicted = rng.normal(3.0, 2.0, (2, 2, 5, 12)).astype(np.float32)
    valid = rng.random(values.shape) < 0.7
    hidden = np.array([[True, False, True, True, False], [False, True, True, False, True]])
    errors, patches = reconstruction_loss(*map(jnp.asarray, (predicted, values, valid, hidden)), norm_pix=False)
    squared = np.where(valid, (predicted - values) ** 2, 0).sum(axis=-1) / valid.sum(axis=-1)
    np.testing.assert_allclose(errors, (squared * hidden).sum(axis=1), rtol=1e-5)
    assert patches.tolist() == [3, 3]
