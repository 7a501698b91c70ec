"""Scores of probabilities equal those of libraries and those by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")
calibration_of = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.figures.calibration import expected_calibration_error, probabilistic  # noqa: E402


def test_scores_by_hand():
    target = np.array([0, 1, 1, 2])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    found = probabilistic(target, probabilities)
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 1, 0.5]).mean())
    assert found["brier"] == pytest.approx(((probabilities - np.eye(3)[target]) ** 2).sum(axis=1).mean())
    assert found["ece"] == pytest.approx((0.3 + abs(0 + 1 - 2 * 0.5) + 0) / 4)  # 0.7 right; two of 0.5, one of them right; 1 right
    assert (found["impossible_n"], found["n"]) == (0, 4)


def test_ece_equals_torchmetrics_below_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(6, 0.3), 500)
    target = rng.integers(0, 6, 500)
    for bins in (15, 4):
        theirs = calibration_of(torch.from_numpy(probabilities), torch.from_numpy(target), num_classes=6, n_bins=bins, norm="l1")
        assert expected_calibration_error(target, probabilities, bins) == pytest.approx(float(theirs), abs=1e-6)  # they count in float32


def test_bins_are_closed_above_and_one_shares_the_last():
    """Of probability 1, five right and five wrong; of 0.95, ten right: one bin, and torchmetrics' two give more."""
    probabilities = np.array([[1.0, 0.0]] * 10 + [[0.95, 0.05]] * 10)
    target = np.array([0, 1] * 5 + [0] * 10)
    assert expected_calibration_error(target, probabilities) == pytest.approx(abs(15 - 19.5) / 20)
    theirs = calibration_of(torch.from_numpy(probabilities), torch.from_numpy(target), num_classes=2, n_bins=15, norm="l1")
    assert float(theirs) == pytest.approx((5 + 0.5) / 20)
    edge = np.array([[0.75, 0.25], [0.7, 0.3]])  # both are in (0.5, 0.75]
    assert expected_calibration_error(np.array([0, 1]), edge, 4) == pytest.approx(abs(0.25 - 0.7) / 2)
    assert expected_calibration_error(np.array([0, 1]), edge, 20) == pytest.approx((0.25 + 0.7) / 2)


def test_impossible_truths_are_counted():
    found = probabilistic(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert found["impossible_n"] == 1
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 2)
    assert found["brier"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("target", "probabilities", "message"),
    [
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "target is int64 from 0 to 2; expected int, 0 to 1"),
        ([0], [[0.5, 0.4]], "sum to as far as 0.9 in a row"),
        ([0], [[1.5, -0.5]], "go down to -0.5"),
        ([0], [[np.nan, 1]], "probabilities has 1 values that are not finite"),
        ([0.0], [[1.0, 0]], "target is float64"),
        ([0, 1], [[1.0, 0]], r"expected \(N,\) and \(N, K\)"),
    ],
)
def test_no_distributions_are_refused(target, probabilities, message):
    with pytest.raises(InputError, match=message):
        probabilistic(np.asarray(target), np.asarray(probabilities))


def test_no_bins_are_refused():
    with pytest.raises(InputError, match="bins is 0; expected at least 1"):
        expected_calibration_error(np.array([0]), np.array([[1.0, 0.0]]), 0)
