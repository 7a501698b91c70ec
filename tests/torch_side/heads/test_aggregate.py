"""Weights of layers, against numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.torch.heads.aggregate import CovarianceAggregation, LearnedAggregation  # noqa: E402
from tests.torch_side.heads.training import features, overfit, without_gradient  # noqa: E402


def by_numpy(layers, by, temperature):
    """Example by example, from covariance and correlation matrices."""
    rows = []
    for b in range(len(layers[0])):
        maps = [x[b].flatten(1).double().numpy() for x in layers]
        if by == "variance":
            score = np.log([np.trace(np.cov(x, bias=True)) for x in maps])
        else:
            flat = [(x - x.mean(axis=1, keepdims=True)).ravel() for x in maps]
            R = np.abs([[a @ c / np.sqrt((a @ a) * (c @ c)) for c in flat] for a in flat])
            score = -(R.sum(axis=1) - 1) / (len(maps) - 1)
        weights = np.exp(score / temperature)
        rows.append(weights / weights.sum())
    return np.array(rows)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("by", ["distinctness", "variance"])
def test_weights_are_those_of_numpy(by, temperature):
    layers = features(3, 2, 5, 3, 4)
    layers = [layers[0] + 2.0, layers[1] * 3.0 + layers[0], layers[2] + layers[1] * layers[2].sign()]
    head = CovarianceAggregation(5, by, temperature)
    weights = by_numpy(layers, by, temperature)
    np.testing.assert_allclose(head.weights(layers).numpy(), weights, atol=1e-5)
    expected = sum(torch.from_numpy(weights[:, i]).float()[:, None, None, None] * x for i, x in enumerate(layers))
    torch.testing.assert_close(head(layers), expected)
    assert list(head.parameters()) == []


def test_a_copy_weighs_less_than_what_differs():
    a, b = features(2, 1, 8, 6, 6)
    weights = CovarianceAggregation(8, "distinctness", 0.1).weights([a, 2 * a + 1, b])[0]
    assert weights[2] > 0.9
    assert weights[0] == pytest.approx(float(weights[1]))


def test_variance_is_a_share_at_temperature_one():
    (a,) = features(1, 2, 8, 3, 5)
    weights = CovarianceAggregation(8, "variance").weights([a, 2 * a + 7, -a])
    torch.testing.assert_close(weights, torch.tensor([[1 / 6, 4 / 6, 1 / 6]] * 2))


@pytest.mark.parametrize("by", ["distinctness", "variance"])
def test_constant_maps_and_one_layer(by):
    head, (a,) = CovarianceAggregation(4, by), features(1, 1, 4, 2, 3)
    constant = torch.full_like(a, 3.0)
    torch.testing.assert_close(head([constant, constant + 1, constant]), constant + 1 / 3)
    torch.testing.assert_close(head.weights([a, constant])[0, 0], torch.tensor(0.5 if by == "distinctness" else 1.0))
    torch.testing.assert_close(head([a]), a)
    torch.testing.assert_close(head([a[..., :1, :1]] * 2), a[..., :1, :1])


def test_half_precision_keeps_its_dtype_and_gradients_pass():
    layers = features(3, 1, 4, 2, 3)
    assert CovarianceAggregation(4)([x.half() for x in layers]).dtype == torch.float16
    layers = [x.requires_grad_() for x in layers]
    CovarianceAggregation(4)(layers).square().sum().backward()
    assert all(bool(torch.isfinite(x.grad).all() and (x.grad != 0).any()) for x in layers)


def test_learned_weights():
    head, layers = LearnedAggregation(6, 3), features(3, 2, 6, 3, 5)
    torch.testing.assert_close(head(layers), torch.stack(layers).mean(dim=0))
    assert without_gradient(head, lambda: head(layers)) == []
    target = 0.7 * layers[0] + 0.1 * layers[1] + 0.2 * layers[2]
    assert overfit(head.parameters(), lambda: (head(layers) - target).square().mean(), 90, 5e-2) < 1e-3
    torch.testing.assert_close(head.logits.softmax(0), torch.tensor([0.7, 0.1, 0.2]), atol=0.02, rtol=0)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="got 2 layers; this head was made for 3"):
        LearnedAggregation(6, 3)(features(2, 1, 6, 2, 2))
    with pytest.raises(ValueError, match="by is 'norm'; expected 'distinctness' or 'variance'"):
        CovarianceAggregation(6, "norm")
    for temperature in (0.0, float("nan")):
        with pytest.raises(ValueError, match="expected more than 0"):
            CovarianceAggregation(6, temperature=temperature)
