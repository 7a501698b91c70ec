"""Linear heads on pooled features, nearest neighbours by hand."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.heads.pooled import PooledLinear, knn_predict  # noqa: E402
from tests.torch_side.heads.training import overfit, without_gradient  # noqa: E402
from tests.torch_side.small_encoder import WIDTH, optical, small_encoder  # noqa: E402


def pooled(N: int) -> torch.Tensor:
    with torch.no_grad():
        return small_encoder()([optical(N, 8, 12)]).pooled


def test_standardising_is_sklearns():
    X = pooled(9)
    head = PooledLinear(WIDTH, 3, standardise=True)
    assert head.fit_statistics(X) == 0
    by_numpy = (X.double().numpy() - X.double().numpy().mean(0)) / X.double().numpy().std(0)
    expected = by_numpy @ head.linear.weight.detach().double().numpy().T + head.linear.bias.detach().double().numpy()
    np.testing.assert_allclose(head(X).detach().numpy(), expected, atol=1e-4)
    other = PooledLinear(WIDTH, 3, standardise=True)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(X), head(X))


def test_constant_features_are_counted_and_become_zero():
    X = pooled(9)
    X[:, [2, 5]] = torch.tensor([0.1, -3.3])
    head = PooledLinear(WIDTH, 3, standardise=True)
    assert head.fit_statistics(X) == 2
    head.linear.weight.data[:, [2, 5]] = 1e6
    assert head(X).abs().max() < 100


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("standardise", [False, True])
def test_labels_are_learnt_by_heart(standardise, task):
    torch.manual_seed(0)
    X = 0.01 * pooled(12) if standardise else pooled(12)
    head = PooledLinear(WIDTH, 3, standardise)
    if standardise:
        head.fit_statistics(X)
    assert without_gradient(head, lambda: head(X)) == []
    if task == "classification":
        y = torch.arange(12) % 3
        assert overfit(head.parameters(), lambda: F.cross_entropy(head(X), y), 99, 0.2) < 0.1
    else:
        y = torch.randn(12, 3)
        assert overfit(head.parameters(), lambda: F.mse_loss(head(X), y), 99, 0.1) < 0.1


def test_wrong_input_to_the_linear_head_is_named():
    head = PooledLinear(4, 2, standardise=True)
    with pytest.raises(ValueError, match="call fit_statistics on the training features first"):
        head(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"X has shape \(1, 5\); expected \(B, 4\)"):
        head(torch.zeros(1, 5))
    for bad in (torch.zeros(1, 4), torch.zeros(3, 5), torch.full((3, 4), torch.nan)):
        with pytest.raises(ValueError, match=r"expected \(N, 4\) with N > 1, all values finite"):
            head.fit_statistics(bad)
    with pytest.raises(ValueError, match="standardise=False"):
        PooledLinear(4, 2).fit_statistics(torch.zeros(3, 4))


def test_neighbours_by_hand():
    """Training vectors at 0, 60, 90 and 180 degrees; the test vector at 30 degrees, of any length."""
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0]).deg2rad()
    train = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1], [2.0]])
    test = 7.0 * torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    y = torch.tensor([0, 1, 1, 2])
    near, far = math.exp(math.cos(math.pi / 6) / 0.5), math.exp(math.cos(math.pi / 3) / 0.5)
    total = 2 * near + far
    expected = torch.tensor([[near / total, (near + far) / total, 0.0]])
    torch.testing.assert_close(knn_predict(train, y, test, k=3, temperature=0.5), expected)
    torch.testing.assert_close(knn_predict(train, y, test, k=2, temperature=0.5), torch.tensor([[0.5, 0.5, 0.0]]))
    assert knn_predict(train, y, test, k=3, temperature=0.5, classes=5).shape == (1, 5)


@pytest.mark.parametrize("chunk", [1, 7, 50, 4096])
def test_chunks_change_nothing(chunk):
    rng = np.random.default_rng(0)
    train, test, y = rng.normal(size=(50, 6)), rng.normal(size=(23, 6)), rng.integers(0, 4, 50)
    s = (test / np.linalg.norm(test, axis=1, keepdims=True)) @ (train / np.linalg.norm(train, axis=1, keepdims=True)).T
    expected = np.zeros((23, 4))
    for i, row in enumerate(s):
        for j in np.argsort(-row)[:10]:
            expected[i, y[j]] += np.exp(row[j] / 0.07)
    expected /= expected.sum(axis=1, keepdims=True)
    ours = knn_predict(*map(torch.from_numpy, (train, y, test)), k=10, chunk=chunk)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


def test_a_small_temperature_does_not_overflow():
    X = torch.eye(3)
    assert torch.equal(knn_predict(X, torch.arange(3), X, k=3, temperature=1e-4), torch.eye(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_X": torch.tensor([[0.0, 0.0], [1.0, 0.0]])},
            "train_X: 1 of 2 rows are zero or not finite and have no direction; first: 0",
        ),
        ({"test_X": torch.tensor([[1.0, 0.0], [torch.nan, 0.0]])}, "test_X: 1 of 2 rows .* first: 1"),
        ({"test_X": torch.ones(1, 3)}, "train_X has 2 features, test_X 3"),
        ({"train_y": torch.tensor([0.0, 1.0])}, "train_y is torch.float32"),
        ({"train_y": torch.tensor([0, 1, 1])}, r"of shape \(3,\); expected integers \(2,\)"),
        ({"classes": 1}, "train_y goes from 0 to 1; expected 0 to 0"),
        ({"train_y": torch.tensor([-1, 1])}, "train_y goes from -1 to 1"),
        ({"k": 3}, "k is 3, .* expected k from 1 to 2"),
        ({"temperature": 0.0}, "temperature 0.0"),
    ],
)
def test_wrong_input_to_the_neighbours_is_named(change, message):
    given = {"train_X": torch.eye(2), "train_y": torch.tensor([0, 1]), "test_X": torch.eye(2), "k": 1}
    with pytest.raises(ValueError, match=message):
        knn_predict(**(given | change))
